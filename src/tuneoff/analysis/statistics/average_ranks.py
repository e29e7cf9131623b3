"""Methods on several data sets: average ranks, whether they differ at all, and which pairs do.

Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006. On each set methods are ranked,
the best is 1, equal ones share a rank. Whether they differ at all is Friedman's question, by the statistic of Iman and
Davenport (Approximations of the critical region of the Friedman statistic, Commun Stat A 9, 1980). If they do, two
methods differ where their average ranks lie the critical difference of Nemenyi apart, or more.

The p-value is over permutations of the ranks within each set, because the statistic's F distribution is wrong with few
sets: where three sets agree on three methods, it says 0, and chance alone has them agree in 1 of 36. With few sets the
test has little power whatever the methods scored: what no test finds may be there.

The sets are what varies: the claim is about other sets like these. How sure the ranks on one set are is no part of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuneoff.analysis.statistics.estimates import LEVEL
from tuneoff.analysis.statistics.multiple import tie_groups
from tuneoff.analysis.statistics.pairs import Direction

Array = NDArray[np.float64]
PERMUTATIONS = 20_000
FEW_SETS = 10
"""Under so many data sets the test is said to be weak."""
_CHUNK = 2_000_000
"""Most ranks that are permuted at once."""


@dataclass(frozen=True)
class AverageRanks:
    """Methods ranked over data sets.

    Attributes:
        ranks: label -> average rank, best first.
        by_set: data set -> label -> rank there.
        statistic: Iman and Davenport's F; None where all sets agree, which makes it infinite, and with one set.
        p: of no difference between any methods; None with one set.
        critical_difference: of Nemenyi, at the level; None with one set.
        different: pairs that differ, the better first; none unless p is under 1 - level.
        groups: the largest groups within which no two methods differ, best first.
        agree: how much the sets agree on the ranks: Kendall's W, from 0 to 1.
    """

    ranks: Mapping[str, float]
    by_set: Mapping[str, Mapping[str, float]]
    statistic: float | None
    p: float | None
    critical_difference: float | None
    different: tuple[tuple[str, str], ...]
    groups: tuple[tuple[str, ...], ...]
    agree: float | None


def average_ranks(
    scores: Mapping[str, Mapping[str, float]], direction: Direction, level: float = LEVEL
) -> AverageRanks:
    """Ranks methods over data sets and tests whether they differ.

    Args:
        scores: data set -> label -> score; every set has the same labels.
        direction: which scores are better.
        level: 1 - level is the probability of any false claim.

    Raises:
        ValueError: if there are fewer than two methods, or sets differ in theirs.
    """
    labels = list(next(iter(scores.values()), {}))
    if len(labels) < 2 or any(set(own) != set(labels) for own in scores.values()):
        raise ValueError("two methods or more, the same on every data set")
    sign = -1.0 if direction == "higher" else 1.0
    ranks = np.array([_ranks(sign * np.array([own[label] for label in labels])) for own in scores.values()])
    means = ranks.mean(axis=0)
    order = sorted(range(len(labels)), key=lambda at: means[at])
    ranked = [labels[at] for at in order]
    by_set = {name: dict(zip(labels, own.tolist(), strict=True)) for name, own in zip(scores, ranks, strict=True)}
    averages = {labels[at]: float(means[at]) for at in order}
    if len(scores) < 2:
        return AverageRanks(averages, by_set, None, None, None, (), (tuple(ranked),), None)
    agreement = _agreement(ranks)
    p = _p_value(ranks)
    difference = _critical_difference(len(labels), len(scores), level)
    different = tuple(
        (one, other)
        for one, other in itertools.combinations(ranked, 2)
        if p <= 1 - level and averages[other] - averages[one] >= difference
    )
    return AverageRanks(
        ranks=averages,
        by_set=by_set,
        statistic=(len(scores) - 1) * agreement / (1 - agreement) if agreement < 1 - 1e-12 else None,
        p=p,
        critical_difference=difference,
        different=different,
        groups=tie_groups(ranked, different),
        agree=agreement,
    )


def _ranks(values: Array) -> Array:
    """Ranks values, the least first; values that are equal but for rounding share the mean of their ranks."""
    scale = 1e-12 * float(np.abs(values).max())
    below = (values[None] < values[:, None] - scale).sum(axis=1)
    equal = (np.abs(values[None] - values[:, None]) <= scale).sum(axis=1)
    ranks: Array = below + (equal + 1) / 2
    return ranks


def _agreement(ranks: Array) -> float:
    """Computes Kendall's W with its correction for ties; 0 where every set has all methods equal.

    Friedman's chi-square is sets · (methods - 1) · W, and Iman and Davenport's F is (sets - 1) · W / (1 - W).
    """
    sets, methods = ranks.shape
    between = float(((ranks.sum(axis=0) - sets * (methods + 1) / 2) ** 2).sum())
    most = sets * float(((ranks - (methods + 1) / 2) ** 2).sum())
    return between / most if most else 0.0


def _p_value(ranks: Array) -> float:
    """Computes how often ranks that are permuted within each set agree as much, from draws of permutations.

    The sets themselves count as one draw, so that the p-value is never too small. W, chi-square and F order
    permutations alike, so it is the p-value of each.
    """
    random = np.random.default_rng(0)
    centred = ranks - ranks.mean()
    observed = float((centred.sum(axis=0) ** 2).sum())
    done = at_least = 0
    while done < PERMUTATIONS:
        count = min(PERMUTATIONS - done, max(1, _CHUNK // centred.size))
        permuted = random.permuted(np.broadcast_to(centred, (count, *centred.shape)), axis=2)
        at_least += int(((permuted.sum(axis=1) ** 2).sum(axis=1) >= observed * (1 - 1e-9)).sum())
        done += count
    return (1 + at_least) / (1 + PERMUTATIONS)


def _critical_difference(methods: int, sets: int, level: float) -> float:
    """Computes Nemenyi's: the quantile of the studentised range of so many methods, in units of a rank's error."""
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(level, methods, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * sets))


def shared_scores(scores: Mapping[str, Mapping[str, float]]) -> tuple[dict[str, dict[str, float]], Sequence[str]]:
    """Returns the scores of the methods that every data set has, and the labels of those that some lack."""
    labels = list(dict.fromkeys(label for own in scores.values() for label in own))
    shared = [label for label in labels if all(label in own for own in scores.values())]
    return {name: {label: own[label] for label in shared} for name, own in scores.items()}, [
        label for label in labels if label not in shared
    ]
