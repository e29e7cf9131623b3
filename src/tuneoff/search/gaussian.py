"""A Gaussian process over a search's scores: where the next trial promises most.

Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), algorithm 2.1, with the expected improvement of
Jones, Schonlau & Welch (1998). Optuna's own needs PyTorch, which nothing that plans may load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneoff.search.space import LEARNING_RATE, Outcome, Space, Values

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

REACH = 0.2
"""Share of a range of rates over which scores are alike; of options, which matter less, it is twice that."""
NOISE = 0.1
"""Variance of validation noise, in units of the variance of the scores."""


def most_promising(space: Space, history: Sequence[Outcome], candidates: Sequence[Values]) -> Values:
    """Returns the candidate whose score is expected to exceed the best by most; the first of equal ones.

    What lies further below the median than the best lies above it (a trial that failed, too) counts as being just so
    far below it: how deep a cliff is says nothing about where the peak is.
    """
    import numpy as np
    from scipy.linalg import cho_factor, cho_solve
    from scipy.special import ndtr

    scores = _scores(history)
    tried = _coordinates(space, [outcome.values for outcome in history])
    places = _coordinates(space, candidates)
    across = _kernel(places, tried)
    factor = cho_factor(_kernel(tried, tried) + NOISE * np.eye(len(tried)))
    weights = cho_solve(factor, scores)
    deviation = np.sqrt(np.maximum(1 - (across * cho_solve(factor, across.T).T).sum(axis=1), 1e-12))
    gain = across @ weights - (_kernel(tried, tried) @ weights).max()
    ratio = gain / deviation
    improvement = gain * ndtr(ratio) + deviation * np.exp(-(ratio**2) / 2) / np.sqrt(2 * np.pi)
    # Rounded, so that another machine's last digits choose the same.
    return candidates[int(np.argmax(np.round(improvement, 9)))]


def _scores(history: Sequence[Outcome]) -> Array:
    """Returns the scores with mean 0 and variance 1, cut below."""
    import numpy as np

    scores = np.array([np.nan if outcome.score is None else outcome.score for outcome in history])
    if np.isnan(scores).all():
        return np.zeros(len(scores))
    best, median = np.nanmax(scores), np.nanmedian(scores)
    lowest = median - ((best - median) or (best - np.nanmin(scores)) or 1.0)
    scores = np.maximum(np.nan_to_num(scores, nan=lowest), lowest)
    deviation = scores.std()
    return np.asarray((scores - scores.mean()) / (deviation if deviation > 1e-12 * abs(best) else 1.0))


def _coordinates(space: Space, configurations: Sequence[Values]) -> Array:
    """Returns configurations as points, in units of the kernel's reach; words that differ are half a range apart."""
    import numpy as np

    columns = []
    for dimension in space:
        reach = REACH if dimension.name == LEARNING_RATE else 2 * REACH
        values = [configuration[dimension.name] for configuration in configurations]
        if dimension.ordered:
            columns.append([dimension.share(value) / reach for value in values])
        else:
            positions = [dimension.position(value) for value in values]
            side = 0.5 / reach / np.sqrt(2)
            columns += [[side * (place == choice) for place in positions] for choice in range(len(dimension.choices))]
    return np.array(columns, dtype=np.float64).T


def _kernel(first: Array, second: Array) -> Array:
    """Computes the squared-exponential kernel of two sets of points, of shape (first, second)."""
    import numpy as np

    return np.asarray(np.exp(-((first[:, None] - second[None]) ** 2).sum(axis=2) / 2))
