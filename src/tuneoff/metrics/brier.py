"""Brier score: Brier 1950, Verification of Forecasts Expressed in Terms of Probability."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuneoff.interfaces import MeanMetric, Outputs
from tuneoff.metrics._probabilities import log_probabilities


def squared_distances(outputs: Outputs) -> NDArray[np.float64] | None:
    """Returns each example's squared distance of the probabilities to 1 for its class and 0 elsewhere, shape
    (examples,); halved for two classes, as is usual."""
    scores = log_probabilities(outputs)
    if scores is None:
        return None
    logs, is_class = scores
    distances = ((np.exp(logs) - is_class) ** 2).sum(axis=1)
    return np.asarray(distances / 2 if logs.shape[1] == 2 else distances)


plugin = MeanMetric(
    name="brier",
    direction="lower",
    unit="squared probability",
    title="Brier score",
    summary="Squared distance of the probabilities to what is right; from 0 to 1 for two classes, else to 2.",
    produces=("class",),
    low=0,
    high=2,
    of_examples=squared_distances,
)
