"""Test predictions, and the samples made of them for the statistics: a metric's values over seeds and examples.

A metric is known per example where the trial's predictions give the recorded value back, by the definition that its
task declares. That is checked, so that methods are never compared by values that their score was not computed from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuneoff.analysis.metrics import definition, task_named
from tuneoff.analysis.results import Results
from tuneoff.analysis.statistics import Sample
from tuneoff.analysis.statistics.sample import Statistic
from tuneoff.errors import CorruptRecord
from tuneoff.interfaces import MeanMetric, MetricDefinition, Outputs, PooledMetric
from tuneoff.records.record import Metric, TrialRecord

Array = NDArray[np.float64]
_Examples = tuple[tuple[int, str, int | None], ...]
"""Index, target and group of each test example of a trial."""


@dataclass(frozen=True, eq=False)
class TrialOutputs:
    """A trial's test predictions.

    Attributes:
        examples: one object for all trials that were tested on equal examples.
        outputs: what was predicted, one entry per example.
    """

    examples: _Examples
    outputs: Outputs
    _terms: dict[Any, Array | None] = field(default_factory=dict)

    @property
    def groups(self) -> list[int] | None:
        """Returns the group of each example; None where every example stands for itself."""
        groups = [group for _, _, group in self.examples if group is not None]
        return groups if len(groups) == len(self.examples) else None

    def terms(self, metric: PooledMetric) -> Array | None:
        """Returns what each example adds to the metric's sums; computed once for all metrics of the same sums."""
        if metric.terms not in self._terms:
            self._terms[metric.terms] = metric.example_terms(self.outputs)
        return self._terms[metric.terms]


class Predictions:
    """The test predictions of a study's trials; each is read once."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self._read: dict[str, TrialOutputs | None] = {}
        self._examples: dict[_Examples, _Examples] = {}

    def definition(self, metric: Metric) -> MetricDefinition:
        """Returns the definition of a metric of this study."""
        return definition(self.results.study.task.name, metric)

    def read(self, record: TrialRecord) -> TrialOutputs | None:
        """Reads a trial's test predictions; None where it kept none."""
        if record.spec.id not in self._read:
            try:
                predictions = self.results.store.trial(record.spec.id).prediction_rows("test", record)
            except CorruptRecord:
                predictions = None
            self._read[record.spec.id] = self.gather(record, predictions) if predictions else None
        return self._read[record.spec.id]

    def sample(
        self, label: str, metric: Metric, seeds: Sequence[int], outputs: Sequence[TrialOutputs | None], values: Array
    ) -> Sample | None:
        """Returns a metric's values per example, which must give back `values`, the recorded scores, shape (seeds,).

        None unless every trial kept predictions of the same examples as the study's other trials.
        """
        trials = [trial for trial in outputs if trial is not None]
        if len(trials) < len(outputs) or len(trials[0].examples) < 2:
            return None
        if any(trial.examples is not self._usual_examples for trial in trials):
            return None
        sample = _sample(label, self.definition(metric), seeds, trials)
        return sample if sample is not None and _same(sample.scores, values) else None

    def score(self, metric: Metric, outputs: TrialOutputs) -> float | None:
        """Computes a metric from predictions; None where they do not give this metric."""
        return self.definition(metric).compute(outputs.outputs)

    def always_most_frequent(self) -> TrialOutputs | None:
        """Returns the outputs of always predicting the most frequent class of the training rows.

        Its probabilities are the classes' frequencies (smoothed by one). None where no completed trial has classes, one
        a row, and test examples.
        """
        task = task_named(self.results.study.task.name)
        if task is not None and task.produces != "class":
            return None
        for record in self.results.completed:
            if record.data is None or self.read(record) is None:
                continue
            train, labels = record.data.splits.get("train"), record.data.labels
            if train is None or not labels or not set(train.classes) <= set(labels):
                continue
            total = train.rows + len(labels)
            scores = tuple(math.log((train.classes.get(label, 0) + 1) / total) for label in labels)
            most_frequent = max(labels, key=lambda label: train.classes.get(label, 0))
            return self._constant(output=most_frequent, scores=scores, labels=labels)
        return None

    def always_zero(self, metric: str) -> TrialOutputs | None:
        """Returns a score of 0 on every test example; None where no completed trial has test examples."""
        if not any(self.read(record) for record in self.results.completed):
            return None
        return self._constant(values={metric: 0.0})

    def fraction(self, metric: Metric) -> bool:
        """Returns whether a metric lies in [0, 1]: by its definition, or where it has no bounds, by what its examples'
        own values are; false where none are recorded."""
        declared = self.definition(metric)
        if math.isfinite(declared.low) or math.isfinite(declared.high):
            return (declared.low, declared.high) == (0, 1)
        trials = (trial for record in self.results.completed if (trial := self.read(record)))
        recorded = ([values.get(metric.name) for values in trial.outputs.values] for trial in trials)
        values = next((values for values in recorded if None not in values), None)
        return values is not None and all(0 <= value <= 1 for value in values if value is not None)

    @cached_property
    def _usual_examples(self) -> _Examples:
        example_sets = [trial.examples for record in self.results.completed if (trial := self.read(record))]
        counts = Counter(map(id, example_sets))
        return max(example_sets, key=lambda examples: counts[id(examples)])

    def _constant(
        self,
        output: str = "",
        scores: tuple[float, ...] = (),
        values: dict[str, float] | None = None,
        labels: tuple[str, ...] = (),
    ) -> TrialOutputs:
        """Returns the same prediction for each of the usual test examples."""
        targets = [target for _, target, _ in self._usual_examples]
        count = len(targets)
        outputs = Outputs(
            targets=targets,
            outputs=[output] * count,
            scores=[scores] * count,
            values=[values or {}] * count,
            losses=[None] * count,
            target_tokens=[None] * count,
            labels=labels,
        )
        return TrialOutputs(self._usual_examples, outputs)

    def gather(self, record: TrialRecord, predictions: list[dict[str, Any]]) -> TrialOutputs:
        """Gathers test predictions of a trial's model that were read as plain data."""
        outputs = Outputs(
            targets=[p["target"] for p in predictions],
            outputs=[p["output"] for p in predictions],
            scores=[p["scores"] for p in predictions],
            values=[p["values"] for p in predictions],
            losses=[p["loss"] for p in predictions],
            target_tokens=[p["target_tokens"] for p in predictions],
            target_bytes=[p.get("target_bytes") for p in predictions],
            labels=record.data.labels if record.data else (),
        )
        # One object for equal examples: later they are compared by identity.
        indices, groups = [p["index"] for p in predictions], [p.get("group") for p in predictions]
        examples = tuple(zip(indices, outputs.targets, groups, strict=True))
        return TrialOutputs(self._examples.setdefault(examples, examples), outputs)


