"""Gradient checkpointing changes nothing of what any method learns, and keeps less for the backward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import CLASSIFIERS, GENERATORS, Setting, attach
from test_methods import TRAINABLE, refusal
from test_peft_types import CASES as PEFT_CASES
from test_peft_types import options_of
from torch import nn

from tuneoff.methods.base import Attached
from tuneoff.trial.estimate.step_cost import MemoryTracker
from tuneoff.trial.modeling.activation_checkpointing import checkpoint_activations

QUICK = {Setting("class", "bert"), Setting("text", "gpt2"), Setting("text", "t5")}
OTHERS = {"p_tuning": {"type": "lstm", "hidden": 8, "layers": 1}, "prefix_tuning": {"projection": True, "hidden": 8}}
"""Options under which virtual tokens are computed anew in every step."""
CASES = [
    pytest.param(name, options, setting, id=f"{name}-{i}-{setting}", marks=() if setting in QUICK else pytest.mark.slow)
    for name in TRAINABLE
    for i, options in enumerate([{}, OTHERS[name]] if name in OTHERS else [{}])
    for setting in [*CLASSIFIERS, *GENERATORS]
    if refusal(name, setting) is None
]


def trained(name: str, options: dict[str, Any], setting: Setting, recomputes: bool) -> tuple[list[float], Any, int]:
    """Three steps with dropout: their losses, the trained tensors, and the bytes kept by the last forward pass."""
    method, attached = attach(name, options, setting)
    for module in attached.module.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    if recomputes:
        checkpoint_activations(attached.model)
    groups = method.parameter_groups(attached, 0.0)
    optimizer = torch.optim.SGD(groups, lr=0.05)
    torch.manual_seed(2)
    losses, kept = [], 0
    for _ in range(3):
        attached.module.train()
        loss, kept = forward(setting, attached)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    return losses, {n: p.detach() for n, p in attached.module.named_parameters() if p.requires_grad}, kept


def forward(setting: Setting, attached: Attached) -> tuple[torch.Tensor, int]:
    """The mean loss, and the bytes that its graph keeps besides weights."""
    module = attached.module
    with MemoryTracker([*module.parameters(), *module.buffers(), *setting.batch.values()]) as ledger:
        loss = setting.task.loss(setting.task.forward(attached, setting.batch), setting.batch)
        return loss / setting.task.units(setting.rows), ledger.live


@pytest.mark.parametrize(("name", "options", "setting"), CASES)
def test_three_steps_are_the_same(name: str, options: dict[str, Any], setting: Setting) -> None:
    losses, weights, kept = trained(name, options, setting, recomputes=False)
    again, others, less = trained(name, options, setting, recomputes=True)
    assert again == pytest.approx(losses, rel=1e-6)
    assert others.keys() == weights.keys()
    for key, weight in weights.items():
        assert (others[key] - weight).abs().max() <= 1e-6, key
    # Below the head alone there is nothing to keep, and none of it is computed again.
    assert less == kept if name == "head" else less < kept


@pytest.mark.parametrize(("variant", "setting"), PEFT_CASES)
def test_so_are_they_with_every_type_of_peft(variant: str, setting: Setting) -> None:
    options = options_of(variant, setting)
    losses, weights, _ = trained(f"peft:{variant}", options, setting, recomputes=False)
    again, others, _ = trained(f"peft:{variant}", options, setting, recomputes=True)
    assert again == pytest.approx(losses, rel=1e-6)
    for key, weight in weights.items():
        assert (others[key] - weight).abs().max() <= 1e-6, key
