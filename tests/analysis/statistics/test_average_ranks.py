"""Average ranks over data sets and their critical difference."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import f, friedmanchisquare

from tuneoff.analysis.statistics.average_ranks import average_ranks, shared_scores


def agreeing(sets: int, methods: int) -> dict[str, dict[str, float]]:
    """Sets that all rank the methods alike."""
    return {f"set {at}": {f"m{rank}": 1 - rank / 100 for rank in range(methods)} for at in range(sets)}


def test_statistic_and_critical_difference_are_those_of_demsar_2006() -> None:
    random = np.random.default_rng(4)
    names = ("a", "b", "c", "d")
    scores = {
        str(at): dict(zip(names, np.round(random.random(4) + np.array([0.3, 0.1, 0.0, 0.0]), 1).tolist(), strict=True))
        for at in range(14)
    }
    ranking = average_ranks(scores, "higher")
    chi_square = friedmanchisquare(*([own[name] for own in scores.values()] for name in names)).statistic
    assert ranking.statistic == pytest.approx(13 * chi_square / (14 * 3 - chi_square))
    assert ranking.agree == pytest.approx(chi_square / (14 * 3))
    # 2.569 is the paper's critical value of four classifiers at 0.05, and 1.25 its difference over fourteen sets.
    assert ranking.critical_difference == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert ranking.p == pytest.approx(float(f.sf(ranking.statistic, 3, 39)), abs=0.02)


def test_sets_that_agree_tell_the_ends_apart() -> None:
    ranking = average_ranks(agreeing(12, 4), "higher")
    assert ranking.agree == pytest.approx(1)
    assert ranking.statistic is None
    assert ranking.p is not None
    assert ranking.p <= 1e-4
    assert ("m0", "m3") in ranking.different
    assert ("m0", "m1") not in ranking.different
    assert ranking.groups == (("m0", "m1"), ("m1", "m2"), ("m2", "m3"))


def test_three_sets_that_agree_are_no_proof() -> None:
    """By its F distribution the p-value would be 0; chance has three sets agree on three methods in 1 of 36."""
    p = average_ranks(agreeing(3, 3), "higher").p
    assert p == pytest.approx(1 / 36, abs=0.004)
    assert average_ranks(agreeing(2, 3), "higher").p == pytest.approx(1 / 6, abs=0.01)
    assert average_ranks(agreeing(2, 3), "higher").different == ()


def test_one_set_has_ranks_and_no_test() -> None:
    ranking = average_ranks({"only": {"a": 0.5, "b": 0.7}}, "higher")
    assert ranking.ranks == {"b": 1.0, "a": 2.0}
    assert (ranking.p, ranking.statistic, ranking.critical_difference) == (None, None, None)
    assert ranking.groups == (("b", "a"),)


def test_less_may_be_better_and_equal_scores_share_a_rank() -> None:
    ranking = average_ranks({"x": {"a": 1.0, "b": 2.0, "c": 2.0}, "y": {"a": 1.0, "b": 3.0, "c": 2.0}}, "lower")
    assert ranking.ranks == {"a": 1.0, "c": 2.25, "b": 2.75}
    same = average_ranks({"x": {"a": 0.1 + 0.2, "b": 0.3}, "y": {"a": 0.3, "b": 0.1 + 0.2}}, "higher")
    assert same.ranks == {"a": 1.5, "b": 1.5}
    assert same.p == 1.0
    assert same.agree == 0.0


def test_the_test_keeps_its_level_where_nothing_differs() -> None:
    random = np.random.default_rng(1)
    names = [f"m{at}" for at in range(4)]
    claims = 0
    for _ in range(60):
        scores = {str(at): dict(zip(names, random.random(4).tolist(), strict=True)) for at in range(5)}
        claims += bool(average_ranks(scores, "higher").different)
    assert claims <= 7


def test_methods_that_a_set_lacks_are_told() -> None:
    shared, lacking = shared_scores({"x": {"a": 1.0, "b": 2.0}, "y": {"b": 1.0, "c": 1.0, "a": 0.0}})
    assert [list(own) for own in shared.values()] == [["a", "b"], ["a", "b"]]
    assert list(lacking) == ["c"]


def test_what_cannot_be_ranked_is_refused() -> None:
    for scores in ({}, {"x": {"a": 1.0}}, {"x": {"a": 1.0, "b": 2.0}, "y": {"a": 1.0, "c": 2.0}}):
        with pytest.raises(ValueError, match="two methods or more"):
            average_ranks(scores, "higher")


def test_labels_of_groups_are_ranked() -> None:
    groups = average_ranks(agreeing(20, 5), "higher").groups
    assert all(list(group) == sorted(group) for group in groups)
    assert set(itertools.chain(*groups)) == {f"m{at}" for at in range(5)}
