"""What runs in a job of a cluster: one trial of a study, sealed whatever happens to its process.

`python -m tuneoff.executors._job STUDY TRIAL DEVICE`, from the folder that the study's relative paths start from.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tuneoff.executors.local import LocalExecutor
from tuneoff.store import StudyStore

CANCELLED_EXIT = 130
GRACE_SECONDS = 25.0
"""How long the trial may take to end its step and write a checkpoint: SLURM waits for 30 s before it kills a job, where
its KillWait is as usual."""


def main(root: str, trial_id: str, device: str) -> int:
    """Runs the trial; returns an exit code.

    A job that SLURM warns of its time limit (SIGUSR2) goes back to the queue, where the trial continues from its
    checkpoint; unless it came no further than it was when the job began, so that it would never end.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGUSR2, _warn)
    if threads := os.environ.get("SLURM_CPUS_PER_TASK"):
        # A cluster may not confine a job to the cores that it was given.
        os.environ.setdefault("OMP_NUM_THREADS", threads)
    store = StudyStore(Path(root))
    trial_store = store.trial(trial_id)
    step_before = trial_store.checkpoints.newest_step()
    try:
        with LocalExecutor(device) as executor:
            executor.grace_seconds = GRACE_SECONDS
            executor.run(store, [trial_store.spec()], lambda _: None)
    except TimeLimit:
        # More steps, not another checkpoint: a validation that is too long for a job leaves one of the same step, and a
        # job on another processor begins at the first step.
        if trial_store.checkpoints.newest_step() > step_before:
            subprocess.run(["scontrol", "requeue", _job_number()], check=False)
        return CANCELLED_EXIT
    except KeyboardInterrupt:
        return CANCELLED_EXIT
    return 0


def _job_number() -> str:
    """Returns this job's number. One of an array is named by its place there: the number of the last of them is the
    whole array's too."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]


class TimeLimit(KeyboardInterrupt):
    """The job's time is nearly over."""


def _warn(*_: Any) -> None:
    """Ends the trial because the job's time is nearly over; once."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    raise TimeLimit


def _interrupt(*_: Any) -> None:
    """Ends the trial as Ctrl-C does; once, because SLURM may ask again."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
