"""The comparison of two methods on one metric or cost: difference, interval, test, and seeds that would settle it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tuneoff.analysis.statistics.crossed import Components, components, half_widths, mcnemar, p_values
from tuneoff.analysis.statistics.estimates import Interval, over, why_unknown
from tuneoff.analysis.statistics.sample import Sample

SEEDS_REQUIRED = 6
"""Fewest seeds with which a difference may be called significant."""
SEEDS_FOR_SPREAD = 3
"""Fewest seeds of which anything is said that their spread decides: an effect size, or that an arm is better than none.
"""
POWER = 0.8
"""Probability with which the projected number of seeds settles an open pair."""
RANGE_LEVEL = 0.8
"""Level of the range that the number of seeds lies in."""
MOST_SEEDS = 100
"""Greatest number of seeds that is projected, but for a race that may have more."""

EQUAL_MEANS = "the two means are equal"
TOO_FEW_EXAMPLES = "no number of seeds: the test set is too small for so small a difference"
TOO_FEW_ROWS = "no number of seeds: test set and training rows are too few for so small a difference"

Direction = Literal["higher", "lower"]
Relation = Literal["ahead", "behind", "tied", "open", "not_compared"]
Test = Literal["seeds and examples", "seeds and groups", "seeds", "mcnemar", "examples", "groups"]


@dataclass(frozen=True)
class Pair:
    """The comparison of `first` to `second`, on the seeds and examples that both have.

    Attributes:
        first, second: labels.
        difference: mean of first minus second; None when not compared.
        interval: of the difference, for this pair alone (not corrected for looking at many).
        bounds: of the difference, each one-sided, for all rivals of one method together (`equivalence.py`).
        p: two-sided, for this pair alone.
        p_corrected: corrected over all pairs of the verdict; this one decides.
        effect: the difference in units of the spread between seeds: Hedges' g, which is Cohen's d with the
            two methods' pooled standard deviation and Hedges' correction for few seeds (J Educ Stat 6, 1981). None
            under three seeds, or without a spread.
        win_rate: share of seeds at which `first` is the better of the two, ties counted half: the estimate of
            P(A > B) that Bouthillier et al., Accounting for variance in machine learning benchmarks, MLSys 2021,
            ask for. None when not compared.
        test: what varies in the test; `mcnemar`, `examples` and `groups` compare two trained models, one seed each.
        relation: `open`: fewer seeds than required, whatever the difference. Else `ahead` and `behind` follow the
            metric's direction and are significant; `tied`: cannot be told apart; `not_compared`.
        seeds: seeds that both have.
        examples: test examples compared; None when only scores were.
        groups: groups of test examples that vary as one; None where every example stands for itself.
        seeds_needed: of a pair that is open or tied, the number of seeds that would settle it with probability `POWER`
            if the difference and its spread are what they seem; None when settled or when no number would.
        seeds_range: fewest and most seeds that would, if the spread is what it seems and the difference lies in its
            interval of `RANGE_LEVEL`; the most is None where more than are projected, or no number, would. None when
            settled, or when no number would even then.
        reason: why not compared, or why no number of seeds would settle it; else empty.
    """

    first: str
    second: str
    difference: float | None
    interval: Interval | None
    p: float | None
    p_corrected: float | None
    effect: float | None
    win_rate: float | None
    test: Test | None
    relation: Relation
    seeds: int
    examples: int | None
    seeds_needed: int | None
    reason: str
    bounds: Interval | None = None
    seeds_range: tuple[int, int | None] | None = None
    groups: int | None = None

    @property
    def significant(self) -> bool:
        return self.relation in ("ahead", "behind")

    def turned(self) -> Pair:
        """Returns the same pair with first and second exchanged."""
        swapped: dict[Relation, Relation] = {"ahead": "behind", "behind": "ahead"}
        return replace(
            self,
            first=self.second,
            second=self.first,
            difference=None if self.difference is None else -self.difference,
            interval=self.interval and self.interval.negated(),
            bounds=self.bounds and self.bounds.negated(),
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
        groups=paired.groups,
    )
    return (result, parts) if parts.known else (replace(result, reason=why_unknown(parts)), None)


def compare(measured: Sequence[tuple[Pair, Components | None]], samples: Sequence[tuple[Sample, Sample]]) -> list[Pair]:
    """Adds p, and what it tests, to each pair whose error is known."""
    values = iter(p_values([parts for _, parts in measured if parts is not None]))
    compared = []
    for (pair, parts), both in zip(measured, samples, strict=True):
        if parts is not None:
            pair = replace(pair, p=next(values), test=over(parts))
            if pair.seeds == 1 and not pair.groups and all(sample.binary for sample in both):
                pair = replace(pair, p=mcnemar(*both), test="mcnemar")
        compared.append(pair)
    return compared


def bound(
    measured: Sequence[tuple[Pair, Components | None]], level: float, fraction: bool, errors: Sequence[float]
) -> list[Pair]:
    """Adds the interval and the bounds to each pair whose error is known; only the bounds are corrected: each pair's
    miss with its error of these."""
    known = [(index, parts) for index, (_, parts) in enumerate(measured) if parts is not None]
    bounds: dict[int, Interval | None] = {}
    for error in set(errors):
        at = [(index, parts) for index, parts in known if errors[index] == error]
        found = _difference_intervals([parts for _, parts in at], 1 - error, fraction)
        bounds |= {index: interval for (index, _), interval in zip(at, found, strict=True)}
    intervals = iter(_difference_intervals([parts for _, parts in known], level, fraction))
    return [
        pair if parts is None else replace(pair, interval=next(intervals), bounds=bounds[index])
        for index, (pair, parts) in enumerate(measured)
    ]


def _difference_intervals(differences: Sequence[Components], level: float, fraction: bool) -> list[Interval | None]:
    """Computes the intervals of paired differences.

    Where every example tells the same difference, their number alone limits how many others there may be: a share that
    would leave all of them out with the probability of a miss. Of fractions such an example differs by 1 at most; of
    other metrics nothing is known, and there is no interval.
    """
    halves = iter(half_widths([parts for parts in differences if not parts.constant], level))
    intervals: list[Interval | None] = []
    for parts in differences:
        mean = parts.mean
        if not parts.constant:
            half = next(halves)
            intervals.append(Interval(mean - half, mean + half, over(parts)))
        elif fraction:
            share = 1 - ((1 - level) / 2) ** (1 / (parts.example_freedom + 1))
            intervals.append(Interval(mean - share * (1 + mean), mean + share * (1 - mean), over(parts)))
        else:
            intervals.append(None)
    return intervals


def decide(pair: Pair, p_corrected: float | None, first_better: bool, alpha: float, seeds_required: int) -> Pair:
    """Adds the relation; where p is significant, the first is ahead if it is the better (at the look that p is of)."""
    if pair.difference is None:
        return pair
    if pair.seeds < seeds_required:
        return replace(pair, p_corrected=p_corrected, relation="open")
    if p_corrected is None:
        return pair
    relation: Relation = "tied"
    if p_corrected <= alpha:
        relation = "ahead" if first_better else "behind"
    return replace(pair, p_corrected=p_corrected, relation=relation)


def project(
    pair: Pair, parts: Components | None, alpha: float, seeds_required: int, most_seeds: int = MOST_SEEDS
) -> Pair:
    """Adds how many seeds would settle an open pair, `most_seeds` at most, and the range that their number lies in.

    With so many, the difference exceeds its critical value by the margin that `POWER` asks for, at the level that
    the correction leaves the open pairs. The range is of the differences in their interval of `RANGE_LEVEL`.
    """
    if parts is None or pair.p is None or pair.significant:
        return pair
    if parts.by_seed is None:
        return replace(pair, reason="one seed does not tell how much seeds differ")
    if parts.constant:
        reason = EQUAL_MEANS if parts.mean == 0.0 else TOO_FEW_EXAMPLES
        return replace(pair, reason=reason)
    distance, fewest = abs(parts.mean), max(pair.seeds + 1, seeds_required)
    half = parts.central_half_width(RANGE_LEVEL)
    needed = _seeds_needed(parts, distance, alpha, fewest, most_seeds)
    least = _seeds_needed(parts, distance + half, alpha, fewest, needed or most_seeds)
    most = _seeds_needed(parts, distance - half, alpha, needed, most_seeds) if needed else None
    return replace(
        pair,
        seeds_needed=needed,
        seeds_range=(least, most) if least else None,
        reason="" if needed else _why_no_number(parts, distance, alpha, most_seeds),
    )


def _why_no_number(parts: Components, distance: float, alpha: float, most_seeds: int) -> str:
    from scipy.special import ndtri

    if distance == 0.0:
        return EQUAL_MEANS
    limit = float(ndtri(1 - alpha / 2) + ndtri(POWER)) * math.sqrt(parts.lasting)
    too_few = TOO_FEW_ROWS if parts.pool_share else TOO_FEW_EXAMPLES
    return too_few if distance <= limit else f"more than {most_seeds} seeds"


def _seeds_needed(parts: Components, distance: float, alpha: float, fewest: int, most: int) -> int | None:
    """Returns the number of seeds that would settle a difference of this size, `fewest` at least; None where more than
    `most` would be needed, or no number would."""
    from scipy.special import ndtri

    def settles(seeds: int) -> bool:
        projected = parts.with_seeds(seeds)
        margin = float(ndtri(POWER)) * math.sqrt(projected.variance)
        return distance > margin and projected.tail(distance - margin) <= alpha

    if settles(fewest):
        return fewest
    if not settles(most):
        return None
    return fewest + bisect_left(range(fewest, most), True, key=settles)


def _hedges(first: Sample, second: Sample) -> float | None:
    # The spread of two seeds is next to nothing in one study of ten, and the effect then a hundred of it.
    if len(first) < SEEDS_FOR_SPREAD:
        return None
    freedom = 2 * (len(first) - 1)
    pooled = math.sqrt((float(first.scores.var(ddof=1)) + float(second.scores.var(ddof=1))) / 2)
    difference = float(first.scores.mean() - second.scores.mean())
    # Scores that are equal up to rounding have no spread to divide by.
    if pooled <= 1e-12 * max(float(np.abs(first.scores).max()), float(np.abs(second.scores).max())):
        return None
    return difference / pooled * (1 - 3 / (4 * freedom - 1))
