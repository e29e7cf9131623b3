"""Trials on two devices, through torchrun, as the command line runs them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from running_helpers import Ended, Prepared, SharedExecutor, Tiny, wait_until
from tuneoff.errors import ExecutorError
from tuneoff.executors.base import Progress
from tuneoff.measure.machine import core_count
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

pytest_plugins = ("running_fixtures",)
pytestmark = pytest.mark.skipif(core_count() < 2, reason="there is but one core")

Prepare = Callable[..., Prepared]
NO_DROPOUT = {"dropout": 0, "gradient_accumulation_steps": 3, "precision": "fp32"}


def _ranks(tiny: Tiny) -> list[psutil.Process]:
    """Processes that are ranks of a trial of these tests and still run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [])[-2:] != ["tuneoff.trial", "rank"]:
            continue
        with contextlib.suppress(psutil.Error):
            # Another run of the tests may be under way.
            ours = process.environ().get("PYTHONPATH") == str(tiny.plugins)
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _records(prepared: Prepared) -> dict[str, TrialRecord]:
    return {record.spec.label: record for record in prepared.store.records()}


def _open_ports(tiny: Tiny) -> list[tuple[str, int]]:
    """Addresses at which a trial's launcher and ranks listen for other machines; the loopback is none."""
    ranks = _ranks(tiny)
    assert ranks
    addresses = set()
    for process in {*ranks, *(parent for rank in ranks if (parent := rank.parent()) is not None)}:
        with contextlib.suppress(psutil.NoSuchProcess):
            addresses |= {c.laddr for c in process.net_connections() if c.status == psutil.CONN_LISTEN}
    return [(ip, port) for ip, port in addresses if ip not in ("127.0.0.1", "::1")]


def _seconds_from_training(executor: SharedExecutor, prepared: Prepared, tiny: Tiny) -> float:
    """Runs trials; how long they took from the moment on that training began. No port is open to the network then."""
    began: list[float] = []

    def listen(progress: Progress) -> None:
        if progress.event.get("kind") == "phase" and progress.event.get("phase") == "train":
            began.append(time.monotonic())
            assert not _open_ports(tiny)

    executor.run(prepared.store, prepared.trials, listen)
    assert began
    return time.monotonic() - began[0]


def test_a_study_holds_one_device_and_two_and_they_agree(
    tiny: Tiny, tmp_path: Path, command: Callable[..., Ended]
) -> None:
    raw = tiny.study({"lora": {}, "lora-2": {"method": "lora", "devices": 2}, "majority": {}}, **NO_DROPOUT)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    done = command("run", "study.yaml", "--out", "out", "--device", "cpu")
    assert done.code == 0, done.err
    store = StudyStore.open(tmp_path / "out")
    records = {record.spec.label: record for record in store.records()}
    one, two = records["lora"], records["lora-2"]
    assert one.status is two.status is Status.COMPLETED
    for ours, theirs in zip(two.metrics, one.metrics, strict=True):
        assert ours.value == pytest.approx(theirs.value, abs=1e-4), ours.name
    assert [p.train_loss for p in two.curve] == pytest.approx([p.train_loss for p in one.curve], rel=1e-4)
    assert two.gradient_norm.per_step == pytest.approx(one.gradient_norm.per_step, rel=1e-3)
    assert [figures.rank for figures in two.ranks] == [0, 1]
    predictions = store.trial(two.spec.id).predictions()
    assert predictions is not None
    assert [p.index for p in predictions] == list(range(30))
    report = json.loads((tmp_path / "out" / "report" / "report.json").read_text())
    (entry,) = report["devices"]
    assert (entry["method"], entry["beside"], entry["seeds"]) == ("lora-2", "lora", [0])
    assert entry["efficiency"] == pytest.approx(entry["speed_up"] / 2)
    assert not _ranks(tiny)


def test_more_devices_than_there_are_stop_a_study_before_it_runs(
    tiny: Tiny, tmp_path: Path, command: Callable[..., Ended]
) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(tiny.study(("full",))), encoding="utf-8")
    done = command("run", "study.yaml", "--out", "out", "--device", "cpu", "--devices", str(core_count() + 1))
    assert done.code == 2
    assert f"{core_count() + 1} devices are asked for, and this machine has {core_count()} core" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out" / "study.json").exists()


@pytest.mark.parametrize(
    ("how", "status", "cause", "said"),
    [
        ("kill", Status.FAILED, "rank 1 of 2 was killed by SIGKILL", "attaching on"),
        pytest.param(
            "memory", Status.OUT_OF_MEMORY, "rank 1 of 2: out of memory", "MemoryError", marks=pytest.mark.slow
        ),
        pytest.param(
            "raise", Status.FAILED, "rank 1 of 2: ZeroDivisionError", "divides by zero", marks=pytest.mark.slow
        ),
        pytest.param(
            "exit", Status.FAILED, "rank 1 of 2 ended without a result", "attaching on", marks=pytest.mark.slow
        ),
        pytest.param(
            "slow",
            Status.FAILED,
            "rank 1 of 2 hung in after_step (faulty_method.py, line",
            "__main__.py",
            marks=pytest.mark.slow,
        ),
        pytest.param("stop", Status.FAILED, "rank 1 of 2 hung", "attaching on", marks=pytest.mark.slow),
    ],
)
def test_a_rank_that_fails_is_named_within_a_minute_and_nothing_is_left(
    how: str, status: Status, cause: str, said: str, executor: SharedExecutor, prepare: Prepare, faulty: str, tiny: Tiny
) -> None:
    prepared = prepare({"bad": {"method": "faulty", "how": how, "rank": 1, "devices": 2}})
    took = _seconds_from_training(executor, prepared, tiny)
    record = _records(prepared)["bad"]
    assert record.status is status
    assert record.cause.startswith(cause)
    assert any(said in line for line in record.log_tail), record.log_tail
    assert took < 60
    wait_until(lambda: not _ranks(tiny), 5)


