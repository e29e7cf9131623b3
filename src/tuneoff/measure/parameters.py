"""Counting parameters by role."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import ReferenceType, ref

from tuneoff.records.record import Parameters, RoleCounts

if TYPE_CHECKING:
    from torch import nn

    from tuneoff.interfaces import TaskView


@dataclass(frozen=True)
class BaseIdentity:
    """Which parameters a model had before a method was attached.

    They are held weakly: a method may replace them by packed ones, and their memory and their `id` must be free then.
    """

    base: Mapping[int, ReferenceType[nn.Parameter]]
    head: Mapping[int, ReferenceType[nn.Parameter]]
    output: str | None = None

    @classmethod
    def of(cls, model: nn.Module, task: TaskView) -> BaseIdentity:
        """Remembers a model's parameters by identity."""
        head = {id(p): ref(p) for name in task.head for p in model.get_submodule(name).parameters()}
        return cls({id(p): ref(p) for p in model.parameters() if id(p) not in head}, head, task.output)

    def is_base(self, parameter: nn.Parameter) -> bool:
        """Returns whether a parameter is one of the pretrained model's own."""
        return _contains(self.base, parameter)


def _contains(references: Mapping[int, ReferenceType[nn.Parameter]], parameter: nn.Parameter) -> bool:
    reference = references.get(id(parameter))
    return reference is not None and reference() is parameter


def elements(parameter: nn.Parameter) -> int:
    """Counts the weights that a tensor stands for: a 4-bit tensor packs two into each byte and remembers its shape."""
    state = getattr(parameter, "quant_state", None)
    return int(state.shape.numel()) if state is not None else parameter.numel()


def running(module: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Yields the parameters that take part when a model runs: name, parameter, and whether it is a trained copy.

    PEFT keeps the head twice, as it was (`original_module`) and as trained (`modules_to_save`). The first does not run
    and is left out; the second is named as in the plain model.
    """
    for name, parameter in module.named_parameters():
        parts = name.split(".")
        if "original_module" in parts:
            continue
        copied = "modules_to_save" in parts
        if copied:
            # The name of the adapter follows.
            index = parts.index("modules_to_save")
            del parts[index : index + 2]
        yield ".".join(parts), parameter, copied


def count(module: nn.Module, before: BaseIdentity) -> Parameters:
    """Counts parameters by role: one that the model had is base or head, any other is the method's own.

    Of a head that is kept twice only the copy that runs is counted. An output layer that was untied from the
    embeddings is a head of its own. Weights packed into four bits (`quant_state`) are the base's: only what is frozen
    can be packed.
    """
    total = {"head": 0, "adapter": 0, "base": 0}
    trainable = dict(total)
    for name, parameter, copied in running(module):
        is_output = before.output is not None and name.rpartition(".")[0] == before.output
        if before.is_base(parameter) or hasattr(parameter, "quant_state"):
            role = "base"
        else:
            role = "head" if copied or _contains(before.head, parameter) or is_output else "adapter"
        total[role] += elements(parameter)
        if parameter.requires_grad:
            trainable[role] += elements(parameter)
    return Parameters(total=RoleCounts(**total), trainable=RoleCounts(**trainable))
