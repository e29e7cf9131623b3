"""Mean absolute error in ranks: how many classes lie between an answer and the right one, of classes in an order."""

from __future__ import annotations

import numpy as np

from tuneoff.interfaces import MeanMetric, Outputs
from tuneoff.metrics._ranks import Array, ranks


def distances(outputs: Outputs) -> Array | None:
    """Returns each example's distance in ranks, shape (examples,); None where an output is no class."""
    both = ranks(outputs)
    return None if both is None else np.abs(both[1] - both[0])


plugin = MeanMetric(
    name="rank_error",
    direction="lower",
    unit="ranks",
    title="rank error",
    summary="Mean distance to the right class in their order (MAE in ranks); 0 where all is right.",
    produces=("class",),
    ordered=True,
    low=0,
    of_examples=distances,
)
