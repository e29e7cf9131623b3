"""By how much predictions are worse than others of the same rows, and what each row contributes to that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tuneoff.errors import DataError
from tuneoff.interfaces import MeanMetric, MetricDefinition, Outputs, PooledMetric, Prediction

Array = NDArray[np.float64]
DIGITS = 7
"""Decimals of a row's contribution, which is one of many."""


def change(
    metric: MetricDefinition,
    before: Sequence[Prediction],
    after: Sequence[Prediction],
    labels: tuple[str, ...],
) -> tuple[float, float, tuple[float, ...]]:
    """Returns the metric before and after, and the rows' contributions to how much worse it is after.

    The mean of the contributions is the change, above 0 where the metric is worse after, whichever way is better. Of a
    mean over rows they are the rows' own changes, of a metric of all rows together the jackknife's pseudo-values.

    Raises:
        DataError: if the predictions lack what the metric is computed from.
    """
    sign = 1.0 if metric.direction == "lower" else -1.0
    (first, first_parts), (second, second_parts) = (_parts(metric, Outputs.of(p, labels)) for p in (before, after))
    contributions = sign * (second_parts - first_parts)
    return first, second, tuple(round(float(value), DIGITS) for value in contributions)


def _parts(metric: MetricDefinition, outputs: Outputs) -> tuple[float, Array]:
    """Returns a metric and what each row contributes to it, shape (rows,), of which it is the mean."""
    if isinstance(metric, MeanMetric) and (values := metric.example_values(outputs)) is not None:
        return float(values.mean()), values
    if isinstance(metric, PooledMetric) and (terms := metric.example_terms(outputs)) is not None:
        terms = np.asarray(terms, dtype=np.float64)
        sums, count = terms.sum(axis=0), len(terms)
        value = float(metric.of_sums(sums))
        pseudo_values = count * value - (count - 1) * metric.of_many(sums - terms)
        return value, pseudo_values + (value - pseudo_values.mean())
    raise not_computed(metric)


def not_computed(metric: MetricDefinition) -> DataError:
    """Returns the error that a metric says nothing of the rows that are held."""
    return DataError(f"{metric.name} cannot be computed of these rows", hint="Hold a task with another main metric.")
