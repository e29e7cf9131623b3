"""A baseline of regression: always the mean of the training rows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneoff.interfaces import Baseline, MethodOptions, Prediction

if TYPE_CHECKING:
    from tuneoff.interfaces import Example, Task


class Mean(Baseline[MethodOptions]):
    """Predicts the mean of the training rows, the constant with the least squared error there."""

    title = "Mean"
    summary = "No training: always the mean of the training values. What a trained method must beat."
    usual = True
    paper = "none; the usual baseline of a regression task"
    produces = "number"

    def predict(self, task: Task, train: Sequence[Example], examples: Sequence[Example]) -> list[Prediction]:
        mean = statistics.fmean(float(example.target) for example in train)
        return [Prediction(index=e.index, target=e.target, output=repr(mean)) for e in examples]


plugin = Mean
