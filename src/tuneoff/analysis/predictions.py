"""Test predictions as arrays, and the samples made of them for the statistics: a metric's values over seeds and
examples.

A metric is known per example where the trial's predictions give the recorded value back. That is checked, so that
methods are never compared by values that their score was not computed from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tuneoff.analysis.results import Results
from tuneoff.analysis.statistics import Sample
from tuneoff.analysis.statistics.sample import Statistic
from tuneoff.errors import CorruptRecord
from tuneoff.records.record import Metric, TrialRecord

Array = NDArray[np.float64]
Kind = Literal["mean", "classes", "per_token"]
_Examples = tuple[tuple[int, str], ...]
"""Index and target of each test example of a trial."""

KINDS: dict[str, Kind] = {"macro_f1": "classes", "mcc": "classes", "perplexity": "per_token"}
"""Metrics that are no mean over examples: functions of the counts of classes, or of nats and tokens. The loss is
whichever its predictions give back."""


@dataclass(frozen=True)
class TrialOutputs:
    """A trial's test predictions as arrays, one entry per example."""

    examples: _Examples
    right: Array
    target: NDArray[np.intp]
    output: NDArray[np.intp]
    values: dict[str, Array]
    nats: Array | None
    tokens: Array | None


class Predictions:
    """The test predictions of a study's trials; each is read once."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self._read: dict[str, TrialOutputs | None] = {}
        self._classes: dict[str, int] = {}
        self._examples: dict[_Examples, _Examples] = {}

    def read(self, record: TrialRecord) -> TrialOutputs | None:
        """Reads a trial's test predictions; None where it kept none."""
        if record.spec.id not in self._read:
            try:
                predictions = self.results.store.trial(record.spec.id).prediction_rows("test")
            except CorruptRecord:
                predictions = None
            self._read[record.spec.id] = self._gather(record, predictions) if predictions else None
        return self._read[record.spec.id]

    def sample(
        self, label: str, metric: Metric, seeds: Sequence[int], outputs: Sequence[TrialOutputs | None], values: Array
    ) -> Sample | None:
        """Returns a metric's values per example, which must give back `values`, the recorded scores, shape (seeds,).

        None unless every trial kept predictions of the same examples as the study's other trials.
        """
        trials = [trial for trial in outputs if trial is not None]
        if len(trials) < len(outputs) or len(trials[0].right) < 2:
            return None
        if any(trial.examples is not self._usual_examples for trial in trials):
            return None
        return next((s for s in self._samples(label, metric.name, seeds, trials) if _same(s.scores, values)), None)

    def score(self, metric: str, outputs: TrialOutputs) -> float | None:
        """Computes a metric from predictions; None where they do not give this metric."""
        return next((float(sample.scores[0]) for sample in self._samples("", metric, [0], [outputs])), None)

    def always_most_frequent(self) -> TrialOutputs | None:
        """Returns the outputs of always predicting the most frequent class of the training rows.

        Its probabilities are the classes' frequencies (smoothed by one). None where no completed trial has classes and
        test examples.
        """
        for record in self.results.completed:
            if record.data is None or self.read(record) is None:
                continue
            train, labels = record.data.splits.get("train"), record.data.labels
            if train is None or not labels or not set(train.classes) <= set(labels):
                continue
            total = train.rows + len(labels)
            scores = tuple(math.log((train.classes.get(label, 0) + 1) / total) for label in labels)
            most_frequent = max(labels, key=lambda label: train.classes.get(label, 0))
            rows = [
                {"index": index, "target": target, "output": most_frequent, "scores": scores}
                | {"values": {}, "loss": None, "target_tokens": None}
                for index, target in self._usual_examples
            ]
            return self._gather(record, rows)
        return None

    def always_zero(self, metric: str) -> TrialOutputs | None:
        """Returns a score of 0 on every test example; None where no completed trial has test examples."""
        first = next((outputs for record in self.results.completed if (outputs := self.read(record))), None)
        if first is None:
            return None
        zeros = np.zeros(len(self._usual_examples))
        no_classes = np.zeros(len(zeros), dtype=np.intp)
        return TrialOutputs(self._usual_examples, zeros, no_classes, no_classes, {metric: zeros}, None, None)

    def fraction(self, metric: str) -> bool:
        """Returns whether the examples' own values of a metric lie in [0, 1]; false where none are recorded."""
        outputs = next((t for r in self.results.completed if (t := self.read(r)) and metric in t.values), None)
        return outputs is not None and bool(((outputs.values[metric] >= 0) & (outputs.values[metric] <= 1)).all())

    def _samples(self, label: str, name: str, seeds: Sequence[int], trials: list[TrialOutputs]) -> Iterator[Sample]:
        """Yields the ways to compute a metric from predictions, the likeliest first."""
        kind = KINDS.get(name, "mean")
        if kind == "mean":
            matrix = _means(name, trials)
            if matrix is not None:
                yield Sample.from_examples(label, seeds, matrix)
            kind = "per_token"
        statistic = _per_token(name, trials) if kind == "per_token" else self._by_class(name, trials)
        if statistic is not None:
            yield Sample.from_statistic(label, seeds, statistic, len(trials[0].right))

    @cached_property
    def _usual_examples(self) -> _Examples:
        example_sets = [outputs.examples for record in self.results.completed if (outputs := self.read(record))]
        counts = Counter(map(id, example_sets))
        return max(example_sets, key=lambda examples: counts[id(examples)])

    def _by_class(self, name: str, trials: list[TrialOutputs]) -> Statistic:
        classes = len(self._classes)
        score = {"macro_f1": _macro_f1, "mcc": _mcc}[name]

        present_classes = [np.union1d(trial.target, trial.output) for trial in trials]
        # Each seed has its own class numbers, so that all seeds are counted at once; in `right` one more number, above
        # all of them, is that of a wrong output.
        offset = np.arange(len(trials))[:, None] * classes
        target = np.stack([trial.target for trial in trials]) + offset
        output = np.stack([trial.output for trial in trials]) + offset
        right = np.where(target == output, target, len(trials) * classes)

        def count(index: NDArray[np.intp]) -> Array:
            """Counts how often each class was right, the target and the output, shape (3, seeds, classes)."""
            totals = [
                np.bincount(n[:, index].ravel(), minlength=len(trials) * classes) for n in (right, target, output)
            ]
            return (
                np.stack([n[: len(trials) * classes] for n in totals])
                .reshape(3, len(trials), classes)
                .astype(np.float64)
            )

        full_counts = count(np.arange(target.shape[1]))

        def statistic(index: NDArray[np.intp]) -> list[float]:
            absent = np.ones(target.shape[1], dtype=np.bool_)
            absent[index] = False
            absent_index = np.flatnonzero(absent)
            # The jackknife leaves out few examples at a time: it is quicker to subtract than to count again.
            complementary = len(index) + len(absent_index) == len(absent) and len(absent_index) < len(index)
            counts = full_counts - count(absent_index) if complementary else count(index)
            return [score(*counts[:, seed, present]) for seed, present in enumerate(present_classes)]

        return statistic

    def _gather(self, record: TrialRecord, predictions: list[dict[str, Any]]) -> TrialOutputs:
        targets = [p["target"] for p in predictions]
        target, output = self._numbers(targets), self._numbers([p["output"] for p in predictions])
        example_values = [p["values"] for p in predictions]
        names = set.intersection(*map(set, {tuple(values) for values in example_values}))
        values = {name: np.array([entry[name] for entry in example_values]) for name in sorted(names)}
        class_index = {label: index for index, label in enumerate(record.data.labels if record.data else ())}
        scores = [p["scores"] for p in predictions]
        if class_index.keys() >= set(targets) and {len(entry) for entry in scores} == {len(class_index)}:
            target_scores = [entry[class_index[label]] for entry, label in zip(scores, targets, strict=True)]
            values.setdefault("loss", -np.array(target_scores))
        nats, tokens = [p["loss"] for p in predictions], [p["target_tokens"] for p in predictions]
        complete = None not in nats and all(tokens)
        # One object for equal examples: later they are compared by identity.
        examples = tuple(zip([p["index"] for p in predictions], targets, strict=True))
        return TrialOutputs(
            examples=self._examples.setdefault(examples, examples),
            right=(target == output).astype(np.float64),
            target=target,
            output=output,
            values=values,
            nats=np.array(nats) if complete else None,
            tokens=np.array(tokens, dtype=np.float64) if complete else None,
        )

    def _numbers(self, texts: list[str]) -> NDArray[np.intp]:
        """Converts texts to numbers; equal texts have the same number in all trials."""
        for text in dict.fromkeys(texts):
            self._classes.setdefault(text, len(self._classes))
        return np.array([self._classes[text] for text in texts])


