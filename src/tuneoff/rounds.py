"""The search of one study: round after round, a trial of every row in each, so that it is equal wherever it stops.

The records are all the memory there is. What a search found and what comes next is derived from them anew each time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tuneoff import registry
from tuneoff.executors.base import Executor, Listener, Progress
from tuneoff.plan import search_protocol, search_trial
from tuneoff.record import Status, TrialRecord
from tuneoff.search import (
    LEARNING_RATE,
    Dimension,
    Outcome,
    Space,
    Values,
    at_edge,
    best,
    first,
    grow,
    size,
    spaces,
    suggest,
)
from tuneoff.spec import SearchSpec, StudySpec, TrialSpec
from tuneoff.store import StudyStore

SEARCH_VERSION = 1

ANSWERS = frozenset({Status.COMPLETED, Status.DIVERGED})
"""Statuses that tell of the configuration; a trial that ended in any other way is run again by the next run."""
EDGES = {-1: "lower", 1: "upper"}


@dataclass
class RowSearch:
    """One row's search so far.

    Attributes:
        space: what is searched, widened once it has grown.
        grown: whether it has.
        history: what was tried and what came of it, and `records` the records of that, in order.
    """

    space: Space
    grown: bool = False
    history: list[Outcome] = field(default_factory=list)
    records: list[TrialRecord] = field(default_factory=list)

    @property
    def best(self) -> int | None:
        """Position of the best trial, or None while none completed."""
        return best(self.history)

    @property
    def choice(self) -> Values | None:
        """What the best trial had tried."""
        return None if self.best is None else self.history[self.best].values

    @property
    def at_edge(self) -> dict[str, int]:
        """What of that lies at an edge (see `search.at_edge`)."""
        return {} if self.choice is None else at_edge(self.space, self.choice)


class Search:
    """Derives a study's search from the records in its folder.

    Args:
        study: a checked study; without `protocol.search` there is nothing to search.
        fingerprints: of its sources (see `plan`).
        store: its folder, whether it is there yet or not.
    """

    def __init__(self, study: StudySpec, fingerprints: Mapping[str, str], store: StudyStore) -> None:
        self.study, self.fingerprints, self.store = study, fingerprints, store
        self.spec = study.protocol.search or SearchSpec()
        self.metric, self.sign = selection_metric(study)
        self.rows: dict[str, RowSearch] = {}
        self.complete = False

    def run(self, executor: Executor, listener: Listener) -> None:
        """Runs what is missing of the search; writes down what was found for all rows of the folder, however it ends.

        Raises:
            KeyboardInterrupt: after running trials were recorded as cancelled.
        """
        if not spaces(self.study):
            return
        try:
            for trials in self._rounds():
                StudyStore.create(self.store.root, self.study, trials)
                open_trials = []
                for trial in trials:
                    record = self.store.trial(trial.id).record()
                    if record is not None and record.status in ANSWERS:
                        listener(Progress("skipped", trial, record=record))
                    else:
                        open_trials.append(trial)
                executor.run(self.store, open_trials, listener)
        finally:
            if self.store.is_there:
                # The folder's study may have rows that this run was not asked for; they were searched as well.
                whole = Search(self.store.study(), self.fingerprints, self.store)
                self.store.write_search(whole.found())

    def missing(self) -> list[TrialSpec]:
        """The trials to run of the first round that lacks some; none where the search is over."""
        for trials in self._rounds():
            records = [self.store.trial(trial.id).record() for trial in trials]
            missing = [
                t for t, record in zip(trials, records, strict=True) if record is None or record.status not in ANSWERS
            ]
            if missing:
                return missing
        return []

    def study_of_trials(self) -> StudySpec:
        """The study with the share of data and steps that its search gives to each trial."""
        return self.study.model_copy(update={"protocol": search_protocol(self.study)})

    @property
    def chosen(self) -> dict[str, Values]:
        """label -> the best configuration; empty while the search is not over, without rows of which none completed."""
        return {label: row.choice for label, row in self.rows.items() if self.complete and row.choice is not None}

    @property
    def hopeless(self) -> dict[str, str]:
        """label -> why, for rows none of whose trials completed; empty while the search is not over."""
        return {label: _why(row.records) for label, row in self.rows.items() if self.complete and row.choice is None}

    def found(self) -> dict[str, Any]:
        """What the search tried, found and chose so far, as plain data; docs/protocol.md describes it."""
        deque(self._rounds(), maxlen=0)
        return {
            "search_version": SEARCH_VERSION,
            "search": self.spec.model_dump(mode="json"),
            "metric": {"name": self.metric, "direction": "higher" if self.sign > 0 else "lower", "split": "validation"},
            "complete": self.complete,
            "equal": len({len(row.records) for row in self.rows.values()}) == 1,
            "rows": {label: self._row_found(row) for label, row in self.rows.items()},
        }

    def _row_found(self, row: RowSearch) -> dict[str, Any]:
        tried = [
            {
                "trial": record.spec.id,
                "values": outcome.values,
                "status": record.status.value,
                "score": None if outcome.score is None else self.sign * outcome.score,
                "loss": outcome.loss,
                "train_seconds": record.timing.train_seconds,
                "total_seconds": record.timing.total_seconds,
            }
            for record, outcome in zip(row.records, row.history, strict=True)
        ]
        return {
            "space": {dimension.name: _plain(dimension) for dimension in row.space},
            "grown": row.grown,
            "tried": tried,
            "best": None if row.best is None else row.records[row.best].spec.id,
            "choice": row.choice if self.complete else None,
            "at_edge": {name: EDGES[edge] for name, edge in row.at_edge.items()},
            "failed": sum(outcome.score is None for outcome in row.history),
            "train_seconds": sum(record.timing.train_seconds or 0.0 for record in row.records),
            "total_seconds": sum(record.timing.total_seconds or 0.0 for record in row.records),
        }

    def _rounds(self) -> Iterator[list[TrialSpec]]:
        """The trials of each round, from the first on. Whoever takes a round runs it before asking for the next; ends
        early where trials have no outcome."""
        self.complete = False
        self.rows = {label: RowSearch(space) for label, space in spaces(self.study).items()}
        if not (yield from self._phase(self.spec.trials)):
            return
        if self.spec.grow and any(LEARNING_RATE in row.at_edge for row in self.rows.values()):
            for row in self.rows.values():
                wider = grow(row.space, row.history)
                row.grown, row.space = wider != row.space, wider
            if not (yield from self._phase(math.ceil(self.spec.trials / 2))):
                return
        self.complete = True

    def _phase(self, count: int) -> Generator[list[TrialSpec], None, bool]:
        """So many rounds, and then whether all had outcomes.

        A row stands aside that has nothing left to try, or whose last trial has no outcome to go on from.
        """
        stopped: set[str] = set()
        for _ in range(count):
            tried = {
                label: suggest(row.space, row.history, self.spec.seed, self.spec.sampler)
                for label, row in self.rows.items()
                if label not in stopped and len(row.history) < size(row.space)
            }
            trials = {
                label: search_trial(self.study, label, values, self.fingerprints) for label, values in tried.items()
            }
            yield list(trials.values())
            records = {label: self.store.trial(trial.id).record() for label, trial in trials.items()}
            for label, record in records.items():
                if record is None or record.status is Status.CANCELLED:
                    stopped.add(label)
                else:
                    self.rows[label].history.append(self._outcome(tried[label], record))
                    self.rows[label].records.append(record)
        return not stopped

    def _outcome(self, values: Values, record: TrialRecord) -> Outcome:
        score = record.metric(self.metric, "validation") if record.status is Status.COMPLETED else None
        loss = record.metric("loss", "validation")
        return Outcome(values, None if score is None else self.sign * score, loss)


def outline(study: StudySpec) -> list[TrialSpec]:
    """A trial for each that a study's search has before it grows, round by round.

    All stand at the configuration that is tried first: what comes after it depends on outcomes.
    """
    count = study.protocol.search.trials if study.protocol.search is not None else 0
    tries = {label: (search_trial(study, label, first(s)), size(s)) for label, s in spaces(study).items()}
    return [trial for index in range(count) for trial, most in tries.values() if index < most]


def selection_metric(study: StudySpec) -> tuple[str, float]:
    """The validation metric that the search goes by, which is the one that selects checkpoints.

    With it 1 where higher is better, -1 where lower is.
    """
    task = registry.tasks()[study.task.name]
    name = task.selects(study.protocol.select_metric)
    return name, 1.0 if task.directions[name] == "higher" else -1.0


def _plain(dimension: Dimension) -> dict[str, Any]:
    if dimension.choices:
        return {"choices": list(dimension.choices), "first": dimension.first}
    return {"low": dimension.low, "high": dimension.high, "log": dimension.log, "first": dimension.first}


def _why(records: list[TrialRecord]) -> str:
    last = records[-1]
    cause = last.cause.strip().splitlines()
    told = f"; the last ended as {last.status.value}" + (f": {cause[0]}" if cause else "")
    return (
        f"none of the {len(records)} search trials of {last.spec.label!r} completed, so there is nothing to test{told}"
    )
