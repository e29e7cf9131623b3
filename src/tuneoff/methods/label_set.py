"""A baseline of multi-label classification: always the most frequent set of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneoff.interfaces import Baseline, MethodOptions, Prediction
from tuneoff.methods._label_shares import log_shares

if TYPE_CHECKING:
    from tuneoff.interfaces import Example, Task


class LabelSet(Baseline[MethodOptions]):
    """Predicts the training rows' most frequent set of labels, with their labels' shares as probabilities."""

    title = "Most frequent label set"
    summary = "No training: always the most frequent set of labels. What a trained method must beat."
    usual = True
    paper = "none; the usual baseline of a multi-label task"
    produces = "labels"

    def predict(self, task: Task, train: Sequence[Example], examples: Sequence[Example]) -> list[Prediction]:
        most = Counter(example.target for example in train).most_common(1)[0][0]
        scores = log_shares(task.count_classes(train), len(train))
        return [Prediction(index=e.index, target=e.target, output=most, scores=scores) for e in examples]


plugin = LabelSet
