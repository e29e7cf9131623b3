"""Checks that come out alike for every seed of an arm: a run's first trial does them, the others read the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from tuneoff.checksums import content_hash
from tuneoff.errors import StoreError
from tuneoff.store import write_atomically
from tuneoff.trial.context import TrialContext

Answer = TypeVar("Answer", bool, str)


def once(context: TrialContext, name: str, check: Callable[[], Answer]) -> Answer:
    """Returns what a check says, from the run's scratch folder where an earlier seed of the arm left it there.

    A run has one model, one set of rows and one device; what else the answer may depend on are method, options and
    precision, and these have to be the same. A rate or a seed changes no such answer. `execution: plain` checks anew.

    Args:
        context: of the trial.
        name: names the check.
        check: does it.
    """
    spec = context.spec
    if context.scratch is None or spec.execution.engine == "plain":
        return check()
    arm = {
        "protocol": spec.protocol.model_dump(mode="json", exclude={"seeds", "search", "learning_rate"}),
        "method": spec.method,
        "options": spec.options,
        "devices": [spec.devices, spec.shard],
    }
    path = context.scratch / "checks" / f"{name}-{content_hash(arm)[:16]}.json"
    with suppress(OSError, ValueError):
        answer: Answer = json.loads(path.read_text(encoding="utf-8"))
        return answer
    answer = check()
    with suppress(StoreError):
        write_atomically(path, json.dumps(answer))
    return answer
