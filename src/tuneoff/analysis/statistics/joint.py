"""Draws of all methods' true means together, for questions that no single test answers, such as which is the best."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuneoff.analysis.statistics.crossed import components, example_covariance
from tuneoff.analysis.statistics.ranking import Ranking, rank
from tuneoff.analysis.statistics.sample import Sample

DRAWS = 4000


def draw_means(
    samples: Sequence[Sample], draws: int = DRAWS, seed: int = 0, ranking: Ranking | None = None
) -> NDArray[np.float64]:
    """Draws where the methods' true means may lie, jointly; shape (draws, methods), equal arguments give equal draws.

    A hierarchical bootstrap without its known errors: seeds are resampled together for all methods (with normal
    weights and Student's tails instead of whole copies, which understate the variance of few seeds), and the error
    that the examples cause, shared by all, comes from its normal limit. The difference of two columns has the
    distribution by which `Components` tests it. Confidence distributions: Xie & Singh, Int Stat Rev 81, 2013.

    Methods of other seeds than the best are drawn as the best and their difference to it on the seeds that both have:
    the seeds that only one of them has would add an error that is not in their comparison.

    With one seed only examples vary; without values per example only seeds do.

    Args:
        ranking: of these methods, perhaps among others: around whose means to draw; by default their own, where higher
            is better.

    Raises:
        ValueError: if some method has neither two seeds nor examples.
    """
    all_contributions = [sample.contributions for sample in samples]
    known_contributions = [contributions for contributions in all_contributions if contributions is not None]
    if len(known_contributions) < len(samples) and any(len(sample) < 2 for sample in samples):
        raise ValueError("one seed and no examples: the error is not known")
    ranking = ranking or rank({sample.label: sample.by_seed for sample in samples}, "higher")
    random = np.random.default_rng(seed)
    means = np.tile([ranking.means[sample.label] for sample in samples], (draws, 1))
    means += _seed_errors(samples, min(samples, key=lambda sample: ranking.labels.index(sample.label)), draws, random)
    if len(known_contributions) == len(samples):
        eigenvalues, eigenvectors = np.linalg.eigh(_covariances(samples))
        # An estimate of a covariance without the rest[s, e] may come out slightly negative in some direction.
        root = eigenvectors * np.sqrt(np.maximum(eigenvalues, 0.0))
        means += random.standard_normal((draws, len(known_contributions))) @ root.T
    return means


class _SeedErrors:
    """Draws of the error that seeds cause to a mean. A seed has the same error in all samples."""

    def __init__(self, seeds: set[int], best_count: int, draws: int, random: np.random.Generator) -> None:
        self._place = {seed: index for index, seed in enumerate(sorted(seeds))}
        self._draws, self._random = draws, random
        self._weights = random.standard_normal((draws, len(seeds)))
        self._student: dict[int, NDArray[np.float64]] = {}
        self._factor(best_count)

    def of(self, sample: Sample) -> NDArray[np.float64]:
        """Draws the error of a sample's mean, shape (draws,); 0 for one seed, from which it cannot be estimated."""
        count = len(sample)
        if count == 1:
            return np.zeros(self._draws)
        parts = components(sample)
        deviations = (sample.scores - sample.scores.mean()) * np.sqrt(parts.seed_factor / (count - 1))
        weights = self._weights[:, [self._place[seed] for seed in sample.seeds]]
        error: NDArray[np.float64] = weights @ deviations / self._factor(count)
        # Positive where the seeds' means agree, by chance, more than is expected from the rest of their values.
        missing_variance = parts.by_rest - (parts.by_seed or 0.0)
        return (
            error + np.sqrt(missing_variance) * self._random.standard_normal(self._draws)
            if missing_variance > 0
            else error
        )

    def _factor(self, count: int) -> NDArray[np.float64]:
        if count not in self._student and count > 1:
            self._student[count] = np.sqrt(self._random.chisquare(count - 1, size=self._draws) / (count - 1))
        return self._student.get(count, np.ones(self._draws))


def _seed_errors(
    samples: Sequence[Sample], best: Sample, draws: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Draws the errors that seeds cause to the means of all samples together, shape (draws, methods)."""
    seed_errors = _SeedErrors({seed for sample in samples for seed in sample.seeds}, len(best), draws, random)
    best_error = seed_errors.of(best)
    columns = []
    for sample in samples:
        if sample is best:
            columns.append(best_error)
        elif len(set(sample.seeds) & set(best.seeds)) > 1:
            columns.append(best_error + seed_errors.of(sample.minus(best)))
        else:
            columns.append(seed_errors.of(sample))
    return np.stack(columns, axis=1)


def _covariances(samples: Sequence[Sample]) -> NDArray[np.float64]:
    """Estimates the covariance of each two means from their examples, shape (methods, methods)."""
    covariances = np.empty((len(samples), len(samples)))
    for row, column in itertools.combinations_with_replacement(range(len(samples)), 2):
        covariances[row, column] = covariances[column, row] = _shared_covariance(samples[row], samples[column])
    return covariances


def _shared_covariance(first: Sample, second: Sample) -> float:
    """Estimates the covariance of two means from their examples, on the seeds that both have; 0 where there are
    none."""
    shared = sorted(set(first.seeds) & set(second.seeds))
    first_values, second_values = first.at(shared).contributions, second.at(shared).contributions
    return (
        example_covariance(first_values, second_values)
        if shared and first_values is not None and second_values is not None
        else 0.0
    )


def best_probabilities(
    samples: Sequence[Sample], direction: Literal["higher", "lower"], draws: int = DRAWS, seed: int = 0
) -> dict[str, float]:
    """Computes how often each label is the best among draws of the true means; the probabilities add up to 1."""
    means = draw_means(samples, draws, seed, rank({sample.label: sample.by_seed for sample in samples}, direction))
    best = np.argmax(means if direction == "higher" else -means, axis=1)
    shares = np.bincount(best, minlength=len(samples)) / draws
    return {sample.label: float(share) for sample, share in zip(samples, shares, strict=True)}
