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


# --- groups of examples that belong together

SIZES = np.array([1, 2, 3, 4, 5, 5, 6, 6, 8])
GROUP = np.repeat(np.arange(9), SIZES)


def test_a_group_contributes_as_one() -> None:
    sample = Sample.from_examples("a", [1, 2, 3], VALUES, GROUP)
    assert sample.contributions is not None
    assert (sample.contributions.shape, sample.examples, sample.groups, sample.units) == ((3, 9), 40, 9, 9)
    np.testing.assert_allclose(sample.scores, VALUES.mean(axis=1))
    np.testing.assert_allclose(sample.contributions.mean(axis=1), sample.scores)


def test_the_variance_over_groups_is_that_of_leaving_one_out() -> None:
    left_out = np.array([VALUES[0, group != GROUP].mean() for group in range(9)])
    parts = components(Sample.from_examples("a", [1], VALUES[:1], GROUP))
    assert parts.by_example == pytest.approx(8 / 9 * ((left_out - left_out.mean()) ** 2).sum())
    assert (parts.example_freedom, parts.unit) == (8, "groups")


def test_a_mean_and_its_jackknife_agree_on_groups() -> None:
    """A mean is a statistic like any other, so both ways must give the same."""
    by_values = Sample.from_examples("a", [1, 2, 3], VALUES, GROUP)
    by_statistic = Sample.from_statistic("a", [1, 2, 3], jackknifed(mean_of), 40, group_of_example=GROUP)
    assert by_values.contributions is not None
    assert by_statistic.contributions is not None
    np.testing.assert_allclose(by_values.contributions, by_statistic.contributions)
    assert by_statistic.groups == 9


def test_many_groups_are_left_out_several_at_a_time() -> None:
    sample = Sample.from_statistic("a", [1, 2, 3], jackknifed(ratio_of), 40, groups=4, group_of_example=GROUP)
    assert sample.contributions is not None
    assert (sample.contributions.shape, sample.groups) == ((3, 4), 9)


def test_what_is_the_same_in_a_group_has_the_error_of_its_groups() -> None:
    values = np.repeat(RANDOM.random((1, 10)), 4, axis=1)
    as_groups = components(Sample.from_examples("a", [1], values, np.repeat(np.arange(10), 4)))
    assert as_groups.by_example == pytest.approx(values[0, ::4].var(ddof=1) / 10)


def test_groups_of_one_change_nothing() -> None:
    plain, single = (Sample.from_examples("a", [1, 2, 3], VALUES, groups) for groups in (None, np.arange(40)))
    assert plain.contributions is not None
    assert single.contributions is not None
    np.testing.assert_array_equal(plain.contributions, single.contributions)
    assert single.groups is None


def test_groups_of_other_numbers_or_of_one_alone_are_refused() -> None:
    for groups in (np.zeros(40), np.arange(39)):
        with pytest.raises(ValueError, match="groups of 40 examples"):
            Sample.from_examples("a", [1, 2, 3], VALUES, groups)


def test_a_difference_keeps_its_groups() -> None:
    first, second = (
        Sample.from_examples(label, [1, 2, 3], values, GROUP) for label, values in (("a", VALUES), ("b", TARGETS))
    )
    difference = first.minus(second)
    assert (difference.groups, difference.at([2]).groups) == (9, 9)
    with pytest.raises(ValueError, match="different examples"):
        first.minus(Sample.from_examples("c", [1, 2, 3], TARGETS, GROUP % 4))


def test_what_differs_by_rounding_alone_between_seeds_is_fixed() -> None:
    values = np.tile([0.1, 0.7, 0.3], (3, 1))
    assert Sample.from_examples("a", range(3), values + np.array([[0.0], [1e-17], [0.0]])).fixed
    assert Sample.from_scores("a", range(3), [0.5, 0.5, 0.5]).fixed
    # Equal means of other examples are seeds that differ.
    assert not Sample.from_examples("a", range(3), [[0, 1], [1, 0], [0, 1]]).fixed
    assert not Sample.from_scores("a", range(3), [0.5, 0.5, 0.51]).fixed
