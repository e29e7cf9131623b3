"""Shaffer's correction and tie groups."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tuneoff.analysis.statistics import letters, shaffer, tie_groups
from tuneoff.analysis.statistics.multiple import most_equal


def test_each_p_is_multiplied_by_the_pairs_that_may_be_equal_still_and_none_falls() -> None:
    # Of three methods two of which differ, two at most are equal: one pair.
    assert shaffer([0.04, 0.01, 0.03], 3) == pytest.approx([0.04, 0.03, 0.03])
    # Shaffer's table for six methods: 15, then 10 five times, then 7.
    p_values = [0.001 + 0.0001 * index for index in range(15)]
    factors = [15, 10, 10, 10, 10, 10, 7, 7, 7, 6]
    expected = np.maximum.accumulate([factor * p for factor, p in zip(factors, p_values, strict=False)])
    assert shaffer(p_values, 6)[:10] == pytest.approx(expected.tolist())
    assert shaffer([0.5], 2) == [0.5]
    assert shaffer([0.5, 0.9], 3) == [1.0, 1.0]
    assert shaffer([], 1) == []


def test_of_pairs_that_were_not_all_tested_no_more_are_equal_than_are_left() -> None:
    assert shaffer([0.01, 0.02], 3) == pytest.approx([0.02, 0.02])
    assert [most_equal(6, 7, claimed) for claimed in range(7)] == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("methods", range(2, 9))
def test_the_number_of_pairs_that_may_be_equal_is_never_too_small(methods: int) -> None:
    """Against all partitions of the methods into blocks of equal ones."""
    counts: list[set[int]] = [{0}]
    for size in range(1, methods + 1):
        counts.append({math.comb(block, 2) + n for block in range(1, size + 1) for n in counts[size - block]})
    pairs = math.comb(methods, 2)
    found = [most_equal(methods, pairs, claimed) for claimed in range(pairs)]
    exact = [max(n for n in counts[methods] if n <= pairs - claimed) for claimed in range(pairs)]
    assert all(most >= n for most, n in zip(found, exact, strict=True))
    assert found == sorted(found, reverse=True)
    assert found[:methods] == exact[:methods]


def test_two_methods_that_do_not_differ_are_told_apart_in_at_most_one_study_of_twenty() -> None:
    """Two pairs of equal methods, some way apart, so that claims between them make the correction smaller."""
    random = np.random.default_rng(5)
    ends = np.array([0.0, 0.0, 4.0, 4.0])
    false = 0
    for _ in range(2000):
        values = ends + random.normal(size=4)
        p_values = [math.erfc(abs(values[i] - values[j]) / 2) for i, j in itertools.combinations(range(4), 2)]
        corrected = shaffer(p_values, 4)
        # The first and the last of the six pairs.
        false += corrected[0] <= 0.05 or corrected[5] <= 0.05
    assert 0.02 < false / 2000 < 0.06


def test_two_bridged_methods_share_a_letter_with_the_one_between() -> None:
    groups = tie_groups(["a", "b", "c"], [("c", "a")])
    assert groups == (("a", "b"), ("b", "c"))
    assert letters(groups) == {"a": "a", "b": "ab", "c": "b"}


def test_all_alike_and_all_different() -> None:
    labels = ["x", "y", "z"]
    assert tie_groups(labels, []) == (("x", "y", "z"),)
    assert tie_groups(labels, itertools.combinations(labels, 2)) == (("x",), ("y",), ("z",))
    assert tie_groups([], []) == ()


@pytest.mark.parametrize("seed", range(30))
def test_sharing_a_group_is_exactly_not_being_told_apart(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = [f"m{at}" for at in range(8)]
    pairs = list(itertools.combinations(labels, 2))
    different = [pair for pair in pairs if random.random() < random.choice([0.2, 0.5, 0.8])]
    groups = tie_groups(labels, different)
    shown = letters(groups)
    for pair in pairs:
        assert bool(set(shown[pair[0]]) & set(shown[pair[1]])) == (pair not in different)
    # The largest ones: none inside another.
    assert not any(set(one) < set(two) for one in groups for two in groups)
    assert len(set(groups)) == len(groups)


def test_more_than_26_groups_keep_distinct_letters() -> None:
    labels = [str(at) for at in range(60)]
    shown = letters([[label] for label in labels])
    assert len(set(shown.values())) == 60
