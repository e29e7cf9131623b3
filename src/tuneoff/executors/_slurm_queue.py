"""One study's jobs in SLURM's queue: which trials go together, which are there, and how SLURM is asked."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tuneoff.checksums import content_hash
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import ExecutorError
from tuneoff.store import StudyStore

POLL_SECONDS = 2.0
"""Seconds between two questions to SLURM, which answers for all jobs at once."""
TRIES = 10
"""How often SLURM is asked about the queue until it answers; it is out of reach for seconds at times."""
JOB_VARIABLES = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_CPUS_PER_TASK")
"""What a job reads of itself, and SLURM sets in some jobs alone: an array's elements, those with a number of cores."""
NO_LIMIT_MINUTES = 365 * 24 * 60
USUAL_ARRAY_SIZE = 1001
"""Elements that SLURM lets a job array have where it is not configured otherwise (MaxArraySize)."""


@dataclass(frozen=True)
class JobArray:
    """Trials of equal resources, which are submitted as one; one by itself is a plain job.

    Attributes:
        trials: in the order of the elements' numbers, which begin at 0.
        minutes: time limit of each, where the options name none; None: the cluster's default.
    """

    trials: tuple[TrialSpec, ...]
    minutes: int | None = None

    @property
    def devices(self) -> int:
        """Returns how many devices each trial has."""
        return self.trials[0].devices


class Queue:
    """The jobs of one study in SLURM's queue. Which trials an array holds is written to the study's folder before it is
    submitted, so that another process finds them again.

    Args:
        store: the study's folder, whose path names the jobs.
    """

    def __init__(self, store: StudyStore) -> None:
        self._store = store
        self._prefix = f"tuneoff-{content_hash(str(store.root.resolve()))[:10]}"
        self._trial_ids: dict[str, list[str]] = {}

    def name(self, array: JobArray) -> str:
        """Returns the name of the jobs of an array: of the study's folder and the trials' content."""
        return f"{self._prefix}-{content_hash([trial.id for trial in array.trials])[:10]}"

    def arrays(self, trials: Sequence[TrialSpec], minutes: Mapping[str, int]) -> list[JobArray]:
        """Returns trials of equal resources put together, as many as SLURM takes at once, in the order of the first of
        each.

        Args:
            trials: in the order in which they are to start.
            minutes: trial id -> its time limit; those that are left out have the cluster's default.
        """
        alike: dict[tuple[int, int | None], list[TrialSpec]] = {}
        for trial in trials:
            alike.setdefault((trial.devices, minutes.get(trial.id)), []).append(trial)
        most = most_elements() if len(alike) < len(trials) else 1
        return [
            JobArray(tuple(group[first : first + most]), limit)
            for (_, limit), group in alike.items()
            for first in range(0, len(group), most)
        ]

    def submit(self, array: JobArray, script: str) -> list[str]:
        """Submits trials as one; returns the number of the job of each.

        Raises:
            ExecutorError: with what SLURM says where it refuses them.
        """
        self._store.write_job_trials(self.name(array), [trial.id for trial in array.trials])
        # Jobs inherit the environment of sbatch, also where it runs in a job itself.
        environment = {name: value for name, value in os.environ.items() if name not in JOB_VARIABLES}
        answer = slurm(["sbatch", "--parsable"], script, environment=environment)
        number = answer.strip().partition(";")[0]
        return [f"{number}_{element}" for element in range(len(array.trials))] if len(array.trials) > 1 else [number]

    def active(self) -> dict[str, str]:
        """Returns trial id -> job number, as `12_3` of an array's element, of the study's trials that wait or run.

        Raises:
            ExecutorError: if SLURM does not answer, or it is not known which trial a job runs.
        """
        lines = slurm(["squeue", "--me", "--noheader", "--array", "--format=%i %j"], tries=TRIES).splitlines()
        jobs = {}
        for number, _, name in (line.strip().partition(" ") for line in lines):
            if name.startswith(self._prefix):
                _, _, element = number.partition("_")
                jobs[self._trials_of(name, number)[int(element or 0)]] = number
        return jobs

    def _trials_of(self, name: str, number: str) -> list[str]:
        if name not in self._trial_ids:
            trial_ids = self._store.job_trials(name)
            if trial_ids is None:
                raise ExecutorError(
                    f"job {number} in SLURM's queue is of this study, and which trial it runs is not known: "
                    f"{self._store.job_folder / name}.json is not there",
                    hint=f"Cancel the job (scancel --name={name}), and run the same command again.",
                )
            self._trial_ids[name] = trial_ids
        return self._trial_ids[name]


def most_elements() -> int:
    """Returns how many trials an array may hold; 1 where the cluster takes no arrays."""
    with suppress(ExecutorError, OSError):
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", slurm(["scontrol", "show", "config"]), re.MULTILINE)
        if found is not None:
            return max(1, int(found[1]))
    return USUAL_ARRAY_SIZE


def partition_minutes(partition: str | None) -> int:
    """Returns the longest time that a partition gives a job, the default one where none is named; very long where it
    has no limit, or SLURM does not say."""
    lines: list[str] = []
    with suppress(ExecutorError, OSError):
        lines = slurm(["sinfo", "--noheader", "--format=%P %l"]).splitlines()
    limits = dict(line.split() for line in lines if len(line.split()) == 2)
    name = next((name for name in limits if name.endswith("*")), "") if partition is None else partition
    text = limits.get(name) or limits.get(f"{name}*") or ""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if found is None:
        return NO_LIMIT_MINUTES
    days, hours, minutes, _ = (int(part or 0) for part in found.groups())
    return max(1, (days * 24 + hours) * 60 + minutes)


def slurm(
    command: Sequence[str],
    script: str | None = None,
    tries: int = 1,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Runs a command of SLURM, in this process's environment or the one given; returns what it prints.

    Raises:
        ExecutorError: with what it says, if it fails so many times.
    """
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False, env=environment)
    if done.returncode and tries > 1:
        time.sleep(POLL_SECONDS)
        return slurm(command, script, tries - 1, environment)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise ExecutorError(
            f"{command[0]} failed: {lines[0]}",
            hint="Jobs that were submitted go on; the same command finds them again.",
        )
    return done.stdout
