"""Moderated variances: what all pairs of a study tell together of how much seeds differ.

A pair of S seeds knows the variance of its differences s² by d = S - 1 degrees of freedom, which costs most of the
power of a study of six seeds. The pairs of a study are alike, but not equal: their true variances are taken as draws
of one scaled inverse χ² distribution, s0²·d0/χ²(d0), whose two numbers are estimated from all s² of the study. Then

    moderated s²  =  (d0·s0² + d·s²) / (d0 + d)          d0 + d degrees of freedom

Smyth, Linear models and empirical Bayes methods for assessing differential expression in microarray experiments, Stat
Appl Genet Mol Biol 3(1), 2004 (the method of limma): the logarithm of s² has mean log(s0²) + ψ(d/2) - log(d/2) -
ψ(d0/2) + log(d0/2) and variance ψ'(d/2) + ψ'(d0/2), so that the mean and the variance of the logarithms give s0² and
d0. Where variances differ greatly d0 comes out small, and every pair keeps nearly its own.

Smyth's groups are thousands of independent genes; here K arms make all the pairs. Hence two changes, both cautious:

- The variance of the logarithms is multiplied by 1 + 2/K. Pairs that share an arm are correlated, which hides 1/(K + 1)
  of it; the rest is for an estimate from few arms, which must not take unequal variances for equal ones.
- d0 is multiplied by (K - 2)/K, the share of the arms that are not of the pair itself, and is at most (K - 2)·d, the
  degrees of freedom of these arms. Two arms are their own only pair: nothing is moderated.

`benchmarks/calibration.py` measures what it is worth, and how far variances may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tuneoff.analysis.statistics.crossed import Components

Array = NDArray[np.float64]
LEAST_SHARE = 0.05
"""Least s², in units of what the rest[s, e] alone would give: seeds that agree by chance have a logarithm, too."""
LEAST_SPREAD = 1e-4
"""Variance of log(s²) beyond chance under which all variances are taken as equal."""


def moderate(pairs: Sequence[Components], arms: int) -> list[Components]:
    """Returns the parts of all pairs with moderated variances of their seeds.

    A pair keeps its own where nothing of it differs between seeds (two deterministic arms), or with one seed.

    Args:
        pairs: of paired differences, every pair of a verdict once.
        arms: number of arms that make them.
    """
    moderated = list(pairs)
    varying = [index for index, pair in enumerate(pairs) if pair.seeds > 1 and (pair.by_seed or pair.by_rest)]
    if arms < 3 or len(varying) < 2:
        return moderated
    seeds = np.array([pairs[index].seeds for index in varying])
    factors = np.array([pairs[index].seed_factor for index in varying])
    own = np.array([pairs[index].by_seed for index in varying], dtype=np.float64) / factors
    least = LEAST_SHARE * np.array([pairs[index].by_rest for index in varying]) * seeds
    prior, prior_freedom = estimate_prior(np.maximum(own, least), seeds - 1, arms)
    freedom = np.minimum(prior_freedom, (arms - 2.0) * (seeds - 1)) * (arms - 2) / arms
    variances = (freedom * prior + (seeds - 1) * own) / (freedom + seeds - 1)
    for position, index in enumerate(varying):
        by_seed = float(variances[position] * factors[position])
        moderated[index] = replace(pairs[index], by_seed=by_seed, prior_freedom=float(freedom[position]))
    return moderated


def estimate_prior(variances: Array, freedom: Array, arms: int) -> tuple[float, float]:
    """Estimates s0² and d0 (infinite where variances differ by no more than chance) from positive variances.

    Args:
        variances: of the pairs, shape (pairs,), two at least.
        freedom: their degrees of freedom.
        arms: number of arms that make the pairs.
    """
    from scipy.special import digamma, polygamma

    logarithms = np.log(variances) - digamma(freedom / 2) + np.log(freedom / 2)
    spread = logarithms.var(ddof=1) * (1 + 2 / arms) - polygamma(1, freedom / 2).mean()
    mean = float(logarithms.mean())
    if spread <= LEAST_SPREAD:
        return float(np.exp(mean)), float("inf")
    prior_freedom = 2 * _inverse_trigamma(float(spread))
    return float(np.exp(mean + digamma(prior_freedom / 2) - np.log(prior_freedom / 2))), prior_freedom


def _inverse_trigamma(value: float) -> float:
    """Solves ψ'(x) = value by Newton's method for 1/ψ', which is nearly a line, from below: it converges always."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        now = float(polygamma(1, x))
        step = now * (1 - now / value) / float(polygamma(2, x))
        x += step
        if abs(step) <= 1e-10 * x:
            break
    return x
