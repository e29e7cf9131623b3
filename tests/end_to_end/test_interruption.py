"""A run that is interrupted or killed, as a real process: nothing recorded is lost, no process is left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from running_helpers import Ended, Tiny, wait_until
from tuneoff.errors import StoreError
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

pytest_plugins = ("running_fixtures",)


@pytest.fixture
def study_file(tiny: Tiny, tmp_path: Path) -> Path:
    """A study whose second arm sleeps for as long as `$FAULTY_SECONDS` says, or ten minutes."""
    path = tmp_path / "study.yaml"
    raw = tiny.study({"majority": {}, "slow": {"method": "faulty", "how": "slow"}}, max_steps=1)
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where the run's scratch folder is."""
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.fixture
def running(
    study_file: Path, child_environment: dict[str, str], tmp_path: Path, scratch: Path
) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """`tuneoff run` whose trial sleeps, and all processes below it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tuneoff", "run", "study.yaml", "--out", "out"],
        cwd=tmp_path,
        env={**child_environment, "TMPDIR": str(scratch)},
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


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGTERM, signal.SIGHUP))],
)
def test_an_interrupted_run_records_ends_everything_and_goes_on(
    number: signal.Signals,
    running: Running,
    study_file: Path,
    faulty: str,
    tmp_path: Path,
    command: Callable[..., Ended],
    scratch: Path,
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
    assert not list(scratch.iterdir())
    records = _records(tmp_path / "out")
    assert {label: record.status for label, record in records.items()} == {
        "majority": Status.COMPLETED,
        "slow": Status.CANCELLED,
    }
    if number is not signal.SIGINT:
        return
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.glob("out/trials/majority-*/*")}
    again = command("run", "study.yaml", "--out", "out", environment={"FAULTY_SECONDS": "0"})
    assert again.code == 0, again.err
    assert {record.status for record in _records(tmp_path / "out").values()} == {Status.COMPLETED}
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("out/trials/majority-*/*")} == kept
    assert (tmp_path / "out" / "report" / "report.md").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR2])
def test_a_killed_run_leaves_no_process_behind_and_frees_its_folder(
    number: signal.Signals, running: Running, tmp_path: Path, study_file: Path, scratch: Path
) -> None:
    process, below = running
    process.send_signal(number)
    wait_until(lambda: not _alive(below), 15)
    assert not list(scratch.iterdir())
    # A kill leaves no time for a record; the other asks to stop, which is recorded.
    asked = {"slow": Status.CANCELLED} if number == signal.SIGUSR2 else {}
    statuses = {label: record.status for label, record in _records(tmp_path / "out").items()}
    assert statuses == {"majority": Status.COMPLETED, **asked}
    with StudyStore(tmp_path / "out").lock():
        pass


@pytest.mark.slow
def test_an_interrupt_ends_processes_that_are_stopped(running: Running, tmp_path: Path, scratch: Path) -> None:
    process, below = running
    for each in below:
        each.suspend()
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert not _alive(below)
    assert not list(scratch.iterdir())
    assert _records(tmp_path / "out")["slow"].status is Status.CANCELLED


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals here")
def test_a_closed_terminal_records_and_ends_everything(
    study_file: Path, child_environment: dict[str, str], tmp_path: Path, scratch: Path
) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL],
        cwd=tmp_path,
        env={**child_environment, "TMPDIR": str(scratch), "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    threading.Thread(target=_drain, args=(ours,), daemon=True).start()
    logs = tmp_path / "out" / "trials"
    wait_until(lambda: any("sleeping" in log.read_text() for log in logs.glob("slow-*/log.txt")), 90)
    below = psutil.Process(process.pid).children(recursive=True)
    os.close(ours)
    assert process.wait(timeout=30) == 130
    assert not _alive(below)
    assert not list(scratch.iterdir())
    assert {label: record.status for label, record in _records(tmp_path / "out").items()} == {
        "majority": Status.COMPLETED,
        "slow": Status.CANCELLED,
    }


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_two_trials_at_once_end_with_their_run_and_lose_nothing(
    number: signal.Signals, tiny: Tiny, child_environment: dict[str, str], tmp_path: Path, scratch: Path
) -> None:
    slow = {"method": "faulty", "how": "slow"}
    raw = tiny.study({"majority": {}, "one": slow, "two": {**slow, "seconds": 601}}, max_steps=1)
    raw["executor"] = {"name": "local", "trials_per_device": 2}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "tuneoff", "run", "study.yaml", "--out", "out"],
        cwd=tmp_path,
        env={**child_environment, "TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    logs = tmp_path / "out" / "trials"
    wait_until(lambda: sum("sleeping" in log.read_text() for log in logs.glob("*/log.txt")) == 2, 90)
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) == 3, "the warm parent and two trials"
    os.kill(process.pid, number)
    process.communicate(timeout=30)
    wait_until(lambda: not _alive(below), 15)
    assert not list(scratch.iterdir())
    kept = {label: record.status for label, record in _records(tmp_path / "out").items()}
    cancelled = {} if number is signal.SIGKILL else dict.fromkeys(("one", "two"), Status.CANCELLED)
    assert kept == {"majority": Status.COMPLETED, **cancelled}


IN_A_TERMINAL = """
import fcntl, sys, termios
from tuneoff.cli.main import main
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.exit(main(["run", "study.yaml", "--out", "out"]))
"""


def _drain(terminal: int) -> None:
    """Reads what is shown, until the terminal is closed."""
    with suppress(OSError):
        while True:
            # A read that waits would keep it open.
            if select.select([terminal], [], [], 0.2)[0]:
                os.read(terminal, 1 << 16)
