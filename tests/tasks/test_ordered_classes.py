"""Classes in an order: who says the order, and the baseline that reads it."""

from __future__ import annotations

from typing import Any

import pytest

from tuneoff import registry
from tuneoff.config.data import TaskSpec
from tuneoff.errors import DataError
from tuneoff.interfaces import Baseline, Example, Prediction, Task

GRADES = ["low"] * 3 + ["medium"] * 4 + ["high"] * 5


def ordered(**options: Any) -> Task:
    spec = {"name": "classification", "data": "rows.csv", "metrics": ["weighted_kappa", "rank_error"], **options}
    return registry.create_task(TaskSpec.model_validate(spec))


def of(targets: list[str]) -> list[Example]:
    return [Example(f"text {i}", target, i, f"row {i + 1}") for i, target in enumerate(targets)]


def test_an_order_that_nothing_declares_is_refused() -> None:
    with pytest.raises(DataError, match=r"weighted_kappa reads the order of the classes.*high, low, medium") as caught:
        ordered().fit({"train": of(GRADES)})
    assert "task.labels, from the lowest to the highest" in caught.value.hint
    registry.tasks()["classification"]({}).fit({"train": of(GRADES)})


@pytest.mark.parametrize(
    ("options", "targets", "labels"),
    [
        ({"labels": ["low", "medium", "high"]}, GRADES, ("low", "medium", "high")),
        ({}, ["10", "2", "1", "2", "10"], ("1", "2", "10")),
    ],
)
def test_declared_classes_and_numbers_have_an_order(
    options: dict[str, Any], targets: list[str], labels: tuple[str, ...]
) -> None:
    task = ordered(**options)
    task.fit({"train": of(targets)})
    assert task.labels == labels


def test_the_median_class_has_the_least_error_in_ranks() -> None:
    task = ordered(labels=["low", "medium", "high"])
    examples = of(GRADES)
    task.fit({"train": examples})
    scores = {}
    for name in ("majority", "median_class"):
        baseline = registry.methods()[name].create({})
        assert isinstance(baseline, Baseline)
        predictions = baseline.predict(task, examples, examples)
        scores[name] = {metric.name: metric.value for metric in task.score(predictions, "test")}
    assert scores["median_class"]["rank_error"] == pytest.approx(8 / 12)
    assert scores["majority"]["rank_error"] == pytest.approx(10 / 12)
    assert [own["weighted_kappa"] for own in scores.values()] == pytest.approx([0, 0])


def test_an_answer_that_names_no_class_is_as_far_off_as_can_be() -> None:
    labels = ("low", "medium", "high")
    task = ordered(labels=labels)
    task.fit({"train": of(GRADES)})
    answers = [Prediction(index=i, target=target, output="") for i, target in enumerate(labels)]
    scores = {metric.name: metric.value for metric in task.score(answers, "test")}
    assert scores["rank_error"] == pytest.approx((2 + 1 + 2) / 3)
    assert scores["weighted_kappa"] < 0
