"""Two rows on the primary metric, paired over seeds and, where predictions tell, over examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuneoff.analysis.results import Results, Row
from tuneoff.analysis.statistics import Difference, paired_bootstrap, paired_t
from tuneoff.errors import CorruptRecord
from tuneoff.record import TrialRecord

Relation = Literal["tied", "ahead", "behind", "not_compared"]


@dataclass(frozen=True)
class Comparison:
    """How one row stands to another.

    Attributes:
        relation: `tied` when the interval of the difference includes 0; `ahead` and `behind` follow the
            metric's direction; `not_compared` when no fair comparison can be made.
        difference: of the metric, first minus second; None when not compared.
        seeds: number of seeds both have.
        examples: test examples resampled; None when only the seeds' means were compared.
        reason: why not compared, or why only by seeds.
    """

    relation: Relation
    difference: Difference | None
    seeds: int
    examples: int | None
    reason: str = ""


@dataclass(frozen=True)
class _Outcomes:
    examples: tuple[tuple[int, str], ...]
    correct: NDArray[np.float64]


class Comparer:
    """Compares rows of one study; reads each trial's predictions once."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self._kept: dict[str, _Outcomes | None] = {}

    def compare(self, first: Row, second: Row) -> Comparison:
        """How `first` stands to `second` on the primary metric."""
        metric = self.results.primary
        if metric is None:
            return Comparison("not_compared", None, 0, None, "no trial has a primary metric yet")
        ours, theirs = first.scores(metric.name), second.scores(metric.name)
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            return Comparison("not_compared", None, 0, None, "no seed that both completed")
        pairs = [(_at(first, seed), _at(second, seed)) for seed in seeds]
        prints = {_test_fingerprint(record) for pair in pairs for record in pair} - {None}
        if len(prints) > 1:
            return Comparison("not_compared", None, len(seeds), None, "they were tested on different examples")
        matrix = self._differences(pairs)
        if matrix is not None:
            difference: Difference | None = paired_bootstrap(matrix)
            examples: int | None = matrix.shape[1]
            reason = ""
        else:
            difference = paired_t(ours[seed] - theirs[seed] for seed in seeds)
            examples = None
            reason = f"predictions do not give {metric.name} example by example; compared by seeds alone"
        if difference is None:
            return Comparison("not_compared", None, len(seeds), None, "one seed and no predictions to compare")
        return Comparison(_relation(difference, metric.direction), difference, len(seeds), examples, reason)

    def _differences(self, pairs: list[tuple[TrialRecord, TrialRecord]]) -> NDArray[np.float64] | None:
        """Shape (seeds, examples); None unless every trial kept predictions of the same examples."""
        rows = []
        examples: tuple[tuple[int, str], ...] | None = None
        for pair in pairs:
            mine, other = (self._outcomes(record) for record in pair)
            if mine is None or other is None:
                return None
            examples = examples or mine.examples
            if mine.examples != examples or other.examples != examples:
                return None
            rows.append(mine.correct - other.correct)
        return np.stack(rows)

    def _outcomes(self, record: TrialRecord) -> _Outcomes | None:
        if record.spec.id not in self._kept:
            self._kept[record.spec.id] = self._read(record)
        return self._kept[record.spec.id]

    def _read(self, record: TrialRecord) -> _Outcomes | None:
        try:
            predictions = self.results.store.trial(record.spec.id).predictions("test")
        except CorruptRecord:
            return None
        if not predictions or record.primary_metric is None:
            return None
        correct = np.array([float(p.output == p.target) for p in predictions])
        value = record.metric(record.primary_metric)
        # The primary metric is a mean over examples exactly when the predictions give it back.
        if value is None or abs(float(correct.mean()) - value) > 1e-6:
            return None
        return _Outcomes(tuple((p.index, p.target) for p in predictions), correct)


def _at(row: Row, seed: int) -> TrialRecord:
    return next(record for record in row.completed if record.spec.seed == seed)


def _test_fingerprint(record: TrialRecord) -> str | None:
    split = record.data.splits.get("test") if record.data else None
    return split.fingerprint if split else None


def _relation(difference: Difference, direction: str) -> Relation:
    if difference.includes_zero:
        return "tied"
    return "ahead" if (difference.mean > 0) == (direction == "higher") else "behind"
