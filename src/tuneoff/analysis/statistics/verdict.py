"""The comparison of methods on one metric or cost: each method's interval, each pair's test, and groups of ties."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from tuneoff.analysis.statistics.all_pairs import measure_all
from tuneoff.analysis.statistics.crossed import Components
from tuneoff.analysis.statistics.estimates import LEVEL, Estimate, estimate
from tuneoff.analysis.statistics.moderated import moderate
from tuneoff.analysis.statistics.multiple import letters, most_equal, shaffer, tie_groups
from tuneoff.analysis.statistics.pairs import (
    MOST_SEEDS,
    SEEDS_REQUIRED,
    Direction,
    Pair,
    bound,
    compare,
    decide,
    project,
)
from tuneoff.analysis.statistics.ranking import Ranking, rank
from tuneoff.analysis.statistics.sample import Sample
from tuneoff.analysis.statistics.sequential import Looks


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
    looks: Looks | None = None,
) -> Verdict:
    """Compares all methods, two by two, on the seeds and examples that they share.

    Args:
        samples: one per method, under different labels; of the same metric on the same test examples.
        direction: which values are better.
        fraction: whether values lie in [0, 1] by definition; then no method's interval leaves it.
        level: of the intervals; 1 - level is what Shaffer's correction keeps false claims of a study under.
        seeds_required: fewest seeds in common at which a difference may be called significant.
        ranking: of these methods, those last that it does not name; by default of all of them.
        looks: where seeds were added look by look; then every pair is compared at the last look that both had, and the
            correction is over all looks.

    Raises:
        ValueError: if there is no sample, labels repeat, or two samples are of different examples.
    """
    ranked = _ranked(_at_last_look(samples, looks), direction, ranking)
    decided = _decided(ranked, direction, level, seeds_required, looks)
    tested, claimed = sum(pair.p is not None for pair, _ in decided), sum(pair.significant for pair, _ in decided)
    # Of these, the correction asks the next pair for this.
    alpha = (1 - level) / (most_equal(len(ranked), tested, claimed) if claimed < tested else 1)
    if looks is not None:
        alpha = looks.nominal(alpha, len(looks.counts))
    most_seeds = max(MOST_SEEDS, looks.counts[-1]) if looks is not None else MOST_SEEDS
    error = 2 * (1 - level) / max(len(ranked) - 1, 1)
    bounded = bound(decided, level, fraction, [_nominal(error, pair, looks) for pair, _ in decided])
    pairs = tuple(
        project(pair, parts, alpha, seeds_required, most_seeds)
        for pair, (_, parts) in zip(bounded, decided, strict=True)
    )
    groups = _groups(ranked, pairs)
    estimates = tuple(estimate(sample, fraction=fraction, level=level) for sample in ranked)
    return Verdict(direction, estimates, pairs, groups, letters(groups))


def tie_letters(
    samples: Sequence[Sample], direction: Direction, ranking: Ranking | None = None, looks: Looks | None = None
) -> dict[str, str]:
    """Returns the letters that `verdict` would give, without its intervals and projections, which take most of its
    time."""
    ranked = _ranked(_at_last_look(samples, looks), direction, ranking)
    return letters(_groups(ranked, [pair for pair, _ in _decided(ranked, direction, LEVEL, SEEDS_REQUIRED, looks)]))


def _at_last_look(samples: Sequence[Sample], looks: Looks | None) -> list[Sample]:
    """Returns the samples at their last looks; whole, where a method had none yet."""
    return [sample if looks is None else looks.of(sample) or sample for sample in samples]


def _nominal(error: float, pair: Pair, looks: Looks | None) -> float:
    look = looks.together(pair.first, pair.second) if looks is not None else 0
    return looks.nominal(error, look) if looks is not None and look else error


def _ranked(samples: Sequence[Sample], direction: Direction, ranking: Ranking | None) -> list[Sample]:
    """Sorts the samples, best first; see `verdict`."""
    if not samples or len({sample.label for sample in samples}) != len(samples):
        raise ValueError("samples under different labels, one at least")
    ranking = ranking or rank({sample.label: sample.by_seed for sample in samples}, direction)
    position = {label: index for index, label in enumerate(ranking.labels)}
    return sorted(samples, key=lambda sample: position.get(sample.label, len(position)))


def _decided(
    ranked: Sequence[Sample], direction: Direction, level: float, seeds_required: int, looks: Looks | None
) -> list[tuple[Pair, Components | None]]:
    """Tests every pair and decides its relation; returns with each the parts of its error."""
    if looks is None:
        compared = _compared(ranked, direction)
        telling = [pair for pair, _ in compared]
        p_values = [pair.p for pair in telling]
    else:
        compared, p_values, telling = _compared_at_looks(ranked, direction, looks)
    corrected = iter(shaffer([p for p in p_values if p is not None], len(ranked)))
    decided = []
    for (pair, parts), p, at_least_p in zip(compared, p_values, telling, strict=True):
        # Before its first look a pair is open, however many seeds it has.
        is_open = looks is not None and not looks.together(pair.first, pair.second)
        required = pair.seeds + 1 if is_open else seeds_required
        p_corrected = None if p is None else next(corrected)
        first_better = ((at_least_p.difference or 0.0) > 0) == (direction == "higher")
        decided.append((decide(pair, p_corrected, first_better, 1 - level, required), parts))
    return decided


def _compared(ranked: Sequence[Sample], direction: Direction) -> list[tuple[Pair, Components | None]]:
    measured = _moderate(measure_all(ranked, direction), [sample.label for sample in ranked if sample.fixed])
    compared = compare(measured, list(itertools.combinations(ranked, 2)))
    return list(zip(compared, (parts for _, parts in measured), strict=True))


def _compared_at_looks(
    ranked: Sequence[Sample], direction: Direction, looks: Looks
) -> tuple[list[tuple[Pair, Components | None]], list[float | None], list[Pair]]:
    """Compares every pair at each look that both had; returns it as it was at the last one, the p-value over all, and
    the pair as it was at the look that this is of, whose direction is what is claimed."""
    compared = _compared(ranked, direction)
    telling = [pair for pair, _ in compared]
    p_values: list[float | None] = [None] * len(compared)
    for look in range(1, len(looks.counts) + 1):
        had = [index for index, (pair, _) in enumerate(compared) if looks.together(pair.first, pair.second) >= look]
        if not had:
            break
        # Pairs without a new look tell how much seeds differ, too.
        at_look = _compared([looks.of(sample, look) or sample for sample in ranked], direction)
        for index in had:
            compared[index] = at_look[index]
            pair, before = at_look[index][0], p_values[index]
            if pair.p is None:
                continue
            over_looks = looks.sequential(pair.p, look)
            if before is None or over_looks <= before:
                p_values[index], telling[index] = over_looks, pair
    return compared, p_values, telling


def _groups(ranked: Sequence[Sample], pairs: Sequence[Pair]) -> tuple[tuple[str, ...], ...]:
    """Returns the groups of what could not be told apart; none while every pair is open or not compared."""
    any_compared = any(pair.relation not in ("open", "not_compared") for pair in pairs) or len(ranked) == 1
    return tie_groups(
        [sample.label for sample in ranked if any_compared],
        [(pair.first, pair.second) for pair in pairs if pair.significant],
    )


def _moderate(
    measured: Sequence[tuple[Pair, Components | None]], fixed: Sequence[str]
) -> list[tuple[Pair, Components | None]]:
    """Replaces the seeds' variance of every pair by the moderated one; `fixed` are the same at every seed."""
    known = [(pair, parts) for pair, parts in measured if parts is not None]
    arms = [(pair.first, pair.second) for pair, _ in known]
    moderated = iter(moderate([parts for _, parts in known], arms, fixed))
    return [(pair, None if parts is None else next(moderated)) for pair, parts in measured]
