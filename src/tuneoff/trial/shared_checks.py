"""What comes out alike for every seed of an arm, or for every arm: a run's first trial does it, the others read the
answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from tuneoff.checksums import content_hash, file_states
from tuneoff.errors import StoreError
from tuneoff.store import write_atomically
from tuneoff.trial.context import TrialContext

Answer = TypeVar("Answer", bool, str)


def once(context: TrialContext, name: str, check: Callable[[], Answer]) -> Answer:
    """Returns what a check says, from the run's scratch folder where an earlier seed of the arm left it there.

    A run has one device; what else the answer may depend on are model, rows, method, options and precision, and these
    have to be the same: the studies of a series share a folder. A rate or a seed changes no such answer.
    `execution: plain` checks anew.

    Args:
        context: of the trial.
        name: names the check.
        check: does it.
    """
    spec = context.spec
    if context.scratch is None or spec.execution.engine == "plain":
        return check()
    arm = {
        "model": spec.model.model_dump(mode="json"),
        "task": spec.task.model_dump(mode="json"),
        "start": spec.start_from,
        "files": spec.fingerprints,
        "protocol": spec.protocol.model_dump(mode="json", exclude={"seeds", "search", "learning_rate"}),
        "method": spec.method,
        "options": spec.options,
        "devices": [spec.devices, spec.shard],
    }
    return _kept(context.scratch, f"{name}-{content_hash(arm)[:16]}", check)


def once_for_files(context: TrialContext, name: str, folder: Path, check: Callable[[], str]) -> str:
    """Returns what was computed of a folder's files for the task, from the run's scratch folder where an earlier trial
    of any arm left it there and nothing was written to the files since. `execution: plain` computes it anew.

    Args:
        context: of the trial.
        name: names what is computed.
        folder: of the files.
        check: computes it.
    """
    spec = context.spec
    if context.scratch is None or spec.execution.engine == "plain" or (states := file_states(folder)) is None:
        return check()
    key = {"files": states, "model": spec.model.model_dump(mode="json"), "task": spec.task.model_dump(mode="json")}
    return _kept(context.scratch, f"{name}-{content_hash(key)[:16]}", check)


def _kept(scratch: Path, name: str, check: Callable[[], Answer]) -> Answer:
    """Returns an answer that is kept in a run's scratch folder; makes and keeps it where there is none."""
    path = scratch / "checks" / f"{name}.json"
    with suppress(OSError, ValueError):
        answer: Answer = json.loads(path.read_text(encoding="utf-8"))
        return answer
    answer = check()
    with suppress(StoreError):
        write_atomically(path, json.dumps(answer))
    return answer
