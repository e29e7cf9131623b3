"""The head: all tensors that a task's model has and the base model's files have not.

They are found by loading and not by their names: a pooler, a layer before the classifier, or any other tensor that
starts without knowledge. Every one of them starts from the trial's seed, and every method trains, counts, keeps and
exports them alike; otherwise methods would be compared on heads of different sizes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tuneoff.errors import UnsupportedModel
from tuneoff.measure.parameters import running
from tuneoff.methods.base import Attached, TaskView
from tuneoff.records.record import Finding


@dataclass(frozen=True)
class Head:
    """What starts fresh in a loaded model.

    Attributes:
        modules: names of the modules that hold it; as few as there can be.
        tensors: names of the tensors that start fresh: all of these modules', unless the files hold a part of one.
    """

    modules: tuple[str, ...]
    tensors: frozenset[str]

    @classmethod
    def find(cls, model: nn.Module, added: Collection[str], lacking: Loading | None) -> Head:
        """Finds the head of a model.

        Files of a model that was trained for such a task before hold a head already. It is not taken: one study would
        start from somebody's head, and another with one class more would not.

        Args:
            model: the task's model.
            added: names of the modules that its class has beside the pretrained transformer.
            lacking: what the files had not for it; None where there are no files.

        Raises:
            UnsupportedModel: if the files hold hardly anything of this model.
        """
        names = {name for name, _ in model.named_parameters()}
        parts = {module: {n for n in names if n.startswith(f"{module}.")} for module in added}
        tensors = set() if lacking is None else names & {*lacking.missing, *lacking.mismatched}
        if lacking is None or not any(part <= lacking.missing for part in parts.values()):
            tensors |= {name for part in parts.values() for name in part}
        modules = tuple(_cover(model, "", tensors))
        if "" in modules:
            raise UnsupportedModel(
                f"{type(model).__name__}: the files hold none of this model's tensors",
                hint="Use the configuration and the weights of one model.",
            )
        return cls(modules, frozenset(tensors))

    def findings(self, added: Collection[str]) -> list[Finding]:
        """What is to be told of tensors that start fresh outside the modules that the task's class adds."""
        outside = sorted(n for n in self.tensors if not n.startswith(tuple(f"{module}." for module in added)))
        if not outside:
            return []
        message = (
            f"{len(outside)} tensors are not in the files in their shape; like the head, they start from the trial's "
            f"seed and every method trains them: {', '.join(outside[:3])}"
        )
        return [Finding(name="fresh_weights", message=message)]


@dataclass(frozen=True)
class Loading:
    """What files had not for a model: tensors that they lack, and tensors that they hold in another shape."""

    missing: frozenset[str] = frozenset()
    mismatched: frozenset[str] = frozenset()

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Loading:
        """Reads what transformers tells about a model that it loaded."""
        return cls(frozenset(told["missing_keys"]), frozenset(key for key, *_ in told["mismatched_keys"]))


def _cover(module: nn.Module, name: str, tensors: Collection[str]) -> list[str]:
    """The highest modules that hold nothing but these tensors; and those of them whose own tensors are a part.

    Raises:
        UnsupportedModel: for a tensor of its own that a module has beside whole parts that the files hold.
    """
    before = f"{name}." if name else ""
    held = {f"{before}{n}" for n, _ in module.named_parameters()}
    if not held & set(tensors):
        return []
    own = {f"{before}{n}" for n, _ in module.named_parameters(recurse=False)}
    if held <= set(tensors) or held == own:
        return [name]
    if own & set(tensors):
        lacking = min(own & set(tensors))
        raise UnsupportedModel(
            f"the files lack the tensor {lacking}, which belongs to no layer that could be trained apart from the rest",
            hint="Use files that hold all of the pretrained model.",
        )
    return [part for child, below in module.named_children() for part in _cover(below, f"{before}{child}", tensors)]


@torch.no_grad()
def draw(model: nn.Module, head: Head, seed: int) -> None:
    """Draws the head from the trial's seed alone, so that every method starts from the same one."""
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    config: Any = model.config
    deviation = float(getattr(config, "initializer_range", 0.02))
    for module in head.modules:
        for name, parameter in model.get_submodule(module).named_parameters(module):
            if name not in head.tensors:
                continue
            if parameter.ndim >= 2:
                parameter.normal_(0.0, deviation)
            else:
                # The one vector that is called a weight is a norm's scale.
                parameter.fill_(1.0 if name.endswith(".weight") else 0.0)
    torch.random.set_rng_state(generator_state)


def values(model: nn.Module, task: TaskView) -> dict[str, torch.Tensor]:
    """Copies of the head's tensors by name, to be compared by `check`."""
    named = ((name, p) for module in task.head for name, p in model.get_submodule(module).named_parameters(module))
    return {name: parameter.detach().clone() for name, parameter in named}


def check(attached: Attached, started: Mapping[str, torch.Tensor], label: str) -> None:
    """Makes sure that a method trains the whole head and, beside what it adds, no other layer in the head's way.

    Args:
        attached: the model with its method, before training.
        started: the head's values before the method was attached.
        label: of the row, for the message.

    Raises:
        UnsupportedModel: if a tensor of the head is not trained, or starts from other values.
    """
    parameters = list(running(attached.model))
    trained = {name: parameter for name, parameter, _ in parameters if parameter.requires_grad}
    for name, start in started.items():
        if name not in trained:
            raise UnsupportedModel(f"{label} does not train {name}, which this task adds to the model")
        if not torch.equal(trained[name].detach().cpu(), start.cpu()):
            raise UnsupportedModel(f"{label} does not start {name} from the trial's seed, as every method must")
    for name, _, replaced in parameters:
        if replaced and name not in started:
            raise UnsupportedModel(f"{label} trains {name} like a head, which this task does not add to the model")
