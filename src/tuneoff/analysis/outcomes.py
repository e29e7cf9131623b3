"""From records and their predictions to what the statistics take: one `Sample` per row and metric.

A metric is known per example where the trial's predictions give the recorded value back; that is checked, so a figure
is never told apart by values that it was not made of. Elsewhere only its seeds tell.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tuneoff.analysis.inference import Estimate, Ranking, Sample, Verdict, estimate, rank, verdict
from tuneoff.analysis.inference.crossed import components
from tuneoff.analysis.inference.sample import Statistic
from tuneoff.analysis.results import Results, Row
from tuneoff.errors import CorruptRecord
from tuneoff.record import Metric, TrialRecord

Array = NDArray[np.float64]
Kind = Literal["mean", "classes", "per_token"]
_Examples = tuple[tuple[int, str], ...]
"""Index and target of each test example of a trial."""

KINDS: dict[str, Kind] = {"macro_f1": "classes", "mcc": "classes", "perplexity": "per_token"}
"""Metrics that are no mean over examples: functions of the counts of classes, or of nats and tokens. The loss is
whichever its predictions give back."""
RANGES: dict[str, tuple[float, float]] = {
    "accuracy": (0.0, 1.0),
    "macro_f1": (0.0, 1.0),
    "mcc": (-1.0, 1.0),
    "loss": (0.0, math.inf),
    "perplexity": (1.0, math.inf),
}
"""Values that a metric can take by definition, where its name tells."""
LARGEST = 1e100
"""Beyond it (the perplexity of a model that failed) squares are no numbers any more."""
TOO_LARGE = "too large a value to tell its error"
DIFFERENT_EXAMPLES = "tested on other examples than most trials"
UNWEIGHED = (TOO_LARGE, DIFFERENT_EXAMPLES)
"""Notes of figures whose mean must not stand beside others."""


def over_seeds(values: Iterable[float]) -> Estimate | None:
    """Mean, spread and t-interval of a cost or side figure, one value per trial; None where there is none."""
    kept = [float(value) for value in values]
    return estimate(Sample.from_scores("", range(len(kept)), kept)) if kept else None


def within_range(found: Estimate, metric: str) -> Estimate:
    """Cuts a symmetric interval at values that the metric cannot take, which costs it no coverage."""
    if metric not in RANGES or found.interval is None:
        return found
    low, high = RANGES[metric]
    cut = replace(found.interval, low=max(found.interval.low, low), high=min(found.interval.high, high))
    return replace(found, interval=cut)


@dataclass(frozen=True)
class Figure:
    """A row's estimate of a metric.

    Attributes:
        estimate: mean, spread, interval.
        sample: what it was made of; None where it takes no part in comparisons.
        note: why only seeds tell, or why it is not compared; else empty.
        weighed: whether its mean may stand beside others: it is compared, or every seed scored alike.
    """

    estimate: Estimate
    sample: Sample | None
    note: str = ""

    @property
    def weighed(self) -> bool:
        return self.note not in UNWEIGHED


@dataclass(frozen=True)
class _Told:
    """A trial's test predictions as arrays, one entry per example."""

    examples: _Examples
    right: Array
    target: NDArray[np.intp]
    output: NDArray[np.intp]
    values: dict[str, Array]
    nats: Array | None
    tokens: Array | None


