"""Spreads and paired intervals."""

from __future__ import annotations

import numpy as np
import pytest

from tuneoff.analysis.statistics import paired_bootstrap, paired_t, spread


def test_spread_of_one_value_has_no_deviation_and_no_interval() -> None:
    found = spread([0.5])
    assert found is not None
    assert (found.mean, found.n, found.std, found.low, found.high) == (0.5, 1, None, None, None)


def test_spread_of_nothing_is_nothing() -> None:
    assert spread([]) is None


def test_spread_is_the_sample_deviation_and_the_t_interval() -> None:
    found = spread([1.0, 2.0, 3.0])
    assert found is not None
    assert found.std is not None
    assert found.low is not None
    assert found.std == pytest.approx(1.0)
    # t quantile of 2 degrees of freedom at 97.5 %: 4.302653
    assert found.low == pytest.approx(2 - 4.302653 / 3**0.5, rel=1e-6)


def test_paired_t_needs_two_seeds() -> None:
    assert paired_t([0.1]) is None
    found = paired_t([0.10, 0.11, 0.09])
    assert found is not None
    assert not found.includes_zero


def test_bootstrap_is_repeatable_and_finds_a_plain_difference() -> None:
    random = np.random.default_rng(1)
    better = (random.random((3, 500)) < 0.1).astype(float)
    first, again = paired_bootstrap(better), paired_bootstrap(better)
    assert first == again
    assert first.mean == pytest.approx(better.mean())
    assert 0 < first.low < first.mean < first.high


def test_bootstrap_of_no_difference_includes_zero() -> None:
    assert paired_bootstrap(np.zeros((2, 50))).includes_zero


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    """Many seeds, no seed effect: the 95 % interval must miss a true 0 rarely, yet not never."""
    random = np.random.default_rng(7)
    missed = 0
    for _ in range(100):
        differences = random.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=(1, 200))
        missed += not paired_bootstrap(differences, resamples=300).includes_zero
    assert 1 <= missed <= 13


def test_seeds_that_disagree_widen_the_interval() -> None:
    """Both have the same mean; only in one does it hold at every seed."""
    steady = np.full((4, 400), 0.05)
    shaky = np.repeat(np.array([[0.35], [-0.25], [0.35], [-0.25]]), 400, axis=1)
    assert not paired_bootstrap(steady).includes_zero
    assert paired_bootstrap(shaky).includes_zero
