"""Trials one after another on this machine, each in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import Cancelled, Diverged, ExecutorError, OutOfMemory, StoreError
from tuneoff.executors._children import Child, Children, Spawner, WarmParent, last_line, rebuild_error
from tuneoff.executors.base import Executor, Inspection, Listener, Progress
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore, TrialStore

POLL_SECONDS = 0.1
GRACE_SECONDS = 5.0
"""How long a trial that was asked to stop may take to do so."""
LOST_SECONDS = 2.0
"""How long it may take until a killed trial is reported as ended; then its parent process is ended, too."""

_NO_MEMORY = re.compile(r"memory allocation of \d+ bytes failed|bad_alloc|cannot allocate memory", re.IGNORECASE)
"""Messages of Rust, C++ and C libraries before they abort because memory ran out."""

STATUS_OF = {
    OutOfMemory.__name__: Status.OUT_OF_MEMORY,
    Diverged.__name__: Status.DIVERGED,
    Cancelled.__name__: Status.CANCELLED,
}
ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "true",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
}


class LocalExecutor(Executor):
    """Runs trials one at a time: two at once on the same cores would distort each other's timings."""

    title = "This machine"
    summary = "Trials run on this machine, one at a time."

    @classmethod
    def create(cls, device: str, options: Mapping[str, Any]) -> Self:
        return cls(device)

    def __init__(self, device: str = "auto", warm: bool | None = None) -> None:
        """Args:
        device: auto, cpu or cuda.
        warm: whether trials are forked from a warm parent; None: where the system can fork.
        """
        self.device = device
        self.warm = hasattr(os, "fork") and os.name == "posix" if warm is None else warm
        self._children: Children | None = None

    @property
    def children(self) -> Children:
        """Returns the object that starts processes; makes it when it is first needed."""
        if self._children is None:
            extra = {"CUDA_VISIBLE_DEVICES": ""} if self.device == "cpu" else {}
            self._children = (WarmParent if self.warm else Spawner)({**ENVIRONMENT, **extra})
        return self._children

    def close(self) -> None:
        if self._children is not None:
            self._children.close()
            self._children = None

    def call(self, verb: str, payload: dict[str, Any]) -> Any:
        log = Path(self.children.scratch.name) / "call.log"
        oom_kills = _out_of_memory_kills()
        child = self.children.start(verb, payload, log)
        try:
            while not self.children.wait(child, 1.0):
                pass
        except KeyboardInterrupt:
            with _noted_interrupts() as is_interrupted:
                self._stop(child, is_interrupted)
            raise
        reply = child.reply()
        if reply is None:
            log_line = last_line(log)
            if memory_cause := _ran_out_of_memory(child, oom_kills, [log_line]):
                raise OutOfMemory(f"{memory_cause} (asked for {verb!r})", hint="Free memory on this machine.")
            raise ExecutorError(
                f"the process for {verb!r} ended without an answer ({_ending(child)})"
                + (f": {log_line}" if log_line else "")
            )
        if "error" in reply:
            raise rebuild_error(reply["error"])
        self.children.preload(reply.get("modules", []))
        return reply["result"]

    def inspect(self, study: StudySpec, trials: Sequence[TrialSpec], require_data: bool) -> Inspection:
        payload = {
            "study": study.model_dump(mode="json"),
            "trials": [trial.model_dump(mode="json") for trial in trials],
            "require_data": require_data,
            "device": self.device,
        }
        answer = self.call("inspect", payload)
        labels, warnings = tuple(answer["labels"]), tuple(answer["warnings"])
        return Inspection(answer["trials"], labels, answer["data"], warnings, answer["contents"])

    def run(self, store: StudyStore, trials: Sequence[TrialSpec], listener: Listener) -> None:
        unfinished = []
        for trial in trials:
            record = store.trial(trial.id).finished_record()
            if record is not None:
                self.skip(trial, record, listener)
            else:
                unfinished.append(trial)
        for trial in unfinished:
            store.refuse_lost()
            record = self._run_one(store, trial, listener)
            listener(Progress("ended", trial, record=record))

    def _run_one(self, store: StudyStore, trial: TrialSpec, listener: Listener) -> TrialRecord:
        """Runs one trial; whatever happens to its process, it has a record afterwards.

        Raises:
            KeyboardInterrupt: after it was recorded as cancelled.
            StoreError: after it was ended, if the study's folder is no longer there or cannot be written.
        """
        trial_store = store.trial(trial.id)
        damage_message = trial_store.damage()
        trial_store.begin_attempt()
        trial_store.write_spec(trial)
        if damage_message:
            message = f"what an earlier run left was damaged and is set aside: {damage_message}"
            trial_store.append_event({"kind": "finding", "name": "damaged_trial", "message": message})
        oom_kills = _out_of_memory_kills()
        started = time.monotonic()
        payload = {
            "folder": str(trial_store.folder.resolve()),
            "device": self.device,
            "scratch": self.children.scratch.name,
        }
        child = self.children.start("trial" if trial.devices == 1 else "ranks", payload, trial_store.log_path)
        offset = 0
        limit = trial.execution.timeout_seconds
        ended_by: Status | None = None
        try:
            listener(Progress("started", trial))
            while ended_by is None and not self.children.wait(child, POLL_SECONDS):
                store.refuse_lost()
                offset = self._pass_on(trial_store, trial, offset, listener)
                if limit is not None and time.monotonic() - started > limit:
                    ended_by = Status.OVER_BUDGET
                    self._stop(child)
        except KeyboardInterrupt:
            with _noted_interrupts() as is_interrupted:
                self._stop(child, is_interrupted)
                store.refuse_lost()
                self._seal(trial_store, trial, child, Status.CANCELLED, limit, oom_kills)
            raise
        except StoreError:
            self._stop(child)
            raise
        store.refuse_lost()
        self._pass_on(trial_store, trial, offset, listener)
        return self._seal(trial_store, trial, child, ended_by, limit, oom_kills)

    def _seal(self, trial_store: TrialStore, trial: TrialSpec, child: Child, *ending: Any) -> TrialRecord:
        """Returns the record that the trial's process wrote; where there is none, writes one that says how the process
        ended."""
        record = trial_store.record()
        if record is None:
            trial_store.discard_scratch()
            record = self._failure(trial_store, trial, child, *ending)
            trial_store.write_record(record)
        return record

    def _pass_on(self, trial_store: TrialStore, trial: TrialSpec, offset: int, listener: Listener) -> int:
        events, offset = trial_store.events(offset)
        for event in events:
            listener(Progress("event", trial, event=event))
        return offset

    def _stop(self, child: Child, is_interrupted: Callable[[], bool] = lambda: False) -> None:
        """Asks a child to stop, and kills it if it does not; at once if the user interrupts again
        (`is_interrupted`)."""
        self.children.wake()
        child.stop()
        deadline = time.monotonic() + (GRACE_SECONDS if child.pid is not None else 0.0)
        with suppress(ExecutorError):
            while child.exit is None and time.monotonic() < deadline + LOST_SECONDS:
                if is_interrupted():
                    deadline = min(deadline, time.monotonic())
                if not self.children.wait(child, POLL_SECONDS) and time.monotonic() > deadline:
                    child.signal(signal.SIGKILL)
        if child.exit is None:
            # The parent process still starts, or hangs: its children end with it, and the next trial gets a new parent.
            LocalExecutor.close(self)

    def _failure(
        self,
        trial_store: TrialStore,
        trial: TrialSpec,
        child: Child,
        ended_by: Status | None,
        limit: float | None,
        oom_kills: int | None,
    ) -> TrialRecord:
        """Makes the record of a trial whose process wrote none."""
        reply = child.reply()
        error = (reply or {}).get("error")
        status: Status
        if ended_by is Status.OVER_BUDGET:
            status, cause = ended_by, f"the trial took longer than execution.timeout_seconds, {limit:g} s"
        elif ended_by is Status.CANCELLED:
            status, cause = ended_by, "the run was interrupted"
        elif error is not None:
            status = STATUS_OF.get(error["type"], Status.FAILED)
            cause = " ".join(part for part in (error["message"], error["hint"]) if part)
            if error["type"] == StoreError.__name__:
                cause = error["message"]
            if error.get("killed") and (_out_of_memory_kills() or 0) > (oom_kills or 0):
                status, cause = Status.OUT_OF_MEMORY, f"{cause}: the machine ran out of memory"
        elif memory_cause := _ran_out_of_memory(child, oom_kills, trial_store.log_tail()):
            status, cause = Status.OUT_OF_MEMORY, memory_cause
        else:
            status, cause = Status.FAILED, f"the trial's process ended without a result ({_ending(child)})"
        tail = trial_store.log_tail(rank=(error or {}).get("rank", 0)) or trial_store.log_tail()
        findings = trial_store.tracker_findings()
        return TrialRecord(spec=trial, status=status, cause=cause, log_tail=tail, findings=findings)


