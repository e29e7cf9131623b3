"""Trials that run on other machines than this one, seen from here in the study's folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from tuneoff.config.execution import ExecutionSpec
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import ExecutorError, StoreError, TuneoffError
from tuneoff.executors._second_try import as_left
from tuneoff.executors.base import Listener, Progress
from tuneoff.executors.local import LocalExecutor
from tuneoff.records.forecast import ArmForecast
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore, TrialStore


class ElsewhereExecutor(LocalExecutor):
    """Runs trials on other machines. Model and data are inspected on this one, on the CPU; forecasts are estimates,
    because nothing is tried here.

    Args:
        device: auto, cpu or cuda, of the trials.
    """

    def __init__(self, device: str) -> None:
        super().__init__("cpu")
        self.job_device = device

    def profile(
        self, trial: TrialSpec, search_trial: TrialSpec | None = None, *, memory_limit_bytes: int | None = None
    ) -> ArmForecast:
        raise ExecutorError("trials run on other machines than this one")

    def estimate(
        self, pairs: Sequence[tuple[TrialSpec, TrialSpec | None]], *, memory_limit_bytes: int | None = None
    ) -> list[ArmForecast | TuneoffError]:
        # The names would be those of this machine.
        elsewhere = {"trials_device": self.job_device, "device_name": "", "processor": ""}
        answers = super().estimate(pairs, memory_limit_bytes=memory_limit_bytes)
        return [each.model_copy(update=elsewhere) if isinstance(each, ArmForecast) else each for each in answers]

    def trains_together(self, execution: ExecutionSpec) -> int:
        return 1

    def open_trials(self, store: StudyStore, trials: Sequence[TrialSpec], listener: Listener) -> list[FollowedTrial]:
        """Returns the trials that have no finished record, in order; tells that the others are skipped."""
        waiting = []
        for trial in trials:
            record = store.trial(trial.id).finished_record()
            if record is not None:
                self.skip(trial, record, listener)
            else:
                place = store.trial(trial.id)
                waiting.append(FollowedTrial(place, as_left(place, trial)))
        return waiting


class FollowedTrial:
    """One trial that runs elsewhere, seen from here.

    Attributes:
        store: the trial's folder.
        trial: what is run.
        has_begun: whether it has been seen to run.
    """

    def __init__(self, store: TrialStore, trial: TrialSpec) -> None:
        self.store, self.trial = store, trial
        self.has_begun = False
        self._offset = 0
        self._attempts = store.attempts

    def prepare(self) -> None:
        """Sets aside what an earlier attempt left, so that it is not taken for what this one leaves, and writes what is
        to be run."""
        self.store.begin_attempt()
        self.store.write_spec(self.trial)

    def begin(self, listener: Listener) -> None:
        """Tells once that it runs."""
        if not self.has_begun:
            self.has_begun = True
            listener(Progress("started", self.trial))

    def follow(self, listener: Listener) -> None:
        """Passes on that it began, and what it has logged since the last time."""
        if not self.has_begun and not self.store.log_path.exists():
            return
        self.begin(listener)
        attempts = self.store.attempts
        if attempts != self._attempts:
            # It was interrupted, and another attempt began.
            self._attempts, self._offset = attempts, 0
        events, self._offset = self.store.events(self._offset)
        for event in events:
            listener(Progress("event", self.trial, event=event))

    def seal(self, status: Status, cause: str) -> TrialRecord:
        """Writes the record of a trial that left none; returns the one that it left after all, if it did."""
        if (left := self.store.record()) is not None:
            return left
        self.store.discard_scratch()
        spec = self.trial
        with suppress(StoreError):
            # Its job may have begun the second try after it ran out of memory.
            spec = self.store.spec()
        record = TrialRecord(spec=spec, status=status, cause=cause, log_tail=self.store.log_tail())
        self.store.write_record(record)
        return record
