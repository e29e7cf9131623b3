"""A run that is interrupted or killed, as a real process: nothing recorded is lost, no process is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from running import Ended, Tiny, wait_until
from tuneoff.errors import StoreError
from tuneoff.record import Status, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.study import Study

pytest_plugins = ("running_fixtures",)


@pytest.fixture
def study_file(tiny: Tiny, tmp_path: Path) -> Path:
    """A study whose second row sleeps for as long as `$FAULTY_SECONDS` says, or ten minutes."""
    path = tmp_path / "study.yaml"
    raw = tiny.study({"majority": {}, "slow": {"method": "faulty", "how": "slow"}}, max_steps=1)
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


@pytest.fixture
def running(
    study_file: Path, child_environment: dict[str, str], tmp_path: Path
) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """`tuneoff run` whose trial sleeps, and all processes below it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tuneoff", "run", "study.yaml", "--out", "out"],
        cwd=tmp_path,
        env=child_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    logs = tmp_path / "out" / "trials"
    wait_until(lambda: any("sleeping" in log.read_text() for log in logs.glob("slow-*/log.txt")), 90)
    below = psutil.Process(process.pid).children(recursive=True)
    yield process, below
    if process.poll() is None:
        process.kill()
    for left in _alive(below):
        left.kill()
    process.communicate(timeout=10)


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def _records(folder: Path) -> dict[str, TrialRecord]:
    return {record.spec.label: record for record in StudyStore.open(folder).records()}


Running = tuple[subprocess.Popen[str], list[psutil.Process]]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_run_records_ends_everything_and_goes_on(
    number: signal.Signals,
    running: Running,
    study_file: Path,
    faulty: str,
    tmp_path: Path,
    command: Callable[..., Ended],
) -> None:
    process, below = running
    assert len(below) == 2, "the warm parent and the trial"
    with pytest.raises(StoreError, match="another run is writing to"):
        Study(study_file).run(tmp_path / "out")
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "1 of 2 trials are finished and kept in out" in err
    assert not _alive(below)
    records = _records(tmp_path / "out")
    assert {label: record.status for label, record in records.items()} == {
        "majority": Status.COMPLETED,
        "slow": Status.CANCELLED,
    }
    if number is signal.SIGTERM:
        return
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.glob("out/trials/majority-*/*")}
    again = command("run", "study.yaml", "--out", "out", environment={"FAULTY_SECONDS": "0"})
    assert again.code == 0, again.err
    assert {record.status for record in _records(tmp_path / "out").values()} == {Status.COMPLETED}
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("out/trials/majority-*/*")} == kept
    assert (tmp_path / "out" / "report" / "report.md").is_file()


@pytest.mark.slow
def test_a_killed_run_leaves_no_process_behind_and_frees_its_folder(
    running: Running, tmp_path: Path, study_file: Path
) -> None:
    process, below = running
    process.kill()
    wait_until(lambda: not _alive(below), 15)
    assert {label: record.status for label, record in _records(tmp_path / "out").items()} == {
        "majority": Status.COMPLETED
    }
    with StudyStore(tmp_path / "out").lock():
        pass
