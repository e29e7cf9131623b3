"""What all pairs tell together of how much seeds differ."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import digamma, polygamma

from tuneoff.analysis.statistics import Sample, shaffer, verdict
from tuneoff.analysis.statistics.crossed import Components, components
from tuneoff.analysis.statistics.moderated import estimate_prior, moderate

THREE = np.array([1.0, 4.0, 16.0])
"""Variances whose logarithms are -log 4, 0 and log 4 from their middle: a variance of log(4)² = 1.9218."""


def pairs_of(variances: list[float], seeds: int = 6, by_rest: float = 0.0) -> list[Components]:
    """Pairs whose differences have these variances between seeds."""
    return [Components(0.0, seeds, variance / seeds, 0.1, 99, by_rest) for variance in variances]


def all_pairs(arms: int) -> list[tuple[str, str]]:
    return list(itertools.combinations("abcdefghij"[:arms], 2))


def logarithms(variances: list[float], freedom: int = 5) -> NDArray[np.float64]:
    """Their means are those of the true variances' logarithms."""
    return np.log(variances) - float(digamma(freedom / 2)) + math.log(freedom / 2)


def test_the_prior_has_the_mean_and_the_variance_of_the_logarithms() -> None:
    prior, freedom = estimate_prior(logarithms([*THREE]), np.full(3, 5), arms=3)
    # (1 + 2/3)·log(4)², less ψ'(2.5) = π²/2 - 4 - 4/9 = 0.49036, is ψ'(d0/2).
    spread = 5 / 3 * math.log(4) ** 2 - (math.pi**2 / 2 - 4 - 4 / 9)
    assert polygamma(1, freedom / 2) == pytest.approx(spread)
    assert freedom == pytest.approx(1.4392, abs=1e-3)
    shift = digamma(freedom / 2) - math.log(freedom / 2) - digamma(2.5) + math.log(2.5)
    assert prior == pytest.approx(4 * math.exp(shift))


def test_variances_that_differ_by_chance_alone_have_a_prior_of_infinite_certainty() -> None:
    prior, freedom = estimate_prior(logarithms([1.0, 1.1, 0.9]), np.full(3, 5), arms=3)
    assert freedom == math.inf
    # exp(log 2.5 - ψ(2.5)) = 1.2375: what the logarithm of a variance of five degrees of freedom lacks on average.
    assert prior == pytest.approx(1.2375 * (1.1 * 0.9) ** (1 / 3), rel=1e-4)


def test_each_pair_moves_towards_the_prior_by_its_share() -> None:
    """Four arms: d0 is at most (4 - 2)·5 = 10, and counts by (4 - 2)/4. No arm varies more than others: each is in one
    pair of each of three variances."""
    variances = [1.0, 1.2, 0.8, 0.8, 1.2, 1.0]
    prior, freedom = estimate_prior(logarithms(variances), np.full(6, 5), arms=4)
    assert freedom == math.inf
    for own, pair in zip(variances, moderate(pairs_of(variances), all_pairs(4)), strict=True):
        assert pair.prior_freedom == pytest.approx(5)
        assert pair.by_seed == pytest.approx((5 * prior + 5 * own) / 10 / 6)


def test_where_variances_differ_greatly_each_pair_keeps_nearly_its_own() -> None:
    variances = [1.0, 4.0, 16.0, 16.0, 4.0, 1.0]
    for own, pair in zip(variances, moderate(pairs_of(variances), all_pairs(4)), strict=True):
        assert pair.prior_freedom < 1
        assert pair.by_seed == pytest.approx(own / 6, rel=0.5 if own == 1.0 else 0.2)


def test_pairs_of_a_wild_arm_keep_their_own_variance_and_tell_others_nothing() -> None:
    """The last of five arms; without it the others are a study of four."""
    calm = dict(zip(all_pairs(4), [1.0, 1.2, 0.8, 0.8, 1.2, 1.0], strict=True))
    variances = [calm.get(pair, 9.0) for pair in all_pairs(5)]
    pairs = pairs_of(variances)
    of_calm = iter(moderate(pairs_of(list(calm.values())), all_pairs(4)))
    for arms, before, after in zip(all_pairs(5), pairs, moderate(pairs, all_pairs(5)), strict=True):
        assert after == (before if "e" in arms else next(of_calm))


