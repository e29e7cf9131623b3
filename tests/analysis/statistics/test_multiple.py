"""Holm's correction and tie groups."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tuneoff.analysis.statistics import holm, letters, tie_groups


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


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
