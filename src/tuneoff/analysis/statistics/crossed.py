"""The error of a mean over seeds and test examples: variance components, intervals and tests.

A study crosses two random factors: another seed would give another model, another test set other examples, and
every seed is tested on the same examples. So a score is d[s, e] = mean + seed[s] + example[e] + rest[s, e], and

    variance of the mean  =  var(seed)/S + var(rest)/(S·E)      shrinks with seeds; S - 1 degrees of freedom
                           + var(example)/E                     shrinks with examples; E - 1 degrees of freedom

Both terms have unbiased estimates: the variance of the seeds' means over S, and the mean covariance of two seeds'
values over the examples. This is the analysis of several readers of the same cases known from radiology:
Obuchowski & Rockette, Hypothesis testing of diagnostic accuracy for multiple readers and multiple tests, Commun Stat
Simul 24, 1995; Hillis, A comparison of denominator degrees of freedom methods, Stat Med 26, 2007.

The first estimate is poor with few seeds: their means may agree by chance, and two often do. So there is a second
estimate, var(rest)/(S·E) alone, from what remains of every value without the means of its seed and its example, with
(S - 1)(E - 1) degrees of freedom. It takes var(seed) as 0, which is the least it can be, and its own part is precise.
The larger p and the wider interval of the two count.

Pairs of a study know more of the seeds' variance together than each by itself: `moderated.py`.

Why no bootstrap of seeds and examples. It errs both ways: resampling S seeds understates their variance by (S-1)/S
and its percentiles are a normal's, not Student's, while the rest[s, e] is counted three times (McCullagh, Resampling
and exchangeable arrays, Bernoulli 6, 2000; Owen, The pigeonhole bootstrap, Ann Appl Stat 1, 2007). At six seeds its
95 % intervals cover 90 % where seeds matter most and 99 % where examples do. Why no permutation of seeds: six seeds
have 64 sign flips, whose smallest p of 1/32 survives no correction over more than one pair.

Why not Satterthwaite's degrees of freedom, as in Hillis. They hold at 5 %, but are too many in the far tail, which a
correction over 28 pairs needs, because they are estimated from the same few seeds. Here the two errors are two
Student's variables, each with its own degrees of freedom, and the error's distribution is that of their sum (Behrens
1929; Fisher, The asymptotic approach to Behrens's integral, Ann Eugen 11, 1941). That is calibrated or a little
conservative everywhere (Robinson, Properties of Student's t and of the Behrens-Fisher solution, Ann Stat 4, 1976);
`benchmarks/calibration.py` measures it beside the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuneoff.analysis.statistics import two_errors
from tuneoff.analysis.statistics.sample import Sample
from tuneoff.analysis.statistics.two_errors import Part


@dataclass(frozen=True)
class Components:
    """A mean over seeds (and examples) and the variance of its error, in two independent parts.

    Attributes:
        mean: of the values.
        seeds: number of seeds.
        by_seed: variance of the mean from seeds; None with one seed, from which it cannot be estimated.
        by_example: variance of the mean from examples; None where values per example are not known.
        example_freedom: degrees of freedom of `by_example`.
        by_rest: variance of the mean from the rest[s, e] alone, which is part of `by_seed`; 0 where it is not known.
        prior_freedom: degrees of freedom that other pairs add to those of `by_seed` (`moderated.py`).
        pool_share: `Sample.pool_share`: an error that all seeds have in common, because they drew their training rows
            from the same ones; part of `by_seed`.
        unit: what `by_example` is estimated from: single examples, or groups of examples that belong together.
    """

    mean: float
    seeds: int
    by_seed: float | None
    by_example: float | None
    example_freedom: int
    by_rest: float = 0.0
    prior_freedom: float = 0.0
    unit: Literal["examples", "groups"] = "examples"
    pool_share: float = 0.0

    @property
    def known(self) -> bool:
        """Returns whether there is any estimate of the error. Seeds that agree to the last digit give none by
        themselves."""
        return bool(self.by_seed) or self.by_example is not None

    @property
    def variance(self) -> float:
        """Returns the variance of the mean; a part that is not known counts as 0."""
        return max(self.by_seed or 0.0, self.by_rest) + (self.by_example or 0.0)

    @property
    def constant(self) -> bool:
        """Returns whether all values are equal, up to rounding: then no estimate of a variance says how far off they
        are."""
        return self.variance <= (1e-12 * self.mean) ** 2

    def with_seeds(self, seeds: int) -> Components:
        """Returns these components for another number of seeds (two at least), everything else equal."""
        assert self.by_seed is not None
        projected = replace(self, seeds=seeds, by_rest=self.by_rest * self.seeds / seeds)
        return replace(projected, by_seed=self.by_seed / self.seed_factor * projected.seed_factor)

    @property
    def seed_factor(self) -> float:
        """Returns the variance of the mean from seeds, in units of the variance of one seed: 1 / S, and with rows drawn
        per seed the error of the rows that all drew from (Nadeau & Bengio, Inference for the generalization error,
        Mach Learn 52, 2003)."""
        return 1 / self.seeds + self.pool_share

    @property
    def lasting(self) -> float:
        """Returns the variance of the mean that more seeds do not lessen."""
        return (self.by_example or 0.0) + (self.by_seed or 0.0) * self.pool_share / self.seed_factor

    def p_value(self) -> float:
        """Computes the two-sided p that the true mean is 0. Where all values are equal, it is that of the sign test
        over the examples."""
        return p_values([self])[0]

    def tail(self, distance: float) -> float:
        """Computes the probability that the error exceeds a distance (not negative), in either direction.

        Raises:
            ValueError: if the error is not known, or all values are one.
        """
        return max(two_errors.tail(distance, *parts) for parts in self.estimates())

    def half_width(self, level: float) -> float:
        """Computes half the width of the interval that covers the true mean with probability `level`.

        Raises:
            ValueError: if the error is not known, or all values are one.
        """
        return half_widths([self], level)[0]

    def central_half_width(self, level: float) -> float:
        """Computes the same by Satterthwaite's degrees of freedom: quicker, and close where `level` is not high.

        Raises:
            ValueError: if the error is not known, or all values are one.
        """
        widest = 0.0
        for parts in self.estimates():
            variance = math.fsum(part for part, _ in parts)
            freedom = variance**2 / math.fsum(part**2 / own for part, own in parts)
            widest = max(widest, math.sqrt(variance) * _quantile(freedom, 0.5 + level / 2))
        return widest

    def estimates(self) -> list[tuple[Part, Part]]:
        """Returns the estimates of the error: by the seeds' means and the examples and, where it could count, by the
        rest and the examples."""
        if not self.known or self.constant:
            raise ValueError("one seed and no examples, or no value that differs: the error is not known")
        examples = (self.by_example or 0.0, max(self.example_freedom, 1))
        seeds = (self.by_seed or 0.0, max(self.seeds - 1, 1) + self.prior_freedom)
        rest = (self.by_rest, max(self.seeds - 1, 1) * examples[1])
        # What has lighter tails and is no wider has a smaller p and a narrower interval at every level.
        if not rest[0] or (rest[0] <= seeds[0] and rest[1] >= seeds[1]):
            return [(seeds, examples)]
        return [(seeds, examples), (rest, examples)] if seeds[0] or examples[0] else [(rest, examples)]


def half_widths(means: Sequence[Components], level: float) -> list[float]:
    """Computes `Components.half_width` of many means at once, which takes a small part of the time.

    Raises:
        ValueError: if the error of one is not known, or all its values are one.
    """
    estimates = [each.estimates() for each in means]
    widths = two_errors.half_widths([each[0] for each in estimates], level)
    others = [index for index, each in enumerate(estimates) if len(each) > 1]
    # Only one that may be wider is worth the search.
    most = two_errors.widest([estimates[index][1] for index in others], level)
    others = [index for index, reach in zip(others, most, strict=True) if reach > widths[index]]
    wider = two_errors.half_widths([estimates[index][1] for index in others], level)
    widths[others] = np.maximum(widths[others], wider)
    return [float(width) for width in widths]


def p_values(means: Sequence[Components]) -> list[float]:
    """Computes `Components.p_value` of many means at once.

    Raises:
        ValueError: if the error of one is not known.
    """
    values = np.zeros(len(means))
    sums: list[two_errors.Sum] = []
    places: list[int] = []
    for place, each in enumerate(means):
        if each.constant and each.known:
            values[place] = min(1.0, 2.0 * 0.5 ** (each.example_freedom + 1)) if each.mean else 1.0
            continue
        for parts in each.estimates():
            sums.append(parts)
            places.append(place)
    distances = np.abs([means[place].mean for place in places])
    np.maximum.at(values, places, two_errors.tails(distances, sums))
    return [float(value) for value in values]


def components(sample: Sample) -> Components:
    """Estimates the parts from a sample (or from paired differences); none is negative."""
    seeds = len(sample)
    mean = float(sample.scores.mean())
    # The mean of equal values may differ from them in its last digit, which would look like a spread.
    spread = float(sample.scores.var(ddof=1)) if seeds > 1 and np.ptp(sample.scores) else 0.0
    by_seed = spread * (1 / seeds + sample.pool_share) if seeds > 1 else None
    if sample.contributions is None:
        return Components(mean, seeds, by_seed, None, 0, pool_share=sample.pool_share)
    examples = sample.contributions.shape[1]
    by_example = max(example_covariance(sample.contributions, sample.contributions), 0.0)
    # So may a rest that is only the rounding of values that are the same at every seed.
    by_rest = 0.0 if sample.fixed else rest_covariance(sample.contributions, sample.contributions)
    unit: Literal["examples", "groups"] = "groups" if sample.groups else "examples"
    return Components(mean, seeds, by_seed, by_example, examples - 1, by_rest, unit=unit, pool_share=sample.pool_share)


def rest_covariance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Estimates the covariance of two means that comes from the rest[s, e] alone; 0 with one seed, where it is not
    known.

    The rest of a value is what remains without the means of its seed and its example. Its covariance has (S - 1)(E - 1)
    degrees of freedom, and is divided by the number of values.

    Args:
        first: contributions of one method, shape (seeds, examples).
        second: of another, or the same, at the same seeds.
    """
    seeds, examples = first.shape
    if seeds == 1:
        return 0.0
    first_rest = _rest(first)
    second_rest = first_rest if second is first else _rest(second)
    return float(np.vdot(first_rest, second_rest) / ((seeds - 1) * (examples - 1) * seeds * examples))


