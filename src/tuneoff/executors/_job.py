"""What runs in a job of a cluster: one trial of a study, sealed whatever happens to its process.

`python -m tuneoff.executors._job STUDY TRIAL DEVICE`, from the folder that the study's relative paths start from.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from tuneoff.executors.local import LocalExecutor
from tuneoff.store import StudyStore

CANCELLED_EXIT = 130


def main(root: str, trial_id: str, device: str) -> int:
    """Runs the trial; returns an exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    if threads := os.environ.get("SLURM_CPUS_PER_TASK"):
        # A cluster may not confine a job to the cores that it was given.
        os.environ.setdefault("OMP_NUM_THREADS", threads)
    store = StudyStore(Path(root))
    try:
        with LocalExecutor(device) as executor:
            executor.run(store, [store.trial(trial_id).spec()], lambda _: None)
    except KeyboardInterrupt:
        return CANCELLED_EXIT
    return 0


def _interrupt(*_: Any) -> None:
    """Ends the trial as Ctrl-C does; once, because SLURM may ask again."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
