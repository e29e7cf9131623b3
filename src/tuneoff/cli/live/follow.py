"""A study's progress, read from the files that a run leaves in the study's folder. Writes nothing.

Files appear and disappear meanwhile: trials begin, end, and are set aside to be repeated. What cannot be read now is
read again at the next look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tuneoff.analysis.search_rounds import outline
from tuneoff.collection import without_collection
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import CorruptRecord, StoreError, StudyError
from tuneoff.executors.base import Progress
from tuneoff.records.events import utc
from tuneoff.records.forecast import StudyForecast
from tuneoff.records.record import Status
from tuneoff.store import KeptCheckpoints, StudyStore, TrialStore
from tuneoff.study import kept_forecast

T = TypeVar("T")

CLOCK_SECONDS = 0.001
"""Tolerance of comparisons of file times, in seconds; the start of a process takes longer."""


@dataclass(frozen=True)
class TimedProgress:
    """What happened, and when (UTC, ISO 8601); None where no time was noted."""

    progress: Progress
    time: str | None


@dataclass(frozen=True)
class FolderState:
    """What one look found.

    Attributes:
        study: the study as it was last run.
        trials: search and final trials, as a `RunProgress` takes them.
        searched: how many of them are of the search.
        since: when the present run began, in seconds since 1970; None where no run is on.
        news: what is new since the last look.
        lost: trials that ran at an earlier look, and now neither run nor have a record.
        missing: final trials that are still to be run.
        forecast: what the study is expected to take; None where none was made, or none can be read.
        failed: final trials that ended without a result.
        checkpoints: of trials without a result, from which they continue: trial id -> what is kept.
    """

    study: StudySpec
    trials: list[TrialSpec]
    searched: int
    since: float | None
    news: list[TimedProgress]
    lost: list[TrialSpec]
    missing: int
    failed: int
    forecast: StudyForecast | None
    checkpoints: dict[str, KeptCheckpoints]

    @property
    def is_over(self) -> bool:
        """Tells whether every final trial has ended and no run is on."""
        return self.since is None and not self.missing


Mark = tuple[int, float, int]
"""A file's number, the time of its last change (seconds since 1970) and its size in bytes."""


@dataclass
class _AttemptState:
    """What was read so far of a trial's present attempt. `events` and `record` are the files' numbers: another attempt
    has others, because the files of the earlier one are kept."""

    began: bool = False
    lost: bool = False
    events: int | None = None
    offset: int = 0
    record: int | None = None
    status: Status | None = None