class Outcomes:
    """Estimates and comparisons of a study's test metrics; reads each trial's predictions once."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self._told: dict[str, _Told | None] = {}
        self._classes: dict[str, int] = {}
        self._examples: dict[_Examples, _Examples] = {}
        self._figures: dict[tuple[str, str], Figure | None] = {}
        self._verdicts: dict[str, Verdict | None] = {}
        self._rankings: dict[str, Ranking | None] = {}
        prints = Counter(found for record in results.completed if (found := _test_print(record)))
        # The test set of the study is the one that most trials saw.
        self._usual = prints.most_common(1)[0][0] if prints else None

    def figure(self, row: Row, metric: Metric) -> Figure | None:
        """A row's estimate of a test metric over seeds and, where predictions tell, examples; None without a value."""
        key = (row.label, metric.name)
        if key not in self._figures:
            self._figures[key] = self._figure(row, metric)
        return self._figures[key]

    def verdict(self, metric: Metric) -> Verdict | None:
        """All rows that can be compared on a test metric, floors included; None where there is none."""
        if metric.name not in self._verdicts:
            figures = [found for row in self.results.rows if (found := self.figure(row, metric))]
            samples = [found.sample for found in figures if found.sample is not None]
            made = None
            if samples:
                fraction, ranking = self._fraction(metric), self.ranking(metric)
                made = verdict(samples, metric.direction, fraction=fraction, ranking=ranking)
            self._verdicts[metric.name] = made
        return self._verdicts[metric.name]

    def ranking(self, metric: Metric) -> Ranking | None:
        """The weighed rows on the seeds that they share; the best is one that trains, where any does. None without."""
        if metric.name not in self._rankings:
            weighed = [row for row in self.results.rows if (figure := self.figure(row, metric)) and figure.weighed]
            scores = {row.label: row.scores(metric.name) for row in weighed}
            trained = [row.label for row in weighed if row.trains]
            self._rankings[metric.name] = rank(scores, metric.direction, trained) if scores else None
        return self._rankings[metric.name]

    def mean(self, row: Row, metric: Metric) -> float | None:
        """A row's mean of a test metric, set beside the others' (`rank`); None without one or where it is not weighed
        (`Figure.weighed`)."""
        ranking = self.ranking(metric)
        return ranking.means.get(row.label) if ranking is not None else None

    def ranked(self, rows: Iterable[Row], metric: Metric) -> list[Row]:
        """The rows that have a score: first the weighed ones by rank, the best first and equal ones in the order given,
        then the others by their means. Whoever names a best row or a floor takes it from here."""
        sign = -1.0 if metric.direction == "higher" else 1.0
        ranking = self.ranking(metric)
        place = {label: at for at, label in enumerate(ranking.labels if ranking else ())}
        scored = [(figure, row) for row in rows if (figure := self.figure(row, metric))]
        scored.sort(key=lambda pair: (place.get(pair[1].label, len(place)), sign * pair[0].estimate.mean))
        return [row for _, row in scored]

    def best(self, rows: Iterable[Row], metric: Metric) -> Row | None:
        """The first of the ranked rows; None where none is weighed."""
        return next((row for row in self.ranked(rows, metric) if self.mean(row, metric) is not None), None)

    def standard_error(self, row: Row, other: Row, metric: Metric) -> float | None:
        """Of the difference of two rows, on the seeds and examples that both have; with one seed over examples alone.
        None where nothing tells it."""
        first, second = (figure.sample if (figure := self.figure(r, metric)) else None for r in (row, other))
        if first is None or second is None or not set(first.seeds) & set(second.seeds):
            return None
        parts = components(first.minus(second))
        return math.sqrt(parts.variance) if parts.known else None

    def above(self, row: Row, floor: Row, metric: Metric) -> bool | None:
        """Whether a row is clearly better than a floor: by their means on shared seeds, and by the pair's own interval
        where there is one, for it is a check of sanity and no claim among many. None where they cannot be weighed."""
        mine, theirs = self.mean(row, metric), self.mean(floor, metric)
        if mine is None or theirs is None:
            return None
        difference, interval = mine - theirs, None
        found = self.verdict(metric)
        try:
            pair = found.pair(row.label, floor.label) if found is not None else None
        except KeyError:
            pair = None
        if pair is not None and pair.difference is not None:
            difference, interval = pair.difference, pair.interval
        sign = 1.0 if metric.direction == "higher" else -1.0
        if sign * difference <= 0:
            return False
        return interval is None or min(sign * interval.low, sign * interval.high) > 0

    def not_above(self, rows: Iterable[Row], floor: Row | None, metric: Metric) -> tuple[str, ...]:
        """Labels of the rows that are not clearly better than the floor; none without a floor."""
        return tuple(row.label for row in rows if floor and self.above(row, floor, metric) is False)

    def unproven(self, rows: Iterable[Row], floor: Row | None, metric: Metric) -> bool:
        """Whether it is not shown that training helps: none of these rows is clearly better than the floor."""
        shown = {self.above(row, floor, metric) for row in rows} if floor else set()
        return False in shown and True not in shown

    def _figure(self, row: Row, metric: Metric) -> Figure | None:
        scores = row.scores(metric.name)
        if not scores:
            return None
        records = [record for record in row.completed if record.spec.seed in scores]
        values = np.array([scores[record.spec.seed] for record in records])
        if float(np.abs(values).max()) > LARGEST:
            mean, seeds = float(values.mean()), len(values)
            return Figure(Estimate(row.label, mean, None, None, seeds, None, TOO_LARGE), None, TOO_LARGE)
        sample = self._from_predictions(row.label, metric, records, values)
        note = "" if sample else f"predictions do not give {metric.name} example by example; compared by seeds alone"
        sample = sample or Sample.from_scores(row.label, [r.spec.seed for r in records], values)
        found = within_range(estimate(sample, fraction=self._fraction(metric)), metric.name)
        elsewhere = bool({_test_print(record) for record in records} - {None, self._usual})
        if sample.contributions is None and len(sample) > 1 and _equal(values):
            # A floor that knows no chance. That its seeds agree says nothing of other test examples.
            reason = "the same score at every seed and no values per example: nothing tells its error"
            bare = Estimate(row.label, found.mean, found.std, None, found.seeds, None, reason)
            return Figure(bare, None, DIFFERENT_EXAMPLES if elsewhere else reason)
        return Figure(found, None, DIFFERENT_EXAMPLES) if elsewhere else Figure(found, sample, note)

    def _fraction(self, metric: Metric) -> bool:
        """Whether the metric lies in [0, 1] by definition: it is known to, or a mean of examples' own values."""
        if metric.unit != "fraction":
            return False
        if metric.name in RANGES:
            return RANGES[metric.name] == (0.0, 1.0)
        told = next((t for r in self.results.completed if (t := self._read(r)) and metric.name in t.values), None)
        return told is not None and bool(((told.values[metric.name] >= 0) & (told.values[metric.name] <= 1)).all())

    def _from_predictions(self, label: str, metric: Metric, records: list[TrialRecord], values: Array) -> Sample | None:
        """From values per example; None unless every trial kept predictions, of the same examples as the study's
        other trials, that give back what the record says."""
        told = [found for record in records if (found := self._read(record)) is not None]
        if len(told) < len(records) or len(told[0].right) < 2:
            return None
        if any(found.examples is not self._usual_examples for found in told):
            return None
        count = len(self._usual_examples)
        seeds = [record.spec.seed for record in records]
        kind = KINDS.get(metric.name, "mean")
        if kind == "mean":
            matrix = _means(metric.name, told)
            if matrix is not None and _same(matrix.mean(axis=1), values):
                return Sample.from_examples(label, seeds, matrix)
            kind = "per_token"
        statistic = _per_token(metric.name, told) if kind == "per_token" else self._by_class(metric.name, told)
        if statistic is None or not _same(np.asarray(statistic(np.arange(count))), values):
            return None
        return Sample.from_statistic(label, seeds, statistic, count)

    @cached_property
    def _usual_examples(self) -> _Examples:
        read = [found.examples for record in self.results.completed if (found := self._read(record))]
        seen = Counter(map(id, read))
        return max(read, key=lambda examples: seen[id(examples)])

    def _by_class(self, name: str, told: list[_Told]) -> Statistic:
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

    def _read(self, record: TrialRecord) -> _Told | None:
        if record.spec.id not in self._told:
            try:
                predictions = self.results.store.trial(record.spec.id).prediction_rows("test")
            except CorruptRecord:
                predictions = None
            self._told[record.spec.id] = self._gather(record, predictions) if predictions else None
        return self._told[record.spec.id]

    def _gather(self, record: TrialRecord, predictions: list[dict[str, Any]]) -> _Told:
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
        return _Told(
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


def _means(name: str, told: list[_Told]) -> Array | None:
    """The examples' own values, shape (seeds, examples): told under the metric's name, else whether each is right."""
    if all(name in found.values for found in told):
        return np.stack([found.values[name] for found in told])
    if any(name in found.values for found in told) or name == "loss":
        return None
    return np.stack([found.right for found in told])


def _per_token(name: str, told: list[_Told]) -> Statistic | None:
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


def _equal(values: Array) -> bool:
    return bool(np.ptp(values) <= 1e-12 * float(np.abs(values).max()))


def _test_print(record: TrialRecord) -> str | None:
    split = record.data.splits.get("test") if record.data else None
    return split.fingerprint if split else None
