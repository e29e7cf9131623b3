"""How a trial's process ended, when it left no record of its own."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuneoff.config.spec import TrialSpec
from tuneoff.errors import Cancelled, Diverged, OutOfMemory, StoreError
from tuneoff.executors._children import Child
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import TrialStore

_NO_MEMORY = re.compile(r"memory allocation of \d+ bytes failed|bad_alloc|cannot allocate memory", re.IGNORECASE)
"""Messages of Rust, C++ and C libraries before they abort because memory ran out."""

STATUS_OF = {
    OutOfMemory.__name__: Status.OUT_OF_MEMORY,
    Diverged.__name__: Status.DIVERGED,
    Cancelled.__name__: Status.CANCELLED,
}


def failure(
    trial_store: TrialStore,
    trial: TrialSpec,
    child: Child,
    error: dict[str, Any] | None,
    ended_by: Status | None,
    oom_kills: int | None,
) -> TrialRecord:
    """Makes the record of a trial whose process wrote none.

    Args:
        trial_store: the trial's folder.
        trial: the trial.
        child: its process, which has ended.
        error: what the process answered, as `requests` describes it; None: nothing.
        ended_by: why the executor ended it: over budget or cancelled; None: it ended by itself.
        oom_kills: `out_of_memory_kills` before it started.
    """
    status: Status
    if ended_by is Status.OVER_BUDGET:
        limit = trial.execution.timeout_seconds
        status, cause = ended_by, f"the trial took longer than execution.timeout_seconds, {limit:g} s"
    elif ended_by is Status.CANCELLED:
        status, cause = ended_by, "the run was interrupted"
    elif error is not None:
        status = STATUS_OF.get(error["type"], Status.FAILED)
        cause = " ".join(part for part in (error["message"], error["hint"]) if part)
        if error["type"] == StoreError.__name__:
            cause = error["message"]
        if error.get("killed") and (out_of_memory_kills() or 0) > (oom_kills or 0):
            status, cause = Status.OUT_OF_MEMORY, f"{cause}: the machine ran out of memory"
    elif memory_cause := ran_out_of_memory(child, oom_kills, trial_store.log_tail()):
        status, cause = Status.OUT_OF_MEMORY, memory_cause
    else:
        status, cause = Status.FAILED, f"the trial's process ended without a result ({ending(child)})"
    tail = trial_store.log_tail(rank=(error or {}).get("rank", 0)) or trial_store.log_tail()
    findings = trial_store.tracker_findings()
    return TrialRecord(spec=trial, status=status, cause=cause, log_tail=tail, findings=findings)


def ending(child: Child) -> str:
    """Describes how a process ended."""
    if child.exit is None:
        return "it was still running"
    if child.exit < 0:
        return f"killed by {signal.Signals(-child.exit).name}"
    return f"exit status {child.exit}"


def ran_out_of_memory(child: Child, oom_kills: int | None, log_lines: Sequence[str]) -> str:
    """Returns how a process that left no answer ran out of memory; empty where nothing shows that it did.

    Args:
        child: the process.
        oom_kills: `out_of_memory_kills` before the process started.
        log_lines: the last lines of its log. Libraries that cannot raise an error write there and abort.
    """
    if child.exit == -signal.SIGKILL and (out_of_memory_kills() or 0) > (oom_kills or 0):
        return "the kernel killed the process: the machine ran out of memory"
    message = next((line.strip() for line in reversed(log_lines) if _NO_MEMORY.search(line)), "")
    is_aborted = child.exit is not None and child.exit == -getattr(signal, "SIGABRT", 0)
    return f"out of memory: {message}" if is_aborted and message else ""


def out_of_memory_kills() -> int | None:
    """Counts the processes that the kernel has killed since boot because memory ran out; None where it does not say."""
    try:
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return None