class FolderFollower:
    """Looks at a study's folder again and again.

    Args:
        store: the folder, whether a study is there yet or not.
        history: report also what happened before the first look; else only that a trial had ended.
        checkpoints: look also at what is kept of trials that have not ended.
    """

    def __init__(self, store: StudyStore, history: bool = False, checkpoints: bool = True) -> None:
        self.store = store
        self.history = history
        self.checkpoints = checkpoints
        self._specs: dict[str, TrialSpec] = {}
        self._seen: dict[str, _AttemptState] = {}
        self._kept: dict[str, tuple[Mark | None, KeptCheckpoints | None]] = {}
        """Trial id -> the folder of its checkpoints at the last look, and what it held."""
        self._first = True

    def poll(self) -> FolderState | None:
        """Returns what is new; None while no study is there.

        Raises:
            StoreError: for a file of the study that is there and cannot be read.
        """
        with without_collection():
            return self._poll()

    def _poll(self) -> FolderState | None:
        # Checked first: where no run is on, its files no longer change.
        since = self.store.running_since()
        manifest = _read_if_there(self._manifest, lambda: self.store.is_there)
        if manifest is None:
            return None
        study, search_ids, final_ids = manifest
        searched, final = self._read_specs(search_ids), self._read_specs(final_ids)
        news = [item for spec in (*searched, *final) for item in self._news(spec, since)]
        self._first = False
        statuses = [self._seen[spec.id].status for spec in final]
        end_statuses = [status for status in statuses if status is not None and status is not Status.CANCELLED]
        planned = _planned_search(study, searched)
        return FolderState(
            study=study,
            trials=[*planned, *final],
            searched=len(planned),
            since=since,
            news=news,
            lost=self._lose([*searched, *final]) if since is None else [],
            missing=len(statuses) - len(end_statuses),
            failed=sum(not status.finished for status in end_statuses),
            forecast=kept_forecast.kept(self.store),
            checkpoints=self._checkpoints([*searched, *final]) if self.checkpoints else {},
        )

    def _checkpoints(self, specs: list[TrialSpec]) -> dict[str, KeptCheckpoints]:
        """Returns what is kept of trials without a result; looks again where checkpoints came or went."""
        found = {}
        for spec in specs:
            status, checkpoints = self._seen[spec.id].status, self.store.trial(spec.id).checkpoints
            if status is not None and status.finished:
                continue
            mark = _mark(checkpoints.folder)
            if spec.id not in self._kept or self._kept[spec.id][0] != mark:
                self._kept[spec.id] = mark, checkpoints.kept() if mark is not None else None
            if (kept := self._kept[spec.id][1]) is not None:
                found[spec.id] = kept
        return found

    def _manifest(self) -> tuple[StudySpec, list[str], list[str]]:
        return self.store.study(), self.store.search_ids(), self.store.trial_ids()

    def _read_specs(self, ids: list[str]) -> list[TrialSpec]:
        """Reads the trials' specifications; leaves out trials whose folder is not there."""
        for trial_id in ids:
            trial_store = self.store.trial(trial_id)
            if trial_id not in self._specs and (spec := _read_undamaged(trial_store.spec)):
                self._specs[trial_id] = spec
        return [self._specs[trial_id] for trial_id in ids if trial_id in self._specs]

    def _news(self, spec: TrialSpec, since: float | None) -> Iterator[TimedProgress]:
        """Yields what is new of one trial."""
        trial_store, state = self.store.trial(spec.id), self._seen.setdefault(spec.id, _AttemptState())
        # Checked before the events are read: once a trial has its record, all its events are written.
        record, events, log = (
            _mark(trial_store.record_path),
            _mark(trial_store.events_path),
            _mark(trial_store.log_path),
        )
        last_write = max((mark[1] for mark in (events, log) if mark is not None), default=None)
        # Files of a run that is over do not show that the trial runs now.
        is_running = last_write is not None and since is not None and last_write >= since - CLOCK_SECONDS
        if record is None and state.lost and not is_running:
            return
        if record is not None and record[0] == state.record:
            return
        if state.lost or _was_replaced(state, record, events):
            state = self._seen[spec.id] = _AttemptState()
        if record is None:
            if is_running or state.began or (self.history and last_write is not None):
                yield from self._attempt(trial_store, spec, state, last_write)
            return
        trial_record = _read_undamaged(trial_store.record)
        if trial_record is None:
            return
        is_skipped = self._first and not self.history
        if not is_skipped:
            yield from self._attempt(trial_store, spec, state, last_write)
        state.record, state.status = record[0], trial_record.status
        yield TimedProgress(Progress("skipped" if is_skipped else "ended", spec, record=trial_record), utc(record[1]))

    def _attempt(
        self, trial_store: TrialStore, spec: TrialSpec, state: _AttemptState, last_write: float | None
    ) -> Iterator[TimedProgress]:
        """Yields that an attempt began, and what it has logged since the last look."""
        events = _mark(trial_store.events_path)
        lines, offset = trial_store.events(state.offset)
        if not state.began and last_write is not None:
            state.began = True
            first_time = lines[0].get("time") if lines else None
            yield TimedProgress(Progress("started", spec), first_time or utc(last_write))
        state.events, state.offset = events[0] if events is not None else None, offset
        for line in lines:
            yield TimedProgress(Progress("event", spec, event=line), line.get("time"))

    def _lose(self, specs: list[TrialSpec]) -> list[TrialSpec]:
        """Returns the trials that began and have no record, each once; the next run begins them anew."""
        lost = []
        for spec in specs:
            state = self._seen[spec.id]
            if state.began and state.record is None and not state.lost:
                state.lost = True
                lost.append(spec)
        return lost


def _read_if_there(read: Callable[[], T], is_there: Callable[[], bool]) -> T | None:
    """Returns what a file holds; None where it is not there (any more, or yet)."""
    try:
        return read()
    except StoreError:
        if is_there():
            raise
        return None


def _read_undamaged(read: Callable[[], T | None]) -> T | None:
    """Returns what a file of one trial holds; None also where it is damaged: the next run repeats the trial, and
    reports name it."""
    try:
        return read()
    except CorruptRecord:
        return None


def _mark(path: Path) -> Mark | None:
    """Returns a file's number, time and size; None where the file is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime, status.st_size


def _was_replaced(state: _AttemptState, record: Mark | None, events: Mark | None) -> bool:
    """Tells whether the state belongs to an attempt that is no longer there."""
    if state.record is not None:
        return record is None or record[0] != state.record
    if state.events is None:
        return False
    return events is None or events[0] != state.events or events[2] < state.offset


def _planned_search(study: StudySpec, searched: list[TrialSpec]) -> list[TrialSpec]:
    """Returns a trial for each that the search has; only those tried so far where an arm's method is not installed
    here."""
    try:
        return outline(study)
    except StudyError:
        return searched
