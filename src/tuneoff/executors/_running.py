"""A trial whose process runs: begun, followed and sealed."""

from __future__ import annotations

import time
from typing import Any

from tuneoff.config.spec import TrialSpec
from tuneoff.executors import _endings
from tuneoff.executors._children import Child, Children
from tuneoff.executors._placement import Allotment
from tuneoff.executors.base import Listener, Progress
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore


class RunningTrial:
    """One trial from its beginning to its record.

    Attributes:
        trial: what is run.
        child: its process, once there is one.
        children: what started the process.
        ended_by: why the executor ended it; None: it was not ended.
    """

    def __init__(self, store: StudyStore, trial: TrialSpec, allotment: Allotment) -> None:
        self.trial = trial
        self.child: Child | None = None
        self.children: Children | None = None
        self.ended_by: Status | None = None
        self._store = store.trial(trial.id)
        self._allotment = allotment
        self._oom_kills: int | None = None
        self._started = 0.0
        self._earlier_seconds = 0.0
        self._offset = 0

    def start(self, children: Children, device: str) -> None:
        """Sets aside an earlier attempt and starts the process.

        Raises:
            StoreError: if the trial's folder cannot be written.
        """
        damage_message = self._store.damage()
        self._store.begin_attempt()
        self._store.write_spec(self.trial)
        if damage_message:
            message = f"what an earlier run left was damaged and is set aside: {damage_message}"
            self._store.append_event({"kind": "finding", "name": "damaged_trial", "message": message})
        self._oom_kills = _endings.out_of_memory_kills()
        self._started = time.monotonic()
        payload: dict[str, Any] = {
            "folder": str(self._store.folder.resolve()),
            "device": device,
            "scratch": children.scratch.name,
            "gpus": self._allotment.gpus,
            "cores": self._allotment.cores,
            "shared": self._allotment.shared,
        }
        self.children = children
        self.child = children.start("trial" if self.trial.devices == 1 else "ranks", payload, self._store.log_path)

    @property
    def is_over_time(self) -> bool:
        """Tells whether it takes longer than it may, earlier processes from whose checkpoint it continues included."""
        limit = self.trial.execution.timeout_seconds
        return limit is not None and self._earlier_seconds + time.monotonic() - self._started > limit

    def pass_on(self, listener: Listener) -> None:
        """Passes on what it has logged since the last time."""
        events, self._offset = self._store.events(self._offset)
        for event in events:
            if event.get("kind") == "resumed":
                self._earlier_seconds = float(event.get("earlier_seconds") or 0.0)
            listener(Progress("event", self.trial, event=event))

    def seal(self) -> TrialRecord:
        """Returns the record that the trial's process wrote; where there is none, writes one that says how the process
        ended."""
        assert self.child is not None
        record = self._store.record()
        if record is None:
            self._store.discard_scratch()
            record = _endings.failure(self._store, self.trial, self.child, self.ended_by, self._oom_kills)
            self._store.write_record(record)
        return record
