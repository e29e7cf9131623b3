"""Trials as jobs of a SLURM cluster; the study's folder lies on a file system that all nodes share.

This process submits and watches. It may be killed and started again at any time: jobs bear the study's name and are
found again. What runs in a job is `tuneoff.executors._job`.

Jobs are submitted by `sbatch` and not by submitit: that sends functions as pickles, must be installed on every node,
and finds no job again once the process that submitted it has ended.
"""

from __future__ import annotations

import math
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from pydantic import Field

from tuneoff.config.spec import TrialSpec
from tuneoff.errors import ExecutorError
from tuneoff.executors._elsewhere import ElsewhereExecutor, FollowedTrial
from tuneoff.executors._interrupts import noted_interrupts
from tuneoff.executors._needs import expected_needs
from tuneoff.executors._placement import Need
from tuneoff.executors._second_try import second_try
from tuneoff.executors._slurm_queue import POLL_SECONDS, JobArray, Queue, partition_minutes, slurm
from tuneoff.executors.base import Listener, Progress
from tuneoff.interfaces import ExecutorOptions
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore, TrialStore

VISIBLE_SECONDS = 10.0
"""How long a file that another node has written may take to be seen here."""
SPARE_SECONDS = 600.0
"""What a time limit has beyond the expected time: a file system that is slow, libraries that are loaded."""
MOST_DOUBLINGS = 4
"""How often a time limit is doubled at most."""
CANCEL_SECONDS = 60.0
"""How long cancelled jobs may take to end; SLURM kills them after its own KillWait."""


class SlurmOptions(ExecutorOptions):
    """Options of `slurm`; what is unset is the cluster's default."""

    partition: str | None = Field(None, description="partition of the jobs")
    account: str | None = Field(None, description="account that is charged")
    qos: str | None = Field(None, description="quality of service")
    constraint: str | None = Field(None, description="features that a node must have, e.g. a100")
    time: str | None = Field(
        None,
        description="time limit of a trial as sbatch takes it, e.g. '2:00:00' or '90'; unset: by the forecast, or the "
        "partition's where there is none",
    )
    time_margin: float = Field(
        3.0, ge=1, description="where `time` is unset: the limit is this many times the expected time, and ten minutes"
    )
    requeue_seconds: int | None = Field(
        None,
        ge=1,
        description="so long before its time limit a job writes a checkpoint and goes back to the queue, as often as "
        "its trial needs; unset: the trial is cancelled at the limit, and the same command continues it",
    )
    array_limit: int | None = Field(
        None,
        ge=1,
        description="trials of one job array that run at once, at most (`%N` of sbatch); unset: as many as the cluster "
        "has room for",
    )
    cpus: int | None = Field(None, ge=1, description="cores of a trial, and threads that it uses")
    memory: str | None = Field(None, description="memory of a trial as sbatch takes it, e.g. 32G")
    setup: tuple[str, ...] = Field((), description="lines of bash before a trial, e.g. `module load cuda`")
    python: str | None = Field(
        None,
        description="how a job calls Python, e.g. `apptainer exec --nv tuneoff.sif python`; unset: the Python that "
        "tuneoff runs in here",
    )
    sbatch: tuple[str, ...] = Field((), description="further options of sbatch, e.g. --exclude=node7")


