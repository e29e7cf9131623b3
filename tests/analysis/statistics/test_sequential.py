"""Levels of several looks against other ways to them, and what holds of sequential p-values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import multivariate_normal

from tuneoff.analysis.statistics import Looks, Sample, verdict
from tuneoff.analysis.statistics.sequential import SPENT, nominal_levels

COUNTS = (6, 8, 11, 15, 20)
LOOKS = Looks(tuple(range(20)), COUNTS, {})


def test_two_looks_have_the_levels_of_the_bivariate_normal() -> None:
    assert nominal_levels((1,), 0.05) == pytest.approx((0.05,))
    levels = nominal_levels((6, 20), 0.05)
    bounds = -ndtri(np.array(levels) / 2)
    correlation = np.sqrt(6 / 20)
    neither = multivariate_normal([0, 0], [[1, correlation], [correlation, 1]]).cdf(bounds, lower_limit=-bounds)
    assert levels[0] == pytest.approx(0.05 * 6 / 20)
    assert 1 - neither == pytest.approx(0.05, abs=1e-5)


@pytest.mark.parametrize("error", [0.05, 0.05 / 15])
def test_a_difference_that_is_not_there_counts_at_some_look_as_often_as_said(error: float) -> None:
    sums = np.random.default_rng(0).standard_normal((200_000, COUNTS[-1])).cumsum(axis=1)
    p_values = [2 * ndtr(-np.abs(sums[:, count - 1]) / np.sqrt(count)) for count in COUNTS]
    levels = nominal_levels(COUNTS, error)
    claimed = np.any([p <= level for p, level in zip(p_values, levels, strict=True)], axis=0)
    assert claimed.mean() == pytest.approx(error, abs=4 * np.sqrt(error / 200_000))


@pytest.mark.parametrize("error", [1e-9, 0.05 / 66, 0.05, 0.6])
def test_a_sequential_p_is_the_error_whose_level_was_met_of_which_a_share_is_spent(error: float) -> None:
    for look, level in enumerate(nominal_levels(COUNTS, SPENT * error), 1):
        assert LOOKS.sequential(level, look) == pytest.approx(error, rel=1e-2)
        assert LOOKS.nominal(error, look) == pytest.approx(level, rel=1e-2)


def test_a_sequential_p_is_never_below_the_p_of_the_look_and_rises_with_it() -> None:
    p_values = [0.0, 1e-30, 1e-13, 1e-6, 0.01, 0.3, 0.9, 1.0]
    for look in range(1, 6):
        sequential = [LOOKS.sequential(p, look) for p in p_values]
        assert sequential == sorted(sequential)
        assert all(p <= s <= 1 for p, s in zip(p_values, sequential, strict=True))


def sample(label: str, scores: list[float]) -> Sample:
    return Sample.from_scores(label, range(len(scores)), scores)


def test_what_was_claimed_at_a_look_stays_claimed_and_later_seeds_do_not_count_for_it() -> None:
    clear = [0.9 + 0.001 * (seed % 3) for seed in range(8)]
    behind = [0.8 + 0.001 * (seed % 2) for seed in range(6)]
    looks = Looks(tuple(range(20)), COUNTS, {"a": 2, "b": 1})
    pair = verdict([sample("a", clear), sample("b", behind)], "higher", looks=looks).pair("a", "b")
    assert (pair.relation, pair.seeds) == ("ahead", 6)
    # At the second look b seems better, which takes nothing back.
    turned = [*behind, 1.5, 1.5]
    both = Looks(looks.seeds, COUNTS, {"a": 2, "b": 2})
    assert (
        verdict([sample("a", clear), sample("b", turned)], "higher", looks=both).pair("a", "b").p_corrected
        == pair.p_corrected
    )


def test_the_direction_of_a_claim_is_that_of_the_look_it_was_made_at() -> None:
    looks = Looks(tuple(range(20)), COUNTS, {"a": 2, "b": 2})
    ahead = [0.9 + 0.001 * (seed % 3) for seed in range(8)]
    behind_until_late = [0.8 + 0.001 * (seed % 2) for seed in range(6)] + [1.5, 1.5]
    for direction, relation in (("higher", "ahead"), ("lower", "behind")):
        samples = [sample("a", ahead), sample("b", behind_until_late)]
        pair = verdict(samples, direction, looks=looks).pair("a", "b")  # type: ignore[arg-type]
        assert pair.difference is not None
        assert pair.difference < 0, "at the second look"
        assert pair.relation == relation


def test_before_its_first_look_a_pair_is_open_and_seeds_between_looks_wait() -> None:
    scores = {"a": [0.9 + 0.001 * (seed % 3) for seed in range(7)], "b": [0.8] * 3 + [0.801] * 4}
    samples = [sample(label, values) for label, values in scores.items()]
    first = Looks(tuple(range(20)), (7, 20), {"a": 1, "b": 0})
    assert verdict(samples, "higher", looks=first).pair("a", "b").relation == "open"
    between = Looks(tuple(range(20)), COUNTS, {"a": 1, "b": 1})
    assert verdict(samples, "higher", looks=between).pair("a", "b").seeds == 6
