"""A run and its trackers' processes: told in order, never waited for, given up when they fail; the study goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from running_helpers import wait_until
from tracker_helpers import calls, play
from tuneoff.errors import StudyError
from tuneoff.executors.base import Listener, Progress
from tuneoff.store import StudyStore
from tuneoff.testing.trackers import EVENTS, failed_record, follow, make_study, tracked, write_report
from tuneoff.trackers import process
from tuneoff.trackers.process import Outlets

pytest_plugins = ("tracker_fixtures",)
pytestmark = pytest.mark.usefixtures("doubles", "no_outlets")


def _kinds(found: list[dict[str, Any]]) -> list[str]:
    return [call["call"] for call in found]


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes the troublemaker go wrong."""

    def make(how: str) -> None:
        monkeypatch.setenv("TROUBLE", how)

    return make


def test_a_tracker_is_told_all_of_a_trial_in_order(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    assert follow(store, ["recorder"], lambda listener: play(store, trial, listener)) == []
    found = calls(store)
    assert _kinds(found) == ["start", "begin_trial", *["log"] * 5, "end_trial", "artifacts", "finish"]
    start, begin, end = found[0], found[1], found[-3]
    assert start["study"]["name"] == "small"
    assert begin["trial"]["name"] == trial.id
    assert begin["trial"]["configuration"]["learning_rate"] == trial.learning_rate
    logged = [(call["step"], sorted(call["metrics"])) for call in found[2:7]]
    curve = ["train/epoch", "train/examples_per_second", "train/gradient_norm", "train/learning_rate", "train/loss"]
    scores = ["validation/accuracy", "validation/loss"]
    machine = ["system/cpu_percent", "system/resident_bytes"]
    assert logged == [(0, machine), (2, curve), (2, scores), (4, curve), (4, scores)]
    assert (end["status"], end["step"]) == ("completed", 126)
    assert end["metrics"]["final/test/accuracy"] == 0.94
    assert Path(end["record"]) == store.trial(trial.id).record_path.resolve()
    assert found[-2]["files"] == ["pareto.png", "report.json", "report.md"]
    assert tracked(store, "recorder") == {"state": "finished", "reason": None, "trials": {trial.id: 1}}


def test_it_runs_in_a_process_of_its_own_that_can_neither_ask_nor_print(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    follow(store, ["recorder"], lambda listener: play(store, trial, listener))
    pids = {call["pid"] for call in calls(store)}
    assert len(pids) == 1
    assert os.getpid() not in pids
    assert not psutil.pid_exists(pids.pop())
    assert calls(store)[0]["input"] == ""
    assert "the recorder starts" in (store.trackers.folder("recorder") / "log.txt").read_text()
    assert "recorder" not in "".join(capfd.readouterr())


def test_a_repeated_trial_continues_its_run(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    follow(store, ["recorder"], lambda listener: play(store, trial, listener, record=failed_record(trial)))
    follow(store, ["recorder"], lambda listener: play(store, trial, listener))
    begun = [call["trial"] for call in calls(store) if call["call"] == "begin_trial"]
    assert [trial["attempt"] for trial in begun] == [1, 2]
    assert begun[0]["id"] == begun[1]["id"]
    assert [call["status"] for call in calls(store) if call["call"] == "end_trial"] == ["failed", "completed"]
    studies = [call["study"]["id"] for call in calls(store) if call["call"] == "start"]
    assert studies[0] == studies[1]


def test_the_same_trial_in_another_folder_is_another_run(tmp_path: Path) -> None:
    ids = set()
    for name in ("one", "two"):
        store, (trial,) = make_study(tmp_path / name)
        follow(store, ["recorder"], lambda listener, s=store, t=trial: play(s, t, listener))  # type: ignore[misc]
        ids.add(calls(store)[1]["trial"]["id"])
    assert len(ids) == 2


def test_a_moved_folder_keeps_its_runs(tmp_path: Path) -> None:
    store, trials = make_study(tmp_path / "here", seeds=2)
    follow(store, ["recorder"], lambda listener: play(store, trials[0], listener, record=failed_record(trials[0])))
    store.root.rename(tmp_path / "there")
    moved = StudyStore.open(tmp_path / "there")
    follow(moved, ["recorder"], lambda listener: play(moved, trials[0], listener))
    begun = [call["trial"]["id"] for call in calls(moved) if call["call"] == "begin_trial"]
    assert len(begun) == 2
    assert len(set(begun)) == 1


def test_what_a_tracker_missed_is_told_later_and_once(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    play(store, trial, lambda _: None)

    def skip(listener: Listener) -> None:
        listener(Progress("skipped", trial, record=store.trial(trial.id).record()))

    follow(store, ["recorder"], skip)
    assert _kinds(calls(store)) == ["start", "begin_trial", *["log"] * 5, "end_trial", "artifacts", "finish"]
    follow(store, ["recorder"], skip)
    assert _kinds(calls(store))[-3:] == ["start", "artifacts", "finish"]


def test_a_trial_that_ends_without_having_begun_is_told(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    record = failed_record(trial)
    store.trial(trial.id).write_record(record)
    follow(store, ["recorder"], lambda listener: listener(Progress("ended", trial, record=record)))
    assert _kinds(calls(store)) == ["start", "begin_trial", "end_trial", "artifacts", "finish"]


def test_an_interrupted_run_ends_what_is_open(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")

    def run(listener: Listener) -> None:
        listener(Progress("started", trial))
        listener(Progress("event", trial, event=EVENTS[3]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(store, ["recorder"], run)
    found = calls(store)
    assert _kinds(found) == ["start", "begin_trial", "log", "end_trial", "finish"]
    assert (found[3]["status"], found[3]["record"]) == ("cancelled", None)
    assert tracked(store, "recorder")["trials"] == {}


def test_without_trackers_nothing_is_done(tmp_path: Path) -> None:
    def listener(_: Progress) -> None:
        return

    store, _ = make_study(tmp_path / "study")
    with Outlets(()) as outlets:
        assert outlets.follow(listener) is listener
        outlets.open(store)
        outlets.artifacts(lambda: pytest.fail("a report for nobody"))
    assert not (store.root / "trackers.json").exists()


WAYS = {
    "raise:start": "ConnectionError: the network is gone",
    "raise:begin_trial": "ConnectionError: the network is gone",
    "raise:log": "ConnectionError: the network is gone",
    "raise:end_trial": "ConnectionError: the network is gone",
    "raise:artifacts": "ConnectionError: the network is gone",
    "raise:finish": "ConnectionError: the network is gone",
    "leave:log": "SystemExit: enough",
    "die:log": "its process ended (exit status 3)",
    "hang:start": "it did not start within 1.5 s",
    "hang:log": "it gave no answer for 1 s",
    "hang:finish": "it did not finish within 1.5 s",
}
LIMITS = {
    "hang:start": {"START_SECONDS": 1.5},
    "hang:log": {"STALL_SECONDS": 1.0, "SETTLE_SECONDS": 0.2},
    "hang:finish": {"FINISH_SECONDS": 1.5, "QUIET_SECONDS": 0.2},
}


@pytest.mark.parametrize("how", WAYS)
def test_a_tracker_that_fails_is_given_up_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Callable[[str], None], how: str
) -> None:
    trouble(how)
    for name, seconds in LIMITS.get(how, {}).items():
        monkeypatch.setattr(process, name, seconds)
    store, trials = make_study(tmp_path / "study", seeds=2)
    seen: list[Progress] = []
    said: list[str] = []
    outlets = Outlets(["troublemaker", "recorder"], said.append)
    listener = outlets.follow(seen.append)
    with outlets:
        # As in a run, which looks at the data for longer than a process needs to begin.
        wait_until(lambda: all(outlet.wait(0) for outlet in outlets.following))
        outlets.open(store)
        for trial in trials:
            play(store, trial, listener)
            time.sleep(1.2 if how == "hang:log" else 0)
        outlets.artifacts(lambda: write_report(store))
    assert len(seen) == 2 * (len(EVENTS) + 2)
    reason = tracked(store, "troublemaker")["reason"]
    assert reason == WAYS[how]
    assert any(f"tracker troublemaker was given up: {reason}" in line for line in said)
    assert tracked(store, "troublemaker")["state"] == "failed"
    assert tracked(store, "recorder")["state"] == "finished", "one tracker's failure is not another's"
    assert _kinds(calls(store)).count("end_trial") == 2
    assert all(outlet._process.poll() is not None for outlet in outlets._outlets)
    (finding,) = store.trackers.findings()
    assert finding.name == "tracker_failed"
    assert "the tracker troublemaker was given up" in finding.message


def test_a_failure_is_left_for_the_records_of_the_running_trial_and_the_next(
    tmp_path: Path, trouble: Callable[[str], None]
) -> None:
    trouble("raise:log")
    store, trials = make_study(tmp_path / "study", seeds=3)
    outlets = Outlets(["troublemaker"], lambda _: None)
    listener = outlets.follow(lambda _: None)
    with outlets:
        outlets.open(store)
        play(store, trials[0], listener, events=())
        assert store.trial(trials[0].id).tracker_findings() == ()
        listener(Progress("started", trials[1]))
        listener(Progress("event", trials[1], event=EVENTS[3]))
        wait_until(lambda: not outlets.following)
        listener(Progress("event", trials[1], event=EVENTS[4]))
        listener(Progress("started", trials[2]))
    for trial, expected in zip(trials, (0, 1, 1), strict=True):
        assert len(store.trial(trial.id).tracker_findings()) == expected
    (finding,) = store.trial(trials[1].id).tracker_findings()
    assert finding == store.trackers.findings()[0]


def test_telling_never_waits_and_a_tracker_too_far_behind_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Callable[[str], None]
) -> None:
    trouble("hang:begin_trial")
    monkeypatch.setattr(process, "WAITING", 50)
    store, (trial,) = make_study(tmp_path / "study")
    outlets = Outlets(["troublemaker"], lambda _: None)
    listener = outlets.follow(lambda _: None)
    # More than the queue and the pipe hold together.
    event = {"kind": "finding", "message": "x" * 10_000}
    with outlets:
        outlets.open(store)
        listener(Progress("started", trial))
        begun = time.monotonic()
        for _ in range(200):
            listener(Progress("event", trial, event=event))
        assert time.monotonic() - begun < 30, "the tracker hangs for good"
    assert tracked(store, "troublemaker")["reason"] == "it did not keep up: 50 messages were waiting"


def test_the_next_trial_waits_until_trackers_have_ended_the_last_ones_run(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    outlets = Outlets(["recorder"], lambda _: None)
    listener = outlets.follow(lambda _: None)
    with outlets:
        outlets.open(store)
        play(store, trial, listener)
        assert _kinds(calls(store))[-1] == "end_trial"


def test_processes_that_a_failing_tracker_started_end_with_it(tmp_path: Path, trouble: Callable[[str], None]) -> None:
    trouble("child:log")
    store, (trial,) = make_study(tmp_path / "study")
    follow(store, ["troublemaker"], lambda listener: play(store, trial, listener))
    (child,) = [call["child"] for call in calls(store, "troublemaker") if call["call"] == "child"]
    wait_until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE, 10)


def test_a_slow_end_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Callable[[str], None]
) -> None:
    trouble("hang:finish")
    monkeypatch.setattr(process, "FINISH_SECONDS", 0.5)
    monkeypatch.setattr(process, "QUIET_SECONDS", 0.1)
    store, _ = make_study(tmp_path / "study")
    said: list[str] = []
    with Outlets(["troublemaker"], said.append) as outlets:
        outlets.open(store)
    assert said[0] == "waiting at most 0.5 s for trackers to finish: troublemaker"


def test_a_report_that_cannot_be_written_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    def fail() -> Path:
        raise OSError("no space left")

    store, _ = make_study(tmp_path / "study")
    said: list[str] = []
    with Outlets(["recorder"], said.append) as outlets:
        outlets.open(store)
        outlets.artifacts(fail)
    assert said == ["the trackers get no report: no space left"]
    assert _kinds(calls(store)) == ["start", "finish"]


def test_a_tracker_that_is_not_installed_is_refused_with_what_to_install() -> None:
    with pytest.raises(StudyError, match="lacking needs no_such_package_anywhere") as caught:
        Outlets(["recorder", "lacking"])
    assert caught.value.hint == "pip install 'tuneoff[lacking]'"
    with pytest.raises(StudyError, match="did you mean 'recorder'"):
        Outlets(["recoder"])


def _start_alone(store: StudyStore, name: str, code: str) -> subprocess.Popen[bytes]:
    """A tracker's process without a run behind it, told to start."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdin is not None
    _tell(child, {"n": 1, "do": "start", "study": str(store.root), "key": "0123456789"})
    return child


def _tell(child: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    assert child.stdin is not None
    child.stdin.write(json.dumps(message).encode() + b"\n")
    child.stdin.flush()


ALONE = "from tuneoff.trackers import __main__ as m; m.FINISH_SECONDS = 0.5; m.main()"


def test_a_tracker_whose_run_is_killed_writes_down_what_it_has_and_ends(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    with _start_alone(store, "recorder", ALONE) as child:
        _tell(child, {"n": 2, "do": "started", "trial": trial.id})
        out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert [json.loads(line) for line in out.splitlines()] == [{"done": 1}, {"done": 2}]
    assert _kinds(calls(store)) == ["start", "begin_trial", "end_trial", "finish"]


def test_a_tracker_that_hangs_when_its_run_is_killed_ends_too(tmp_path: Path, trouble: Callable[[str], None]) -> None:
    trouble("hang:start")
    store, _ = make_study(tmp_path / "study")
    with _start_alone(store, "troublemaker", ALONE) as child:
        child.communicate(timeout=60)
    assert child.returncode == 1


def test_a_damaged_bookkeeping_begins_anew(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    (store.root / "trackers.json").write_text("{")
    follow(store, ["recorder"], lambda listener: play(store, trial, listener))
    assert tracked(store, "recorder")["trials"] == {trial.id: 1}


def test_trackers_of_earlier_runs_stay_in_the_bookkeeping(tmp_path: Path, trouble: Callable[[str], None]) -> None:
    trouble("raise:start")
    store, (trial,) = make_study(tmp_path / "study")
    follow(store, ["recorder"], lambda listener: play(store, trial, listener))
    follow(store, ["troublemaker"], lambda _: None)
    assert tracked(store, "recorder")["trials"] == {trial.id: 1}
    assert tracked(store, "troublemaker")["state"] == "failed"
