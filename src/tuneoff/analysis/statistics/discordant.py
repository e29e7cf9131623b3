"""The difference of two models that answer nearly alike: an interval by the few answers that differ.

A spread of values tells little where hardly any differ: of one changed answer it comes out as next to nothing, and of
none there is no spread. Tango's score interval (Stat Med 17, 1998) is of the counts: it is never empty, and every
further answer that changes makes it wider.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tuneoff.analysis.statistics.estimates import LEVEL, Interval, normal_quantile
from tuneoff.analysis.statistics.pairs import Pair
from tuneoff.analysis.statistics.sample import Sample

_STEPS = 60
"""Halvings of the range of differences: more than a number has digits."""


def score_interval(gained: float, lost: float, examples: int, level: float = LEVEL) -> Interval:
    """Returns Tango's interval of the difference of two paired shares.

    Args:
        gained: examples that only the first answers rightly, of several seeds their mean number.
        lost: examples that only the second answers rightly, likewise.
        examples: test examples; the seeds of an example count as one, because nothing tells whether they fail alike.
        level: of the interval.
    """
    z = normal_quantile(level)
    return Interval(_lower(gained, lost, examples, z), -_lower(lost, gained, examples, z), "examples")


def _lower(gained: float, lost: float, examples: int, z: float) -> float:
    """Finds the smallest difference that the score test does not reject."""
    low, high = -1.0, (gained - lost) / examples
    for _ in range(_STEPS):
        middle = (low + high) / 2
        distance = gained - lost - examples * middle
        if distance > z * math.sqrt(examples * max(0.0, _variance(middle, gained, lost, examples))):
            low = middle
        else:
            high = middle
    return low


def _variance(difference: float, gained: float, lost: float, examples: int) -> float:
    """Computes the variance of one example's difference, by the likeliest shares that differ by just so much."""
    linear = (2 * examples - gained + lost) * difference - gained - lost
    root = math.sqrt(linear**2 + 8 * examples * lost * difference * (1 - difference))
    share_lost = (root - linear) / (4 * examples)
    return 2 * share_lost + difference * (1 - difference)


def widen(pair: Pair, first: Sample, second: Sample, level: float = LEVEL) -> Pair:
    """Returns a pair with an interval no narrower than the answers that differ allow.

    A pair is returned as it is where values are not right or wrong answers, or groups of examples vary as one.
    """
    if pair.groups or pair.interval is None or not (first.binary and second.binary):
        return pair
    contributions = first.minus(second).contributions
    assert contributions is not None  # both are answers
    gained, lost = (float(np.maximum(sign * contributions, 0.0).mean(axis=0).sum()) for sign in (1, -1))
    score = score_interval(gained, lost, contributions.shape[1], level)
    low, high = min(pair.interval.low, score.low), max(pair.interval.high, score.high)
    return replace(pair, interval=Interval(low, high, pair.interval.over))
