"""The head: all tensors that a task's model has and the base model's files have not.

They are found by loading and not by their names: a pooler, a layer before the classifier, or any other tensor that
starts untrained. Every one of them starts from the trial's seed, and every method trains, counts, keeps and
exports them alike; otherwise methods would be compared on heads of different sizes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import Attached, TaskView
from tuneoff.measure.parameters import running
from tuneoff.records.record import Finding


@dataclass(frozen=True)
class FreshHead:
    """What starts fresh in a loaded model.

    Attributes:
        modules: names of the modules that hold it; as few as there can be.
        tensors: names of the tensors that start fresh: all of these modules', unless the files hold a part of one.
    """

    modules: tuple[str, ...]
    tensors: frozenset[str]

    @classmethod
    def find(cls, model: nn.Module, added: Collection[str], lacking: Loading | None) -> FreshHead:
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
        groups = {module: {n for n in names if n.startswith(f"{module}.")} for module in added}
        tensors = set() if lacking is None else names & {*lacking.missing, *lacking.mismatched}
        if lacking is None or not any(group <= lacking.missing for group in groups.values()):
            tensors |= {name for group in groups.values() for name in group}
        modules = tuple(_cover(model, "", tensors))
        if "" in modules:
            raise UnsupportedModel(
                f"{type(model).__name__}: the files hold none of this model's tensors",
                hint="Use the configuration and the weights of one model.",
            )
        return cls(modules, frozenset(tensors))

    def findings(self, added: Collection[str]) -> list[Finding]:
        """Reports the tensors that start fresh outside the modules that the task's class adds."""
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
    def of(cls, report: Mapping[str, Any]) -> Loading:
        """Reads the loading report of transformers for a model."""
        return cls(frozenset(report["missing_keys"]), frozenset(key for key, *_ in report["mismatched_keys"]))


def _cover(module: nn.Module, name: str, tensors: Collection[str]) -> list[str]:
    """Finds the highest modules that hold nothing but these tensors, and those that hold some as their own.

    Raises:
        UnsupportedModel: for a tensor of its own that a module has beside whole parts that the files hold.
    """
    prefix = f"{name}." if name else ""
    module_tensors = {f"{prefix}{n}" for n, _ in module.named_parameters()}
    if not module_tensors & set(tensors):
        return []
    direct_tensors = {f"{prefix}{n}" for n, _ in module.named_parameters(recurse=False)}
    if module_tensors <= set(tensors) or module_tensors == direct_tensors:
        return [name]
    if direct_tensors & set(tensors):
        missing = min(direct_tensors & set(tensors))
        raise UnsupportedModel(
            f"the files lack the tensor {missing}, which belongs to no layer that could be trained apart from the rest",
            hint="Use files that hold all of the pretrained model.",
        )
    return [
        part
        for child_name, child_module in module.named_children()
        for part in _cover(child_module, f"{prefix}{child_name}", tensors)
    ]


@torch.no_grad()
def draw(model: nn.Module, head: FreshHead, seed: int, output_bias: Sequence[float] = ()) -> None:
    """Draws the head from the trial's seed alone, so that every method starts from the same one.

    Args:
        model: the task's model.
        head: what starts fresh in it.
        seed: the trial's.
        output_bias: where the biases of the head's last layer start, shape (outputs,), if it has any; empty: at 0.
    """
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    config: Any = model.config
    standard_deviation = float(getattr(config, "initializer_range", 0.02))
    for module in head.modules:
        for name, parameter in model.get_submodule(module).named_parameters(module):
            if name not in head.tensors:
                continue
            if parameter.ndim >= 2:
                parameter.normal_(0.0, standard_deviation)
            else:
                # The one vector that is called a weight is a norm's scale.
                parameter.fill_(1.0 if name.endswith(".weight") else 0.0)
    torch.random.set_rng_state(generator_state)
    biases = [p for n, p in model.named_parameters() if n in head.tensors and n.endswith(".bias")]
    if output_bias and biases and biases[-1].shape == (len(output_bias),):
        biases[-1].copy_(torch.tensor(output_bias))


def values(model: nn.Module, task: TaskView) -> dict[str, torch.Tensor]:
    """Copies the head's tensors by name, for `check` to compare."""
    parameters = ((n, p) for module in task.head for n, p in model.get_submodule(module).named_parameters(module))
    return {name: parameter.detach().clone() for name, parameter in parameters}


def check(attached: Attached, started: Mapping[str, torch.Tensor], label: str) -> None:
    """Makes sure that a method trains the whole head and, beside what it adds, no other layer in the same way.

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
    for name, _, is_copy in parameters:
        if is_copy and name not in started:
            raise UnsupportedModel(f"{label} trains {name} like a head, which this task does not add to the model")