def _sample(
    label: str, metric: MetricDefinition, seeds: Sequence[int], trials: Sequence[TrialOutputs]
) -> Sample | None:
    """Returns a metric's values per example, as its definition says; None where the predictions do not give them."""
    groups = trials[0].groups
    if isinstance(metric, MeanMetric):
        values = [metric.example_values(trial.outputs) for trial in trials]
        given = [own for own in values if own is not None]
        return Sample.from_examples(label, seeds, np.stack(given), groups) if len(given) == len(values) else None
    if isinstance(metric, PooledMetric):
        terms = [own for trial in trials if (own := trial.terms(metric)) is not None]
        if len(terms) == len(trials):
            statistic = _statistic(metric, terms)
            return Sample.from_statistic(label, seeds, statistic, len(terms[0]), group_of_example=groups)
    return None


def _statistic(metric: PooledMetric, terms: Sequence[Array]) -> Statistic:
    """Returns the metric of each trial on all examples, and without each of their groups."""

    def statistic(group_of_example: NDArray[np.intp]) -> tuple[Array, Array]:
        # Sums over groups, subtracted from that of all: a study of a hundred arms asks for 400,000 of them.
        order = np.argsort(group_of_example, kind="stable")
        starts = np.flatnonzero(np.diff(group_of_example[order], prepend=-1))
        values = []
        for own in terms:
            total = own.sum(axis=0, dtype=np.float64)
            left_out = np.add.reduceat(own[order], starts, axis=0, dtype=np.float64)
            values.append(metric.of_many(np.vstack([total, total - left_out])))
        stacked = np.stack(values)
        return stacked[:, 0], stacked[:, 1:]

    return statistic


def _same(computed: Array, recorded: Array) -> bool:
    return bool((np.abs(computed - recorded) <= 1e-6 * np.maximum(1.0, np.abs(recorded))).all())
