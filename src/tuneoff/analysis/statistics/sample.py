"""The scores of one method, over seeds and test examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

GROUPS = 200
"""Most groups of examples that the jackknife leaves out; each costs one evaluation of the statistic."""

Statistic = Callable[[NDArray[np.intp]], tuple[ArrayLike, ArrayLike]]
"""From the group of each example, shape (examples,), to the metric of each seed on all examples, shape (seeds,), and
without each group, shape (seeds, groups)."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One method's values of one metric (or cost). Build it with one of the three class methods.

    Attributes:
        label: the method's label.
        seeds: the seeds it was run with, in the arms' order; the same seed pairs two methods.
        scores: the metric of each seed, shape (seeds,).
        contributions: what each example contributes, shape (seeds, examples), or (seeds, groups of examples)
            after a jackknife; the mean of an arm is that seed's score. None when only scores are known.
        examples: number of test examples; None when only scores are known.
        groups: number of groups of examples that belong together, each of which contributes as one; None where every
            example stands for itself.
        pool_share: size of one seed's draw of training rows as a share of the rows that all seeds drew from; 0 where
            rows are no part of what varies.
    """

    label: str
    seeds: tuple[int, ...]
    scores: NDArray[np.float64]
    contributions: NDArray[np.float64] | None
    examples: int | None
    groups: int | None = None
    pool_share: float = 0.0

    @classmethod
    def from_examples(
        cls, label: str, seeds: Iterable[int], values: ArrayLike, group_of_example: ArrayLike | None = None
    ) -> Sample:
        """Builds a sample of a metric that is the mean over examples (accuracy, ROUGE).

        Args:
            values: of each example, shape (seeds, examples).
            group_of_example: number of the group that it belongs to, shape (examples,), where examples of a group are
                not independent. Then the groups contribute, by the jackknife that leaves out one at a time.

        Raises:
            ValueError: if shapes disagree, a value is not finite, or there are fewer than two examples or groups.
        """
        matrix = np.asarray(values, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[1] < 2:
            raise ValueError(f"{label}: values over (seeds, examples) with two examples at least, not {matrix.shape}")
        scores, examples = matrix.mean(axis=1), matrix.shape[1]
        group, count = _numbered(label, group_of_example, examples)
        if group is None:
            return cls._checked(label, seeds, scores, matrix, examples)
        sums = np.stack([np.bincount(group, weights=row, minlength=count) for row in matrix])
        sizes = np.bincount(group, minlength=count)
        left_out = (matrix.sum(axis=1, keepdims=True) - sums) / (examples - sizes)
        values_of_groups = _pseudo_values(scores, left_out, np.full(count, count - 1.0))
        return cls._checked(label, seeds, scores, values_of_groups, examples, count)

    @classmethod
    def from_scores(cls, label: str, seeds: Iterable[int], scores: ArrayLike) -> Sample:
        """Builds a sample of a figure known per seed alone (seconds, bytes); `scores` has shape (seeds,).

        Raises:
            ValueError: if shapes disagree or a value is not finite.
        """
        return cls._checked(label, seeds, np.asarray(scores, dtype=np.float64), None, None)

    @classmethod
    def from_statistic(
        cls,
        label: str,
        seeds: Iterable[int],
        statistic: Statistic,
        examples: int,
        groups: int = GROUPS,
        group_of_example: ArrayLike | None = None,
    ) -> Sample:
        """Builds a sample of a metric that is no mean over examples (macro-F1, MCC, perplexity), by the jackknife.

        Tukey's pseudo-values stand in for the examples' values: n·θ(all) - (n-1)·θ(all but the i-th), shifted so
        that their mean is θ(all). Of more examples than `groups`, groups of equal size are left out in turn. The
        metric must change smoothly with an example's weight, as functions of counts and means do; a median does not.

        Shao & Tu, The Jackknife and Bootstrap, 1995, section 2; pseudo-values of readers × cases as in
        Dorfman, Berbaum & Metz, Receiver operating characteristic rating analysis, Invest Radiol 27, 1992.

        Args:
            statistic: the group (0, 1, …) of each example -> the metric of each seed on all examples, shape (seeds,),
                and without each group, shape (seeds, groups). It must be defined on every subset: fix the classes
                beforehand instead of taking them from the subset.
            examples: number of test examples.
            groups: most groups to leave out in turn.
            group_of_example: as for `from_examples`; examples of a group are left out together.

        Raises:
            ValueError: if the statistic is not finite on a subset, or there are fewer than two examples or groups.
        """
        if examples < 2:
            raise ValueError(f"{label}: two examples at least, not {examples}")
        group, group_count = _numbered(label, group_of_example, examples)
        left_out = _dealt(examples if group is None else group_count, groups)
        count = int(left_out.max()) + 1
        if group is not None:
            left_out = left_out[group]
        full_scores, leave_one_out = (np.asarray(part, dtype=np.float64) for part in statistic(left_out))
        # (examples / size - 1) is count - 1 where what is left out is of one size. Groups may be of any size: what is
        # the same in a whole group weighs by its size, and so must not be divided by it.
        sizes = np.bincount(left_out, minlength=count)
        factors = examples / sizes - 1 if group is None else np.full(count, count - 1.0)
        pseudo_values = _pseudo_values(full_scores, leave_one_out, factors)
        return cls._checked(label, seeds, full_scores, pseudo_values, examples, group_count or None)

    @classmethod
    def _checked(
        cls,
        label: str,
        seeds: Iterable[int],
        scores: NDArray[np.float64],
        contributions: NDArray[np.float64] | None,
        examples: int | None,
        groups: int | None = None,
    ) -> Sample:
        seed_tuple = tuple(seeds)
        if scores.shape != (len(seed_tuple),) or not seed_tuple or len(set(seed_tuple)) != len(seed_tuple):
            raise ValueError(f"{label}: {len(seed_tuple)} seeds {seed_tuple} and scores of shape {scores.shape}")
        values = scores if contributions is None else contributions
        if not np.isfinite(values).all():
            raise ValueError(f"{label}: a value is not finite")
        return cls(label, seed_tuple, scores, contributions, examples, groups)

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def units(self) -> int | None:
        """Returns the number of independent parts of the test set: of its groups, else of its examples."""
        return self.groups or self.examples

    @property
    def binary(self) -> bool:
        """Returns whether every contribution is 0 or 1 (right or wrong)."""
        return self.contributions is not None and bool(np.isin(self.contributions, (0.0, 1.0)).all())

    @property
    def fixed(self) -> bool:
        """Returns whether nothing differs between seeds but rounding, as without training; so does one seed."""
        values = self.scores[:, None] if self.contributions is None else self.contributions
        return bool(np.ptp(values, axis=0).max() <= 1e-12 * np.abs(values).max())

    @property
    def by_seed(self) -> dict[int, float]:
        """Maps each seed to its score."""
        return dict(zip(self.seeds, self.scores.tolist(), strict=True))

    def at(self, seeds: Iterable[int]) -> Sample:
        """Returns the sample at some of its seeds, in that order. Raises KeyError at a seed that it lacks."""
        positions = {seed: position for position, seed in enumerate(self.seeds)}
        wanted = tuple(seeds)
        if wanted == self.seeds:
            return self
        index = [positions[seed] for seed in wanted]
        contributions = None if self.contributions is None else self.contributions[index]
        return replace(self, seeds=wanted, scores=self.scores[index], contributions=contributions)

    def minus(self, other: Sample) -> Sample:
        """Computes paired differences at the seeds that both have (there must be one), example by example where both
        have examples.

        Raises:
            ValueError: if no seed is shared, or they were tested on different numbers of examples.
        """
        shared = sorted(set(self.seeds) & set(other.seeds))
        if not shared:
            raise ValueError(f"{self.label} and {other.label} share no seed")
        first, second = self.at(shared), other.at(shared)
        label, pool_share = f"{self.label} - {other.label}", max(first.pool_share, second.pool_share)
        scores = first.scores - second.scores
        # Equal scores summed in another order differ in the last digit, and so do equal differences of unequal scores;
        # that digit must not count as spread.
        rounding = 1e-12 * np.maximum(np.abs(first.scores), np.abs(second.scores))
        scores[np.abs(scores) <= rounding] = 0.0
        if np.ptp(scores) <= rounding.max():
            scores[:] = scores[0]
        if first.contributions is None or second.contributions is None:
            return Sample(label, first.seeds, scores, None, None, pool_share=pool_share)
        shapes_differ = first.contributions.shape != second.contributions.shape
        if shapes_differ or (first.examples, first.groups) != (second.examples, second.groups):
            raise ValueError(f"{self.label} and {other.label} were tested on different examples")
        differences = first.contributions - second.contributions
        return Sample(label, first.seeds, scores, differences, first.examples, first.groups, pool_share)


def _numbered(label: str, group_of_example: ArrayLike | None, examples: int) -> tuple[NDArray[np.intp] | None, int]:
    """Returns the number of each example's group, counted from 0, and how many there are; None and 0 where every
    example stands for itself."""
    if group_of_example is None:
        return None, 0
    names, group = np.unique(np.asarray(group_of_example), return_inverse=True)
    if group.shape != (examples,) or len(names) < 2:
        raise ValueError(f"{label}: {group.shape} groups of {examples} examples, {len(names)} different ones")
    return (None, 0) if len(names) == examples else (group, len(names))


def _dealt(units: int, most: int) -> NDArray[np.intp]:
    """Deals units to at most so many parts of equal size; returns the part of each, shape (units,)."""
    count = min(most, units)
    # Parts are random: if rows are sorted by class, parts of every n-th row would be too alike.
    # They depend on the number of units alone, so all methods leave out the same.
    order = np.random.default_rng(0).permutation(units) if count < units else np.arange(units)
    part = np.empty(units, dtype=np.intp)
    part[order] = np.arange(units) % count
    return part


def _pseudo_values(
    scores: NDArray[np.float64], left_out: NDArray[np.float64], factors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the jackknife's pseudo-values, shifted so that the mean of each seed's is its score."""
    values = (scores[:, None] - left_out) * factors
    return np.asarray(values + (scores - values.mean(axis=1))[:, None])
