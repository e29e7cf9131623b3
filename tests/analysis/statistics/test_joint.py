"""Joint draws of the methods' true means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tuneoff.analysis.statistics import Sample, best_probabilities, draw_means
from tuneoff.analysis.statistics.crossed import components


def samples_of(values: NDArray[np.float64]) -> list[Sample]:
    return [Sample.from_examples(str(k), range(values.shape[1]), values[k]) for k in range(len(values))]


def correlated(random: np.random.Generator, methods: int = 3) -> NDArray[np.float64]:
    return np.asarray(
        0.05 * random.normal(size=(methods, 6, 1))
        + 0.3 * random.normal(size=(1, 1, 200))
        + 0.2 * random.normal(size=(methods, 1, 200))
        + 0.1 * random.normal(size=(methods, 6, 200))
    )


@pytest.mark.parametrize("pool_share", [0.0, 1.0])
def test_differences_of_draws_have_the_spread_that_the_test_uses(pool_share: float) -> None:
    samples = [replace(sample, pool_share=pool_share) for sample in samples_of(correlated(np.random.default_rng(0)))]
    draws = draw_means(samples, draws=40_000)
    for one, two in ((0, 1), (1, 2)):
        parts = components(samples[one].minus(samples[two]))
        found = draws[:, one] - draws[:, two]
        assert found.mean() == pytest.approx(parts.mean, abs=0.002)
        half = parts.half_width(0.95)
        assert np.mean(np.abs(found - parts.mean) > half) == pytest.approx(0.05, abs=0.006)


def test_probabilities_add_up_and_follow_the_direction() -> None:
    values = correlated(np.random.default_rng(1)) + np.array([0.0, 1.0, 0.5])[:, None, None]
    samples = samples_of(values)
    higher, lower = best_probabilities(samples, "higher"), best_probabilities(samples, "lower")
    assert sum(higher.values()) == pytest.approx(1)
    assert higher["1"] > 0.99
    assert lower["0"] > 0.99
    assert higher == best_probabilities(samples, "higher")


def test_equal_methods_are_about_equally_often_best() -> None:
    """Over studies: in a single one, chance favours somebody."""
    random = np.random.default_rng(2)
    shares = [list(best_probabilities(samples_of(correlated(random)), "higher", 500).values()) for _ in range(150)]
    np.testing.assert_allclose(np.mean(shares, axis=0), 1 / 3, atol=0.08)


def test_one_seed_varies_examples_alone_and_scores_vary_seeds_alone() -> None:
    values = correlated(np.random.default_rng(3))[:, :1]
    draws = draw_means(samples_of(values), draws=20_000)
    assert draws[:, 0].std() == pytest.approx(values[0, 0].std(ddof=1) / 200**0.5, rel=0.05)
    seconds = [Sample.from_scores("a", range(6), [9, 10, 11, 9, 10, 11]), Sample.from_scores("b", range(6), [20] * 6)]
    drawn = draw_means(seconds, draws=20_000)
    assert (drawn[:, 1] == 20).all()
    # Student's variance with five degrees of freedom is 5/3 of the scale's square.
    assert drawn[:, 0].var() == pytest.approx(0.8 / 6 * 5 / 3, rel=0.1)


def test_without_anything_that_varies_there_is_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="not known"):
        draw_means([Sample.from_scores("a", [1], [0.5])])
    with pytest.raises(ValueError, match="not known"):
        draw_means([Sample.from_scores("a", [1, 2], [0.5, 0.6]), Sample.from_scores("b", [2], [0.5])])


@pytest.mark.parametrize("kept", [[0, 1, 2, 3, 4], [1, 2, 3, 5]])
def test_a_method_that_lacks_a_seed_is_drawn_on_the_seeds_that_it_shares(kept: list[int]) -> None:
    """Seeds are hard or easy for all methods alike: unpaired, their spread would be an error of the difference."""
    random = np.random.default_rng(4)
    values = correlated(random) + 0.2 * random.normal(size=(1, 6, 1))
    samples = samples_of(values)
    samples[1] = samples[1].at(kept)
    draws = draw_means(samples, draws=40_000)
    for other in (0, 2):
        parts = components(samples[1].minus(samples[other]))
        found = draws[:, 1] - draws[:, other]
        low, high = np.percentile(found, (2.5, 97.5))
        # By way of the best, where the other is not the best itself.
        assert 0.8 < (high - low) / 2 / parts.half_width(0.95) < 1.5
    best = max(range(3), key=lambda at: samples[at].scores.mean())
    assert best != 1
    parts = components(samples[1].minus(samples[best]))
    found = draws[:, 1] - draws[:, best]
    assert found.mean() == pytest.approx(parts.mean, abs=0.003)
    assert np.mean(np.abs(found - parts.mean) > parts.half_width(0.95)) == pytest.approx(0.05, abs=0.006)


def test_methods_that_share_no_seed_are_drawn_by_themselves() -> None:
    values = correlated(np.random.default_rng(5), methods=2)
    samples = [Sample.from_examples("0", range(6), values[0]), Sample.from_examples("1", range(6, 12), values[1])]
    draws = draw_means(samples, draws=40_000)
    for at, sample in enumerate(samples):
        parts = components(sample)
        found = draws[:, at] - parts.mean
        assert np.mean(np.abs(found) > parts.half_width(0.95)) == pytest.approx(0.05, abs=0.008)


def test_draws_know_that_seeds_may_agree_by_chance() -> None:
    values = np.ones((2, 6, 100))
    for seed in range(6):
        values[0, seed, (17 * seed + np.arange(10) * 7) % 100] = 0
        values[1, seed, (13 * seed + np.arange(12) * 5) % 100] = 0
    samples = samples_of(values)
    parts = components(samples[0].minus(samples[1]))
    assert parts.by_seed == 0
    draws = draw_means(samples, draws=20_000)
    assert (draws[:, 0] - draws[:, 1]).std() == pytest.approx(np.sqrt(parts.variance), rel=0.05)