@pytest.mark.slow
def test_a_rank_that_hangs_is_named_where_weights_are_spread(
    executor: SharedExecutor, prepare: Prepare, faulty: str, tiny: Tiny
) -> None:
    """The others wait in the gathering of weights, of which only the forward passes tell."""
    prepared = prepare({"bad": {"method": "faulty", "how": "slow", "rank": 1, "devices": 2, "shard": True}})
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    record = _records(prepared)["bad"]
    assert record.cause.startswith("rank 1 of 2 hung in after_step (faulty_method.py, line"), record.cause
    wait_until(lambda: not _ranks(tiny), 5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"),
    [
        # Both wait for a message that the other never sends, in a call that tuneoff knows nothing of.
        ("receive", "inside no collective in recv ("),
        # Each takes part in a collective that the other has no part in.
        ("groups", "inside all_reduce of gradients in "),
    ],
)
def test_ranks_that_wait_for_one_another_are_ended_within_a_minute(
    how: str, said: str, executor: SharedExecutor, prepare: Prepare, faulty: str, tiny: Tiny
) -> None:
    prepared = prepare({"bad": {"method": "faulty", "how": how, "devices": 2}})
    took = _seconds_from_training(executor, prepared, tiny)
    record = _records(prepared)["bad"]
    assert record.status is Status.FAILED
    assert record.cause.startswith("all 2 ranks waited for one another and did nothing else: ")
    for rank in range(2):
        assert f"rank {rank} {said}" in record.cause
    assert ", phase train" in record.cause
    assert record.log_tail
    assert 30 < took < 60
    wait_until(lambda: not _ranks(tiny), 5)


@pytest.mark.slow
def test_a_trial_over_its_time_ends_all_its_ranks(
    executor: SharedExecutor, prepare: Prepare, faulty: str, tiny: Tiny
) -> None:
    arms = {"bad": {"method": "faulty", "how": "spin", "devices": 2}}
    prepared = prepare(arms, execution={"timeout_seconds": 40})
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    assert _records(prepared)["bad"].status is Status.OVER_BUDGET
    wait_until(lambda: not _ranks(tiny), 5)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_or_killed_run_leaves_no_rank_behind(
    number: signal.Signals, tiny: Tiny, tmp_path: Path, child_environment: dict[str, str]
) -> None:
    raw = tiny.study({"slow": {"method": "faulty", "how": "slow", "devices": 2}})
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    command = [sys.executable, "-m", "tuneoff", "run", "study.yaml", "--out", "out", "--device", "cpu"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=child_environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    logs = tmp_path / "out" / "trials"
    wait_until(lambda: any("sleeping" in log.read_text() for log in logs.glob("slow-*/log-rank-1.txt")), 120)
    assert len(_ranks(tiny)) == 2
    os.kill(process.pid, number)
    process.communicate(timeout=40)
    wait_until(lambda: not _ranks(tiny), 20)
    if number is signal.SIGINT:
        assert process.returncode == 130
        (record,) = StudyStore.open(tmp_path / "out").records()
        assert record.status is Status.CANCELLED


@pytest.mark.slow
def test_sharded_full_fine_tuning_runs_and_predicts(
    shared: SharedExecutor, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms: dict[str, Any] = {"full": {}, "spread": {"method": "full", "devices": 2, "shard": True}}
    study = Study(tiny.study(arms, **NO_DROPOUT), device="cpu").run(tmp_path / "out")
    records = {record.spec.label: record for record in study.records()}
    assert {record.status for record in records.values()} == {Status.COMPLETED}
    one, two = records["full"], records["spread"]
    assert [m.value for m in two.metrics] == pytest.approx([m.value for m in one.metrics], abs=1e-3)
    (tmp_path / "new.csv").write_text("text\nrrrrrrrr 1\noooooooo 2\n")
    made = [study.call("predict", r.spec.id, file=str(tmp_path / "new.csv"))["predictions"] for r in (one, two)]
    assert [p["output"] for p in made[0]] == [p["output"] for p in made[1]]


def test_an_inspection_counts_the_devices(executor: SharedExecutor, tiny: Tiny) -> None:
    study = Study(tiny.study({"full": {"devices": core_count() + 1}}))
    with pytest.raises(ExecutorError, match="devices are asked for"):
        executor.inspect(study.spec, study.plan(), True)
    assert executor.inspect(study.spec, study.plan(), False).labels
