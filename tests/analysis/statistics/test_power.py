"""What a study can tell apart."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tuneoff.analysis.statistics import Sample
from tuneoff.analysis.statistics.crossed import Components, components
from tuneoff.analysis.statistics.power import prior_components, smallest_difference, typical


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
    base = smallest_difference(prior_components(6, 1000), 4)
    assert smallest_difference(prior_components(20, 1000), 4) < base
    assert smallest_difference(prior_components(6, 4000), 4) < base
    assert smallest_difference(prior_components(6, 1000), 8) > base
