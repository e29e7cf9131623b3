"""Samples: per-example values, jackknifed statistics, and paired differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tuneoff.analysis.statistics import Sample
from tuneoff.analysis.statistics.crossed import components
from tuneoff.analysis.statistics.sample import Statistic

RANDOM = np.random.default_rng(3)
VALUES = RANDOM.random((3, 40))
TARGETS = RANDOM.random((3, 40)) + 1


def jackknifed(metric: Callable[[NDArray[np.intp]], NDArray[np.float64]]) -> Statistic:
    """What the jackknife asks for, of a metric that takes indices of examples."""

    def statistic(groups: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        without = [metric(np.flatnonzero(groups != group)) for group in range(groups.max() + 1)]
        return metric(np.arange(len(groups))), np.stack(without, axis=1)

    return statistic


def mean_of(indices: NDArray[np.intp]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = VALUES[:, indices].mean(axis=1)
    return found


def ratio_of(indices: NDArray[np.intp]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = VALUES[:, indices].sum(axis=1) / TARGETS[:, indices].sum(axis=1)
    return found


def test_the_jackknife_of_a_mean_gives_the_values_back() -> None:
    sample = Sample.from_statistic("a", [1, 2, 3], jackknifed(mean_of), 40)
    assert sample.contributions is not None
    np.testing.assert_allclose(sample.contributions, VALUES)
    np.testing.assert_allclose(sample.scores, VALUES.mean(axis=1))


@pytest.mark.parametrize(("groups", "sizes"), [(8, {5}), (7, {5, 6})])
def test_leaving_out_groups_gives_the_groups_means(groups: int, sizes: set[int]) -> None:
    """One arm per example, 1 there and 0 elsewhere: a group's mean is one over its size in its members' arms."""
    single = np.eye(40)
    found = Sample.from_statistic("a", range(40), jackknifed(lambda i: single[:, i].mean(axis=1)), 40, groups)
    assert found.contributions is not None
    assert found.contributions.shape == (40, groups)
    assert found.examples == 40
    members = found.contributions > 0.1
    assert set(members.sum(axis=0)) == sizes
    assert (members.sum(axis=1) == 1).all()
    np.testing.assert_allclose(found.contributions.mean(axis=1), 1 / 40)
    expected = members / members.sum(axis=0)
    # Where groups differ in size, all are shifted a little to keep the mean.
    np.testing.assert_allclose(found.contributions, expected, atol=1e-12 if len(sizes) == 1 else 0.005)


def test_sorted_rows_are_not_left_out_in_groups_that_are_all_alike() -> None:
    """Arms sorted by outcome: every tenth arm would give ten equal groups, and so no variance at all."""
    right = np.repeat([0.0, 1.0], 200)

    def accuracy(indices: NDArray[np.intp]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = right[None, indices].mean(axis=1)
        return found

    variance = components(Sample.from_statistic("a", [1], jackknifed(accuracy), 400, groups=100)).by_example
    assert variance == pytest.approx(0.25 / 400, rel=0.35)


def test_the_jackknife_of_a_ratio_has_the_variance_of_its_linearisation() -> None:
    found = components(Sample.from_statistic("a", [1], jackknifed(lambda i: ratio_of(i)[:1]), 40)).by_example
    ratio = VALUES[0].mean() / TARGETS[0].mean()
    linear = (VALUES[0] - ratio * TARGETS[0]) / TARGETS[0].mean()
    assert found == pytest.approx(linear.var(ddof=1) / 40, rel=0.05)


def test_a_statistic_that_is_undefined_on_a_subset_is_refused() -> None:
    def hole(indices: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.array([np.nan if 5 not in indices else 1.0])

    with pytest.raises(ValueError, match="not finite"):
        Sample.from_statistic("a", [1], jackknifed(hole), 10)


@pytest.mark.parametrize(
    ("seeds", "values"), [([1], VALUES), ([1, 2, 2], VALUES), ([1, 2, 3], VALUES[:, :1]), ([], np.empty((0, 5)))]
)
def test_shapes_that_disagree_are_refused(seeds: list[int], values: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match=r"^a: "):
        Sample.from_examples("a", seeds, values)


def test_a_difference_pairs_by_seed_and_not_by_row() -> None:
    one = Sample.from_examples("a", [1, 2, 3], VALUES)
    two = Sample.from_examples("b", [3, 9, 1], VALUES[[2, 1, 0]] - 0.25)
    difference = one.minus(two)
    assert difference.seeds == (1, 3)
    assert difference.contributions is not None
    np.testing.assert_allclose(difference.contributions, 0.25)


def test_differences_need_a_shared_seed_and_the_same_examples() -> None:
    one = Sample.from_examples("a", [1, 2, 3], VALUES)
    with pytest.raises(ValueError, match="no seed"):
        one.minus(Sample.from_examples("b", [4, 5, 6], VALUES))
    with pytest.raises(ValueError, match="different examples"):
        one.minus(Sample.from_examples("b", [1, 2, 3], VALUES[:, :20]))


def test_scores_that_differ_in_the_last_digit_do_not_differ() -> None:
    one = Sample.from_scores("a", [1, 2], [0.1 + 0.2, 0.7])
    assert (one.minus(Sample.from_scores("b", [1, 2], [0.3, 0.7])).scores == 0).all()
