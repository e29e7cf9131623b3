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

Two kinds of arms are not like the others, and their pairs keep their own variance, or nearly:

- Arms whose seeds are wild. One distribution for their pairs and all others would be too narrow for the first, which
  makes false claims, and too wide for the others. So an arm whose pairs vary `WILD` times as much as all others is left
  out and not counted in K; and where they vary more by less than that, a pair takes a smaller part of d0, by the
  wilder of its arms: six seeds of a wild arm may look nearly like others by chance. Phipson, Lee, Majewski, Alexander
  & Smyth, Robust hyperparameter estimation protects against hypervariable genes and improves power to detect
  differential expression, Ann Appl Stat 10, 2016, do so with single variances; an arm's is in K - 1 pairs at once.
- Arms that are the same at every seed, as a baseline is. What their pairs vary by is one arm's seeds, not two.

`benchmarks/calibration.py` measures what it is worth, and how far variances may differ.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tuneoff.analysis.statistics.crossed import Components

Array = NDArray[np.float64]
WILD = 3.0
"""How many times as much as all others the pairs of a wild arm vary."""
STEPS = 4
"""In how many steps a pair takes what others tell."""
LEAST_SHARE = 0.05
"""Least s², in units of what the rest[s, e] alone would give: seeds that agree by chance have a logarithm, too."""
LEAST_SPREAD = 1e-4
"""Variance of log(s²) beyond chance under which all variances are taken as equal."""


def moderate(
    pairs: Sequence[Components], arms: Sequence[tuple[str, str]], fixed: Collection[str] = ()
) -> list[Components]:
    """Returns the parts of all pairs with moderated variances of their seeds.

    Args:
        pairs: of paired differences, every pair of a verdict once.
        arms: labels of the two arms of each.
        fixed: labels of arms that are the same at every seed.
    """
    moderated = list(pairs)
    varying = [
        index
        for index, pair in enumerate(pairs)
        if pair.seeds > 1 and (pair.by_seed or pair.by_rest) and not set(arms[index]) & set(fixed)
    ]
    if len(varying) < 2:
        return moderated
    seeds = np.array([pairs[index].seeds for index in varying])
    factors = np.array([pairs[index].seed_factor for index in varying])
    own = np.array([pairs[index].by_seed for index in varying], dtype=np.float64) / factors
    least = LEAST_SHARE * np.array([pairs[index].by_rest for index in varying]) * seeds
    logarithms = _unbiased_logarithms(np.maximum(own, least), seeds - 1)
    alike, likeness, count = _compare_arms(logarithms, [arms[index] for index in varying])
    if count < 3:
        return moderated
    prior, prior_freedom = estimate_prior(logarithms[alike], seeds[alike] - 1, count)
    freedom = np.minimum(prior_freedom, (count - 2.0) * (seeds - 1)) * (count - 2) / count * likeness
    variances = (freedom * prior + (seeds - 1) * own) / (freedom + seeds - 1)
    for position in np.flatnonzero(likeness):
        index = varying[position]
        by_seed = float(variances[position] * factors[position])
        moderated[index] = replace(pairs[index], by_seed=by_seed, prior_freedom=float(freedom[position]))
    return moderated


def estimate_prior(logarithms: Array, freedom: Array, arms: int) -> tuple[float, float]:
    """Estimates s0² and d0 (infinite where variances differ by no more than chance).

    Args:
        logarithms: unbiased, of the variances of the pairs, shape (pairs,), two at least.
        freedom: their degrees of freedom.
        arms: number of arms that make the pairs.
    """
    from scipy.special import digamma, polygamma

    spread = logarithms.var(ddof=1) * (1 + 2 / arms) - polygamma(1, freedom / 2).mean()
    mean = float(logarithms.mean())
    if spread <= LEAST_SPREAD:
        return float(np.exp(mean)), float("inf")
    prior_freedom = 2 * _inverse_trigamma(float(spread))
    return float(np.exp(mean + digamma(prior_freedom / 2) - np.log(prior_freedom / 2))), prior_freedom


def _unbiased_logarithms(variances: Array, freedom: Array) -> Array:
    """Returns logarithms whose mean is that of the true variance, of variances with these degrees of freedom."""
    from scipy.special import digamma

    logarithms: Array = np.log(variances) - digamma(freedom / 2) + np.log(freedom / 2)
    return logarithms


def _compare_arms(logarithms: Array, arms: Sequence[tuple[str, str]]) -> tuple[NDArray[np.bool_], Array, int]:
    """Compares how much the pairs of each arm vary with how much all others do, and leaves out wild arms, the wildest
    first.

    Args:
        logarithms: of the variances of the pairs, shape (pairs,).
        arms: labels of the two arms of each.

    Returns:
        Whether a pair is of arms that are left, shape (pairs,); how much it is like the others, from 0 to 1, by the
        wilder of its arms, shape (pairs,); and the number of arms that are left.
    """
    labels, places = np.unique(np.array(arms), return_inverse=True)
    first, second = places.reshape(-1, 2).T
    table, known = np.zeros((len(labels), len(labels))), np.zeros((len(labels), len(labels)))
    table[first, second] = table[second, first] = logarithms
    known[first, second] = known[second, first] = 1.0
    sums, counts, left = table.sum(axis=1), known.sum(axis=1), np.ones(len(labels), dtype=bool)
    while True:
        others = (counts[left].sum() / 2 - counts) * left
        comparable = (counts > 0) & (others > 0)
        excess = np.zeros(len(labels))
        rest = sums[left].sum() / 2 - sums
        excess[comparable] = sums[comparable] / counts[comparable] - rest[comparable] / others[comparable]
        wildest = int(np.argmax(excess))
        if excess[wildest] < np.log(WILD):
            break
        left[wildest] = False
        sums -= table[wildest]
        counts -= known[wildest]
    likeness = np.where(left, 1 - np.maximum(excess, 0.0) / np.log(WILD), 0.0)
    # In few steps, for pairs of equal degrees of freedom are tested together, and many arms make very many.
    likeness = np.round(likeness * STEPS) / STEPS
    alike: NDArray[np.bool_] = left[first] & left[second]
    # Where arms share no seeds, a wild one may have been the only partner of an arm, which then tells nothing.
    return alike, np.minimum(likeness[first], likeness[second]), len(np.unique([first[alike], second[alike]]))


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
