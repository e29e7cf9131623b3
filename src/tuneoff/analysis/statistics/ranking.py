"""The ranking of methods that may have different seeds, by means that can be compared."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Scores = Mapping[int, float]
"""Seed -> score."""


@dataclass(frozen=True)
class Ranking:
    """Methods ranked by means that can be compared.

    Attributes:
        labels: best first; equal ones in the order given.
        means: label -> its mean, set beside the others' on seeds that are shared.
    """

    labels: tuple[str, ...]
    means: Mapping[str, float]


def rank(
    scores: Mapping[str, Scores], direction: Literal["higher", "lower"], candidates: Collection[str] | None = None
) -> Ranking:
    """Ranks methods on the seeds that they share, so that a seed that is hard for all does not count against those that
    ran it.

    With equal seeds each mean is the method's own. With different seeds the best is the candidate that no other is
    ahead of, two by two on the seeds that both have. The best keeps its own mean. Every other method's mean is that of
    the best plus their difference on the seeds that both have; a method that shares no seed with the best gets it by
    way of another method, or keeps its own mean, but never beyond the best. With different seeds each candidate may be
    behind another: then they are ranked on the seeds that all of them share or, without any, by their own means.

    Args:
        scores: of every method, one seed at least.
        direction: which scores are better.
        candidates: labels of those that may be the best; all where it is None or names none of them.
    """
    sign = 1.0 if direction == "higher" else -1.0
    own_means = {label: float(np.mean(list(seeds.values()))) for label, seeds in scores.items()}
    eligible = [label for label in scores if candidates is None or label in candidates] or list(scores)
    if len({frozenset(seeds) for seeds in scores.values()}) == 1:
        return _ranked(own_means, sign, "")
    unbeaten = [
        label
        for label in eligible
        if all((gap := _gap(scores, label, other)) is None or sign * gap >= 0 for other in eligible)
    ]
    if unbeaten:
        best = max(unbeaten, key=lambda label: sign * own_means[label])
        means = {label: own_means[label] for label in scores if scores[label].keys() == scores[best].keys()}
    else:
        shared = frozenset.intersection(*(frozenset(scores[label]) for label in eligible))
        means = {label: _mean(scores[label], shared or scores[label]) for label in eligible}
        best = max(eligible, key=lambda label: sign * means[label])
    means = {best: means.pop(best), **means}
    _add_means(scores, means)
    means |= {label: own_means[label] for label in scores if label not in means}
    unshared = [label for label in eligible if not scores[label].keys() & scores[best].keys()]
    means |= {label: sign * min(sign * means[label], sign * means[best]) for label in unshared}
    return _ranked({label: means[label] for label in scores}, sign, best)


def _ranked(means: Mapping[str, float], sign: float, best: str) -> Ranking:
    return Ranking(tuple(sorted(means, key=lambda label: (-sign * means[label], label != best))), means)


def _add_means(scores: Mapping[str, Scores], means: dict[str, float]) -> None:
    """Adds the means of methods that share a seed with a method that has a mean, by the first such method."""
    while True:
        additions = {}
        for label in [label for label in scores if label not in means]:
            gaps = ((means[other], _gap(scores, label, other)) for other in means)
            mean_beside = next((mean + gap for mean, gap in gaps if gap is not None), None)
            if mean_beside is not None:
                additions[label] = mean_beside
        if not additions:
            return
        means |= additions


def _mean(scores: Scores, seeds: Collection[int]) -> float:
    return float(np.mean([scores[seed] for seed in sorted(seeds)]))


def _gap(scores: Mapping[str, Scores], one: str, other: str) -> float | None:
    """Computes the mean of one minus that of the other, on the seeds that both have; None without any."""
    first, second = scores[one], scores[other]
    shared = first.keys() & second.keys()
    if not shared:
        return None
    gap = _mean(first, shared) - _mean(second, shared)
    # Equal means must not differ by rounding.
    scale = max(abs(value) for value in (*first.values(), *second.values()))
    return 0.0 if abs(gap) <= 1e-12 * scale else gap
