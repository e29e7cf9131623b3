"""The baseline of classification: always the most frequent class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneoff.interfaces import Baseline, MethodOptions, Prediction
from tuneoff.methods._label_shares import log_frequencies

if TYPE_CHECKING:
    from tuneoff.interfaces import Example, Task


class Majority(Baseline[MethodOptions]):
    """Predicts the training rows' most frequent class, with their class frequencies as probabilities.

    Frequencies are smoothed by one (Laplace), so that no class has probability zero.
    """

    title = "Majority class"
    summary = "No training: always the most frequent class. What a trained method must beat."
    usual = True
    paper = "none; the usual baseline of a classification task"
    produces = "class"

    def predict(self, task: Task, train: Sequence[Example], examples: Sequence[Example]) -> list[Prediction]:
        counts = Counter(example.target for example in train)
        scores = log_frequencies(counts, task.labels)
        most = max(task.labels, key=lambda label: counts[label])
        return [Prediction(index=e.index, target=e.target, output=most, scores=scores) for e in examples]


plugin = Majority