class SlurmExecutor(ElsewhereExecutor):
    """Submits trials of equal resources as one job array and follows them in the study's folder, which all nodes must
    see under the same path. `--device cuda` asks for as many GPUs as a trial has devices.

    Ctrl-C, SIGTERM and a lost connection cancel the jobs. Where this process is killed they go on; the same command
    finds them and submits none twice. A job that is preempted goes back to the queue and continues its trial from the
    last checkpoint.

    Model and data are inspected on this machine, on the CPU; forecasts are estimates, because nothing is tried here.
    """

    title = "SLURM"
    summary = "Trials are jobs of a SLURM cluster, those of equal resources one job array."
    Options = SlurmOptions

    @classmethod
    def create(cls, device: str, options: Mapping[str, Any]) -> Self:
        missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
        if missing:
            raise ExecutorError(
                f"the commands of SLURM are not here ({', '.join(missing)})",
                hint="Run tuneoff on a node of the cluster where jobs are submitted, or use --executor local.",
            )
        return cls(device, SlurmOptions.model_validate(dict(options)))

    def __init__(self, device: str = "auto", options: SlurmOptions | None = None) -> None:
        """Args:
        device: auto, cpu or cuda, of the jobs.
        options: the cluster's defaults where unset.
        """
        super().__init__(device)
        self.job_options = options or SlurmOptions()

    def run(self, store: StudyStore, trials: Sequence[TrialSpec], listener: Listener) -> None:
        queue = Queue(store)
        waiting = [Job(one.store, one.trial) for one in self.open_trials(store, trials, listener)]
        try:
            if waiting:
                self._submit(store, queue, waiting)
            while waiting:
                active = queue.active()
                store.refuse_lost()
                for job in list(waiting):
                    if job.trial.id in active:
                        job.follow(listener)
                    elif (record := job.ending(listener)) is not None:
                        waiting.remove(job)
                        if (smaller := second_try(record)) is not None:
                            again = Job(job.store, smaller)
                            self._submit(store, queue, [again])
                            waiting.append(again)
                            continue
                        listener(Progress("ended", job.trial, record=record))
                if waiting:
                    time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            with noted_interrupts():
                self._cancel(queue, waiting)
                store.refuse_lost()
            raise

    def _submit(self, store: StudyStore, queue: Queue, waiting: Sequence[Job]) -> None:
        """Submits the trials that are not in the queue."""
        active = queue.active()
        for job in waiting:
            job.number = active.get(job.trial.id)
        jobs = {job.trial.id: job for job in waiting if job.number is None}
        trials = [job.trial for job in jobs.values()]
        for job in jobs.values():
            # Before the time limits, which count the attempts that were set aside.
            job.prepare()
        limits = TimeLimits(store, trials, self.job_options).minutes if self.job_options.time is None else {}
        for array in queue.arrays(trials, limits):
            numbers = queue.submit(array, self.script(store, queue, array))
            for trial, number in zip(array.trials, numbers, strict=True):
                jobs[trial.id].number = number

    def script(self, store: StudyStore, queue: Queue, array: JobArray) -> str:
        """Returns the batch script of trials that are submitted as one."""
        options = self.job_options
        limit = f"%{options.array_limit}" if options.array_limit is not None else ""
        values = {
            "job-name": queue.name(array),
            "output": store.job_folder.resolve() / "%x-%j.txt",
            "array": f"0-{len(array.trials) - 1}{limit}" if len(array.trials) > 1 else None,
            "partition": options.partition,
            "account": options.account,
            "qos": options.qos,
            "constraint": options.constraint,
            "time": array.minutes if options.time is None else options.time,
            "cpus-per-task": options.cpus,
            "mem": options.memory,
            "gpus": array.devices if self.job_device == "cuda" else None,
            # To the shell alone (`B:`), whose place the trial's executor takes.
            "signal": f"B:USR2@{options.requeue_seconds}" if options.requeue_seconds is not None else None,
        }
        flags = [f"--{key}={value}" for key, value in values.items() if value is not None]
        python = shlex.split(options.python) if options.python is not None else [sys.executable]
        job = [*python, "-m", "tuneoff.executors._job", str(store.root.resolve())]
        lines = [
            "#!/bin/bash",
            *(f"#SBATCH {shlex.quote(flag)}" for flag in [*flags, *options.sbatch]),
            "#SBATCH --requeue --open-mode=append",
            f"trials=({shlex.join(trial.id for trial in array.trials)})",
            'trial="${trials[${SLURM_ARRAY_TASK_ID:-0}]}"',
            'echo "trial $trial"',
            *options.setup,
            # In place of the shell, so that SLURM's signals reach it.
            f'exec {shlex.join(job)} "$trial" {self.job_device}',
        ]
        return "\n".join(lines) + "\n"

    def _cancel(self, queue: Queue, jobs: Sequence[Job]) -> None:
        """Cancels the jobs of these trials and waits until they have ended; records those that ran as cancelled."""
        ids = {job.trial.id for job in jobs}
        numbers = [number for trial_id, number in queue.active().items() if trial_id in ids]
        if numbers:
            slurm(["scancel", *numbers])
        deadline = time.monotonic() + CANCEL_SECONDS
        while ids & queue.active().keys() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 4)
        for job in jobs:
            if job.has_begun and job.store.record() is None:
                job.seal(Status.CANCELLED, "the run was interrupted")


plugin = SlurmExecutor


class TimeLimits:
    """Time limits of jobs by what the forecast expects their trials to take.

    A trial that is repeated gets twice as long each time: it may have been too short before.

    Attributes:
        minutes: trial id -> limit, within that of the partition; trials of which nothing is known are left out.
    """

    def __init__(self, store: StudyStore, trials: Sequence[TrialSpec], options: SlurmOptions) -> None:
        needs = expected_needs(store, trials)
        most = partition_minutes(options.partition)
        self.minutes: dict[str, int] = {}
        for trial in trials:
            seconds = needs.get(trial.id, Need()).seconds
            if seconds is not None:
                longer = 2 ** min(store.trial(trial.id).attempts, MOST_DOUBLINGS)
                minutes = math.ceil((options.time_margin * seconds + SPARE_SECONDS) / 60) * longer
                self.minutes[trial.id] = min(minutes, most)


class Job(FollowedTrial):
    """One trial that a job runs, seen from here.

    Attributes:
        number: of the job, once there is one.
    """

    def __init__(self, store: TrialStore, trial: TrialSpec) -> None:
        super().__init__(store, trial)
        self.number: str | None = None
        self._gone: float | None = None

    def ending(self, listener: Listener) -> TrialRecord | None:
        """Returns the record of a trial whose job is no longer in the queue; None while it may not be seen yet."""
        self._gone = self._gone or time.monotonic()
        record = self.store.record()
        if record is None and time.monotonic() - self._gone < VISIBLE_SECONDS:
            return None
        self.follow(listener)
        self.begin(listener)
        if record is not None:
            return record
        if self.number is not None and _ran_out_of_memory(self.number):
            return self.seal(Status.OUT_OF_MEMORY, "SLURM ended its job: it took more memory than the job has")
        cause = "its SLURM job ended without a result, as where a node fails or a job is killed"
        return self.seal(Status.FAILED, cause)


def _ran_out_of_memory(number: str) -> bool:
    """Tells whether SLURM says of a job that ended a short while ago that it ran out of memory."""
    with suppress(ExecutorError, OSError):
        return "JobState=OUT_OF_MEMORY" in slurm(["scontrol", "show", "job", number]).split()
    return False