def test_the_more_an_arm_varies_the_less_its_pairs_take_from_others() -> None:
    taken = []
    for times in (1.0, 1.3, 1.7, 2.2, 2.9, 3.1):
        variances = [times if "d" in arms else 1.0 for arms in all_pairs(4)]
        moderated = moderate(pairs_of(variances), all_pairs(4))
        taken.append(moderated[-1].prior_freedom)
    assert taken == sorted(taken, reverse=True)
    assert taken[0] == pytest.approx(5)
    # Of equal arms without chance, all of d0 but for how wild the arm looks: it is infinite until that is plain.
    assert taken[1] == 5 * 0.75, "1 - log(1.3) / log(3) is 0.76"
    assert taken[-1] == 0.0


def test_arms_without_others_to_compare_with_are_taken_as_they_are() -> None:
    """Of four arms each was run beside the first alone: no pair is without it."""
    moderated = moderate(pairs_of([1.0, 1.2, 0.9]), [("a", "b"), ("a", "c"), ("a", "d")])
    assert all(pair.prior_freedom > 1 for pair in moderated)


def test_a_wild_arm_whose_partner_shares_no_seed_with_others_leaves_too_few_to_tell() -> None:
    pairs = pairs_of([1.0, 16.0])
    assert moderate(pairs, [("a", "b"), ("c", "d")]) == pairs


def test_nothing_is_moderated_by_itself() -> None:
    for pairs, arms in ((pairs_of([1.0]), 2), (pairs_of([1.0, 2.0, 3.0], seeds=1), 3)):
        assert moderate(pairs, all_pairs(arms)) == pairs
    fixed = Components(0.1, 6, 0.0, 0.1, 99)
    varying = pairs_of([1.0, 1.0])
    moderated = moderate([*varying, fixed], all_pairs(3))
    assert moderated[2] == fixed, "two deterministic arms do not differ between seeds"
    assert moderated[0] != varying[0]


def test_seeds_that_agree_by_chance_do_not_upset_the_prior() -> None:
    pairs = pairs_of([1.0, 1.2, 0.9], by_rest=0.1)
    pairs[2] = replace(pairs[2], by_seed=0.0)
    moderated = moderate(pairs, all_pairs(3))
    assert moderated[2].by_seed is not None
    assert 0.0 <= moderated[2].by_seed < 0.1
    assert all(np.isfinite([pair.prior_freedom, pair.by_seed or 0.0]).all() for pair in moderated)


def test_pairs_of_fewer_seeds_borrow_as_many_degrees_of_freedom_as_they_may() -> None:
    pairs = [*pairs_of([1.0, 1.1], seeds=9), *pairs_of([0.9], seeds=3)]
    first, _, last = moderate(pairs, all_pairs(3))
    assert 1.5 < first.prior_freedom <= 8 / 3
    assert 0.3 < last.prior_freedom <= 2 / 3


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


def test_arms_that_are_the_same_at_every_seed_change_nothing_for_others() -> None:
    """Their pairs vary by one arm's seeds, others by two; of two of them only rounding varies."""
    rng = np.random.default_rng(3)
    examples = rng.normal(size=300)
    seeds = range(6)

    def noisy(index: int) -> Sample:
        values = examples + 0.05 * rng.normal(size=(6, 1)) + 0.3 * rng.normal(size=(6, 300))
        return Sample.from_examples(f"noisy {index}", seeds, values)

    fixed = [Sample.from_examples(f"fixed {i}", seeds, np.tile(rng.normal(size=300) / 3, (6, 1))) for i in range(2)]
    arms = [noisy(index) for index in range(6)]

    def moderated(samples: list[Sample]) -> dict[tuple[str, str], Components]:
        both = list(itertools.combinations(samples, 2))
        labels = [(a.label, b.label) for a, b in both]
        found = moderate([components(a.minus(b)) for a, b in both], labels, [s.label for s in samples if s.fixed])
        return dict(zip(labels, found, strict=True))

    alone, beside = moderated(arms), moderated([*arms, *fixed])
    assert {label for label in beside if label not in alone} == {pair for pair in beside if "fixed" in pair[1]}
    assert all(beside[pair] == parts for pair, parts in alone.items())
    assert all(parts.prior_freedom == 0.0 for pair, parts in beside.items() if pair not in alone)
    assert beside["fixed 0", "fixed 1"].by_rest == 0.0
    # The verdict goes by the same.
    with_both, without = verdict([*arms, *fixed], "higher"), verdict(arms, "higher")
    assert with_both.pair("noisy 0", "noisy 1").p == without.pair("noisy 0", "noisy 1").p
