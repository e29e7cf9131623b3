"""Expected calibration error: Guo et al. 2017, On Calibration of Modern Neural Networks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuneoff.interfaces import Outputs, PooledMetric
from tuneoff.metrics._probabilities import log_probabilities

Array = NDArray[np.float64]

BINS = 15
"""Ranges of confidence of equal width, as in the paper."""


def excesses(outputs: Outputs) -> Array | None:
    """Returns by how much each example's confidence exceeds its being right, in the column of its confidence's range,
    and 1 in the last column, shape (examples, bins + 1); None where there are no probabilities."""
    scores = log_probabilities(outputs)
    if scores is None:
        return None
    logs, is_class = scores
    rows = np.arange(len(logs))
    best = logs.argmax(axis=1)
    confidence = np.exp(logs[rows, best])
    terms = np.zeros((len(logs), BINS + 1))
    # A range holds its upper end.
    terms[rows, np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)] = confidence - is_class[rows, best]
    terms[:, -1] = 1
    return terms


def mean_gap(sums: Array) -> Any:
    """Computes the error from the sums of `excesses`, shape (sums,) or (many, sums)."""
    return np.abs(sums[..., :-1]).sum(axis=-1) / sums[..., -1]


plugin = PooledMetric(
    name="calibration_error",
    direction="lower",
    title="ECE",
    summary=f"Expected calibration error: how far confidence is from accuracy, over {BINS} ranges of equal width.",
    produces=("class",),
    caution="the calibration error of few examples comes out too high: of a perfectly calibrated model it is above 0",
    low=0,
    high=1,
    terms=excesses,
    of_sums=mean_gap,
    batched=True,
)
