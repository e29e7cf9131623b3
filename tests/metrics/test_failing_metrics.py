"""A metric of somebody else's that goes wrong ends a trial with its name and the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tuneoff.errors import TrialError
from tuneoff.interfaces import Example, MeanMetric, MetricDefinition, Outputs, PooledMetric, Prediction
from tuneoff.tasks.classification import Classification


def _prediction(index: int) -> Prediction:
    return Prediction(index=index, target="a", output="ab"[index % 2])


def _fails(_: Outputs) -> list[float]:
    raise KeyError("my own mistake\nin two lines")


WRONG_MEANS: dict[str, tuple[Any, str]] = {
    "raises": (_fails, "KeyError: 'my own mistake"),
    "too few": (lambda outputs: [1.0] * (len(outputs) - 1), r"values of shape \(3,\) for 4 examples"),
    "too many": (lambda outputs: [1.0] * (len(outputs) + 1), r"values of shape \(5,\) for 4 examples"),
    "one for all": (lambda outputs: 1.0, r"values of shape \(\) for 4 examples"),
    "a table": (lambda outputs: np.ones((len(outputs), 1)), r"values of shape \(4, 1\) for 4 examples"),
    "words": (lambda outputs: ["good"] * len(outputs), "could not convert string to float"),
    "not a number": (lambda outputs: [float("nan")] * len(outputs), "it gives nan, which is no finite number"),
}


@pytest.mark.parametrize("wrong", WRONG_MEANS)
def test_a_mean_of_somebody_elses_that_goes_wrong_is_named(wrong: str) -> None:
    of_examples, reason = WRONG_MEANS[wrong]
    _refused(MeanMetric(name="mine", direction="higher", of_examples=of_examples), reason)


WRONG_POOLED: dict[str, tuple[Any, Any, str]] = {
    "terms raise": (_fails, lambda sums: 1.0, "KeyError"),
    "sums raise": (lambda outputs: np.ones((len(outputs), 1)), _fails, "KeyError"),
    "too few": (lambda outputs: np.ones((2, 1)), lambda sums: 1.0, r"values of shape \(2, 1\) for 4 examples"),
    "infinite": (lambda outputs: np.ones((len(outputs), 1)), lambda sums: float("inf"), "it gives inf"),
    "several": (lambda outputs: np.ones((len(outputs), 2)), lambda sums: sums, "TypeError"),
}


@pytest.mark.parametrize("wrong", WRONG_POOLED)
def test_a_pooled_metric_of_somebody_elses_that_goes_wrong_is_named(wrong: str) -> None:
    terms, of_sums, reason = WRONG_POOLED[wrong]
    _refused(PooledMetric(name="mine", direction="lower", terms=terms, of_sums=of_sums), reason)


def test_a_value_that_its_own_bounds_rule_out_is_named() -> None:
    metric = MeanMetric(
        name="mine", direction="higher", low=0, high=1, of_examples=lambda outputs: [5.0] * len(outputs)
    )
    _refused(metric, "it gives 5.0, and says itself that it is from 0 to 1")


def _refused(metric: MetricDefinition, reason: str) -> None:
    task = Classification({"labels": ["a", "b"]})
    task.added_metrics = (metric,)
    examples = [Example("text", "a", index, f"row {index}") for index in range(4)]
    with pytest.raises(TrialError, match=f"^metric 'mine' cannot be computed: .*{reason}") as caught:
        task.score(task.judge([_prediction(index) for index in range(4)], examples), "test")
    assert "\n" not in caught.value.message
    assert "task.metrics" in caught.value.hint
