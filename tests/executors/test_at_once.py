"""Two trials at once on this machine: each on cores of its own, and whatever becomes of one, the other goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from running_helpers import Prepared, SharedExecutor, wait_until
from tuneoff import report
from tuneoff.executors._placement import Allocation, own_cores
from tuneoff.executors._running import RunningTrial
from tuneoff.executors.base import Progress
from tuneoff.records.record import Status, TrialRecord

pytest_plugins = ("running_fixtures",)
pytestmark = pytest.mark.skipif(len(own_cores() or ()) < 2, reason="two trials at once need two cores")

Prepare = Callable[..., Prepared]


@pytest.fixture
def pair(executor: SharedExecutor) -> Iterator[SharedExecutor]:
    """The shared executor, which runs two at once."""
    executor.trials_per_device = 2
    yield executor
    executor.trials_per_device = 1


def _faults(*ways: str) -> dict[str, Any]:
    return {way: {"method": "faulty", "how": way} for way in ways}


def _records(prepared: Prepared) -> dict[str, TrialRecord]:
    return {record.spec.label: record for record in prepared.store.records()}


def test_two_run_at_once_each_on_cores_of_its_own(pair: SharedExecutor, prepare: Prepare) -> None:
    prepared = prepare(("full", "head"), epochs=4)
    pair.run(prepared.store, prepared.trials, prepared.told.append)
    kinds = [kind for kind, _ in prepared.kinds()]
    assert kinds == ["started", "started", "ended", "ended"]
    for record in _records(prepared).values():
        assert record.status is Status.COMPLETED
        assert record.environment is not None
        assert record.environment.cores < len(own_cores() or ())
        assert record.environment.threads <= record.environment.cores
        assert record.environment.trials_at_once == 2, "each has a half of the processor's price"
        assert record.timing.train_seconds, "its costs count: it shared no core"


def test_one_that_dies_or_takes_too_long_leaves_the_other_alone(
    pair: SharedExecutor, prepare: Prepare, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair, "grace_seconds", 0.5)
    methods = {**_faults("stubborn", "kill"), "full": {}, "head": {}}
    prepared = prepare(methods, execution={"timeout_seconds": 20}, max_steps=2)
    pair.run(prepared.store, prepared.trials, prepared.told.append)
    assert {label: record.status for label, record in _records(prepared).items()} == {
        "stubborn": Status.OVER_BUDGET,
        "kill": Status.FAILED,
        "full": Status.COMPLETED,
        "head": Status.COMPLETED,
    }
    assert prepared.kinds()[-1] == ("ended", "stubborn"), "the others ran beside it"


def test_an_interrupt_records_both_as_cancelled(
    pair: SharedExecutor, prepare: Prepare, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair, "grace_seconds", 0.5)
    prepared = prepare({**_faults("slow", "stubborn"), "head": {}})
    before = set(_trial_processes())

    def listen(progress: Progress) -> None:
        prepared.told.append(progress)
        if [kind for kind, _ in prepared.kinds()] == ["started", "started"]:
            logs = [prepared.store.trial(trial.id).log_path for trial in prepared.trials[:2]]
            wait_until(lambda: all(log.exists() and "sleeping" in log.read_text() for log in logs))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pair.run(prepared.store, prepared.trials, listen)
    assert {label: (record.status, record.cause) for label, record in _records(prepared).items()} == dict.fromkeys(
        ("slow", "stubborn"), (Status.CANCELLED, "the run was interrupted")
    )
    assert set(_trial_processes()) <= before


def _trial_processes() -> list[int]:
    below = psutil.Process().children(recursive=True)
    return [process.pid for process in below if process.ppid() != os.getpid()]


def _run(running: RunningTrial, executor: SharedExecutor) -> None:
    running.start(executor.children, "cpu")
    child = running.child
    assert child is not None
    wait_until(lambda: executor.children.wait(child, 0.2))
    running.seal()


def test_a_trial_that_shared_its_device_has_quality_and_no_costs(executor: SharedExecutor, prepare: Prepare) -> None:
    prepared = prepare(("full",), seeds=2)
    for trial, shared in zip(prepared.trials, (True, False), strict=True):
        _run(RunningTrial(prepared.store, trial, Allocation((0,), ((0,),), shared=shared)), executor)
    one, two = prepared.store.records()
    assert one.metric("accuracy") is not None
    assert (one.timing.train_seconds, one.timing.total_seconds, one.throughput.examples_per_second) == (None,) * 3
    assert "at the same time" in one.missing["timing"]
    assert one.memory.peak_memory_bytes, "its memory is its own"
    assert two.timing.train_seconds
    (arm,) = report.build(prepared.store).methods
    assert arm.train_seconds.mean == pytest.approx(two.timing.train_seconds)
