"""Shares of one test set that are known by their count alone: one trial each, without predictions.

Their intervals and tests are over test examples and unpaired, for nothing tells which examples two arms share. Arms
that fail on the same examples differ less by chance than that, so the tests are cautious. Of seeds they say nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from tuneoff.analysis.statistics.estimates import LEVEL, Interval, normal_quantile
from tuneoff.analysis.statistics.multiple import shaffer, tie_groups
from tuneoff.analysis.statistics.pairs import POWER, Direction


@dataclass(frozen=True)
class ExampleTies:
    """What the test examples alone tell apart.

    Attributes:
        examples: number of them.
        pairs: number of pairs that were tested, which Shaffer's correction is over.
        groups: the largest groups within which nothing could be told apart, best first.
        behind: how far each of the arms that cannot be told apart from the best lies behind it, itself first.
        smallest: the smallest difference to the best that one test of a pair by itself finds with probability `POWER`.
    """

    examples: int
    pairs: int
    groups: tuple[tuple[str, ...], ...]
    behind: tuple[float, ...]
    smallest: float

    @property
    def with_best(self) -> tuple[str, ...]:
        """Returns the arms that cannot be told apart from the best, best first, and the best before them."""
        return self.groups[0] if self.groups else ()


def wilson(share: float, examples: int, level: float = LEVEL) -> Interval:
    """Returns Wilson's interval of a share of examples (J Am Stat Assoc 22, 1927)."""
    ratio = normal_quantile(level) ** 2 / examples
    middle = (share + ratio / 2) / (1 + ratio)
    half = math.sqrt(ratio * share * (1 - share) + ratio**2 / 4) / (1 + ratio)
    return Interval(max(min(middle - half, share), 0.0), min(max(middle + half, share), 1.0), "examples")


def example_ties(shares: Mapping[str, float], examples: int, direction: Direction, level: float = LEVEL) -> ExampleTies:
    """Tests every pair of shares of the same number of examples, with Shaffer's correction.

    The test is that of two proportions with their common share in the variance (Pearson's chi-squared, without a
    correction for continuity).

    Args:
        shares: label -> share; two at least.
        examples: test examples of each.
        direction: which shares are better.
        level: 1 - level is what false claims of the whole family are kept under.
    """
    sign = -1.0 if direction == "higher" else 1.0
    ranked = sorted(shares, key=lambda label: sign * shares[label])
    pairs = list(itertools.combinations(ranked, 2))
    corrected = shaffer([_p_value(shares[one], shares[other], examples) for one, other in pairs], len(ranked))
    different = [pair for pair, p in zip(pairs, corrected, strict=True) if p <= 1 - level]
    best = shares[ranked[0]]
    smallest = (normal_quantile(level) + normal_quantile(2 * POWER - 1)) * math.sqrt(2 * best * (1 - best) / examples)
    groups = tie_groups(ranked, different)
    behind = tuple(abs(best - shares[label]) for label in groups[0]) if groups else ()
    return ExampleTies(examples, len(pairs), groups, behind, smallest)


def _p_value(first: float, second: float, examples: int) -> float:
    common = (first + second) / 2
    variance = 2 * common * (1 - common) / examples
    return math.erfc(abs(first - second) / math.sqrt(2 * variance)) if variance else 1.0
