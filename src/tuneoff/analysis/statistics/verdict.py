"""The comparison of methods on one metric or cost: each method's interval, each pair's test, and groups of ties."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tuneoff.analysis.statistics.crossed import Components, components, mcnemar
from tuneoff.analysis.statistics.multiple import holm, letters, tie_groups
from tuneoff.analysis.statistics.ranking import Ranking, rank
from tuneoff.analysis.statistics.sample import Sample

LEVEL = 0.95
UNKNOWN = {
    "one seed": "one seed and no values per example",
    "equal": "the same at every seed: nothing tells its error",
    "constant": "the same for every example at every seed: nothing tells how wide its interval is",
}
"""Why there is no interval."""
SEEDS_REQUIRED = 6
"""Fewest seeds with which a difference may be called significant."""
POWER = 0.8
"""Probability with which the projected number of seeds settles an open pair."""
MOST_SEEDS = 100
"""Greatest number of seeds that is projected."""

Direction = Literal["higher", "lower"]
Over = Literal["seeds", "examples", "seeds and examples"]
Relation = Literal["ahead", "behind", "tied", "open", "not_compared"]
Test = Literal["seeds and examples", "seeds", "mcnemar", "examples"]


@dataclass(frozen=True)
class Interval:
    """An interval at `LEVEL`; `over` names what varies in it: it says nothing about other sources of error."""

    low: float
    high: float
    over: Over


@dataclass(frozen=True)
class Estimate:
    """The estimate of one method's mean.

    Attributes:
        label: the method's label.
        mean: over its seeds.
        std: over its seeds (ddof=1); None with one seed.
        interval: of the mean over all seeds and, where values per example are known, all examples that might have
            been; None when its error cannot be estimated.
        seeds: number of seeds.
        examples: number of test examples; None when only scores are known.
        reason: why there is no interval; empty when there is one.
    """

    label: str
    mean: float
    std: float | None
    interval: Interval | None
    seeds: int
    examples: int | None
    reason: str


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


@dataclass(frozen=True)
class Verdict:
    """The comparison of a study's methods on one metric.

    Attributes:
        direction: which values are better.
        estimates: per method, best first (`rank`).
        pairs: every pair once, the better of the two by rank first.
        groups: the largest groups within which nothing could be told apart, best first; none while every pair is open
            or not compared.
        letters: label -> letters of its groups; methods that share one could not be told apart. Empty without groups.
    """

    direction: Direction
    estimates: tuple[Estimate, ...]
    pairs: tuple[Pair, ...]
    groups: tuple[tuple[str, ...], ...]
    letters: dict[str, str]

    @property
    def best(self) -> str:
        """Returns the label of the first by rank, significant or not."""
        return self.estimates[0].label

    @property
    def winner(self) -> str | None:
        """Returns the method that is significantly ahead of every other; None without one."""
        rivals = [pair for pair in self.pairs if pair.first == self.best]
        return self.best if rivals and all(pair.relation == "ahead" for pair in rivals) else None

    def estimate(self, label: str) -> Estimate:
        """Finds a method's estimate. Raises KeyError at an unknown label."""
        for entry in self.estimates:
            if entry.label == label:
                return entry
        raise KeyError(label)

    def pair(self, first: str, second: str) -> Pair:
        """Returns how `first` stands to `second`. Raises KeyError when there is no such pair."""
        for pair in self.pairs:
            if (pair.first, pair.second) == (first, second):
                return pair
            if (pair.first, pair.second) == (second, first):
                return pair.turned()
        raise KeyError((first, second))

    def tied_with(self, label: str) -> tuple[str, ...]:
        """Returns the methods that cannot be told apart from this one, best first."""
        others = [entry.label for entry in self.estimates if entry.label != label]
        return tuple(other for other in others if self.pair(label, other).relation == "tied")


def verdict(
    samples: Sequence[Sample],
    direction: Direction,
    *,
    fraction: bool = False,
    level: float = LEVEL,
    seeds_required: int = SEEDS_REQUIRED,
    ranking: Ranking | None = None,
) -> Verdict:
    """Compares all methods, two by two, on the seeds and examples that they share.

    Args:
        samples: one per method, under different labels; of the same metric on the same test examples.
        direction: which values are better.
        fraction: whether values lie in [0, 1] by definition; then no method's interval leaves it.
        level: of the intervals; 1 - level is what Holm's correction keeps false claims of a study under.
        seeds_required: fewest seeds in common at which a difference may be called significant.
        ranking: of these methods, those last that it does not name; by default of all of them.

    Raises:
        ValueError: if there is no sample, labels repeat, or two samples are of different examples.
    """
    if not samples or len({sample.label for sample in samples}) != len(samples):
        raise ValueError("samples under different labels, one at least")
    ranking = ranking or rank({sample.label: sample.by_seed for sample in samples}, direction)
    position = {label: index for index, label in enumerate(ranking.labels)}
    ranked = sorted(samples, key=lambda sample: position.get(sample.label, len(position)))
    compared = [_compare(pair, direction, level, fraction) for pair in itertools.combinations(ranked, 2)]
    tested = [pair for pair, _ in compared if pair.p is not None]
    corrected = iter(holm([pair.p for pair in tested if pair.p is not None]))
    decided = [
        (_decide(pair, None if pair.p is None else next(corrected), direction, 1 - level, seeds_required), parts)
        for pair, parts in compared
    ]
    open_count = sum(pair.p is not None and not pair.significant for pair, _ in decided)
    pairs = tuple(_project(pair, parts, (1 - level) / max(open_count, 1), seeds_required) for pair, parts in decided)
    any_compared = any(pair.relation not in ("open", "not_compared") for pair in pairs) or len(ranked) == 1
    groups = tie_groups(
        [sample.label for sample in ranked if any_compared],
        [(pair.first, pair.second) for pair in pairs if pair.significant],
    )
    estimates = tuple(estimate(sample, fraction=fraction, level=level) for sample in ranked)
    return Verdict(direction, estimates, pairs, groups, letters(groups))


