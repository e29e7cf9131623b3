"""The comparison of two methods on one metric or cost: difference, interval, test, and seeds that would settle it."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tuneoff.analysis.statistics.crossed import Components, components, mcnemar
from tuneoff.analysis.statistics.estimates import Interval, over, why_unknown
from tuneoff.analysis.statistics.sample import Sample

SEEDS_REQUIRED = 6
"""Fewest seeds with which a difference may be called significant."""
POWER = 0.8
"""Probability with which the projected number of seeds settles an open pair."""
MOST_SEEDS = 100
"""Greatest number of seeds that is projected."""

Direction = Literal["higher", "lower"]
Relation = Literal["ahead", "behind", "tied", "open", "not_compared"]
Test = Literal["seeds and examples", "seeds", "mcnemar", "examples"]


@dataclass(frozen=True)
class Pair:
    """The comparison of `first` to `second`, on the seeds and examples that both have.

    Attributes:
        first, second: labels.
        difference: mean of first minus second; None when not compared.
        interval: of the difference, for this pair alone (not corrected for looking at many).
        p: two-sided, for this pair alone.
        p_holm: corrected over all pairs of the verdict; this one decides.
        effect: the difference in units of the spread between seeds: Hedges' g, which is Cohen's d with the
            two methods' pooled standard deviation and Hedges' correction for few seeds (J Educ Stat 6, 1981). None with
            one seed or no spread.
        win_rate: share of seeds at which `first` is the better of the two, ties counted half: the estimate of
            P(A > B) that Bouthillier et al., Accounting for variance in machine learning benchmarks, MLSys 2021,
            ask for. None when not compared.
        test: what varies in the test; `mcnemar` and `examples` compare two trained models, one seed each.
        relation: `open`: fewer seeds than required, whatever the difference. Else `ahead` and `behind` follow the
            metric's direction and are significant; `tied`: cannot be told apart; `not_compared`.
        seeds: seeds that both have.
        examples: test examples compared; None when only scores were.
        seeds_needed: of a pair that is open or tied, the number of seeds that would settle it with probability `POWER`
            if the difference and its spread are what they seem; None when settled or when no number would.
        reason: why not compared, or why no number of seeds would settle it; else empty.
    """

    first: str
    second: str
    difference: float | None
    interval: Interval | None
    p: float | None
    p_holm: float | None
    effect: float | None
    win_rate: float | None
    test: Test | None
    relation: Relation
    seeds: int
    examples: int | None
    seeds_needed: int | None
    reason: str

    @property
    def significant(self) -> bool:
        return self.relation in ("ahead", "behind")

    def turned(self) -> Pair:
        """Returns the same pair with first and second exchanged."""
        swapped: dict[Relation, Relation] = {"ahead": "behind", "behind": "ahead"}
        interval = self.interval and Interval(-self.interval.high, -self.interval.low, self.interval.over)
        return replace(
            self,
            first=self.second,
            second=self.first,
            difference=None if self.difference is None else -self.difference,
            interval=interval,
            effect=None if self.effect is None else -self.effect,
            win_rate=None if self.win_rate is None else 1 - self.win_rate,
            relation=swapped.get(self.relation, self.relation),
        )


def measure(first: Sample, second: Sample, direction: Direction) -> tuple[Pair, Components | None]:
    """Measures the difference of a pair; returns with it the parts of its error (None when not compared)."""
    shared = set(first.seeds) & set(second.seeds)
    not_compared = Pair(
        first.label, second.label, None, None, None, None, None, None, None, "not_compared", len(shared), None, None, ""
    )
    if not shared:
        return replace(not_compared, reason="no seed that both completed"), None
    paired = first.minus(second)
    parts = components(paired)
    gains = paired.scores if direction == "higher" else -paired.scores
    result = replace(
        not_compared,
        difference=parts.mean,
        effect=_hedges(first.at(paired.seeds), second.at(paired.seeds)),
        win_rate=float(np.mean((gains > 0) + 0.5 * (gains == 0))),
        examples=paired.examples,
    )
    return (result, parts) if parts.known else (replace(result, reason=why_unknown(parts)), None)


def compare(pair: Pair, parts: Components | None, samples: tuple[Sample, Sample], level: float, fraction: bool) -> Pair:
    """Adds p and the interval to a pair, without correction for many pairs."""
    if parts is None:
        return pair
    first, second = samples
    if pair.seeds > 1:
        test: Test = "seeds" if pair.examples is None else "seeds and examples"
        p = parts.p_value()
    elif first.binary and second.binary:
        test, p = "mcnemar", mcnemar(first, second)
    else:
        test, p = "examples", parts.p_value()
    return replace(pair, interval=_difference_interval(parts, level, fraction), p=p, test=test)


def _difference_interval(parts: Components, level: float, fraction: bool) -> Interval | None:
    """Computes the interval of a paired difference.

    Where every example tells the same difference, their number alone limits how many others there may be: a share that
    would leave all of them out with the probability of a miss. Of fractions such an example differs by 1 at most; of
    other metrics nothing is known, and there is no interval.
    """
    mean = parts.mean
    if not parts.constant:
        half = parts.half_width(level)
        return Interval(mean - half, mean + half, over(parts))
    if not fraction:
        return None
    share = 1 - ((1 - level) / 2) ** (1 / (parts.example_freedom + 1))
    return Interval(mean - share * (1 + mean), mean + share * (1 - mean), over(parts))


def decide(pair: Pair, p_holm: float | None, direction: Direction, alpha: float, seeds_required: int) -> Pair:
    if pair.difference is None:
        return pair
    if pair.seeds < seeds_required:
        return replace(pair, p_holm=p_holm, relation="open")
    if p_holm is None:
        return pair
    relation: Relation = "tied"
    if p_holm <= alpha:
        relation = "ahead" if (pair.difference > 0) == (direction == "higher") else "behind"
    return replace(pair, p_holm=p_holm, relation=relation)


def project(pair: Pair, parts: Components | None, alpha: float, seeds_required: int) -> Pair:
    """Adds how many seeds would settle an open pair.

    With so many, the difference exceeds its critical value by the margin that `POWER` asks for, at the level that
    Holm's correction leaves the open pairs.
    """
    if parts is None or pair.p is None or pair.significant:
        return pair
    if parts.by_seed is None:
        return replace(pair, reason="one seed does not tell how much seeds differ")
    if parts.mean == 0.0:
        return replace(pair, reason="the two means are equal")
    if parts.constant:
        return replace(pair, reason="no number of seeds: the test set is too small for so small a difference")
    from scipy.special import ndtri

    def settles(seeds: int) -> bool:
        projected = parts.with_seeds(seeds)
        margin = float(ndtri(POWER)) * math.sqrt(projected.variance)
        return abs(parts.mean) > margin and projected.tail(abs(parts.mean) - margin) <= alpha

    low = max(pair.seeds + 1, seeds_required)
    if not settles(MOST_SEEDS):
        limit = float(ndtri(1 - alpha / 2) + ndtri(POWER)) * math.sqrt(parts.by_example or 0.0)
        if abs(parts.mean) <= limit:
            return replace(pair, reason="no number of seeds: the test set is too small for so small a difference")
        return replace(pair, reason=f"more than {MOST_SEEDS} seeds")
    candidates = range(low, MOST_SEEDS)
    return replace(pair, seeds_needed=low + bisect_left(candidates, True, key=settles))


def _hedges(first: Sample, second: Sample) -> float | None:
    freedom = 2 * (len(first) - 1)
    if not freedom:
        return None
    pooled = math.sqrt((float(first.scores.var(ddof=1)) + float(second.scores.var(ddof=1))) / 2)
    difference = float(first.scores.mean() - second.scores.mean())
    # Scores that are equal up to rounding have no spread to divide by.
    if pooled <= 1e-12 * max(float(np.abs(first.scores).max()), float(np.abs(second.scores).max())):
        return None
    return difference / pooled * (1 - 3 / (4 * freedom - 1))
