"""Cohen's kappa: Cohen 1960, A Coefficient of Agreement for Nominal Scales."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuneoff.interfaces import PooledMetric
from tuneoff.tasks._metrics import class_counts, parts_of_counts


def kappa(counts: NDArray[np.float64]) -> Any:
    """Computes kappa from the sums of `class_counts`, shape (sums,) or (many, sums); 0 where chance leaves no room."""
    correct, true, predicted = parts_of_counts(counts)
    total = true.sum(axis=-1)
    by_chance = (true * predicted).sum(axis=-1) / total**2
    room = 1 - by_chance
    return np.where(room > 1e-12, (correct.sum(axis=-1) / total - by_chance) / np.where(room > 1e-12, room, 1), 0.0)


plugin = PooledMetric(
    name="kappa",
    direction="higher",
    title="Cohen's kappa",
    summary="Agreement beyond chance; 0 for a constant output, 1 where all is right.",
    produces=("class",),
    low=-1,
    high=1,
    terms=class_counts,
    of_sums=kappa,
    batched=True,
)
