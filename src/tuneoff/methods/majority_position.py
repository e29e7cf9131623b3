"""A baseline of multiple choice: always the option that stands where the right one stands most often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneoff.interfaces import Baseline, MethodOptions, Prediction, letter_of
from tuneoff.methods._label_shares import log_frequencies

if TYPE_CHECKING:
    from tuneoff.interfaces import Example, Task


class MajorityPosition(Baseline[MethodOptions]):
    """Chooses by the place alone: where in the training rows the right option stands most often.

    Of a row with fewer options, the most frequent place that it has. Probabilities are the places' frequencies,
    smoothed by one (Laplace).
    """

    title = "Majority position"
    summary = "No training: always the place where the right option stands most often. What a method must beat."
    usual = True
    paper = "none; the usual baseline of multiple choice"
    produces = "choice"

    def predict(self, task: Task, train: Sequence[Example], examples: Sequence[Example]) -> list[Prediction]:
        counts = Counter(example.target for example in train)
        predictions = []
        for example in examples:
            letters = [letter_of(number) for number in range(len(example.choices))]
            scores = log_frequencies(counts, letters)
            output = max(letters, key=lambda letter: counts[letter])
            predictions.append(Prediction(index=example.index, target=example.target, output=output, scores=scores))
        return predictions


plugin = MajorityPosition