def _means(name: str, trials: list[TrialOutputs]) -> Array | None:
    """Returns the examples' own values, shape (seeds, examples): those recorded under the metric's name, else whether
    each output is right."""
    if all(name in trial.values for trial in trials):
        return np.stack([trial.values[name] for trial in trials])
    if any(name in trial.values for trial in trials) or name == "loss":
        return None
    return np.stack([trial.right for trial in trials])


def _per_token(name: str, trials: list[TrialOutputs]) -> Statistic | None:
    nats = [trial.nats for trial in trials if trial.nats is not None]
    tokens = [trial.tokens for trial in trials if trial.tokens is not None]
    if name not in ("loss", "perplexity") or len(nats) < len(trials):
        return None
    all_nats, all_tokens = np.stack(nats), np.stack(tokens)
    finish: Callable[[Array], Array] = np.exp if name == "perplexity" else np.asarray

    def statistic(index: NDArray[np.intp]) -> Array:
        mean = all_nats[:, index].sum(axis=1) / all_tokens[:, index].sum(axis=1)
        return finish(np.minimum(mean, 700.0))

    return statistic


def _macro_f1(correct: Array, true: Array, predicted: Array) -> float:
    """Computes macro-F1 over the given classes; one that a subset of examples lost counts as 0."""
    return float((2 * correct / np.maximum(true + predicted, 1)).mean())


def _mcc(correct: Array, true: Array, predicted: Array) -> float:
    total = true.sum()
    spread = float((total**2 - (predicted**2).sum()) * (total**2 - (true**2).sum()))
    return float(correct.sum() * total - (true * predicted).sum()) / spread**0.5 if spread > 0 else 0.0


def _same(computed: Array, recorded: Array) -> bool:
    return bool((np.abs(computed - recorded) <= 1e-6 * np.maximum(1.0, np.abs(recorded))).all())
