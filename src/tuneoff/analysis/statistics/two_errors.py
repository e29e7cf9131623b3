"""The sum of two independent Student's errors, of seeds and of examples: its tail, and the intervals that it gives.

`crossed.py` says why the error of a mean is such a sum. A study of many arms has thousands of pairs, each with its own
variances and most with the same degrees of freedom: their intervals are searched for together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Part = tuple[float, float]
"""A variance of the mean and its degrees of freedom."""
Sum = tuple[Part, Part]
"""The part of the seeds and that of the examples."""
Kind = tuple[float, float, float]
"""Degrees of freedom of the error that is computed exactly and of the one that is summed over nodes, and their step."""
AT_ONCE = 2000
"""Most sums whose tails are computed at once: each takes some hundred numbers, or a thousand."""
_HEAVY = 5.0
"""Degrees of freedom from which on tails count as light."""
_PRECISION = 1e-7
"""Of the logarithm of a half width, and of its tail."""
_MOST_STEPS = 60
_LEAST = 1e-300


def tail(distance: float, seeds: Part, examples: Part) -> float:
    """Computes the probability that the sum exceeds a distance (not negative), in either direction."""
    return float(tails(np.array([distance]), [(seeds, examples)])[0])


def tails(distances: Array, sums: Sequence[Sum]) -> Array:
    """Computes the probability that each sum exceeds its distance, shape (sums,)."""
    values = np.empty(len(sums))
    for kind, members in _by_kind(sums).items():
        places, inner, outer = (np.array(column) for column in zip(*members, strict=True))
        for start in range(0, len(places), AT_ONCE):
            chosen = slice(start, start + AT_ONCE)
            values[places[chosen]] = _tails(distances[places[chosen]], inner[chosen], outer[chosen], kind)
    return values


def half_widths(sums: Sequence[Sum], level: float) -> Array:
    """Computes half the width of the interval that each sum lies in with probability `level`, shape (sums,).

    Args:
        sums: one of the two variances of each is positive at least.
        level: of the intervals.
    """
    # What holds where there is one error alone.
    widths: Array = _quantiles(sums, 0.5 + level / 2).max(axis=1)
    for kind, members in _by_kind(sums).items():
        places, inner, outer = (np.array(column) for column in zip(*members, strict=True))
        both = (inner > 0) & (outer > 0)
        if both.any():
            widths[places[both]] = _half_widths(inner[both], outer[both], kind, level)
    return widths


def _by_kind(sums: Sequence[Sum]) -> dict[Kind, list[tuple[int, float, float]]]:
    """Groups sums that are computed alike: by their kind, the place of each and its two variances, the inner first."""
    groups: dict[Kind, list[tuple[int, float, float]]] = defaultdict(list)
    for place, (seeds, examples) in enumerate(sums):
        inner, outer, step = _order(seeds, examples)
        groups[inner[1], outer[1], step].append((place, inner[0], outer[0]))
    return groups


def _half_widths(inner: Array, outer: Array, kind: Kind, level: float) -> Array:
    """Computes half widths of sums of one kind, shape (sums,).

    In units of the whole standard deviation a width is a smooth function of the ratio of the two variances. Of many
    sums it is computed at few ratios, and interpolated between them to the same accuracy.
    """
    ratios = np.log(inner) - np.log(outer)
    # The function's nearest singularities are π away: so many nodes leave an error of some 1e-8.
    degree = 16 + math.ceil(4 * float(np.ptp(ratios)))
    if degree + 1 >= len(ratios):
        return _solve(inner, outer, kind, level)

    def log_widths(log_ratios: Array) -> Array:
        roots = np.exp(log_ratios / 2)
        logarithms: Array = np.log(_solve(roots, 1 / roots, kind, level) / np.sqrt(roots + 1 / roots))
        return logarithms

    middle, reach = (ratios.max() + ratios.min()) / 2, np.ptp(ratios) / 2 or 1.0
    polynomial = np.polynomial.Chebyshev.interpolate(log_widths, degree, [middle - reach, middle + reach])
    widths: Array = np.exp(polynomial(ratios)) * np.sqrt(inner + outer)
    return widths


def widest(sums: Sequence[Sum], level: float) -> Array:
    """Computes what `half_widths` are at most: both errors, each at half of the miss probability, shape (sums,)."""
    widths: Array = _quantiles(sums, 0.75 + level / 4).sum(axis=1)
    return widths


def _quantiles(sums: Sequence[Sum], probability: float) -> Array:
    """Computes a quantile of each part's error, shape (sums, 2)."""
    # scipy.special loads in a tenth of the time of scipy.stats.
    from scipy.special import stdtrit

    parts = np.array(sums, dtype=np.float64).reshape(-1, 2, 2)
    freedoms, places = np.unique(parts[..., 1], return_inverse=True)
    quantiles: Array = stdtrit(freedoms, probability)[places.reshape(parts.shape[:2])]
    widths: Array = np.sqrt(parts[..., 0]) * quantiles
    return widths


