"""What all pairs tell together of how much seeds differ."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import digamma, polygamma

from tuneoff.analysis.statistics import Sample, shaffer, verdict
from tuneoff.analysis.statistics.crossed import Components, components
from tuneoff.analysis.statistics.moderated import estimate_prior, moderate

THREE = np.array([1.0, 4.0, 16.0])
"""Variances whose logarithms are -log 4, 0 and log 4 from their middle: a variance of log(4)² = 1.9218."""


def pairs_of(variances: list[float], seeds: int = 6, by_rest: float = 0.0) -> list[Components]:
    """Pairs whose differences have these variances between seeds."""
    return [Components(0.0, seeds, variance / seeds, 0.1, 99, by_rest) for variance in variances]


def test_the_prior_has_the_mean_and_the_variance_of_the_logarithms() -> None:
    prior, freedom = estimate_prior(THREE, np.full(3, 5), arms=3)
    # (1 + 2/3)·log(4)², less ψ'(2.5) = π²/2 - 4 - 4/9 = 0.49036, is ψ'(d0/2).
    spread = 5 / 3 * math.log(4) ** 2 - (math.pi**2 / 2 - 4 - 4 / 9)
    assert polygamma(1, freedom / 2) == pytest.approx(spread)
    assert freedom == pytest.approx(1.4392, abs=1e-3)
    shift = digamma(freedom / 2) - math.log(freedom / 2) - digamma(2.5) + math.log(2.5)
    assert prior == pytest.approx(4 * math.exp(shift))


def test_variances_that_differ_by_chance_alone_have_a_prior_of_infinite_certainty() -> None:
    prior, freedom = estimate_prior(np.array([1.0, 1.1, 0.9]), np.full(3, 5), arms=3)
    assert freedom == math.inf
    # exp(log 2.5 - ψ(2.5)) = 1.2375: what the logarithm of a variance of five degrees of freedom lacks on average.
    assert prior == pytest.approx(1.2375 * (1.1 * 0.9) ** (1 / 3), rel=1e-4)


def test_each_pair_moves_towards_the_prior_by_its_share() -> None:
    """Four arms: d0 is at most (4 - 2)·5 = 10, and counts by (4 - 2)/4."""
    variances = [1.0, 1.2, 0.8, 1.1, 0.9, 1.0]
    prior, freedom = estimate_prior(np.array(variances), np.full(6, 5), arms=4)
    assert freedom == math.inf
    for own, pair in zip(variances, moderate(pairs_of(variances), arms=4), strict=True):
        assert pair.prior_freedom == 5
        assert pair.by_seed == pytest.approx((5 * prior + 5 * own) / 10 / 6)


def test_where_variances_differ_greatly_each_pair_keeps_nearly_its_own() -> None:
    for own, pair in zip(THREE, moderate(pairs_of(list(THREE)), arms=3), strict=True):
        assert pair.prior_freedom == pytest.approx(1.4392 / 3, abs=1e-3)
        assert pair.by_seed == pytest.approx(own / 6, rel=0.3 if own == 1.0 else 0.1)


def test_nothing_is_moderated_by_itself() -> None:
    for pairs, arms in ((pairs_of([1.0]), 2), (pairs_of([1.0, 2.0, 3.0], seeds=1), 3)):
        assert moderate(pairs, arms) == pairs
    fixed = Components(0.1, 6, 0.0, 0.1, 99)
    varying = pairs_of([1.0, 2.0])
    moderated = moderate([*varying, fixed], arms=3)
    assert moderated[2] == fixed, "two deterministic arms do not differ between seeds"
    assert moderated[0] != varying[0]


def test_seeds_that_agree_by_chance_do_not_upset_the_prior() -> None:
    pairs = pairs_of([1.0, 1.2, 0.9], by_rest=0.1)
    pairs[2] = replace(pairs[2], by_seed=0.0)
    moderated = moderate(pairs, arms=3)
    assert moderated[2].by_seed is not None
    assert 0.0 < moderated[2].by_seed < 0.1
    assert 0.1 < moderated[0].prior_freedom < 5


def test_pairs_of_fewer_seeds_borrow_as_many_degrees_of_freedom_as_they_may() -> None:
    pairs = [*pairs_of([1.0, 1.1], seeds=9), *pairs_of([0.9], seeds=3)]
    first, _, last = moderate(pairs, arms=3)
    assert (first.prior_freedom, last.prior_freedom) == pytest.approx((8 / 3, 2 / 3))


def test_more_seeds_keep_what_other_pairs_tell() -> None:
    pair = Components(0.1, 6, 0.6, 0.4, 99, prior_freedom=7.0).with_seeds(12)
    assert (pair.by_seed, pair.prior_freedom) == (0.3, 7.0)
    alone = Components(0.1, 6, 0.6, 0.4, 99)
    assert replace(alone, prior_freedom=7.0).half_width(0.95) < alone.half_width(0.95)


def test_six_arms_find_a_difference_at_least_twice_as_often_as_each_pair_by_itself() -> None:
    """A small calibration of power and of false claims; benchmarks/calibration.py is the large one."""
    random = np.random.default_rng(0)
    found, alone, false = 0, 0, 0
    for _ in range(100):
        scores = random.normal(size=(6, 6))
        scores[0] += 1.9
        samples = [Sample.from_scores(str(arm), range(6), scores[arm]) for arm in range(6)]
        judged = verdict(samples, "higher")
        found += sum(pair.significant for pair in judged.pairs if "0" in (pair.first, pair.second))
        false += any(pair.significant for pair in judged.pairs if "0" not in (pair.first, pair.second))
        pairs = list(itertools.combinations(samples, 2))
        p_values = shaffer([components(one.minus(other)).p_value() for one, other in pairs], 6)
        alone += sum(p <= 0.05 for p, (one, _) in zip(p_values, pairs, strict=True) if one.label == "0")
    assert alone > 30
    assert found >= 2 * alone
    assert false <= 9


def test_two_deterministic_arms_leave_the_moderation_of_the_others_as_it_is() -> None:
    """Their difference is the same at every seed, but for rounding, and tells nothing of how much seeds differ."""
    rng = np.random.default_rng(3)
    examples = rng.normal(size=300)
    seeds = range(6)

    def noisy(index: int) -> Sample:
        values = examples + 0.05 * rng.normal(size=(6, 1)) + 0.3 * rng.normal(size=(6, 300))
        return Sample.from_examples(f"noisy {index}", seeds, values)

    fixed = [Sample.from_examples(f"fixed {i}", seeds, np.tile(rng.normal(size=300) / 3, (6, 1))) for i in range(2)]
    arms = [*map(noisy, range(6)), *fixed]

    def moderated(samples: list[Sample]) -> list[Components]:
        differences = [components(a.minus(b)) for a, b in itertools.combinations(samples, 2)]
        return moderate(differences, len(samples))

    both, one = moderated(arms), moderated(arms[:-1])
    assert (both[-1].by_rest, both[-1].prior_freedom) == (0.0, 0.0)
    # A pair's share of all arms grows from 5/7 to 6/8 with one arm more.
    assert both[0].prior_freedom / (6 / 8) == pytest.approx(one[0].prior_freedom / (5 / 7), rel=0.1)
