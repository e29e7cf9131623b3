"""What the engine may change about a training, and no method's result with it: frozen weights in bfloat16, recomputed
activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from tuneoff.interfaces import Attached
from tuneoff.testing.method_suite import Case, MethodSuite
from tuneoff.testing.settings import attach
from tuneoff.trial.estimate.step_cost import MemoryTracker
from tuneoff.trial.modeling.activation_checkpointing import checkpoint_activations
from tuneoff.trial.modeling.frozen_bf16 import NARROW, keep_frozen_in_bf16


@dataclass
class Training:
    """What three steps left behind: losses, trained tensors, logits under evaluation, and the model."""

    losses: list[float]
    weights: dict[str, torch.Tensor]
    logits: torch.Tensor
    attached: Attached
    saved_bytes: int


def train(
    case: Case, change: Callable[[Attached], object], *, dropout: float | None = None, bf16: bool = False
) -> Training:
    """Attaches a method, changes the model and takes three steps.

    Args:
        case: method, options and setting.
        change: what is tried on the model; it must change no result.
        dropout: set in every dropout module; None leaves them.
        bf16: whether under autocast to bfloat16.
    """
    setting = case.setting
    method, attached = attach(case.method, case.options, setting)
    for module in attached.module.modules() if dropout is not None else ():
        if isinstance(module, nn.Dropout):
            module.p = dropout  # type: ignore[assignment]
    change(attached)
    optimizer = torch.optim.SGD(method.parameter_groups(attached, 0.0), lr=0.05)
    torch.manual_seed(2)
    losses, saved_bytes = [], 0
    for _ in range(3):
        attached.module.train()
        inputs = [*attached.module.parameters(), *attached.module.buffers(), *setting.batch.values()]
        with MemoryTracker(inputs) as tracker:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = setting.task.forward(attached, setting.batch)
            loss = setting.task.loss(logits, setting.batch) / setting.task.loss_terms(setting.rows)
            saved_bytes = tracker.live
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    weights = {n: p.detach() for n, p in attached.module.named_parameters() if p.requires_grad}
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return Training(losses, weights, setting.logits(attached), attached, saved_bytes)


def keep(attached: Attached) -> None:
    """Leaves the model as it is."""


def compare_frozen_bf16(case: Case) -> Attached:
    """Trains with frozen weights in float32 and in bfloat16, both under autocast; returns the latter's model.

    Raises:
        AssertionError: where any loss, trained weight or logit differs.
    """
    wide, narrow = train(case, keep, bf16=True), train(case, keep_frozen_in_bf16, bf16=True)
    assert narrow.losses == wide.losses
    assert narrow.weights.keys() == wide.weights.keys()
    for key, weight in wide.weights.items():
        assert weight.dtype == narrow.weights[key].dtype == torch.float32
        assert torch.equal(narrow.weights[key], weight), key
    assert torch.equal(narrow.logits, wide.logits)
    return narrow.attached


def compare_activation_checkpointing(case: Case) -> tuple[int, int]:
    """Trains with dropout without and with activation checkpointing; returns the bytes saved for backward by each.

    Raises:
        AssertionError: where a loss or a trained weight differs by more than rounding.
    """
    plain = train(case, keep, dropout=0.1)
    recomputed = train(case, lambda attached: checkpoint_activations(attached.model), dropout=0.1)
    assert recomputed.losses == pytest.approx(plain.losses, rel=1e-6)
    assert recomputed.weights.keys() == plain.weights.keys()
    for key, weight in plain.weights.items():
        assert (recomputed.weights[key] - weight).abs().max() <= 1e-6, key
    return plain.saved_bytes, recomputed.saved_bytes


class FrozenBf16Contract(MethodSuite):
    """Frozen weights stored in bfloat16 change nothing of what is learned under bf16 autocast."""

    def narrows(self, case: Case, narrowed: int) -> bool:
        """Tells whether so many layers in bfloat16 are right for a case."""
        return True

    def test_frozen_weights_in_bfloat16_change_no_step(self, case: Case) -> None:
        attached = compare_frozen_bf16(case)
        narrow = [part for part in attached.module.modules() if type(part) in NARROW.values()]
        assert {part._parameters["weight"].dtype for part in narrow} <= {torch.bfloat16}  # type: ignore[union-attr]
        assert self.narrows(case, len(narrow))


class ActivationCheckpointingContract(MethodSuite):
    """Recomputed activations change nothing of what is learned, and keep less for the backward pass."""

    def saves(self, case: Case, plain: int, recomputed: int) -> bool:
        """Tells whether the bytes kept for the backward pass, without and with it, are right for a case."""
        return recomputed <= plain

    def test_activation_checkpointing_changes_no_step(self, case: Case) -> None:
        plain, recomputed = compare_activation_checkpointing(case)
        assert self.saves(case, plain, recomputed)