def _rest(values: NDArray[np.float64]) -> NDArray[np.float64]:
    rest: NDArray[np.float64] = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    return rest


def example_covariance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Estimates the covariance of two means that comes from their examples alone.

    The mean over two different seeds of the covariance over examples, divided by the number of examples; the same
    seed is left out, because there the rest[s, e] would be counted too. With one seed it is used, as there is no other.

    Args:
        first: contributions of one method, shape (seeds, examples).
        second: of another, or the same, at the same seeds.
    """
    seeds, examples = first.shape
    first_deviations: NDArray[np.float64] = first - first.mean(axis=1, keepdims=True)
    second_deviations = first_deviations if second is first else second - second.mean(axis=1, keepdims=True)
    same_seed = np.vdot(first_deviations, second_deviations)
    if seeds == 1:
        return float(same_seed / ((examples - 1) * examples))
    all_pairs = first_deviations.sum(axis=0) @ second_deviations.sum(axis=0)
    return float((all_pairs - same_seed) / (seeds * (seeds - 1) * (examples - 1) * examples))


def mcnemar(first: Sample, second: Sample) -> float:
    """Computes the exact two-sided p of McNemar's test that two classifiers err equally often; one seed each, binary
    values.

    It compares these two trained models, not their methods: no other seed is in it. McNemar, Note on the sampling
    error of the difference between correlated proportions or percentages, Psychometrika 12, 1947.
    """
    from scipy.special import bdtr

    difference = first.minus(second)
    if len(difference) != 1 or not (first.binary and second.binary) or difference.contributions is None:
        raise ValueError("McNemar's test takes one shared seed and values that are 0 or 1")
    ahead, behind = int((difference.contributions > 0).sum()), int((difference.contributions < 0).sum())
    return min(1.0, 2.0 * float(bdtr(min(ahead, behind), ahead + behind, 0.5))) if ahead + behind else 1.0


@lru_cache(maxsize=1024)
def _quantile(freedom: float, probability: float) -> float:
    # scipy.special loads in a tenth of the time of scipy.stats.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))
