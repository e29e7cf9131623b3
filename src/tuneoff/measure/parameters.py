"""Counting parameters by role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneoff.record import Parameters, RoleCounts

if TYPE_CHECKING:
    from torch import nn

    from tuneoff.methods.base import TaskView


@dataclass(frozen=True)
class BaseIdentity:
    """Which parameters a model had before a method was attached."""

    base: frozenset[int]
    head: frozenset[int]
    output: str | None = None

    @classmethod
    def of(cls, model: nn.Module, task: TaskView) -> BaseIdentity:
        """Remembers a model's parameters by identity."""
        head = {id(p) for name in task.head for p in model.get_submodule(name).parameters()}
        return cls(frozenset(id(p) for p in model.parameters() if id(p) not in head), frozenset(head), task.output)


def elements(parameter: nn.Parameter) -> int:
    """Weights a tensor stands for: a 4-bit tensor packs two into each byte and remembers its shape."""
    state = getattr(parameter, "quant_state", None)
    return int(state.shape.numel()) if state is not None else parameter.numel()


def count(module: nn.Module, before: BaseIdentity) -> Parameters:
    """Counts by role: a parameter the model had is base or head, any other is the method's own.

    PEFT keeps the head twice, as it was (`original_module`) and as trained (`modules_to_save`); the first is no
    part of the model that is run and is not counted. An output layer that was untied from the embeddings is a
    head of its own.
    """
    total = {"head": 0, "adapter": 0, "base": 0}
    trainable = dict(total)
    for name, parameter in module.named_parameters():
        steps = name.split(".")
        if "original_module" in steps:
            continue
        output = before.output is not None and steps[:-1] == before.output.split(".")
        if id(parameter) in before.base:
            role = "base"
        else:
            role = "head" if "modules_to_save" in steps or id(parameter) in before.head or output else "adapter"
        total[role] += elements(parameter)
        if parameter.requires_grad:
            trainable[role] += elements(parameter)
    return Parameters(total=RoleCounts(**total), trainable=RoleCounts(**trainable))
