"""The contract of an executor: where trials run.

An executor is one file whose attribute `plugin` is a subclass of `Executor`, or an entry point of the group
`tuneoff.executors`. A study names it (`executor: local`, `--executor`, `Study(executor=…)`). What it guarantees, and
`tuneoff.testing.ExecutorContract` tests:

- **One sealed record for each trial.** A trial runs in a process apart from this one, of its own or with others that
  train together (`execution.together`), and has a record however that process ends. A trial with a finished record is
  not run again; an unfinished attempt is set aside, and the next one continues from its last checkpoint.
- **One voice.** The listener is called from the thread that called `run`, for each trial in this order: `started`,
  `event` …, `ended`; or `skipped` alone. Events of several trials may alternate.
- **An interrupt loses nothing.** On `KeyboardInterrupt`, also from the listener, running trials are ended and recorded
  as cancelled, and it is raised again. The next `run` goes on.
- **No orphans.** After `close`, or when the caller is killed, no process is left that it started.
- **The caller stays light.** Inspections and forecasts are made in a child: an executor never imports `tuneoff.trial`,
  nor torch.
- **It changes no result.** The same trials give the same metrics on every executor, as long as device and threads are
  the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

from pydantic import ValidationError

from tuneoff.config.execution import ExecutionSpec
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import ExecutorError, TuneoffError
from tuneoff.executors._children import rebuild_error
from tuneoff.interfaces import ExecutorOptions
from tuneoff.records.forecast import ArmForecast
from tuneoff.records.record import Event, TrialRecord
from tuneoff.store import StudyStore


@dataclass(frozen=True)
class Progress:
    """What an executor reports while it runs.

    Kinds: `started` (a trial's process runs), `event` (a line of the trial's event log: `event` holds it),
    `ended` (the trial has a record: `record` holds it), `skipped` (it had one already; likewise).

    Attributes:
        together: of `started`, how many trials its process trains at once.
    """

    kind: Literal["started", "event", "ended", "skipped"]
    trial: TrialSpec
    event: Event = field(default_factory=dict)
    record: TrialRecord | None = None
    together: int = 1


Listener = Callable[[Progress], None]


@dataclass(frozen=True)
class Inspection:
    """What a look at model, data and methods found before anything is trained.

    Attributes:
        trials: trial id -> {"trainable_parameters": {role: int}, "total_parameters": {role: int}}.
        labels: the classes, in order of their numbers; empty for a task without.
        data: what the rows hold (`record.DataInfo` as plain data), or None if they were not looked at.
        warnings: findings as {"name", "message"} that a person should see before training.
        contents: split -> fingerprint of its rows, `model` -> its commit at the hub, where they were looked at.
    """

    trials: dict[str, dict[str, dict[str, int]]]
    labels: tuple[str, ...]
    data: dict[str, Any] | None
    warnings: tuple[dict[str, str], ...]
    contents: Mapping[str, str] = field(default_factory=dict)


class Executor(ABC):
    """Runs trials. Use as a context manager; leaving it ends every process it started.

    Attributes:
        title, summary: what `tuneoff list executors` says of it.
        Options: its keys in a study file, below `executor`.
        device: auto, cpu or cuda.
    """

    title: ClassVar[str]
    summary: ClassVar[str]
    Options: ClassVar[type[ExecutorOptions]] = ExecutorOptions
    device: str = "auto"

    @classmethod
    @abstractmethod
    def create(cls, device: str, options: Mapping[str, Any]) -> Executor:
        """Makes one; starts nothing yet.

        Args:
            device: auto, cpu or cuda.
            options: as in a study file, checked before by `Options`.

        Raises:
            ExecutorError: if it cannot be used here, with the reason and what to do.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def warm_up(self) -> None:
        """Begins to start the processes that `inspect` and `run` will need; does not wait for them."""
        return

    @abstractmethod
    def close(self) -> None:
        """Ends every process that was started."""

    @abstractmethod
    def inspect(self, study: StudySpec, trials: Sequence[TrialSpec], require_data: bool) -> Inspection:
        """Loads the data and counts parameters without weights; trains nothing.

        Raises:
            TuneoffError: the first thing that makes the study impossible.
        """

    def profile(
        self, trial: TrialSpec, search_trial: TrialSpec | None = None, *, memory_limit_bytes: int | None = None
    ) -> ArmForecast:
        """Forecasts what an arm will take by a few real steps on this machine, in a process of its own.

        Args:
            trial: one of its final trials.
            search_trial: one of its trials of the search, where it is searched.
            memory_limit_bytes: memory of another device, to check whether the arm fits there; None: this machine's.

        Raises:
            TuneoffError: if no forecast can be made, with the reason; also `OutOfMemory` and `ExecutorError`.
        """
        payload = {
            "trial": trial.model_dump(mode="json"),
            "search_trial": search_trial.model_dump(mode="json") if search_trial is not None else None,
            "device": self.device,
            "memory_limit_bytes": memory_limit_bytes,
        }
        try:
            return ArmForecast.model_validate(self.call("profile", payload))
        except ValidationError as error:
            raise ExecutorError(f"the answer to 'profile' is none: {error}") from None

    def estimate(
        self, pairs: Sequence[tuple[TrialSpec, TrialSpec | None]], *, memory_limit_bytes: int | None = None
    ) -> list[ArmForecast | TuneoffError]:
        """Forecasts what arms will take without running anything, so times are rough; one process estimates all.

        Args:
            pairs: for every arm the two trials that `profile` takes.
            memory_limit_bytes: as for `profile`.

        Returns:
            For every arm its forecast, or why there is none.

        Raises:
            TuneoffError: if the process failed as a whole.
        """
        payload = {
            "pairs": [
                [final.model_dump(mode="json"), search.model_dump(mode="json") if search is not None else None]
                for final, search in pairs
            ],
            "device": self.device,
            "memory_limit_bytes": memory_limit_bytes,
        }
        answers = self.call("estimate", payload)
        try:
            return [
                rebuild_error(answer["error"]) if "error" in answer else ArmForecast.model_validate(answer["arm"])
                for answer in answers
            ]
        except ValidationError as error:
            raise ExecutorError(f"the answer to 'estimate' is none: {error}") from None

    def skip(self, trial: TrialSpec, record: TrialRecord, listener: Listener) -> None:
        """Reports that a trial need not run: it has its record already."""
        listener(Progress("skipped", trial, record=record))

    def trains_together(self, execution: ExecutionSpec) -> int:
        """Returns how many trials of an arm it trains at once in one process, at most."""
        return 1

    @abstractmethod
    def run(self, store: StudyStore, trials: Sequence[TrialSpec], listener: Listener) -> None:
        """Runs the trials that have no finished record, in order; returns when each has a record. Whether they
        can run is for `inspect` to say, before.

        Raises:
            KeyboardInterrupt: after the running trials were recorded as cancelled.
        """

    @abstractmethod
    def call(self, verb: str, payload: dict[str, Any]) -> Any:
        """Asks a child process for one thing (`export`, `predict`, `profile`) and returns its plain-data answer.

        Raises:
            TuneoffError: what the child raised.
        """
