"""Metrics of all examples together give the same for many sums at once as for one after another."""

from __future__ import annotations

import numpy as np
import pytest

from tuneoff import registry
from tuneoff.interfaces import PooledMetric
from tuneoff.tasks._metrics import macro_f1, matthews_correlation

TASKS = ("classification", "generation", "regression")
SUMS = {"rmse": 2, "pearson": 6, "spearman": 6}
POOLED = [m for name in TASKS for m in registry.tasks()[name].metrics if isinstance(m, PooledMetric)]


@pytest.mark.parametrize("metric", POOLED, ids=lambda metric: metric.name)
def test_many_sums_give_what_each_gives(metric: PooledMetric) -> None:
    sums = (
        np.random.default_rng(0)
        .integers(1, 40, (50, SUMS.get(metric.name, 12 if metric.batched else 2)))
        .astype(np.float64)
    )
    many = metric.of_many(sums)
    assert many.shape == (50,)
    assert many.tolist() == [pytest.approx(float(metric.of_sums(own)), rel=1e-12) for own in sums]


def test_classes_that_nobody_has_or_says_count_as_nothing() -> None:
    nothing = np.zeros(9)
    assert float(macro_f1(nothing)) == 0
    assert float(matthews_correlation(nothing)) == 0
    one_class = np.array([5.0, 0, 0, 5, 0, 0, 5, 0, 0])
    assert macro_f1(np.stack([one_class, nothing])).tolist() == pytest.approx([1 / 3, 0])
    assert matthews_correlation(np.stack([one_class, nothing])).tolist() == [0, 0]
