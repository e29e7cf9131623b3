"""The contract of an executor: where trials run.

An executor runs each trial as a process of its own and turns whatever ends it into a record. It never
imports `tuneoff.trial`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from tuneoff.record import Event, TrialRecord
from tuneoff.spec import StudySpec, TrialSpec
from tuneoff.store import StudyStore


@dataclass(frozen=True)
class Progress:
    """What an executor tells while it runs.

    Kinds: `started` (a trial's process runs), `event` (a line of the trial's event log: `event` holds it),
    `ended` (the trial has a record: `record` holds it), `skipped` (it had one already; likewise).
    """

    kind: Literal["started", "event", "ended", "skipped"]
    trial: TrialSpec
    event: Event = field(default_factory=dict)
    record: TrialRecord | None = None


Listener = Callable[[Progress], None]


@dataclass(frozen=True)
class Inspection:
    """What a look at model, data and methods found before anything is trained.

    Attributes:
        trials: trial id -> {"trainable_parameters": {role: int}, "total_parameters": {role: int}}.
        labels: the classes, in order of their numbers; empty for a task without.
        data: what the rows hold (`record.DataInfo` as plain data), or None if they were not looked at.
        warnings: findings as {"name", "message"} that a person should see before training.
    """

    trials: dict[str, dict[str, dict[str, int]]]
    labels: tuple[str, ...]
    data: dict[str, Any] | None
    warnings: tuple[dict[str, str], ...]


class Executor(ABC):
    """Runs trials. Use as a context manager; leaving it ends every process it started."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Ends every process that was started."""

    @abstractmethod
    def inspect(self, study: StudySpec, trials: Sequence[TrialSpec], require_data: bool) -> Inspection:
        """Loads the data and counts parameters without weights; trains nothing.

        Raises:
            TuneoffError: the first thing that makes the study impossible.
        """

    @abstractmethod
    def run(self, store: StudyStore, trials: Sequence[TrialSpec], listener: Listener) -> None:
        """Runs the trials that have no finished record, in order; returns when each has a record. Whether they
        can run is for `inspect` to say, before.

        Raises:
            KeyboardInterrupt: after the running trials were recorded as cancelled.
        """

    @abstractmethod
    def call(self, verb: str, payload: dict[str, Any]) -> Any:
        """Asks a child process for one thing (`export`, `predict`) and returns its plain-data answer.

        Raises:
            TuneoffError: what the child raised.
        """
