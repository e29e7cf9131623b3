"""By how much predictions are worse than others of the same rows, and what each row contributes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tuneoff.errors import DataError
from tuneoff.interfaces import Prediction
from tuneoff.tasks._running_text import BITS_PER_BYTE
from tuneoff.tasks.classification import Classification
from tuneoff.trial.retention.changes import change


def losses(*values: tuple[float, int]) -> list[Prediction]:
    return [
        Prediction(index=i, target="", output="", loss=loss, target_tokens=4, target_bytes=size)
        for i, (loss, size) in enumerate(values)
    ]


def answers(targets: str, outputs: str) -> list[Prediction]:
    return [Prediction(index=i, target=t, output=o) for i, (t, o) in enumerate(zip(targets, outputs, strict=True))]


def test_of_bits_per_byte_the_contributions_average_to_the_change() -> None:
    before, after = losses((10.0, 8), (20.0, 20), (3.0, 5)), losses((12.0, 8), (21.0, 20), (3.0, 5))
    first, second, parts = change(BITS_PER_BYTE, before, after, ())
    assert first == pytest.approx(33 / 33 / math.log(2))
    assert second == pytest.approx(36 / 33 / math.log(2))
    assert np.mean(parts) == pytest.approx(second - first, abs=1e-6)
    assert parts[0] == max(parts), "it got worse by the most for its size"


def test_where_more_is_better_a_fall_is_forgetting() -> None:
    accuracy = Classification({}).metric("accuracy")
    first, second, parts = change(accuracy, answers("xyxy", "xyxy"), answers("xyxy", "xyyx"), ("x", "y"))
    assert (first, second, parts) == (1.0, 0.5, (0.0, 0.0, 1.0, 1.0))


def test_of_a_metric_of_all_rows_it_is_the_jackknife() -> None:
    macro_f1 = Classification({}).metric("macro_f1")
    before, after = answers("xyxyxy", "xyxyxx"), answers("xyxyxy", "xyxxyx")
    first, second, parts = change(macro_f1, before, after, ("x", "y"))
    assert np.mean(parts) == pytest.approx(first - second, abs=1e-6)
    assert parts[3] > 0


def test_predictions_without_what_the_metric_needs_are_an_error() -> None:
    with pytest.raises(DataError, match="bits_per_byte"):
        change(BITS_PER_BYTE, answers("x", "x"), answers("x", "x"), ())
