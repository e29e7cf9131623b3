"""Definitions of metrics, as a study's task declares them, and without its task."""

from __future__ import annotations

import numpy as np
import pytest

from tuneoff.analysis.metrics import definition
from tuneoff.interfaces import MeanMetric, Outputs, PooledMetric
from tuneoff.records.record import Metric, Prediction
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation


def recorded(name: str) -> Metric:
    return Metric(name=name, value=0.5, unit="points", direction="lower", split="test")


def outputs(*values: dict[str, float]) -> Outputs:
    return Outputs.of([Prediction(index=i, target="a", output="b", values=own) for i, own in enumerate(values)])


def test_a_metric_is_what_the_studys_task_declares() -> None:
    assert definition("classification", recorded("loss")) is Classification({}).metric("loss")
    assert definition("generation", recorded("loss")) is Generation({}).metric("loss")


@pytest.mark.parametrize("task", ["classification", "a_task_that_is_not_installed"])
def test_one_that_nobody_declares_is_the_mean_of_what_predictions_hold_under_its_name(task: str) -> None:
    found = definition(task, recorded("points"))
    assert isinstance(found, MeanMetric)
    assert (found.direction, found.unit, found.title) == ("lower", "points", "")
    assert found.compute(outputs({"points": 1.0}, {"points": 4.0})) == 2.5
    assert found.compute(outputs({"points": 1.0}, {})) is None


def test_recorded_values_count_before_computed_ones() -> None:
    accuracy = Classification({}).metric("accuracy")
    assert accuracy.compute(outputs({}, {})) == 0
    assert accuracy.compute(outputs({"accuracy": 1.0}, {"accuracy": 0.5})) == 0.75


def test_a_pooled_metric_is_a_function_of_sums_over_examples() -> None:
    ratio = PooledMetric(
        name="ratio",
        direction="higher",
        terms=lambda given: [(v["a"], v["b"]) for v in given.values] if all(given.values) else None,
        of_sums=lambda sums: sums[0] / sums[1],
    )
    assert ratio.compute(outputs({"a": 1, "b": 2}, {"a": 3, "b": 6})) == 0.5
    assert ratio.compute(outputs({}, {})) is None
    terms = ratio.example_terms(outputs({"a": 1, "b": 2}))
    assert terms is not None
    np.testing.assert_array_equal(terms, [[1, 2]])


def test_a_metric_of_another_task_is_none_of_this_one() -> None:
    with pytest.raises(KeyError):
        Classification({}).metric("rouge_l")
