"""The error of a mean over seeds and examples."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from tuneoff.analysis.statistics import Sample
from tuneoff.analysis.statistics.crossed import Components, components, half_widths, mcnemar


def exact_tail(distance: float, by_seed: float, seed_freedom: int, by_example: float, example_freedom: int) -> float:
    """By adaptive integration over the examples' error."""
    scale = math.sqrt(by_example)

    def density(error: float) -> float:
        rest = stats.t.sf((distance - error) / math.sqrt(by_seed), seed_freedom)
        return float(stats.t.pdf(error / scale, example_freedom) / scale * rest)

    reach = 60 * scale
    points = [distance] if distance < reach else None
    return 2 * float(integrate.quad(density, -reach, reach, limit=500, points=points, epsabs=1e-13)[0])


@pytest.mark.parametrize("by_seed", [0.0005, 0.01, 0.3, 1.0, 50.0])
@pytest.mark.parametrize("level", [0.95, 0.9982])
def test_half_widths_solve_the_exact_tail(by_seed: float, level: float) -> None:
    half = Components(0.0, 6, by_seed, 1.0, 499).half_width(level)
    assert exact_tail(half, by_seed, 5, 1.0, 499) == pytest.approx(1 - level, rel=1e-4)


@pytest.mark.parametrize("by_rest", [1e-6, 1e-4, 2e-3, 0.01])
def test_a_narrow_error_of_light_tails_is_resolved(by_rest: float) -> None:
    parts = Components(0.0, 6, 0.0, 1.0, 399, by_rest)
    # The sum of two errors that are nearly normal, of 1,995 and of 399 degrees of freedom, is one of some 400.
    for distance in (1.0, 2.0, 4.0):
        nearly = 2 * stats.t.sf(distance / math.sqrt(1 + by_rest), 399 * (1 + by_rest) ** 2)
        assert parts.tail(distance) == pytest.approx(nearly, rel=2e-3)


def test_two_seeds_are_integrated_as_well() -> None:
    half = Components(0.0, 2, 1.0, 1.0, 99).half_width(0.95)
    assert exact_tail(half, 1.0, 1, 1.0, 99) == pytest.approx(0.05, rel=1e-4)


def test_with_one_part_it_is_students_t() -> None:
    seeds = components(Sample.from_scores("a", range(6), [1.0, 1.2, 0.9, 1.3, 1.1, 1.0]))
    expected = stats.ttest_1samp([1.0, 1.2, 0.9, 1.3, 1.1, 1.0], 1.2)
    assert seeds.tail(abs(seeds.mean - 1.2)) == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert 2 * seeds.half_width(0.95) == pytest.approx(high - low)
    values = np.random.default_rng(0).normal(0.2, 1, size=50)
    examples = components(Sample.from_examples("a", [1], values[None]))
    assert examples.p_value() == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_all_parts_are_unbiased() -> None:
    """Known components: 4 between seeds, 9 between examples, 25 for the rest, of 5 seeds and 30 examples."""
    random = np.random.default_rng(1)
    found = []
    for _ in range(3000):
        values = 2 * random.normal(size=(5, 1)) + 3 * random.normal(size=(1, 30)) + 5 * random.normal(size=(5, 30))
        parts = components(Sample.from_examples("a", range(5), values))
        found.append((parts.by_seed, parts.by_example, parts.by_rest))
    by_seed, by_example, by_rest = np.mean(np.array(found, dtype=float), axis=0)
    assert by_rest == pytest.approx(25 / 150, rel=0.02)
    assert by_seed == pytest.approx(4 / 5 + 25 / 150, rel=0.05)
    # Not negative, which is what lifts it a little.
    assert by_example == pytest.approx(9 / 30, rel=0.04)


def test_examples_that_err_alike_at_every_seed_do_not_become_more_by_repeating() -> None:
    once = (np.random.default_rng(2).random((1, 100)) < 0.8).astype(float)
    one = components(Sample.from_examples("a", [0], once))
    six = components(Sample.from_examples("a", range(6), np.repeat(once, 6, axis=0)))
    assert one.by_example is not None
    assert six.by_example == pytest.approx(one.by_example)
    assert six.by_seed == 0


def test_more_seeds_shrink_only_the_part_from_seeds() -> None:
    parts = Components(0.1, 6, 0.6, 0.4, 99).with_seeds(12)
    assert (parts.by_seed, parts.by_example, parts.seeds) == (0.3, 0.4, 12)


def test_values_that_are_all_one_tell_no_width_and_are_no_certainty() -> None:
    same = components(Sample.from_examples("a", range(6), np.zeros((6, 20))))
    assert same.p_value() == 1.0
    apart = components(Sample.from_examples("a", range(6), np.full((6, 20), 0.3)))
    assert apart.p_value() == pytest.approx(2 * 0.5**20)
    for parts in (same, apart):
        with pytest.raises(ValueError, match="not known"):
            parts.half_width(0.95)


@pytest.mark.parametrize("constant", [0.1, 0.3, 1 / 3, 7e8])
def test_seeds_that_agree_to_the_last_digit_tell_no_error(constant: float) -> None:
    theirs = np.array([0.7, 0.72, 0.74, 0.71, 0.79, 0.77])
    pair = Sample.from_scores("a", range(6), theirs + constant).minus(Sample.from_scores("b", range(6), theirs))
    assert not components(pair).known
    assert not components(Sample.from_scores("a", range(6), np.full(6, constant))).known


