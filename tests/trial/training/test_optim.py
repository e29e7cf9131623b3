from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tuneoff.config.protocol import Protocol
from tuneoff.trial.training.optim import adamw, rate_factor, warmup_steps


def factors(total: int, **options: Any) -> list[float]:
    protocol = Protocol.model_validate(options)
    return [rate_factor(step, protocol, total) for step in range(total)]


def test_linear_schedule_by_hand() -> None:
    rates = factors(6, schedule="linear", warmup_steps=2)
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25])


def test_cosine_schedule_by_hand() -> None:
    rates = factors(5, schedule="cosine", warmup_steps=1)
    half = math.cos(math.pi / 4) / 2
    assert rates == pytest.approx([1.0, 1.0, 0.5 + half, 0.5, 0.5 - half])


def test_constant_schedule_after_warmup() -> None:
    assert factors(4, schedule="constant", warmup_steps=2) == pytest.approx([0.5, 1.0, 1.0, 1.0])


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_without_warmup_the_first_step_is_at_the_peak_and_no_step_is_wasted(schedule: str) -> None:
    for options in ({"warmup_steps": 0}, {"warmup_ratio": 0.0}):
        rates = factors(7, schedule=schedule, **options)
        assert rates[0] == 1.0
        assert min(rates) > 0
        assert rates == sorted(rates, reverse=True)


def test_warmup_is_a_share_of_the_steps_or_as_many_as_given() -> None:
    assert warmup_steps(Protocol.model_validate({"warmup_ratio": 0.06}), 100) == 6
    assert warmup_steps(Protocol.model_validate({"warmup_ratio": 0.06}), 10) == 1
    assert warmup_steps(Protocol.model_validate({"warmup_ratio": 0.5, "warmup_steps": 3}), 100) == 3
    # More warm-up than steps: the peak is never reached, and nothing breaks.
    assert factors(2, warmup_steps=4) == [0.25, 0.5]


def test_the_optimizer_is_the_protocols() -> None:
    matrix, bias = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    protocol = Protocol.model_validate({"adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-6})
    groups = [
        {"params": [matrix], "weight_decay": 0.1},
        {"params": [bias], "weight_decay": 0.0},
        {"params": [], "weight_decay": 0.0},
    ]
    optimizer = adamw(groups, protocol, 0.5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert {(group["lr"], group["betas"], group["eps"]) for group in optimizer.param_groups} == {
        (0.5, (0.8, 0.95), 1e-6)
    }
    # Without a gradient's push, decay alone: the matrix shrinks by rate times decay, the bias stays.
    matrix.grad, bias.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert torch.allclose(matrix, torch.full((2, 2), 0.95))
    assert torch.equal(bias, torch.ones(2))
