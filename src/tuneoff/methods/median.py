"""A baseline of regression: always the median of the training rows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneoff.interfaces import Baseline, MethodOptions, Prediction

if TYPE_CHECKING:
    from tuneoff.interfaces import Example, Task


class Median(Baseline[MethodOptions]):
    """Predicts the median of the training rows, the constant with the least absolute error there."""

    title = "Median"
    summary = "No training: always the median of the training values. What a trained method must beat."
    usual = True
    paper = "none; the usual baseline of a regression task"
    produces = "number"

    def predict(self, task: Task, train: Sequence[Example], examples: Sequence[Example]) -> list[Prediction]:
        median = statistics.median(float(example.target) for example in train)
        return [Prediction(index=e.index, target=e.target, output=repr(median)) for e in examples]


plugin = Median
