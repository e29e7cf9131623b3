"""AdamW and the learning-rate schedule, the same for every method."""

from __future__ import annotations

import math
from typing import Any

import torch

from tuneoff.config.protocol import Protocol


def warmup_steps(protocol: Protocol, total_steps: int) -> int:
    """Returns the steps of linear warm-up: as given, or the protocol's share of all steps."""
    if protocol.warmup_steps is not None:
        return protocol.warmup_steps
    return math.ceil(protocol.warmup_ratio * total_steps)


def rate_factor(step: int, protocol: Protocol, total_steps: int) -> float:
    """Returns the share of the peak learning rate at an optimizer step (0-based)."""
    warmup = warmup_steps(protocol, total_steps)
    if step < warmup:
        return (step + 1) / warmup
    if protocol.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total_steps - warmup)
    if protocol.schedule == "linear":
        return max(0.0, 1.0 - progress)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def adamw(groups: list[dict[str, Any]], protocol: Protocol, learning_rate: float) -> torch.optim.AdamW:
    """Makes AdamW (Loshchilov & Hutter 2019) over a method's parameter groups."""
    parameter_groups = [
        {**group, "lr": learning_rate * group.get("learning_rate_ratio", 1.0)} for group in groups if group["params"]
    ]
    return torch.optim.AdamW(
        parameter_groups,
        lr=learning_rate,
        betas=(protocol.adam_beta1, protocol.adam_beta2),
        eps=protocol.adam_epsilon,
        fused=True,
    )
