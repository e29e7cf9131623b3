"""Draws of all methods' true means together, for questions that no single test answers: which would be the best?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuneoff.analysis.inference.crossed import example_covariance
from tuneoff.analysis.inference.sample import Sample

DRAWS = 4000


def draw_means(samples: Sequence[Sample], draws: int = DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """Where the methods' true means may lie, jointly; shape (draws, methods), equal arguments give equal draws.

    A hierarchical bootstrap with its known faults mended: seeds are resampled together for all methods (with normal
    weights and Student's tails instead of whole copies, which understate the variance of few seeds), and the error
    that the examples cause, shared by all, comes from its normal limit. The difference of two columns has the
    distribution by which `Components` tests it. Confidence distributions: Xie & Singh, Int Stat Rev 81, 2013.

    With one seed only examples vary; without values per example only seeds do.

    Raises:
        ValueError: if the methods share no seed, or there are neither two seeds nor examples.
    """
    shared = sorted(set.intersection(*(set(sample.seeds) for sample in samples)))
    if not shared:
        raise ValueError("the methods share no seed")
    kept = [sample.at(shared) for sample in samples]
    told = [sample.contributions for sample in kept if sample.contributions is not None]
    with_examples = len(told) == len(kept)
    if len(shared) == 1 and not with_examples:
        raise ValueError("one seed and no examples: the error is not known")
    random = np.random.default_rng(seed)
    # Each at its own best estimate: the seeds that only some methods have shift a mean, and no pair's spread.
    found = np.tile([float(sample.scores.mean()) for sample in samples], (draws, 1))
    count = len(shared)
    if count > 1:
        scores = np.stack([sample.scores for sample in kept], axis=1)
        weights = random.standard_normal((draws, count)) / np.sqrt(count * (count - 1))
        student = np.sqrt(random.chisquare(count - 1, size=(draws, 1)) / (count - 1))
        found += weights @ (scores - scores.mean(axis=0)) / student
    if with_examples:
        covariance = np.array([[example_covariance(first, second) for second in told] for first in told])
        sizes, directions = np.linalg.eigh((covariance + covariance.T) / 2)
        # An estimate of a covariance without the rest[s, e] may come out slightly negative in some direction.
        root = directions * np.sqrt(np.maximum(sizes, 0.0))
        found += random.standard_normal((draws, len(told))) @ root.T
    return found


def best_probabilities(
    samples: Sequence[Sample], direction: Literal["higher", "lower"], draws: int = DRAWS, seed: int = 0
) -> dict[str, float]:
    """Label -> how often it is the best among draws of the true means; they add up to 1."""
    found = draw_means(samples, draws, seed)
    best = np.argmax(found if direction == "higher" else -found, axis=1)
    shares = np.bincount(best, minlength=len(samples)) / draws
    return {sample.label: float(share) for sample, share in zip(samples, shares, strict=True)}
