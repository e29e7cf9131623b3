"""Trials on this machine, one after another or one on each device; each in a process of its own, but for those that
train together (`execution.together`)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field

from tuneoff.config.execution import ExecutionSpec
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import CorruptRecord, ExecutorError, OutOfMemory
from tuneoff.executors import _endings
from tuneoff.executors._children import Child, Children, Spawner, WarmParent, last_line, rebuild_error
from tuneoff.executors._interrupts import noted_interrupts
from tuneoff.executors._needs import expected_needs
from tuneoff.executors._placement import Allocation, Device, Placement, divide_cores, own_cores
from tuneoff.executors._running import RunningTrial, start_together
from tuneoff.executors._second_try import as_left, second_try
from tuneoff.executors._together import Companions, most_together
from tuneoff.executors.base import Executor, Inspection, Listener, Progress
from tuneoff.interfaces import ExecutorOptions
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore

POLL_SECONDS = 0.1
GRACE_SECONDS = 5.0
"""How long a trial that was asked to stop may take to do so: it ends its step and writes a checkpoint."""
LOST_SECONDS = 2.0
"""How long it may take until a killed trial is reported as ended; then its parent process is ended, too."""
ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "true",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
}
CAN_FORK = hasattr(os, "fork") and os.name == "posix"

Starter = Callable[[dict[str, str]], Children]


class LocalOptions(ExecutorOptions):
    """Options of `local`."""

    trials_per_device: int = Field(
        1,
        ge=1,
        description="trials at once on each GPU, or on the CPU, whose cores are then divided between them; on a shared "
        "GPU the first trial of each arm runs alone, and only its costs count",
    )


class LocalExecutor(Executor):
    """On GPUs as many trials at once as there are GPUs, each with its share of the cores. On a CPU one at a time,
    because two on the same cores would slow each other and distort their timings; with `trials_per_device` more, each
    on cores of its own.

    Where several run, the trials of one seed start before those of the next, the longest first, and only as far as
    their forecast says that memory is enough.
    """

    title = "This machine"
    summary = "Trials run on this machine: one on each GPU, or one at a time on the CPU."
    Options: ClassVar[type[ExecutorOptions]] = LocalOptions

    @classmethod
    def create(cls, device: str, options: Mapping[str, Any]) -> Self:
        return cls(device, LocalOptions.model_validate(dict(options)).trials_per_device)

    def __init__(self, device: str = "auto", trials_per_device: int = 1, starter: Starter | None = None) -> None:
        """Args:
        device: auto, cpu or cuda.
        trials_per_device: see `LocalOptions`.
        starter: starts processes in the environment that it is given; where unset they are forked from a warm parent if
            the system can fork.
        """
        self.device = device
        self.trials_per_device = trials_per_device
        self.grace_seconds = GRACE_SECONDS
        self.tries_again = True
        """Whether this executor itself makes the second try of a trial that ran out of memory."""
        self._starter: Starter = starter or (WarmParent if CAN_FORK else Spawner)
        self._children: Children | None = None
        self._gpus: list[dict[str, Any]] | None = None
        self._companions = Companions()

    @property
    def children(self) -> Children:
        """Returns the object that starts processes; makes it when it is first needed."""
        if self._children is None:
            extra = {"CUDA_VISIBLE_DEVICES": ""} if self.device == "cpu" else {}
            self._children = self._starter({**ENVIRONMENT, **extra})
        return self._children

    def warm_up(self) -> None:
        self.children  # noqa: B018 - the property makes it

    def close(self) -> None:
        if self._children is not None:
            self._children.close()
            self._children = None

    def devices(self) -> list[Device]:
        """Returns what trials compute on here.

        Raises:
            ExecutorError: if there are fewer cores than trials that should run at once.
        """
        if self._gpus is None:
            self._gpus = [] if self.device == "cpu" else self.call("gpus", {"device": self.device})
        return devices_of(self._gpus, self.trials_per_device, own_cores())

    def call(self, verb: str, payload: dict[str, Any]) -> Any:
        log = Path(self.children.scratch.name) / "call.log"
        oom_kills = _endings.out_of_memory_kills()
        child = self.children.start(verb, payload, log)
        try:
            while not self.children.wait(child, 1.0):
                pass
        except KeyboardInterrupt:
            with noted_interrupts() as is_interrupted:
                self._stop([child], is_interrupted)
            raise
        reply = child.reply()
        if reply is None:
            log_line = last_line(log)
            if memory_cause := _endings.ran_out_of_memory(child, oom_kills, [log_line]):
                raise OutOfMemory(f"{memory_cause} (asked for {verb!r})", hint="Free memory on this machine.")
            raise ExecutorError(
                f"the process for {verb!r} ended without an answer ({_endings.ending(child)})"
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
        if require_data:
            self._gpus = answer["gpus"]
            self.devices()
        labels, warnings = tuple(answer["labels"]), tuple(answer["warnings"])
        return Inspection(answer["trials"], labels, answer["data"], warnings, answer["contents"])

    def trains_together(self, execution: ExecutionSpec) -> int:
        return most_together(execution, self.devices()[0].gpu is not None)

    def run(self, store: StudyStore, trials: Sequence[TrialSpec], listener: Listener) -> None:
        waiting, finished = [], []
        for trial in trials:
            record = store.trial(trial.id).finished_record()
            if record is not None:
                self.skip(trial, record, listener)
                finished.append(record)
            else:
                waiting.append(as_left(store.trial(trial.id), trial))
        if waiting:
            self._run_all(store, waiting, _placement(self.devices(), store, waiting, finished), listener)

    def _run_all(
        self, store: StudyStore, trials: Sequence[TrialSpec], placement: Placement, listener: Listener
    ) -> None:
        """Runs trials; whatever happens to their processes, they have records afterwards.

        Raises:
            KeyboardInterrupt: after those that ran were recorded as cancelled.
            StoreError: after they were ended, if the study's folder is no longer there or cannot be written.
        """
        ordered, running = placement.ordered(trials), list[RunningTrial]()
        waiting = {trial.id: trial for trial in ordered}
        self._companions.expect(ordered)
        groups: dict[str, list[TrialSpec]] = {}

        def others_of(trial: TrialSpec) -> list[TrialSpec]:
            # It is read from files, which change for a waiting trial only where one starts or ends.
            if trial.id not in groups:
                groups[trial.id] = [one for one in self._earlier_group(store, placement, trial) if one.id != trial.id]
            return groups[trial.id]

        try:
            while waiting or running:
                while waiting and (placed := placement.next(waiting.values(), others_of)) is not None:
                    store.refuse_lost()
                    started = self._start(store, placement, *placed, waiting, running)
                    groups.clear()
                    for trial in started:
                        del waiting[trial.id]
                        listener(Progress("started", trial, together=len(started)))
                again: dict[str, TrialSpec] = {}
                for ended in self._follow(store, running, listener):
                    groups.clear()
                    store.refuse_lost()
                    ended.pass_on(listener)
                    placement.release(ended.trial)
                    running.remove(ended)
                    if reason := ended.why_apart():
                        self._companions.separate(ended.trial, reason)
                        again[ended.trial.id] = ended.trial
                        continue
                    record = ended.seal()
                    if self.tries_again and (smaller := second_try(record)) is not None:
                        again[smaller.id] = smaller
                        continue
                    placement.note(record)
                    listener(Progress("ended", ended.trial, record=record))
                for lost in [one for one in running if one.children is not self.children]:
                    # It ended with the parent process, which another trial made hang.
                    groups.clear()
                    running.remove(lost)
                    placement.release(lost.trial)
                    again[lost.trial.id] = lost.trial
                waiting = {**again, **waiting}
        except KeyboardInterrupt:
            with noted_interrupts() as is_interrupted:
                begun = [one for one in running if one.child is not None]
                self._stop(_processes(begun), is_interrupted)
                store.refuse_lost()
                for one in begun:
                    one.ended_by = one.ended_by or Status.CANCELLED
                    one.seal()
            raise
        except BaseException:
            self._stop(_processes(running))
            raise

    def _start(
        self,
        store: StudyStore,
        placement: Placement,
        trial: TrialSpec,
        allocation: Allocation,
        waiting: Mapping[str, TrialSpec],
        running: list[RunningTrial],
    ) -> list[TrialSpec]:
        """Starts a trial that was placed, with those that train together with it; returns them all."""
        trials, ids = self._find_group(store, placement, trial, waiting)
        started = [RunningTrial(store, one, allocation) for one in trials]
        running += started
        if len(ids) > 1:
            start_together(started, ids, store, self.children, self.device)
        else:
            started[0].start(self.children, self.device, self._companions.take_reason(trial))
        return trials

    def _find_group(
        self, store: StudyStore, placement: Placement, trial: TrialSpec, waiting: Mapping[str, TrialSpec]
    ) -> tuple[list[TrialSpec], list[str]]:
        """Finds the trials to train in one process: with one that has begun together with others, those that still
        wait; with one that begins, others that begin; one that has begun alone goes on alone.

        Returns:
            The trials that start, and the ids of all that the process computes, in its order: also of those that have
            ended, because the bits of the others hang on how many there are.
        """
        if earlier_ids := [one.id for one in self._earlier_group(store, placement, trial)]:
            left = [waiting[name] for name in earlier_ids if name != trial.id and name in waiting]
            go_on = [other for other in left if _goes_on(store, other, earlier_ids) and placement.join(other, trial)]
            return [trial, *go_on], earlier_ids
        companions: list[TrialSpec] = []
        if _begins(store, trial):
            companions = self._companions.find(
                trial, waiting, placement.on_gpu, lambda other: _begins(store, other) and placement.join(other, trial)
            )
        return [trial, *companions], [trial.id, *(other.id for other in companions)]

    def _earlier_group(self, store: StudyStore, placement: Placement, trial: TrialSpec) -> list[TrialSpec]:
        """Returns the trials that a process computes which goes on with this one, itself included, in their order;
        none where it begins, or goes on alone."""
        ids = store.trial(trial.id).checkpoints.trained_together()
        others = _specs_of(store, [name for name in ids if name != trial.id])
        if not ids or others is None or not self._companions.may_continue(trial, others, placement.on_gpu):
            return []
        by_id = {one.id: one for one in (trial, *others)}
        return [by_id[name] for name in ids]

    def _follow(self, store: StudyStore, running: Sequence[RunningTrial], listener: Listener) -> list[RunningTrial]:
        """Waits a moment, passes on what trials tell and ends those that take too long; returns those that ended."""
        ended = list[RunningTrial]()
        for number, one in enumerate(running):
            assert one.child is not None
            if one.children is not self.children:
                continue
            left = [other for other in running if other not in ended]
            if self.children.wait(one.child, POLL_SECONDS if number == 0 else 0.0) or one.has_ended_before(left):
                ended.append(one)
                continue
            store.refuse_lost()
            one.pass_on(listener)
            if one.is_over_time:
                if one.companions == 1:
                    one.ended_by = Status.OVER_BUDGET
                self._stop([one.child])
                ended.append(one)
        return ended

    def _stop(self, running: Sequence[Child], is_interrupted: Callable[[], bool] = lambda: False) -> None:
        """Asks children to stop, and kills those that do not; at once if the user interrupts again
        (`is_interrupted`)."""
        self.children.wake()
        for child in running:
            child.stop()
        deadline = time.monotonic() + (self.grace_seconds if any(child.pid is not None for child in running) else 0.0)
        left = list(running)
        with suppress(ExecutorError):
            while left and time.monotonic() < deadline + LOST_SECONDS:
                if is_interrupted():
                    deadline = min(deadline, time.monotonic())
                left = [child for child in left if not self.children.wait(child, POLL_SECONDS / len(left))]
                if time.monotonic() > deadline:
                    for child in left:
                        child.signal(signal.SIGKILL)
        if any(child.exit is None for child in running):
            # The parent process still starts, or hangs: its children end with it, and the next trial gets a new parent.
            LocalExecutor.close(self)


plugin = LocalExecutor


def _begins(store: StudyStore, trial: TrialSpec) -> bool:
    """Tells whether a trial has no checkpoint to continue from."""
    return not store.trial(trial.id).checkpoints.newest_first()


def _goes_on(store: StudyStore, trial: TrialSpec, ids: Sequence[str]) -> bool:
    """Tells whether a trial that has no result yet is still trained together with these: it did not diverge, nor go on
    alone."""
    trial_store = store.trial(trial.id)
    if trial.halved_batches:
        return False
    if trial_store.checkpoints.newest_first():
        return trial_store.checkpoints.trained_together() == tuple(ids)
    record = trial_store.intact_record()
    return record is None or record.status is not Status.DIVERGED


def _specs_of(store: StudyStore, ids: Sequence[str]) -> list[TrialSpec] | None:
    """Returns the specifications of trials; None where one cannot be read."""
    try:
        return [store.trial(name).spec() for name in ids]
    except CorruptRecord:
        return None


def _processes(running: Sequence[RunningTrial]) -> list[Child]:
    """Returns the processes of trials, each once."""
    return list(dict.fromkeys(one.child for one in running if one.child is not None))


def devices_of(gpus: Sequence[Mapping[str, Any]], trials_each: int, cores: set[int] | None) -> list[Device]:
    """Returns the devices of a machine, each trial at once with cores of its own.

    Args:
        gpus: each with its `name` for CUDA_VISIBLE_DEVICES and `memory_bytes`; empty: trials run on the CPU.
        trials_each: trials at once on each device.
        cores: that this process may use; None where the system confines no process.

    Raises:
        ExecutorError: if there are too few cores.
    """
    wanted = max(1, len(gpus)) * trials_each
    if wanted == 1:
        return [Device((None,), gpu["name"], gpu["memory_bytes"]) for gpu in gpus] or [Device((None,))]
    shares = divide_cores(cores, wanted)
    if shares is None and trials_each == 1:
        # Fewer cores than GPUs: trials would disturb one another's timings.
        return devices_of(gpus[:1], 1, cores)
    if shares is None:
        count = "this system confines no process to its cores" if cores is None else f"there are {len(cores)} here"
        raise ExecutorError(
            f"{wanted} trials at once need as many cores of their own, and {count}",
            hint="Set executor.trials_per_device to less.",
        )
    if not gpus:
        return [Device((share,)) for share in shares]
    return [
        Device(tuple(shares[number * trials_each : (number + 1) * trials_each]), gpu["name"], gpu["memory_bytes"])
        for number, gpu in enumerate(gpus)
    ]


def _placement(
    devices: Sequence[Device], store: StudyStore, trials: Sequence[TrialSpec], finished: Sequence[TrialRecord]
) -> Placement:
    """Returns where trials go, by the study's forecast and by what finished trials took."""
    import psutil

    needs = expected_needs(store, trials)
    placement = Placement(devices, psutil.virtual_memory().total, needs)
    for record in finished:
        placement.note(record)
    return placement
