"""Turns the messages of a run into the calls of one tracker, inside the tracker's process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneoff import registry
from tuneoff.interfaces import TrialInfo
from tuneoff.records.record import Event, Status
from tuneoff.store import StudyStore
from tuneoff.trackers._figures import final_metrics, metrics_of, step_of, study_info, trial_info

Message = dict[str, Any]
"""{"do": …} and what belongs to it: `ready`, which only wants an answer; `start` {"study": folder, "key"}; `started`,
`ended`, `replay` {"trial": id}; `event` {"trial", "event"}; `artifacts`; `finish`."""


@dataclass
class Followed:
    """A trial whose run is open, and its newest step."""

    info: TrialInfo
    step: int = 0


class TrackerFollower:
    """Turns the messages of a run into the calls of one tracker.

    Raises:
        StudyError: if there is no such tracker.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.tracker = registry.trackers()[name]()
        self._open: dict[str, Followed] = {}
        self._key = ""
        self._store: StudyStore | None = None

    @property
    def store(self) -> StudyStore:
        """Returns the study's folder, which the message `start` names; `start` comes first."""
        assert self._store is not None
        return self._store

    def take(self, message: Message) -> None:
        """Does what one message asks.

        Raises:
            Exception: whatever the tracker raises.
        """
        action = message["do"]
        if action == "ready":
            return
        if action == "start":
            self._start(Path(message["study"]), message["key"])
        elif action == "started":
            self._begin(message["trial"])
        elif action == "event":
            self._log_event(message["trial"], message["event"])
        elif action == "ended":
            self._end(message["trial"])
        elif action == "replay":
            self._replay(message["trial"])
        elif action == "artifacts":
            folder = Path(message["folder"])
            self.tracker.artifacts(sorted(path for path in folder.iterdir() if path.is_file()))
        elif action == "finish":
            self.finish()
        else:
            raise ValueError(f"unknown message {action!r}")

    def _start(self, root: Path, key: str) -> None:
        self._store, self._key = StudyStore.open(root), key
        folder = self.store.trackers.folder(self.name)
        folder.mkdir(parents=True, exist_ok=True)
        self.tracker.start(study_info(self.store.study(), key), folder)

    def _begin(self, trial: str) -> Followed:
        trial_store = self.store.trial(trial)
        followed = Followed(trial_info(trial_store.spec(), self._key, trial_store.attempts + 1))
        self.tracker.begin_trial(followed.info)
        self._open[trial] = followed
        return followed

    def _log_event(self, trial: str, event: Event) -> None:
        followed = self._open.get(trial) or self._begin(trial)
        followed.step = step_of(event, followed.step)
        if metrics := metrics_of(event):
            self.tracker.log(followed.info, followed.step, metrics)

    def _end(self, trial: str) -> None:
        # A trial whose search found nothing ends without having begun.
        followed = self._open.get(trial) or self._begin(trial)
        trial_store = self.store.trial(trial)
        record = trial_store.record()
        if record is None:
            self.tracker.end_trial(followed.info, followed.step, Status.CANCELLED.value, {}, None)
        else:
            step, metrics = max(followed.step, record.steps), final_metrics(record)
            self.tracker.end_trial(followed.info, step, record.status.value, metrics, trial_store.record_path)
        del self._open[trial]

    def _replay(self, trial: str) -> None:
        """Passes on a whole trial that ended in an earlier run, which this tracker did not follow to its end."""
        self._begin(trial)
        for event in self.store.trial(trial).events()[0]:
            self._log_event(trial, event)
        self._end(trial)

    def finish(self) -> None:
        """Ends the runs that are still open, as after an interruption, and closes the tracker."""
        if self._store is not None:
            for trial in list(self._open):
                self._end(trial)
            self.tracker.finish()


def send_output_to(path: Path) -> None:
    """Sends everything that this process prints from now on to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
