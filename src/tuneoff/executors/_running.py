"""A trial whose process runs: begun, followed and sealed."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuneoff.config.spec import TrialSpec
from tuneoff.errors import Diverged
from tuneoff.executors import _endings
from tuneoff.executors._children import Child, Children
from tuneoff.executors._placement import Allocation
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
        companions: how many trials share its process; 1: it has it alone.
    """

    def __init__(self, store: StudyStore, trial: TrialSpec, allocation: Allocation) -> None:
        self.trial = trial
        self.child: Child | None = None
        self.children: Children | None = None
        self.ended_by: Status | None = None
        self.companions = 1
        self._store = store.trial(trial.id)
        self._allocation = allocation
        self._oom_kills: int | None = None
        self._started = 0.0
        self._earlier_seconds = 0.0
        self._offset = 0
        self._reply: Path | None = None
        """Where it answers if it ends before its companions."""

    def start(self, children: Children, device: str, apart: str = "") -> None:
        """Sets aside an earlier attempt and starts the process.

        Args:
            children: starts it.
            device: auto, cpu or cuda.
            apart: why the trial is not trained together with others, where that was tried.

        Raises:
            StoreError: if the trial's folder cannot be written.
        """
        self._begin()
        payload = {**self._payload(children, device), "folder": str(self._store.folder.resolve()), "apart": apart}
        verb = "trial" if self.trial.devices == 1 else "ranks"
        self._follow(children, children.start(verb, payload, self._store.log_path))

    def _begin(self) -> None:
        """Sets aside an earlier attempt."""
        damage_message = self._store.damage()
        self._store.begin_attempt()
        self._store.write_spec(self.trial)
        if damage_message:
            message = f"what an earlier run left was damaged and is set aside: {damage_message}"
            self._store.append_event({"kind": "finding", "name": "damaged_trial", "message": message})
        self._oom_kills = _endings.out_of_memory_kills()
        self._started = time.monotonic()

    def _payload(self, children: Children, device: str) -> dict[str, Any]:
        return {
            "device": device,
            "scratch": children.scratch.name,
            "gpus": self._allocation.gpus,
            "cores": self._allocation.cores,
            "shared": self._allocation.shared,
            "trials_at_once": self._allocation.trials_at_once,
        }

    def _follow(self, children: Children, child: Child) -> None:
        self.children, self.child = children, child

    @property
    def is_over_time(self) -> bool:
        """Tells whether it takes longer than it may, earlier processes from whose checkpoint it continues included; of
        several in one process, longer than all may one after the other."""
        limit = self.trial.execution.timeout_seconds
        spent = self._earlier_seconds + time.monotonic() - self._started
        return limit is not None and spent > limit * self.companions

    def has_ended_before(self, others: Sequence[RunningTrial]) -> bool:
        """Tells whether it ended before a companion among others that run; the last one ends with their process."""
        if self._reply is None or all(other is self or other.child is not self.child for other in others):
            return False
        return self._store.record_path.exists() or self._reply.exists()

    def why_apart(self) -> str:
        """Returns why a trial whose process has ended must be trained again alone; empty where it has a result of its
        own, or was ended by the executor for its own sake."""
        assert self.child is not None
        if self._reply is None or self.ended_by is not None or self._store.record_path.exists():
            return ""
        own_error = self._own_error()
        if own_error is not None and own_error["type"] == Diverged.__name__:
            return ""
        if own_error is None and self.is_over_time:
            return "together they took longer than execution.timeout_seconds allows for all"
        error = own_error or (self.child.reply() or {}).get("error")
        if error is not None:
            return " ".join(part for part in (error["message"], error["hint"]) if part)
        return f"their process ended without a result ({_endings.ending(self.child)})"

    def _own_error(self) -> dict[str, Any] | None:
        """Returns what ended this trial alone, of several in one process."""
        if self._reply is not None:
            with suppress(OSError):
                error: dict[str, Any] = json.loads(self._reply.read_text(encoding="utf-8"))["error"]
                return error
        return None

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
            error = self._own_error() or (self.child.reply() or {}).get("error")
            record = _endings.failure(self._store, self.trial, self.child, error, self.ended_by, self._oom_kills)
            self._store.write_record(record)
        return record


def start_together(
    members: Sequence[RunningTrial], ids: Sequence[str], store: StudyStore, children: Children, device: str
) -> None:
    """Starts one process for several trials; what it prints is in the log of each.

    Args:
        members: the trials that are trained.
        ids: of these, and of trials that have ended and are computed on for their sake, in the order of the process.
        store: the study's folder.
        children: starts the process.
        device: auto, cpu or cuda.

    Raises:
        StoreError: if a trial's folder cannot be written.
    """
    lead = members[0]
    replies = {}
    for member in members:
        member._begin()
        member._reply = Path(children.scratch.name) / f"{member.trial.id}.json"
        member._reply.unlink(missing_ok=True)
        member.companions = len(ids)
        replies[member.trial.id] = str(member._reply)
        member._store.share_log(lead._store)
    trials = [{"folder": str(store.trial(name).folder.resolve()), "reply": replies.get(name)} for name in ids]
    child = children.start("together", {**lead._payload(children, device), "trials": trials}, lead._store.log_path)
    for member in members:
        member._follow(children, child)
