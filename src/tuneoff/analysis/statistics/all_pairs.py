"""The differences of all pairs of methods, measured together: what `pairs.measure` gives for each, in less time.

Every part of a difference's error is a variance, and the variance of a difference is var(a) + var(b) - 2·cov(a, b): so
few products of matrices hold those of all pairs. A pair whose difference is too small for its digits to suffice is
measured by itself, and so are all where methods have other seeds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tuneoff.analysis.statistics.crossed import Components
from tuneoff.analysis.statistics.pairs import SEEDS_FOR_SPREAD, Direction, Pair, measure
from tuneoff.analysis.statistics.sample import Sample

Array = NDArray[np.float64]
FEWEST = 8
"""Fewest methods whose pairs are measured together."""
LEAST_PART = 1e-6
"""Least part of the variances of two methods that their difference must keep for its digits to suffice."""

Measured = tuple[Pair, Components | None]


def measure_all(samples: Sequence[Sample], direction: Direction) -> list[Measured]:
    """Measures every pair once, in the order of `itertools.combinations`; see `pairs.measure`."""
    together = _measure_together(samples, direction) if _are_alike(samples) else {}
    return [
        together.get((first, second)) or measure(samples[first], samples[second], direction)
        for first, second in itertools.combinations(range(len(samples)), 2)
    ]


def _are_alike(samples: Sequence[Sample]) -> bool:
    """Returns whether these are many samples of the same seeds, two at least, and examples."""
    first = samples[0]
    return (
        len(samples) >= FEWEST
        and len(first) > 1
        and len({_shape(each) for each in samples}) == 1
        and first.contributions is not None
    )


def _shape(sample: Sample) -> tuple[object, ...]:
    return (
        sample.seeds,
        sample.examples,
        sample.groups,
        sample.pool_share,
        None if sample.contributions is None else sample.contributions.shape,
    )


def _measure_together(samples: Sequence[Sample], direction: Direction) -> dict[tuple[int, int], Measured]:
    """Measures the pairs whose digits suffice; returns them by the places of their samples."""
    values = np.stack([sample.contributions for sample in samples if sample.contributions is not None])
    by_example, by_rest, fine = _variances(values)
    scores = np.stack([sample.scores for sample in samples])
    differences = scores[:, None] - scores[None]
    # `Sample.minus` says why: what differs by rounding alone does not differ.
    rounding = 1e-12 * np.maximum(np.abs(scores)[:, None], np.abs(scores)[None])
    differences[np.abs(differences) <= rounding] = 0.0
    fine &= np.ptp(differences, axis=2) > rounding.max(axis=2)
    seeds, examples = values.shape[1:]
    means = differences.mean(axis=2)
    pool_share = samples[0].pool_share
    by_seed = differences.var(axis=2, ddof=1) * (1 / seeds + pool_share)
    gains = differences if direction == "higher" else -differences
    wins = ((gains > 0) + 0.5 * (gains == 0)).mean(axis=2)
    effects = _effects(scores)
    measured: dict[tuple[int, int], Measured] = {}
    if effects is not None:
        fine &= np.isfinite(effects)
    for first, second in np.argwhere(np.triu(fine, 1)).tolist():
        one, other, mean = samples[first], samples[second], float(means[first, second])
        parts = Components(
            mean,
            seeds,
            float(by_seed[first, second]),
            float(by_example[first, second]),
            examples - 1,
            float(by_rest[first, second]),
            unit="groups" if one.groups else "examples",
            pool_share=pool_share,
        )
        pair = Pair(
            one.label,
            other.label,
            difference=mean,
            interval=None,
            p=None,
            p_corrected=None,
            effect=None if effects is None else float(effects[first, second]),
            win_rate=float(wins[first, second]),
            test=None,
            relation="not_compared",
            seeds=seeds,
            examples=one.examples,
            seeds_needed=None,
            reason="",
            groups=one.groups,
        )
        measured[first, second] = pair, parts
    return measured


def _variances(values: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Computes the parts of the variance of each difference of two means, by examples and by the rest, and whether
    their digits suffice; see `crossed.py`.

    Args:
        values: shape (samples, seeds, examples).

    Returns:
        Three arrays of shape (samples, samples).
    """
    count, seeds, examples = values.shape
    deviations = values - values.mean(axis=2, keepdims=True)
    rest = (deviations - deviations.mean(axis=1, keepdims=True)).reshape(count, -1)
    sums, flat = deviations.sum(axis=1), deviations.reshape(count, -1)
    same_seed, between = flat @ flat.T, rest @ rest.T
    by_example = _of_differences(sums @ sums.T - same_seed) / (seeds * (seeds - 1) * (examples - 1) * examples)
    fine = np.ones((count, count), dtype=bool)
    for products in (same_seed, between):
        own = np.diag(products)
        fine &= _of_differences(products) > LEAST_PART * (own[:, None] + own[None])
    by_rest = _of_differences(between) / ((seeds - 1) * (examples - 1) * seeds * examples)
    return np.maximum(by_example, 0.0), by_rest, fine


def _of_differences(products: Array) -> Array:
    """Computes the product of each difference with itself from the products of all with all."""
    own = np.diag(products)
    result: Array = own[:, None] + own[None] - 2 * products
    return result


def _effects(scores: Array) -> Array | None:
    """Computes Hedges' g of each pair (`Pair.effect`), not finite where there is no spread to divide by; None under
    `SEEDS_FOR_SPREAD` seeds."""
    seeds = scores.shape[1]
    if seeds < SEEDS_FOR_SPREAD:
        return None
    means, variances = scores.mean(axis=1), scores.var(axis=1, ddof=1)
    pooled = np.sqrt((variances[:, None] + variances[None]) / 2)
    largest = np.abs(scores).max(axis=1)
    pooled[pooled <= 1e-12 * np.maximum(largest[:, None], largest[None])] = np.nan
    effects: Array = (means[:, None] - means[None]) / pooled * (1 - 3 / (4 * 2 * (seeds - 1) - 1))
    return effects
