"""Tests that are looked at several times while seeds are added: p-values that hold over all looks together.

A test at 5 % that is repeated at every few seeds makes a false claim in far more than 5 % of studies. So the looks are
fixed beforehand, and the error that may be made up to each of them, too: it is spent in proportion to the seeds (Lan &
DeMets, Discrete sequential boundaries for clinical trials, Biometrika 70, 1983, their third function). Large
differences are then seen early, which is what saves seeds; their second, close to Pocock's boundaries, is about as
good, their first, close to O'Brien and Fleming's, leaves next to nothing to six seeds of twenty. From it follows, look
by look, the p-value under which a difference counts: its nominal level, by recursive numerical integration of the path
of a normal mean (Armitage, McPherson & Rowe, J R Stat Soc A 132, 1969; Jennison & Turnbull, Group Sequential Methods,
2000, chapters 7 and 19). Student's p-values are compared to the same levels (there, section 4.4).

The path is that of seeds alone. Test examples are the same at every look, so that their error makes looks more alike
than is assumed, and the levels a little too strict (Slepian's inequality).

Many pairs: the sequential p-value of a pair is the least error at which it would have been claimed at some look so far
(Liu & Anderson, On adaptive extensions of group sequential trials for clinical investigations, J Am Stat Assoc 103,
2008). It is valid at every look, so that the correction for many pairs is applied to it as to any other, at every look,
and what is once claimed stays claimed (Ye et al., A group sequential Holm procedure with multiple primary endpoints,
Stat Med 32, 2013).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tuneoff.analysis.statistics.sample import Sample

Array = NDArray[np.float64]
SPENT = 0.6
"""Share of the error that the looks spend. The rest is kept for few seeds of wild arms, whose p-values are too small
in the far tail that early looks go by (`benchmarks/races.py`)."""
LEAST_ERROR = 1e-12
MOST_ERROR = 0.99
ERRORS = 60
"""Number of errors between these of which levels are computed; between them they are interpolated."""
NODES = 64


@dataclass(frozen=True)
class Looks:
    """The looks of a study at its seeds, fixed beforehand.

    Attributes:
        seeds: all that may be run, in order.
        counts: how many of them each look is of; the last is of all.
        done: label -> number of looks at which the method had run its seeds.
    """

    seeds: tuple[int, ...]
    counts: tuple[int, ...]
    done: Mapping[str, int]

    def of(self, sample: Sample, look: int | None = None) -> Sample | None:
        """Returns a sample at a look (1, 2, …), by default at its last one; None where it has no score then."""
        number = self.done.get(sample.label, 0)
        number = number if look is None else min(look, number)
        if not number:
            return None
        seeds = self._within(sample.seeds, number)
        return sample.at(seeds) if seeds else None

    def of_scores(self, label: str, scores: Mapping[int, float]) -> Mapping[int, float]:
        """Returns a method's scores at its last look; all of them, where it had none yet or no score then."""
        number = self.done.get(label, 0)
        seeds = self._within(scores, number) if number else []
        return {seed: scores[seed] for seed in seeds} or scores

    def _within(self, seeds: Iterable[int], look: int) -> list[int]:
        kept = set(self.seeds[: self.counts[look - 1]])
        return [seed for seed in seeds if seed in kept]

    def together(self, first: str, second: str) -> int:
        """Returns the last look that two methods had both."""
        return min(self.done.get(first, 0), self.done.get(second, 0))

    def nominal(self, error: float, look: int) -> float:
        """Returns the two-sided p-value under which a difference counts at a look (1, 2, …), for an error over all."""
        errors, levels = _table(self.counts)
        return math.exp(float(np.interp(math.log(SPENT * error), np.log(errors), np.log(levels[:, look - 1]))))

    def sequential(self, p_value: float, look: int) -> float:
        """Returns the least error over all looks at which this p-value at a look (1, 2, …) would be claimed."""
        errors, levels = _table(self.counts)
        nominal = levels[:, look - 1]
        # Below the table the two are proportional.
        if p_value <= nominal[0]:
            return float(p_value * errors[0] / nominal[0]) / SPENT
        if p_value >= nominal[-1]:
            return 1.0
        return min(1.0, math.exp(float(np.interp(math.log(p_value), np.log(nominal), np.log(errors)))) / SPENT)


def nominal_levels(counts: Sequence[int], error: float) -> tuple[float, ...]:
    """Computes the two-sided p-value under which a difference counts, look by look, so that one that is not there
    counts at any of them with this probability.

    Args:
        counts: seeds at each look, rising.
        error: over all looks.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr, ndtri

    points, weights = np.polynomial.legendre.leggauss(NODES)
    fractions = [count / counts[-1] for count in counts]
    levels: list[float] = []
    # Of the sum of values so far, while no look has claimed anything: where it lies, and with which density × width.
    places, masses, before = np.zeros(1), np.ones(1), 0.0
    for number, fraction in enumerate(fractions, 1):
        step = math.sqrt(fraction - before)
        target = error * (fraction - before)

        def excess(
            bound: float, places: Array = places, masses: Array = masses, step: float = step, target: float = target
        ) -> float:
            crossing = masses @ (ndtr((-bound - places) / step) + ndtr((places - bound) / step))
            return math.log(max(float(crossing), 1e-300)) - math.log(target)

        bound = float(brentq(excess, 0.0, 40.0, xtol=1e-10)) if number > 1 else -float(ndtri(target / 2)) * step
        levels.append(2 * float(ndtr(-bound / math.sqrt(fraction))))
        onward = bound * points
        density = np.exp(-0.5 * ((onward[:, None] - places) / step) ** 2) @ masses / (step * math.sqrt(2 * math.pi))
        places, masses, before = onward, density * bound * weights, fraction
    return tuple(levels)


@lru_cache(maxsize=16)
def _table(counts: tuple[int, ...]) -> tuple[Array, Array]:
    """Computes errors, rising, and their nominal levels, shape (errors, looks)."""
    errors = np.geomspace(LEAST_ERROR, MOST_ERROR, ERRORS)
    return errors, np.array([nominal_levels(counts, float(error)) for error in errors])
