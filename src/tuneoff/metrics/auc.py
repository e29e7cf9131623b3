"""Area under the ROC curve, of two classes or one class against the rest.

How much each example counts towards its error: DeLong et al. 1988, Comparing the Areas under Two or More Correlated
Receiver Operating Characteristic Curves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuneoff.interfaces import Outputs, PooledMetric
from tuneoff.metrics._probabilities import log_probabilities

Array = NDArray[np.float64]
_TERMS = 6


def placements(outputs: Outputs) -> Array | None:
    """Returns six terms for each class that some of the targets are and some are not, shape (examples, 6 · classes).

    These are: whether the example is of the class, its share of examples of other classes that it stands above (half of
    those level with it), the same two for an example of another class with its share of those above it, the area of all
    examples, and 1. None where there is no such class, or there are no probabilities.
    """
    scores = log_probabilities(outputs)
    if scores is None:
        return None
    logs, is_class = scores
    terms = [
        _class_terms(_log_odds(logs, column), is_class[:, column])
        for column in range(logs.shape[1])
        if 0 < is_class[:, column].sum() < len(logs)
    ]
    return np.hstack(terms) if terms else None


def _log_odds(logs: Array, column: int) -> Array:
    """Returns a class's log-odds, which keep probabilities near 0 and near 1 apart, shape (examples,)."""
    rest = np.delete(logs, column, axis=1)
    most = rest.max(axis=1)
    return np.asarray(logs[:, column] - most - np.log(np.exp(rest - most[:, None]).sum(axis=1)))


def _class_terms(odds: Array, positive: NDArray[np.bool_]) -> Array:
    inside, outside = np.sort(odds[positive]), np.sort(odds[~positive])
    other = np.where(positive, 0.0, 1.0)
    above = np.zeros(len(odds))
    above[positive] = _share_below(odds[positive], outside)
    above[~positive] = 1 - _share_below(odds[~positive], inside)
    area, one = np.full(len(odds), above[positive].mean()), np.ones(len(odds))
    return np.stack([positive, above * positive, other, above * other, area, one], axis=1)


def _share_below(odds: Array, others: Array) -> Array:
    left, right = (np.searchsorted(others, odds, side=side) for side in ("left", "right"))
    return np.asarray((left + right) / (2 * len(others)))


def area(sums: Array) -> Any:
    """Computes the area, of several classes their mean, from the sums of `placements`, shape (sums,) or (many, sums).

    Of some of the examples it is the area to first order, which is all that an error needs.
    """
    parts = sums.reshape(*sums.shape[:-1], -1, _TERMS)
    inside, placed_inside, outside, placed_outside, whole, count = (parts[..., i] for i in range(_TERMS))
    overall = whole / count
    areas = (
        np.where(inside > 0, placed_inside / np.maximum(inside, 1), overall)
        + np.where(outside > 0, placed_outside / np.maximum(outside, 1), overall)
        - overall
    )
    return np.clip(areas.mean(axis=-1), 0, 1)


plugin = PooledMetric(
    name="auc",
    direction="higher",
    title="AUC",
    summary="Area under the ROC curve; of more than two classes the mean of each class against the rest.",
    produces=("class",),
    low=0,
    high=1,
    terms=placements,
    of_sums=area,
    batched=True,
)
