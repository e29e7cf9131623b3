"""Whether a method is shown to be as good as another, within a margin. "Cannot be told apart" does not say so.

Two one-sided tests: one that the first is not worse than the second by the margin or more, one that it is not better by
so much. Each is passed where the one-sided bound of the difference lies within the margin (Schuirmann, A comparison of
the two one-sided tests procedure and the power approach, J Pharmacokinet Biopharm 15, 1987).

The bounds hold with 95 % for all rivals of one method together: with K methods each has an error of 5 % / (K - 1), by
Bonferroni. So of the methods that are truly worse than a given one by more than the margin, any is meant to be called
as good in at most 5 % of studies; docs/statistics.md tells how often false claims were measured. If the best by rank is
that one, it has been chosen for its mean, which makes the bounds wider than they need be, not narrower (Hsu,
Constrained simultaneous confidence intervals for multiple comparisons with the best, Ann Stat 12, 1984).
"""

from __future__ import annotations

from typing import Literal

from tuneoff.analysis.statistics.pairs import Direction, Pair

Equivalence = Literal["equivalent", "as_good", "not_shown"]
"""`as_good`: at most the margin worse, and perhaps better by more; `equivalent`: neither worse nor better by more."""


def most_worse(pair: Pair, direction: Direction) -> float | None:
    """Returns by how much the first is worse than the second at most, 0 where it is surely no worse; None where the
    pair is open or nothing tells its error."""
    if pair.bounds is None or pair.relation in ("open", "not_compared"):
        return None
    return max(-pair.bounds.low if direction == "higher" else pair.bounds.high, 0.0)


def most_better(pair: Pair, direction: Direction) -> float | None:
    """Returns by how much the first is better than the second at most; likewise."""
    return most_worse(pair.turned(), direction)


def equivalence(pair: Pair, margin: float, direction: Direction) -> Equivalence:
    """Says whether the first is shown to be as good as the second, within a margin in the metric's unit."""
    worse, better = most_worse(pair, direction), most_better(pair, direction)
    if worse is None or better is None or worse > margin:
        return "not_shown"
    return "equivalent" if better <= margin else "as_good"
