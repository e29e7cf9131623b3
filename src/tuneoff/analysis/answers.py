"""What the best arm and the chosen one answered: class by class, or number by number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tuneoff.analysis.metrics import task_named
from tuneoff.analysis.predictions import Predictions
from tuneoff.analysis.results import Arm, Results
from tuneoff.config.base import Frozen
from tuneoff.interfaces import read_labels

Counts = NDArray[np.float64]
POINTS_SHOWN = 400
"""Most residuals of an arm; of more they are taken evenly."""


class ClassAnswers(Frozen):
    """How often one arm answered each class or label, and rightly, over its completed seeds."""

    method: str = Field(description="the arm's label")
    counts: tuple[tuple[tuple[int, int, int], ...], ...] = Field(
        description="per seed and class: examples that have it rightly, truly and as answered, in the order of `labels`"
    )
    confusion: tuple[tuple[float, ...], ...] = Field(
        (),
        description="mean over seeds: right class × answered class, in the same order; empty for several labels a row",
    )

    @classmethod
    def of_matrices(cls, method: str, matrices: Sequence[NDArray[np.int64]]) -> ClassAnswers:
        """Returns the answers of matrices of right class × answered class, one a seed."""
        counts = [np.stack([np.diagonal(m), m.sum(axis=1), m.sum(axis=0)], axis=1).tolist() for m in matrices]
        confusion = (sum(matrices[1:], matrices[0]) / len(matrices)).tolist()
        return cls.model_validate({"method": method, "counts": counts, "confusion": confusion})

    @property
    def mean_counts(self) -> Counts:
        """Returns the mean of the matrices over seeds, shape (classes, classes)."""
        return np.array(self.confusion, dtype=np.float64)

    @property
    def f1(self) -> Counts:
        """Returns the F1 of each class at each seed, shape (seeds, classes); 0 where a class was never answered right,
        not a number where it neither stands in the test split nor was answered."""
        right, present, answered = np.moveaxis(np.array(self.counts, dtype=np.float64), 2, 0)
        total = present + answered
        scores: Counts = np.divide(2 * right, total, out=np.full_like(total, np.nan), where=total > 0)
        return scores


class ClassReport(Frozen):
    """The classes of a study, and how the arms of most interest answered them."""

    labels: tuple[str, ...] = Field(description="the classes, in order of their numbers")
    arms: tuple[ClassAnswers, ...] = Field(description="the best arm and the chosen one; one where they are the same")


class Residuals(Frozen):
    """How far one arm's numbers lay from the right ones, at its lowest completed seed."""

    method: str = Field(description="the arm's label")
    targets: tuple[float, ...] = Field(description="right numbers")
    errors: tuple[float, ...] = Field(description="answered less right")


def class_report(results: Results, predictions: Predictions, labels: Iterable[str]) -> ClassReport | None:
    """Counts the answers of these arms; None for a task without classes, or without predictions of all seeds.

    Args:
        results: of the study.
        predictions: its test predictions.
        labels: of the arms, each once.
    """
    classes = next((record.data.labels for record in results.completed if record.data), ())
    task = task_named(results.study.task.name)
    count = _label_counts if task is not None and task.produces == "labels" else _counts
    counted = [count(results.arm(label), predictions, classes) for label in labels] if classes else []
    arms = tuple(each for each in counted if each is not None)
    return ClassReport(labels=classes, arms=arms) if arms else None


def _counts(arm: Arm, predictions: Predictions, classes: tuple[str, ...]) -> ClassAnswers | None:
    places = {name: place for place, name in enumerate(classes)}
    matrices = []
    for record in arm.completed:
        read = predictions.read(record)
        if read is None:
            return None
        pairs = [
            (places.get(target), places.get(answer))
            for target, answer in zip(read.outputs.targets, read.outputs.outputs, strict=True)
        ]
        known = [(right, answer) for right, answer in pairs if right is not None and answer is not None]
        if len(known) < len(pairs):
            return None  # several classes a row, or what is no class
        counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
        np.add.at(counts, tuple(np.array(known).T), 1)
        matrices.append(counts)
    return ClassAnswers.of_matrices(arm.label, matrices) if matrices else None


def _label_counts(arm: Arm, predictions: Predictions, labels: tuple[str, ...]) -> ClassAnswers | None:
    counts = []
    for record in arm.completed:
        read = predictions.read(record)
        if read is None:
            return None
        try:
            sets = [
                [set(read_labels(text)) for text in texts] for texts in (read.outputs.targets, read.outputs.outputs)
            ]
        except (ValueError, TypeError):
            return None  # no sets of labels
        true, answered = sets
        both = [own & said for own, said in zip(true, answered, strict=True)]
        right, present, given = (Counter(chain.from_iterable(rows)) for rows in (both, true, answered))
        counts.append(tuple((right[label], present[label], given[label]) for label in labels))
    return ClassAnswers(method=arm.label, counts=tuple(counts)) if counts else None


def residuals(results: Results, predictions: Predictions, labels: Iterable[str]) -> tuple[Residuals, ...]:
    """Returns the residuals of these arms; none where the task's answers are no numbers. What is not finite is left
    out, and an arm of which nothing is left."""
    task = task_named(results.study.task.name)
    if task is None or task.produces != "number":
        return ()
    found = []
    for label in labels:
        arm = results.arm(label)
        read = predictions.read(arm.completed[0]) if arm.completed else None
        if read is None:
            continue
        try:
            numbers = np.array([read.outputs.targets, read.outputs.outputs], dtype=np.float64)
        except ValueError:
            continue  # several numbers a row
        with np.errstate(over="ignore", invalid="ignore"):
            points = np.array([numbers[0], numbers[1] - numbers[0]])
        points = points[:, np.isfinite(points).all(axis=0)]
        if not points.size:
            continue
        chosen = points[:, np.unique(np.linspace(0, points.shape[1] - 1, POINTS_SHOWN).astype(int))]
        found.append(Residuals(method=label, targets=tuple(chosen[0].tolist()), errors=tuple(chosen[1].tolist())))
    return tuple(found)
