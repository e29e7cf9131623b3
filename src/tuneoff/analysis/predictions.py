"""Test predictions as arrays, and from them what the statistics take: a metric's values over seeds and examples.

A metric is known per example where the trial's predictions give the recorded value back; that is checked, so a figure
is never told apart by values that it was not made of.
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
        """A trial's; None where it kept none."""
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
        """A metric's values per example; None unless every trial kept predictions, of the same examples as the study's
        other trials, that give back these values, shape (seeds,)."""
        told = [found for found in outputs if found is not None]
        if len(told) < len(outputs) or len(told[0].right) < 2:
            return None
        if any(found.examples is not self._usual_examples for found in told):
            return None
        return next((s for s in self._samples(label, metric.name, seeds, told) if _same(s.scores, values)), None)

    def score(self, metric: str, outputs: TrialOutputs) -> float | None:
        """What predictions come to; None where they do not tell this metric."""
        return next((float(sample.scores[0]) for sample in self._samples("", metric, [0], [outputs])), None)

    def always_most_frequent(self) -> TrialOutputs | None:
        """What saying the most frequent class of the training rows would give, with their frequencies (smoothed by one)
        as probabilities; None where no completed trial tells classes and test examples."""
        for record in self.results.completed:
            if record.data is None or self.read(record) is None:
                continue
            train, labels = record.data.splits.get("train"), record.data.labels
            if train is None or not labels or not set(train.classes) <= set(labels):
                continue
            total = train.rows + len(labels)
            scores = tuple(math.log((train.classes.get(label, 0) + 1) / total) for label in labels)
            most = max(labels, key=lambda label: train.classes.get(label, 0))
            rows = [
                {"index": index, "target": target, "output": most, "scores": scores}
                | {"values": {}, "loss": None, "target_tokens": None}
                for index, target in self._usual_examples
            ]
            return self._gather(record, rows)
        return None

    def always_zero(self, metric: str) -> TrialOutputs | None:
        """A score of 0 on every test example; None where no completed trial tells them."""
        read = next((found for record in self.results.completed if (found := self.read(record))), None)
        if read is None:
            return None
        zeros = np.zeros(len(self._usual_examples))
        nothing = np.zeros(len(zeros), dtype=np.intp)
        return TrialOutputs(self._usual_examples, zeros, nothing, nothing, {metric: zeros}, None, None)

    def fraction(self, metric: str) -> bool:
        """Whether the examples' own values of a metric lie in [0, 1]; false where none are told."""
        told = next((t for r in self.results.completed if (t := self.read(r)) and metric in t.values), None)
        return told is not None and bool(((told.values[metric] >= 0) & (told.values[metric] <= 1)).all())

    def _samples(self, label: str, name: str, seeds: Sequence[int], told: list[TrialOutputs]) -> Iterator[Sample]:
        """The ways in which predictions may tell a metric, the likeliest first."""
        kind = KINDS.get(name, "mean")
        if kind == "mean":
            matrix = _means(name, told)
            if matrix is not None:
                yield Sample.from_examples(label, seeds, matrix)
            kind = "per_token"
        statistic = _per_token(name, told) if kind == "per_token" else self._by_class(name, told)
        if statistic is not None:
            yield Sample.from_statistic(label, seeds, statistic, len(told[0].right))

    @cached_property
    def _usual_examples(self) -> _Examples:
        read = [found.examples for record in self.results.completed if (found := self.read(record))]
        seen = Counter(map(id, read))
        return max(read, key=lambda examples: seen[id(examples)])

    def _by_class(self, name: str, told: list[TrialOutputs]) -> Statistic:
        classes = len(self._classes)
        score = {"macro_f1": _macro_f1, "mcc": _mcc}[name]

        occurring = [np.union1d(found.target, found.output) for found in told]
        # Each seed has numbers of its own for the classes, so that all seeds are counted at once; in `right` the number
        # beyond them all stands for a wrong output.
        shift = np.arange(len(told))[:, None] * classes
        target = np.stack([found.target for found in told]) + shift
        output = np.stack([found.output for found in told]) + shift
        right = np.where(target == output, target, len(told) * classes)

        def count(index: NDArray[np.intp]) -> Array:
            """How often each class was right, wanted and said, shape (3, seeds, classes)."""
            each = [np.bincount(n[:, index].ravel(), minlength=len(told) * classes) for n in (right, target, output)]
            return np.stack([n[: len(told) * classes] for n in each]).reshape(3, len(told), classes).astype(np.float64)

        whole = count(np.arange(target.shape[1]))

        def statistic(index: NDArray[np.intp]) -> list[float]:
            absent = np.ones(target.shape[1], dtype=np.bool_)
            absent[index] = False
            rest = np.flatnonzero(absent)
            # The jackknife leaves out few examples at a time: it is quicker to take away than to count anew.
            few = len(index) + len(rest) == len(absent) and len(rest) < len(index)
            counts = whole - count(rest) if few else count(index)
            return [score(*counts[:, seed, own]) for seed, own in enumerate(occurring)]

        return statistic

    def _gather(self, record: TrialRecord, predictions: list[dict[str, Any]]) -> TrialOutputs:
        targets = [p["target"] for p in predictions]
        target, output = self._numbers(targets), self._numbers([p["output"] for p in predictions])
        own = [p["values"] for p in predictions]
        names = set.intersection(*map(set, {tuple(values) for values in own}))
        values = {name: np.array([given[name] for given in own]) for name in sorted(names)}
        place = {label: at for at, label in enumerate(record.data.labels if record.data else ())}
        scores = [p["scores"] for p in predictions]
        if place.keys() >= set(targets) and {len(given) for given in scores} == {len(place)}:
            own_loss = [given[place[label]] for given, label in zip(scores, targets, strict=True)]
            values.setdefault("loss", -np.array(own_loss))
        nats, tokens = [p["loss"] for p in predictions], [p["target_tokens"] for p in predictions]
        every = None not in nats and all(tokens)
        # One object for equal examples: later they are told apart without looking at each.
        examples = tuple(zip([p["index"] for p in predictions], targets, strict=True))
        return TrialOutputs(
            examples=self._examples.setdefault(examples, examples),
            right=(target == output).astype(np.float64),
            target=target,
            output=output,
            values=values,
            nats=np.array(nats) if every else None,
            tokens=np.array(tokens, dtype=np.float64) if every else None,
        )

    def _numbers(self, texts: list[str]) -> NDArray[np.intp]:
        """The texts as numbers; equal ones have the same number in all trials."""
        for text in dict.fromkeys(texts):
            self._classes.setdefault(text, len(self._classes))
        return np.array([self._classes[text] for text in texts])


