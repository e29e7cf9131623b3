"""What a study can tell apart."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tuneoff.analysis.statistics import Sample
from tuneoff.analysis.statistics.crossed import Components, components
from tuneoff.analysis.statistics.moderated import moderate
from tuneoff.analysis.statistics.power import (
    PRIOR_QUARTILES,
    prior_components,
    prior_seeds,
    smallest_difference,
    typical,
)


def pairs(pool_share: float) -> list[Components]:
    random = np.random.default_rng(0)
    levels = 0.9 + 0.02 * random.standard_normal((4, 6, 1))
    samples = [
        replace(Sample.from_examples(str(arm), range(6), random.random((6, 4000)) < level), pool_share=pool_share)
        for arm, level in enumerate(levels)
    ]
    return [components(first.minus(second)) for first, second in itertools.combinations(samples, 2)]


@pytest.mark.parametrize("arms", [2, 6])
def test_more_seeds_do_not_lessen_what_all_seeds_drew_their_rows_from(arms: int) -> None:
    shared, drawn = typical(pairs(0.0)), typical(pairs(1.0))
    assert shared is not None
    assert drawn is not None
    assert drawn.pool_share == 1.0
    few, many = (smallest_difference(drawn.with_seeds(seeds), arms) for seeds in (20, 1000))
    assert smallest_difference(shared.with_seeds(1000), arms) < many / 3
    assert many > 0.8 * few


def test_more_seeds_and_rows_and_fewer_arms_find_smaller_differences() -> None:
    base = smallest_difference(prior_components(6, 1000, 4), 4)
    assert smallest_difference(prior_components(20, 1000, 4), 4) < base
    assert smallest_difference(prior_components(6, 4000, 4), 4) < base
    assert smallest_difference(prior_components(6, 1000, 4), 8) > base


def test_arms_that_do_not_train_tell_nothing_of_seeds() -> None:
    assert prior_components(6, 1000, 2).prior_freedom == 0
    with_baselines, all_trained = (smallest_difference(prior_components(6, 1000, arms), 6) for arms in (4, 6))
    assert with_baselines > all_trained


def test_a_prior_takes_of_others_what_pairs_of_equal_arms_take_on_the_median() -> None:
    random = np.random.default_rng(0)
    taken: list[float] = []
    for _ in range(100):
        samples = [Sample.from_scores(str(arm), range(6), row) for arm, row in enumerate(random.normal(size=(6, 6)))]
        both = list(itertools.combinations(samples, 2))
        arms = [(first.label, second.label) for first, second in both]
        moderated = moderate([components(first.minus(second)) for first, second in both], arms)
        taken += [pair.prior_freedom for pair in moderated]
    assert prior_components(6, 1000, 6).prior_freedom == pytest.approx(np.median(taken), rel=0.1)


def test_the_seeds_that_a_difference_takes_lie_between_what_little_and_much_variance_ask_for() -> None:
    fewer, more = prior_seeds(0.05, 4, 2000)
    assert fewer is not None
    assert more is not None
    assert 6 <= fewer < more
    for seeds, (spread, variance) in zip((fewer, more), PRIOR_QUARTILES, strict=True):
        parts = [prior_components(n, 2000, 4, spread, variance) for n in (seeds - 1, seeds)]
        before, enough = (smallest_difference(part, 4) for part in parts)
        assert enough <= 0.05 < before or seeds == 6
    assert prior_seeds(0.001, 17, 1319) == (None, None), "seeds do not lessen the error of the test examples"
    assert prior_seeds(0.5, 2, 2000) == (6, 6), "fewer tell nothing"
