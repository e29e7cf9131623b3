"""A baseline of classification in an order: always the class in the middle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from tuneoff.interfaces import Baseline, MethodOptions, Prediction
from tuneoff.methods._label_shares import log_frequencies

if TYPE_CHECKING:
    from tuneoff.interfaces import Example, Task


class MedianClass(Baseline[MethodOptions]):
    """Predicts the median class of the training rows in the order of the classes, the constant with the least error in
    ranks there; its probabilities are the class frequencies (Laplace)."""

    title = "Median class"
    summary = "No training: always the class in the middle of the training rows, for classes in an order."
    paper = "none; the usual baseline of an ordinal task"
    produces = "class"

    def predict(self, task: Task, train: Sequence[Example], examples: Sequence[Example]) -> list[Prediction]:
        counts = Counter(example.target for example in train)
        scores = log_frequencies(counts, task.labels)
        below = accumulate(counts[label] for label in task.labels)
        median = next(label for label, count in zip(task.labels, below, strict=True) if 2 * count >= len(train))
        return [Prediction(index=e.index, target=e.target, output=median, scores=scores) for e in examples]


plugin = MedianClass