def _order(seeds: Part, examples: Part) -> tuple[Part, Part, float]:
    """Returns the error that is computed exactly, the one that is summed over nodes, and the step between these.

    The seeds' heavy tails are computed exactly. The narrower they are, the finer the nodes must be to resolve them. The
    narrowest are a step, and only matter as an addition to the examples' error.
    """
    # Light tails are no easier to resolve than their middle.
    width = seeds[0] * min(seeds[1], _HEAVY) / examples[0] if examples[0] else math.inf
    inner, outer = (seeds, examples) if width > 0.002 else (examples, seeds)
    return inner, outer, 0.2 if width > 0.2 else 0.02


def _solve(inner: Array, outer: Array, kind: Kind, level: float) -> Array:
    """Finds the distances that a sum exceeds with probability 1 - `level`, shape (sums,).

    By Ridders' method (A new algorithm for computing a single root of a real continuous function, IEEE Trans Circuits
    Syst 26, 1979), for all together, between the logarithms of distances: Student's far tail is a straight line there.
    """

    def excess(log_distances: Array) -> Array:
        difference: Array = np.log(np.maximum(_tails(np.exp(log_distances), inner, outer, kind), _LEAST))
        return difference - math.log(1 - level)

    # At least the wider error alone, at most both, each at half of the miss probability.
    low = np.log(np.maximum(*_quantiles_of(inner, outer, kind, 0.5 + level / 2)))
    high = np.log(np.add(*_quantiles_of(inner, outer, kind, 0.75 + level / 4)))
    at_low, at_high = excess(low), excess(high)
    # Where one error is next to nothing, the solution is an end of the interval, to rounding.
    high, low = np.where(at_low <= 0, low, high), np.where(at_high >= 0, high, low)
    root = low
    for _ in range(_MOST_STEPS):
        middle = (low + high) / 2
        at_middle = excess(middle)
        scale = np.sqrt(np.maximum(at_middle**2 - at_low * at_high, _LEAST))
        root = middle + (middle - low) * np.sign(at_low - at_high) * at_middle / scale
        root = np.clip(root, np.minimum(low, high), np.maximum(low, high))
        at_root = excess(root)
        # Every point that was asked about narrows the bracket from its side.
        for place, value in ((middle, at_middle), (root, at_root)):
            above = value > 0
            low, at_low = np.where(above & (place > low), place, low), np.where(above & (place > low), value, at_low)
            high, at_high = (
                np.where(~above & (place < high), place, high),
                np.where(~above & (place < high), value, at_high),
            )
        if float(np.max(np.minimum(high - low, np.abs(at_root)))) <= _PRECISION:
            break
    result: Array = np.exp(root)
    return result


def _quantiles_of(inner: Array, outer: Array, kind: Kind, probability: float) -> tuple[Array, Array]:
    from scipy.special import stdtrit

    inner_freedom, outer_freedom, _ = kind
    first: Array = np.sqrt(inner) * stdtrit(inner_freedom, probability)
    second: Array = np.sqrt(outer) * stdtrit(outer_freedom, probability)
    return first, second


def _tails(distances: Array, inner: Array, outer: Array, kind: Kind) -> Array:
    """Computes P(|√inner·t + √outer·t'| > distance): exact in the inner variable, summed over nodes of the outer."""
    from scipy.special import stdtr

    inner_freedom, outer_freedom, step = kind
    nodes, weights = _student_nodes(outer_freedom, step)
    shifts = np.sqrt(outer / inner)[..., None] * nodes - (distances / np.sqrt(inner))[..., None]
    tails: Array = np.minimum(1.0, 2.0 * (stdtr(inner_freedom, shifts) @ weights))
    return tails


@lru_cache(maxsize=256)
def _student_nodes(freedom: float, step: float) -> tuple[Array, Array]:
    """Computes values of Student's t and their weights, for an integral over its distribution.

    They are equal steps of a standard normal, mapped quantile to quantile; the integral of a smooth function is exact
    to rounding.
    """
    from scipy.special import ndtr, stdtrit

    half = np.arange(step, 8 + step / 2, step)
    # From the lower half alone: near 1 a probability has too few digits for an exact quantile.
    values = stdtrit(freedom, ndtr(-half))
    weights = np.exp(-0.5 * np.concatenate([half[::-1], [0.0], half]) ** 2)
    return np.concatenate([values[::-1], [0.0], -values]), weights / weights.sum()
