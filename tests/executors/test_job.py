"""A job of a cluster whose time is nearly over goes back to the queue only where its trial came further."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from running_helpers import Prepared
from tuneoff.executors import _job
from tuneoff.executors.local import LocalExecutor

pytest_plugins = ("running_fixtures",)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Gives signals their handlers back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("is_array", [False, True])
@pytest.mark.parametrize(
    ("before", "saved", "requeued"),
    [
        (None, [5], True),
        (None, [], False),
        (5, [9], True),
        (5, [5], False),  # as of a validation that is longer than the job may take
        (9, [2, 4], False),  # as on another processor, where the training begins anew
    ],
)
def test_a_job_goes_back_to_the_queue_only_with_more_steps(
    prepare: Callable[..., Prepared],
    monkeypatch: pytest.MonkeyPatch,
    before: int | None,
    saved: list[int],
    requeued: bool,
    is_array: bool,
) -> None:
    prepared = prepare(("full",))
    (trial,) = prepared.trials
    checkpoints = prepared.store.trial(trial.id).checkpoints

    def save(step: int) -> None:
        checkpoints.save(lambda folder: (folder / "state.json").write_text("{}"), {}, step)

    def run(*_: Any) -> None:
        for step in saved:
            save(step)
        raise _job.TimeLimit

    commands: list[list[str]] = []
    monkeypatch.setattr(LocalExecutor, "run", run)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    if is_array:
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    if before is not None:
        save(before)
    assert _job.main(str(Path(prepared.store.root)), trial.id, "cpu") == _job.CANCELLED_EXIT
    assert commands == ([["scontrol", "requeue", "7_3" if is_array else "7"]] if requeued else [])
