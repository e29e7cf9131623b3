"""Baselines of regression that predict one number for every row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneoff.interfaces import Baseline, MethodOptions, Prediction

if TYPE_CHECKING:
    from tuneoff.interfaces import Example, Task


class Constant(Baseline[MethodOptions]):
    """Predicts a number that the training values give, whatever the row."""

    usual = True
    paper = "none; the usual baseline of a regression task"
    produces = "number"

    @staticmethod
    @abstractmethod
    def fit(values: Sequence[float]) -> float:
        """Returns the number for these training values."""

    def predict(self, task: Task, train: Sequence[Example], examples: Sequence[Example]) -> list[Prediction]:
        output = repr(self.fit([float(example.target) for example in train]))
        return [Prediction(index=e.index, target=e.target, output=output) for e in examples]
