"""Quadratic weighted kappa: Cohen 1968, Weighted Kappa: Nominal Scale Agreement with Provision for Scaled
Disagreement."""

from __future__ import annotations

from typing import Any

import numpy as np

from tuneoff.interfaces import Outputs, PooledMetric
from tuneoff.metrics._ranks import Array, ranks


def rank_moments(outputs: Outputs) -> Array | None:
    """Returns 1, both ranks, both squares and the squared distance, shape (examples, 6); None where an output is no
    class."""
    both = ranks(outputs)
    if both is None:
        return None
    x, y = both
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, (x - y) ** 2], axis=1)


def weighted_kappa(sums: Array) -> Any:
    """Computes quadratic weighted kappa from the sums of `rank_moments`, shape (sums,) or (many, sums).

    It is 1 less the mean squared distance, divided by what that would be were outputs drawn without regard to targets:
    the mean over all pairs of a target and an output. 0 where that leaves no room.
    """
    count, x, y, xx, yy, distance = np.moveaxis(sums, -1, 0)
    by_chance = (xx + yy) / count - 2 * (x / count) * (y / count)
    room = by_chance > 1e-12
    return np.where(room, 1 - (distance / count) / np.where(room, by_chance, 1.0), 0.0)


plugin = PooledMetric(
    name="weighted_kappa",
    direction="higher",
    title="quadratic weighted kappa",
    summary="Agreement beyond chance of classes in an order, where far is worse than near; 0 for a constant output.",
    produces=("class",),
    ordered=True,
    low=-1,
    high=1,
    terms=rank_moments,
    of_sums=weighted_kappa,
    batched=True,
)