def seeds_that_agree(examples: int = 100) -> Sample:
    """Six seeds of one mean, by chance: each is wrong on ten examples, of which other seeds know nothing."""
    values = np.ones((6, examples))
    for seed in range(6):
        values[seed, (17 * seed + np.arange(10) * 7) % examples] = 0
    return Sample.from_examples("a", range(6), values)


def test_seeds_whose_means_agree_by_chance_have_the_error_of_the_rest() -> None:
    sample = seeds_that_agree()
    parts = components(sample)
    assert parts.by_seed == 0
    # Nine tenths right: of 600 values.
    assert parts.by_rest == pytest.approx(0.09 / 600, rel=0.1)
    alone = Components(parts.mean, 6, parts.by_rest, parts.by_example, 99)
    assert parts.half_width(0.95) < alone.half_width(0.95), "the rest is known by 495 degrees of freedom, not by 5"
    assert parts.half_width(0.95) >= 1.95 * math.sqrt(parts.by_rest)
    assert parts.tail(0.01) > 0.4


def test_the_larger_p_and_the_wider_interval_count() -> None:
    for by_seed, by_rest in ((0.2, 0.5), (0.5, 0.2), (0.5, 0.5), (0.3, 0.5)):
        both = Components(1.0, 3, by_seed, 0.1, 49, by_rest)
        one, other = Components(1.0, 3, by_seed, 0.1, 49), Components(1.0, 99, by_rest, 0.1, 49)  # 98 = 2 * 49
        assert both.p_value() == pytest.approx(max(one.p_value(), other.p_value()), rel=1e-9)
        assert both.half_width(0.95) == pytest.approx(max(one.half_width(0.95), other.half_width(0.95)), rel=1e-6)


def test_an_error_that_nothing_tells_is_refused() -> None:
    alone = components(Sample.from_scores("a", [1], [0.5]))
    assert not alone.known
    with pytest.raises(ValueError, match="not known"):
        alone.p_value()
    with pytest.raises(ValueError, match="not known"):
        alone.half_width(0.95)


def test_mcnemar_is_the_exact_binomial_test_of_the_discordant() -> None:
    one, two = np.ones((1, 40)), np.ones((1, 40))
    one[0, :3], two[0, 3:14] = 0, 0
    first, second = Sample.from_examples("a", [1], one), Sample.from_examples("b", [1], two)
    assert mcnemar(first, second) == pytest.approx(stats.binomtest(3, 14).pvalue)
    assert mcnemar(second, first) == pytest.approx(stats.binomtest(3, 14).pvalue)
    assert mcnemar(first, first) == 1.0


def test_mcnemar_takes_one_seed_of_right_and_wrong() -> None:
    two_seeds = Sample.from_examples("a", [1, 2], np.ones((2, 5)))
    with pytest.raises(ValueError, match="one shared seed"):
        mcnemar(two_seeds, two_seeds)
    halves = Sample.from_examples("a", [1], np.full((1, 5), 0.5))
    with pytest.raises(ValueError, match="0 or 1"):
        mcnemar(halves, halves)


# --- training rows drawn per seed


def test_what_all_seeds_drew_from_is_an_error_that_no_number_of_seeds_lessens() -> None:
    values = np.random.default_rng(5).random((6, 50))
    plain = components(Sample.from_examples("a", range(6), values))
    drawn = components(replace(Sample.from_examples("a", range(6), values), pool_share=0.5))
    assert plain.by_seed is not None
    assert drawn.by_seed is not None
    one_seed = 6 * plain.by_seed
    assert drawn.by_seed == pytest.approx(one_seed * (1 / 6 + 0.5))
    assert drawn.with_seeds(12).by_seed == pytest.approx(one_seed * (1 / 12 + 0.5))
    assert drawn.lasting == pytest.approx(0.5 * one_seed + (drawn.by_example or 0.0))
    assert plain.lasting == plain.by_example
    assert drawn.half_width(0.95) > plain.half_width(0.95)


@pytest.mark.parametrize("level", [0.95, 0.99999])
@pytest.mark.parametrize("prior_freedom", [0.0, 3.7, math.inf])
def test_many_intervals_at_once_are_those_of_each(level: float, prior_freedom: float) -> None:
    random = np.random.default_rng(4)
    variances = 10.0 ** random.uniform(-7, 0, size=(900, 3)) * (random.random((900, 3)) > 0.05)
    many = [
        Components(0.0, 6, seeds, examples, 399, rest, prior_freedom)
        for seeds, examples, rest in (row for row in variances.tolist() if row[0] or row[1])
    ]
    # And a few of other degrees of freedom.
    many += [replace(parts, seeds=3, example_freedom=49) for parts in many[:5]]
    together = half_widths(many, level)
    assert together[-200:] == pytest.approx([parts.half_width(level) for parts in many[-200:]], rel=3e-6)


def test_errors_of_any_proportion_have_an_interval() -> None:
    many = [Components(0.0, 6, 10.0**power, 1e-9, 99) for power in range(-200, 100)]
    widths = half_widths(many, 0.95)
    assert widths == sorted(widths)
    assert widths[0] == pytest.approx(1e-9**0.5 * stats.t.ppf(0.975, 99), rel=1e-5)
    assert widths[-1] == pytest.approx(1e99**0.5 * stats.t.ppf(0.975, 5), rel=1e-5)
    assert half_widths([], 0.95) == []
