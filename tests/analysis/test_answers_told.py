"""What arms answered, where predictions are not as one would wish."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tuneoff.analysis.answers import POINTS_SHOWN, _label_counts, residuals


def told(**answers: tuple[list[str], list[str]]) -> tuple[Any, Any]:
    """Results of a task of numbers, and predictions: label -> targets and outputs of its one trial."""
    arms = {label: SimpleNamespace(label=label, completed=[label]) for label in answers}
    results = SimpleNamespace(study=SimpleNamespace(task=SimpleNamespace(name="regression")), arm=arms.__getitem__)

    def read(label: str) -> Any:
        targets, outputs = answers[label]
        return SimpleNamespace(outputs=SimpleNamespace(targets=targets, outputs=outputs))

    return results, SimpleNamespace(read=read)


def test_residuals_leave_out_what_is_not_finite_and_arms_of_which_nothing_is_left() -> None:
    results, predictions = told(
        full=(["1", "2", "-1e308"], ["1.5", "nan", "1e308"]), lora=(["1", "2"], ["nan", "inf"]), head=([], [])
    )
    (one,) = residuals(results, predictions, ["full", "lora", "head"])
    assert (one.method, one.targets, one.errors) == ("full", (1.0,), (0.5,))


def test_of_many_residuals_some_are_taken_evenly() -> None:
    numbers = [str(number) for number in range(10 * POINTS_SHOWN)]
    (one,) = residuals(*told(full=(numbers, numbers)), ["full"])
    assert (len(one.targets), one.targets[0], one.targets[-1]) == (POINTS_SHOWN, 0, 10 * POINTS_SHOWN - 1)


@pytest.mark.parametrize("text", ["no labels", "5", '[["a"]]', ""])
def test_texts_that_are_no_sets_of_labels_are_not_counted(text: str) -> None:
    arm: Any = SimpleNamespace(label="full", completed=[None])
    outputs = SimpleNamespace(targets=['["a"]'], outputs=[text])
    predictions: Any = SimpleNamespace(read=lambda record: SimpleNamespace(outputs=outputs))
    assert _label_counts(arm, predictions, ("a",)) is None
