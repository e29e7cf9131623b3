"""A baseline of multi-label classification: the labels' shares of the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from tuneoff.interfaces import Baseline, MethodOptions, Prediction, write_labels
from tuneoff.methods._label_shares import log_shares

if TYPE_CHECKING:
    from tuneoff.interfaces import Example, Task


class LabelPrior(Baseline[MethodOptions]):
    """Predicts the same labels for every row: those with the highest micro-F1 on the training rows.

    These are the most frequent ones, for no other set of as many has as many right.
    """

    title = "Label prior"
    summary = "No training: always the frequent labels with the best micro-F1. What a trained method must beat."
    usual = True
    paper = "none; the usual baseline of a multi-label task"
    produces = "labels"

    def predict(self, task: Task, train: Sequence[Example], examples: Sequence[Example]) -> list[Prediction]:
        counts = task.count_classes(train)
        labels = sorted(counts, key=lambda label: -counts[label])
        right = list(accumulate(counts[label] for label in labels))
        f1 = [2 * own / ((number + 1) * len(train) + right[-1]) for number, own in enumerate(right)]
        output = write_labels(labels[: f1.index(max(f1)) + 1])
        scores = log_shares(counts, len(train))
        return [Prediction(index=e.index, target=e.target, output=output, scores=scores) for e in examples]


plugin = LabelPrior
