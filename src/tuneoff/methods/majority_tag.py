"""A baseline of token classification: the most frequent tag for every word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneoff.interfaces import Baseline, MethodOptions, Prediction, write_tags

if TYPE_CHECKING:
    from tuneoff.interfaces import Example, Task


class MajorityTag(Baseline[MethodOptions]):
    """Gives every word the training rows' most frequent tag: where most words are part of no entity, it finds none."""

    title = "Majority tag"
    summary = "No training: the most frequent tag for every word. What a trained method must beat."
    usual = True
    paper = "none; the usual baseline of tagging"
    produces = "tags"

    def predict(self, task: Task, train: Sequence[Example], examples: Sequence[Example]) -> list[Prediction]:
        counts = Counter(tag for example in train for tag in example.target.split())
        most = counts.most_common(1)[0][0]
        outputs = [write_tags([most] * len(e.words)) for e in examples]
        return [Prediction(index=e.index, target=e.target, output=o) for e, o in zip(examples, outputs, strict=True)]


plugin = MajorityTag
