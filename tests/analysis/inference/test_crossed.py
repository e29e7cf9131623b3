"""The error of a mean over seeds and examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from tuneoff.analysis.inference import Sample
from tuneoff.analysis.inference.crossed import Components, components, mcnemar


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


def test_both_parts_are_unbiased() -> None:
    """Known components: 4 between seeds, 9 between examples, 25 for the rest, of 5 seeds and 30 examples."""
    random = np.random.default_rng(1)
    found = []
    for _ in range(3000):
        values = 2 * random.normal(size=(5, 1)) + 3 * random.normal(size=(1, 30)) + 5 * random.normal(size=(5, 30))
        parts = components(Sample.from_examples("a", range(5), values))
        found.append((parts.by_seed, parts.by_example))
    by_seed, by_example = np.mean(np.array(found, dtype=float), axis=0)
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


def test_no_variance_at_all_is_no_error() -> None:
    same = components(Sample.from_examples("a", range(6), np.zeros((6, 20))))
    assert (same.p_value(), same.half_width(0.95)) == (1.0, 0.0)
    above = components(Sample.from_scores("a", range(6), np.full(6, 2.0)))
    assert above.p_value() == 0.0


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
