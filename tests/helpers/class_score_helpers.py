"""Scores of classes, from class numbers."""

from __future__ import annotations

from collections.abc import Iterable

from tuneoff.interfaces import Outputs
from tuneoff.tasks.classification import Classification


def class_scores(target: Iterable[int], output: Iterable[int]) -> dict[str, float]:
    """Computes every metric of classification that needs no log-probabilities."""
    targets = [str(number) for number in target]
    count = len(targets)
    outputs = Outputs(
        targets=targets,
        outputs=[str(number) for number in output],
        scores=[()] * count,
        values=[{}] * count,
        losses=[None] * count,
        target_tokens=[None] * count,
    )
    values = {metric.name: metric.compute(outputs) for metric in Classification.metrics}
    return {name: value for name, value in values.items() if value is not None}
