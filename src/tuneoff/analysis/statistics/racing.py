"""Racing: which methods need more seeds, look by look.

A method that another is significantly ahead of is not the best, and gets no more seeds. The race is over where one
method is left, where every other that is left is shown to be equivalent to the best within a margin, or at the last
look. Every claim at every look counts towards the error of the whole study (`sequential.py`), so to stop where a claim
was made costs nothing more.

Maron & Moore, Hoeffding races, NeurIPS 1993; Birattari et al., A racing algorithm for configuring metaheuristics, GECCO
2002.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tuneoff.analysis.statistics.equivalence import equivalence
from tuneoff.analysis.statistics.pairs import Pair
from tuneoff.analysis.statistics.verdict import Verdict

Ending = Literal["settled", "equivalent", "hopeless", "last look"]
"""Why a race is over: no other is left, all that are left are as good, more seeds would not settle what is left, or
there are no more seeds."""


@dataclass(frozen=True)
class RaceLook:
    """One look.

    Attributes:
        seeds: how many seeds each method in the race had.
        methods: labels of these.
        best: the best of them; None where none has a score.
        beaten: label -> a method that is significantly ahead of it, of those that leave the race.
        without_score: labels of those that leave it because they have no score.
    """

    seeds: int
    methods: tuple[str, ...]
    best: str | None
    beaten: Mapping[str, str]
    without_score: tuple[str, ...]


@dataclass(frozen=True)
class Race:
    """A race so far.

    Attributes:
        counts: seeds at each look that there may be.
        looks: those that there were.
        running: labels of the methods that are to have the seeds of the next look; none when it is over.
        ending: why it is over; None while it is not.
        done: label -> the looks at which it had its seeds.
    """

    counts: tuple[int, ...]
    looks: tuple[RaceLook, ...]
    running: tuple[str, ...]
    ending: Ending | None
    done: Mapping[str, int]


def replay(
    labels: Sequence[str],
    counts: Sequence[int],
    complete: Callable[[str, int], bool],
    judge: Callable[[Mapping[str, int]], Verdict | None],
    margin: float | None = None,
    trained: Collection[str] | None = None,
) -> Race:
    """Follows a race from its first look as far as there are results. It depends on nothing else, so that a race that
    is continued goes on where it was.

    Args:
        labels: the methods.
        counts: seeds at each look, rising.
        complete: whether a method has run this number of its seeds, whatever became of them.
        judge: makes the verdict, by the number of looks of each method.
        margin: within which methods count as equivalent; None: none do.
        trained: labels of those that may be the best; all where it is None.
    """
    running, looks, done = tuple(labels), list[RaceLook](), dict.fromkeys(labels, 0)
    for number, count in enumerate(counts, 1):
        if not all(complete(label, count) for label in running):
            return Race(tuple(counts), tuple(looks), running, None, done)
        done |= dict.fromkeys(running, number)
        verdict = judge(done)
        ranked = [entry.label for entry in verdict.estimates] if verdict else []
        without_score = tuple(label for label in running if label not in ranked)
        scored = [label for label in ranked if label in running]
        beaten = {label: by for label in scored if verdict and (by := _beaten_by(verdict, label)) is not None}
        left = [label for label in scored if label not in beaten]
        best = next((label for label in left if trained is None or label in trained), None)
        looks.append(RaceLook(count, running, best, beaten, without_score))
        running = tuple(label for label in running if label in left)
        if ending := _ending(verdict, best, left, margin, counts[-1] if number < len(counts) else 0):
            return Race(tuple(counts), tuple(looks), (), ending, done)
    raise AssertionError("the last look ends a race")


def _ending(
    verdict: Verdict | None, best: str | None, left: Sequence[str], margin: float | None, most_seeds: int
) -> Ending | None:
    """Returns why a race is over after a look; `most_seeds`: what there may be at later ones, 0 without any."""
    if verdict is None or best is None:
        return "settled"
    pairs = [verdict.pair(label, best) for label in left if label != best]
    # More seeds do not help where nothing is compared.
    unsettled = [pair for pair in pairs if pair.relation != "not_compared"]
    if not unsettled:
        return "settled"
    if margin is not None and all(equivalence(pair, margin, verdict.direction) == "equivalent" for pair in unsettled):
        return "equivalent"
    if not most_seeds:
        return "last look"
    if margin is None and not any(_may_settle(pair, most_seeds) for pair in unsettled):
        return "hopeless"
    return None


def _may_settle(pair: Pair, most_seeds: int) -> bool:
    """Returns whether so many seeds might tell a pair apart; of one that has a single seed in common nothing is known
    yet."""
    return pair.seeds == 1 or (pair.seeds_range is not None and pair.seeds_range[0] <= most_seeds)


def _beaten_by(verdict: Verdict, label: str) -> str | None:
    """Returns the best of the methods that are significantly ahead of this one; None without one."""
    others = (entry.label for entry in verdict.estimates if entry.label != label)
    return next((other for other in others if verdict.pair(other, label).relation == "ahead"), None)
