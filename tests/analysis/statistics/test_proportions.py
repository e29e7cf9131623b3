"""Shares that are known by their count alone: intervals and groups over test examples."""

from __future__ import annotations

import numpy as np
import pytest

from tuneoff.analysis.statistics.proportions import example_ties, wilson


def test_wilsons_interval_is_the_published_one() -> None:
    interval = wilson(631 / 1319, 1319)
    assert (interval.low, interval.high) == pytest.approx((0.4515, 0.5054), abs=1e-4)
    assert interval.over == "examples"
    assert (wilson(0.0, 50).low, wilson(1.0, 50).high) == (0.0, 1.0)
    assert wilson(0.0, 50).high > 0.05


def test_arms_of_near_shares_are_one_group_and_far_ones_are_told_apart() -> None:
    ties = example_ties({"far": 0.3, "best": 0.5, "near": 0.49}, 1319, "higher")
    assert ties.groups == (("best", "near"), ("far",))
    assert (ties.with_best, ties.pairs) == (("best", "near"), 3)
    assert example_ties({"far": 0.3, "best": 0.5}, 1319, "lower").with_best == ("far",)
    assert example_ties({"one": 0.0, "other": 0.0}, 1319, "higher").with_best == ("one", "other")
    assert ties.smallest == pytest.approx(0.0545, abs=5e-4)


def test_equal_arms_are_seldom_told_apart() -> None:
    random = np.random.default_rng(3)
    shares = random.binomial(500, 0.8, size=(400, 6)) / 500
    false = [len(example_ties(dict(zip("abcdef", row, strict=True)), 500, "higher").groups) > 1 for row in shares]
    assert np.mean(false) < 0.05
