"""The statistics in use, and no more: spread over seeds, and paired intervals of a difference.

Intervals over a handful of seeds are rough. The bootstrap over two seeds sees half of their true variance,
and a t-interval over two is very wide. That is why nothing is called significant under `SEEDS_NEEDED`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 2000
SEEDS_NEEDED = 6
"""Fewest seeds with which a difference may be called significant."""


@dataclass(frozen=True)
class Spread:
    """Values over seeds. `std` (ddof=1) and the t-interval of the mean are None for a single value."""

    values: tuple[float, ...]
    mean: float
    std: float | None
    low: float | None
    high: float | None

    @property
    def n(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Difference:
    """A mean difference and its interval at `LEVEL`, in the unit of what was compared."""

    mean: float
    low: float
    high: float

    @property
    def includes_zero(self) -> bool:
        return self.low <= 0.0 <= self.high


def spread(values: Iterable[float]) -> Spread | None:
    """Mean, sample standard deviation and t-interval; None where there is no value."""
    kept = tuple(float(value) for value in values)
    if not kept:
        return None
    mean = math.fsum(kept) / len(kept)
    if len(kept) == 1:
        return Spread(kept, mean, None, None, None)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in kept) / (len(kept) - 1))
    half = _t_quantile(len(kept) - 1) * std / math.sqrt(len(kept))
    return Spread(kept, mean, std, mean - half, mean + half)


def paired_t(differences: Iterable[float]) -> Difference | None:
    """Interval of the mean of paired differences, one per seed; None for fewer than two."""
    found = spread(differences)
    if found is None or found.low is None or found.high is None:
        return None
    return Difference(found.mean, found.low, found.high)


def paired_bootstrap(differences: NDArray[np.float64], resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """Percentile interval of the mean difference, resampling seeds and examples.

    Seeds and examples are crossed (every seed was tested on the same examples), so each resample draws seeds
    and, once for all of them, examples.

    Args:
        differences: per-example score of one method minus another's, shape (seeds, examples).
        resamples: how many resamples.
        seed: of the generator; equal arguments give equal intervals.
    """
    seeds, examples = differences.shape
    random = np.random.default_rng(seed)
    means = np.empty(resamples)
    for at in range(resamples):
        drawn = np.bincount(random.integers(seeds, size=seeds), minlength=seeds)
        weights = np.bincount(random.integers(examples, size=examples), minlength=examples)
        means[at] = drawn @ (differences @ weights) / (seeds * examples)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Difference(float(differences.mean()), float(low), float(high))


def _t_quantile(freedom: int) -> float:
    # scipy.special loads in a tenth of the time of scipy.stats.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + LEVEL / 2))