def _means(name: str, told: list[TrialOutputs]) -> Array | None:
    """The examples' own values, shape (seeds, examples): told under the metric's name, else whether each is right."""
    if all(name in found.values for found in told):
        return np.stack([found.values[name] for found in told])
    if any(name in found.values for found in told) or name == "loss":
        return None
    return np.stack([found.right for found in told])


def _per_token(name: str, told: list[TrialOutputs]) -> Statistic | None:
    nats = [found.nats for found in told if found.nats is not None]
    tokens = [found.tokens for found in told if found.tokens is not None]
    if name not in ("loss", "perplexity") or len(nats) < len(told):
        return None
    all_nats, all_tokens = np.stack(nats), np.stack(tokens)
    finish: Callable[[Array], Array] = np.exp if name == "perplexity" else np.asarray

    def statistic(index: NDArray[np.intp]) -> Array:
        mean = all_nats[:, index].sum(axis=1) / all_tokens[:, index].sum(axis=1)
        return finish(np.minimum(mean, 700.0))

    return statistic


def _macro_f1(right: Array, true: Array, said: Array) -> float:
    """Over the given classes; one that an examples' subset lost counts as 0."""
    return float((2 * right / np.maximum(true + said, 1)).mean())


def _mcc(right: Array, true: Array, said: Array) -> float:
    total = true.sum()
    spread = float((total**2 - (said**2).sum()) * (total**2 - (true**2).sum()))
    return float(right.sum() * total - (true * said).sum()) / spread**0.5 if spread > 0 else 0.0


def _same(found: Array, recorded: Array) -> bool:
    return bool((np.abs(found - recorded) <= 1e-6 * np.maximum(1.0, np.abs(recorded))).all())