plugin = LocalExecutor


@contextmanager
def _noted_interrupts() -> Iterator[Callable[[], bool]]:
    """Notes interrupts until the block ends instead of raising them, so that nothing stops halfway; yields a function
    that tells whether one came."""
    interrupted = False

    def note(*_: Any) -> None:
        nonlocal interrupted
        interrupted = True

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    is_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {
        number: handler for number in numbers if is_main_thread and callable(handler := signal.getsignal(number))
    }
    for number in handlers:
        signal.signal(number, note)
    try:
        yield lambda: interrupted
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _ending(child: Child) -> str:
    if child.exit is None:
        return "it was still running"
    if child.exit < 0:
        return f"killed by {signal.Signals(-child.exit).name}"
    return f"exit status {child.exit}"


def _ran_out_of_memory(child: Child, oom_kills: int | None, log_lines: Sequence[str]) -> str:
    """Returns how a process that left no answer ran out of memory; empty where nothing shows that it did.

    Args:
        child: the process.
        oom_kills: `_out_of_memory_kills` before the process started.
        log_lines: the last lines of its log. Libraries that cannot raise an error write there and abort.
    """
    if child.exit == -signal.SIGKILL and (_out_of_memory_kills() or 0) > (oom_kills or 0):
        return "the kernel killed the process: the machine ran out of memory"
    message = next((line.strip() for line in reversed(log_lines) if _NO_MEMORY.search(line)), "")
    is_aborted = child.exit is not None and child.exit == -getattr(signal, "SIGABRT", 0)
    return f"out of memory: {message}" if is_aborted and message else ""


def _out_of_memory_kills() -> int | None:
    """Counts the processes that the kernel has killed since boot because memory ran out; None where it does not say."""
    try:
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return None