def estimate(sample: Sample, *, fraction: bool = False, level: float = LEVEL) -> Estimate:
    """Estimates a method's mean, its spread over seeds, and its interval over seeds and examples.

    A fraction's interval is Wilson's with the effective number of examples mean·(1 - mean)/variance, which stays in
    [0, 1] and covers near its ends, where a symmetric one falls short: Franco et al., Comparative study of confidence
    intervals for proportions in complex sample surveys, J Surv Stat Methodol 7, 2019.
    """
    parts = components(sample)
    std = float(sample.scores.std(ddof=1)) if len(sample) > 1 else None
    interval, reason = None, _why_unknown(parts)
    if fraction and parts.known:
        interval, reason = Interval(*_wilson(parts, sample.examples, level), _over(parts)), ""
    elif not reason:
        half = parts.half_width(level)
        interval = Interval(parts.mean - half, parts.mean + half, _over(parts))
    return Estimate(sample.label, parts.mean, std, interval, len(sample), sample.examples, reason)


def _why_unknown(parts: Components) -> str:
    """Explains why there is no interval; empty where there is one."""
    if not parts.known:
        return UNKNOWN["one seed" if parts.by_seed is None else "equal"]
    return UNKNOWN["constant"] if parts.constant else ""


def _compare(
    pair: tuple[Sample, Sample], direction: Direction, level: float, fraction: bool
) -> tuple[Pair, Components | None]:
    """Compares a pair without correction for many pairs; returns with it the parts of its error (None when not
    compared)."""
    first, second = pair
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
    if not parts.known:
        return replace(result, reason=_why_unknown(parts)), None
    if len(paired) > 1:
        test: Test = "seeds" if paired.contributions is None else "seeds and examples"
        p = parts.p_value()
    elif first.binary and second.binary:
        test, p = "mcnemar", mcnemar(first, second)
    else:
        test, p = "examples", parts.p_value()
    return replace(result, interval=_difference_interval(parts, level, fraction), p=p, test=test), parts


def _difference_interval(parts: Components, level: float, fraction: bool) -> Interval | None:
    """Computes the interval of a paired difference.

    Where every example tells the same difference, their number alone limits how many others there may be: a share that
    would leave all of them out with the probability of a miss. Of fractions such an example differs by 1 at most; of
    other metrics nothing is known, and there is no interval.
    """
    mean = parts.mean
    if not parts.constant:
        half = parts.half_width(level)
        return Interval(mean - half, mean + half, _over(parts))
    if not fraction:
        return None
    share = 1 - ((1 - level) / 2) ** (1 / (parts.example_freedom + 1))
    return Interval(mean - share * (1 + mean), mean + share * (1 - mean), _over(parts))


def _decide(pair: Pair, p_holm: float | None, direction: Direction, alpha: float, seeds_required: int) -> Pair:
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


def _project(pair: Pair, parts: Components | None, alpha: float, seeds_required: int) -> Pair:
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


def _wilson(parts: Components, examples: int | None, level: float) -> tuple[float, float]:
    mean = parts.mean
    spread = mean * (1 - mean)
    if examples is not None and (parts.constant or spread <= 0.0):
        # All seeds equal, or all examples right, or all wrong: no more is known than from the examples of one seed.
        ratio = float(_normal(level)) ** 2 / examples
    else:
        # Quantile² over effective number of examples.
        ratio = parts.half_width(level) ** 2 / spread
    middle = (mean + ratio / 2) / (1 + ratio)
    half_width = math.sqrt(ratio * max(spread, 0.0) + ratio**2 / 4) / (1 + ratio)
    # The interval contains the mean; at 0 and 1 rounding could leave it outside.
    return max(min(middle - half_width, mean), 0.0), min(max(middle + half_width, mean), 1.0)


def _normal(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


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


def _over(parts: Components) -> Over:
    if parts.by_example is None:
        return "seeds"
    return "examples" if parts.by_seed is None else "seeds and examples"
