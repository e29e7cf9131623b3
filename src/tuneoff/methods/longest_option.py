"""A baseline of multiple choice: always the longest option."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneoff.interfaces import Baseline, MethodOptions, Prediction, letter_of

if TYPE_CHECKING:
    from tuneoff.interfaces import Example, Task


class LongestOption(Baseline[MethodOptions]):
    """Chooses the option with the most characters, the first of equal ones: who writes questions often writes the
    right option with more care."""

    title = "Longest option"
    summary = "No training: always the longest option. What a method must beat."
    usual = True
    paper = "none; a usual baseline of multiple choice"
    produces = "choice"

    def predict(self, task: Task, train: Sequence[Example], examples: Sequence[Example]) -> list[Prediction]:
        return [
            Prediction(
                index=e.index,
                target=e.target,
                output=letter_of(max(range(len(e.choices)), key=lambda number: len(e.choices[number]))),
            )
            for e in examples
        ]


plugin = LongestOption
