"""`tuneoff watch`: what a run leaves in its folder, seen from outside."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import TypeAdapter

from tuneoff.cli.commands import watch
from tuneoff.cli.live.follow import FolderFollower
from tuneoff.cli.main import main
from tuneoff.config.spec import TrialSpec
from tuneoff.records.events import StreamEvent
from tuneoff.records.record import Finding, Status, TrialRecord
from tuneoff.report import files
from tuneoff.store import KeptCheckpoints, StudyStore
from tuneoff.store.checkpoints import Checkpoints
from tuneoff.study.study import Study

pytest_plugins = ("cli_fixtures",)

STEP = {"kind": "step", "step": 2, "steps": 4, "epoch": 0.5, "epochs": 1, "loss": 0.7, "learning_rate": 1e-3}
STEP |= {"examples_per_second": 45.2, "elapsed_seconds": 1.0}
RecordOf = Callable[..., TrialRecord]


class Traces:
    """A run of the small study that leaves its traces one by one, in the folder `results`."""

    def __init__(self, study: Path, record: RecordOf) -> None:
        self.study = Study(study)
        self.record = record
        self.store = StudyStore(Path("results"))
        self.trials = self.study.plan()

    @contextmanager
    def run(self) -> Iterator[None]:
        """As long as a run is on."""
        with self.store.lock():
            StudyStore.create(self.store.root, self.study.spec, self.trials)
            yield

    def begin(self, trial: TrialSpec, *events: dict[str, Any]) -> None:
        place = self.store.trial(trial.id)
        place.begin_attempt()
        place.log_path.touch()
        self.tell(trial, *events)

    def tell(self, trial: TrialSpec, *events: dict[str, Any]) -> None:
        for event in events:
            self.store.trial(trial.id).append_event(event)

    def end(self, trial: TrialSpec, *status: Status, **more: Any) -> None:
        record = self.record(trial, *status)
        self.store.trial(trial.id).write_record(record.model_copy(update=more))

    def all(self, *status: Status) -> None:
        """Runs every trial."""
        with self.run():
            for trial in self.trials:
                self.begin(trial, {"kind": "phase", "phase": "train"}, STEP)
                self.end(trial, *status)

    def age(self, seconds: float) -> None:
        """As if everything had happened so long ago."""
        for path in self.store.root.rglob("*"):
            found = path.stat()
            os.utime(path, (found.st_atime - seconds, found.st_mtime - seconds))


@pytest.fixture
def traces(small_study: Path, fake_record: RecordOf) -> Traces:
    return Traces(small_study, fake_record)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Any]]:
    """What happens in the pauses between two looks, one after the other; then the user has seen enough."""
    waiting: list[Callable[[], Any]] = []

    def sleep(_: float) -> None:
        if not waiting:
            raise KeyboardInterrupt
        waiting.pop(0)()

    monkeypatch.setattr(watch, "time", SimpleNamespace(sleep=sleep, time=time.time))
    return waiting


def told(follower: FolderFollower) -> list[tuple[str, str]]:
    """(kind, label) of what is new; of an event its kind in the log."""
    look = follower.poll()
    assert look is not None
    return [(str(t.progress.event.get("kind", t.progress.kind)), t.progress.trial.label) for t in look.news]


# --- looking


def test_a_running_study_is_followed(traces: Traces) -> None:
    follower = FolderFollower(traces.store)
    assert follower.poll() is None
    majority, full, *_ = traces.trials
    with traces.run():
        assert told(follower) == []
        traces.begin(majority, {"kind": "phase", "phase": "load"})
        assert told(follower) == [("started", "majority"), ("phase", "majority")]
        assert told(follower) == []
        traces.end(majority)
        traces.begin(full, {"kind": "phase", "phase": "train"})
        with traces.store.trial(full.id).events_path.open("a") as file:
            file.write('{"kind": "st')
        assert told(follower) == [("ended", "majority"), ("started", "full"), ("phase", "full")]
        with traces.store.trial(full.id).events_path.open("a") as file:
            file.write('ep", "step": 1}\n')
        look = follower.poll()
        assert look is not None
        assert [t.progress.event for t in look.news] == [{"kind": "step", "step": 1}]
        assert (look.missing, look.failed, look.is_over, len(look.trials)) == (5, 0, False, 6)
        assert look.since == pytest.approx(time.time(), abs=60)


def test_what_had_ended_before_is_told_short_or_in_full(traces: Traces) -> None:
    traces.all()
    assert told(FolderFollower(traces.store)) == [("skipped", trial.label) for trial in traces.trials]
    whole = told(FolderFollower(traces.store, history=True))
    assert whole[:4] == [("started", "majority"), ("phase", "majority"), ("step", "majority"), ("ended", "majority")]
    assert len(whole) == 4 * 6
    look = FolderFollower(traces.store).poll()
    assert look is not None
    assert look.is_over


def test_a_run_that_was_killed_and_begun_anew(traces: Traces) -> None:
    follower = FolderFollower(traces.store)
    majority, full, *_ = traces.trials
    with traces.run():
        traces.begin(majority, STEP)
        traces.end(majority)
        traces.begin(full, STEP)
        assert ("started", "full") in told(follower)
    look = follower.poll()
    assert look is not None
    assert (look.since, look.lost, look.news, look.missing) == (None, [full], [], 5)
    assert not look.is_over
    again = follower.poll()
    assert again is not None
    assert again.lost == []
    traces.age(5)
    with traces.run():
        assert told(follower) == [], "what the killed run left is no running trial"
        assert told(FolderFollower(traces.store)) == [("skipped", "majority")]
        traces.begin(full, STEP, STEP)
        assert told(follower) == [("started", "full"), ("step", "full"), ("step", "full")]
        traces.end(full)
        assert told(follower) == [("ended", "full")]


def test_a_restart_between_two_looks_is_seen(traces: Traces) -> None:
    follower = FolderFollower(traces.store)
    full = traces.trials[1]
    with traces.run():
        traces.begin(full, STEP, STEP)
        assert told(follower) == [("started", "full"), ("step", "full"), ("step", "full")]
    with traces.run():
        traces.begin(full, {"kind": "phase", "phase": "load"})
        assert told(follower) == [("started", "full"), ("phase", "full")]


def test_a_failed_trial_is_repeated(traces: Traces) -> None:
    follower = FolderFollower(traces.store)
    full = traces.trials[1]
    with traces.run():
        traces.begin(full)
        traces.end(full, Status.DIVERGED)
        look = follower.poll()
        assert look is not None
        assert (look.failed, look.missing) == (1, 5)
        traces.begin(full)
        assert told(follower) == [("started", "full")]
        traces.end(full)
        assert told(follower) == [("ended", "full")]
        look = follower.poll()
        assert look is not None
        assert (look.failed, look.missing) == (0, 5)


def test_an_interrupted_trial_is_still_to_come(traces: Traces) -> None:
    traces.all(Status.CANCELLED)
    look = FolderFollower(traces.store).poll()
    assert look is not None
    assert (look.missing, look.failed, look.is_over) == (6, 0, False)


def test_checkpoints_that_trials_would_continue_from_are_shown(
    traces: Traces, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = traces.trials
    with traces.run():
        for trial in (first, second):
            traces.begin(trial, STEP)
        checkpoints = traces.store.trial(second.id).checkpoints
        checkpoints.save(lambda folder: (folder / "tensors").write_bytes(b"x" * 5000), {}, 40)
        traces.end(first)
        main(["watch", "results", "--once"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("checkpoint")]
    assert line.startswith(f"checkpoint: {second.id}, step 40, 5.")
    assert line.endswith("KiB")


def test_checkpoints_are_looked_at_again_only_where_some_came(traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = traces.trials[0]
    checkpoints, looked, kept = traces.store.trial(trial.id).checkpoints, [], Checkpoints.kept

    def note(self: Checkpoints) -> KeptCheckpoints | None:
        looked.append(self.folder)
        return kept(self)

    monkeypatch.setattr(Checkpoints, "kept", note)
    follower, steps = FolderFollower(traces.store), []
    with traces.run():
        traces.begin(trial, STEP)
        for step in (40, 50):
            checkpoints.save(lambda folder: (folder / "tensors").write_bytes(b"x"), {}, step)
            for _ in range(3):
                look = follower.poll()
                assert look is not None
                steps += [kept.step for kept in look.checkpoints.values()]
    assert steps == [40] * 3 + [50] * 3
    assert looked == [checkpoints.folder] * 2


def test_rows_and_seeds_that_a_later_run_adds_are_followed(traces: Traces, small_study: Path) -> None:
    traces.all()
    follower = FolderFollower(traces.store)
    assert len(told(follower)) == 6
    traces.study = Study(small_study, seeds=3, methods=["full", "bitfit"])
    traces.trials = traces.study.plan()
    with traces.run():
        look = follower.poll()
        assert look is not None
        assert (len(look.trials), look.missing) == (6 + 4, 4)


def test_files_that_vanish_are_no_error(traces: Traces) -> None:
    traces.all()
    follower = FolderFollower(traces.store)
    assert len(told(follower)) == 6
    shutil.rmtree(traces.store.trial(traces.trials[0].id).folder)
    assert told(follower) == []
    assert told(FolderFollower(traces.store)) == [("skipped", trial.label) for trial in traces.trials[1:]]
    shutil.rmtree(traces.store.root)
    assert follower.poll() is None


# --- the command


def test_a_finished_study_is_shown_and_that_is_it(
    traces: Traces, steps: list[Callable[[], Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    traces.all()
    assert main(["watch", "results"]) == 0
    shown = capsys.readouterr()
    assert "[2/6] full seed 0: finished earlier, test accuracy 0.900" in shown.out
    assert "small: minilm, classification\n6/6 done · 0 running · 0 waiting\n" in shown.out
    assert "finished. Results: tuneoff report results" in shown.out
    assert [line.split() for line in shown.out.splitlines()[-3:]] == [
        ["majority", "2/2", "0.900"],
        ["full", "2/2", "0.900"],
        ["lora", "2/2", "0.900"],
    ]
    assert (shown.err, "\x1b" in shown.out) == ("", False)


def test_a_failed_trial_is_exit_code_1(traces: Traces, capsys: pytest.CaptureFixture[str]) -> None:
    traces.all(Status.DIVERGED)
    assert main(["watch", "results", "--once"]) == 1
    assert "finished, 6 final trials failed" in capsys.readouterr().out


def test_watching_changes_nothing(traces: Traces) -> None:
    traces.all()
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in traces.store.root.rglob("*")}
    assert main(["watch", "results"]) == 0
    assert main(["watch", "results", "--once", "--json"]) == 0
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in traces.store.root.rglob("*")} == before


def test_a_running_study_is_shown_once(traces: Traces, capsys: pytest.CaptureFixture[str]) -> None:
    with traces.run():
        traces.begin(traces.trials[1], {"kind": "phase", "phase": "train"}, STEP)
        assert main(["watch", "results", "--once"]) == 0
    shown = capsys.readouterr().out
    assert "0/6 done · 1 running · 5 waiting" in shown
    assert "[2/6] full seed 0  train · epoch 0.5/1" in shown
    assert "step 2/4 · loss 0.700 · 45 examples/s" in shown


def test_a_dead_run_is_shown_as_stopped_with_how_to_go_on(
    traces: Traces, fake_executor: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with traces.run():
        traces.begin(traces.trials[0])
        traces.end(traces.trials[0])
        traces.begin(traces.trials[1], STEP)
    assert main(["watch", "results", "--once"]) == 0
    shown = capsys.readouterr().out
    assert "1/6 done · 0 running · 5 waiting" in shown
    assert "stopped: no run is on, and 5 final trials still to come. Continue: tuneoff run results" in shown
    monkeypatch.setattr(files, "write_built", lambda results, report, plots=True: Path("report.md"))
    assert main(["run", "results"]) == 0
    assert len(traces.store.records()) == 6
    assert capsys.readouterr().err.count("finished earlier") == 1


def test_watching_survives_the_studys_restart(
    traces: Traces, steps: list[Callable[[], Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    with traces.run():
        traces.begin(traces.trials[0])
        traces.end(traces.trials[0])
    steps += [lambda: traces.age(5), lambda: finish(traces)]
    assert main(["watch", "results"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("stopped: no run is on, and 5") < shown.index("[6/6] majority seed 1: completed in")
    assert shown.count("stopped:") == 1
    assert "6/6 done" in shown


def finish(traces: Traces) -> None:
    """Runs all but the first trial."""
    with traces.run():
        for trial in traces.trials[1:]:
            traces.begin(trial)
            traces.end(trial)


def test_a_study_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["watch", str(tmp_path / "nosuch")]) == 2
    assert "nosuch is not there" in capsys.readouterr().err
    assert main(["watch", str(tmp_path), "--json"]) == 2
    shown = capsys.readouterr()
    assert "is not a study folder" in shown.err
    assert shown.out == ""


def test_a_study_that_is_not_there_yet_is_waited_for(
    traces: Traces, steps: list[Callable[[], Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    steps += [lambda: None, lambda: traces.all()]
    assert main(["watch", "results", "--wait"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "waiting for a study in results\n"
    assert "6/6 done" in shown.out


def test_interrupting_is_quiet(
    traces: Traces, steps: list[Callable[[], Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    with traces.run():
        assert main(["watch", "results"]) == 130
    assert capsys.readouterr().err == ""
    with traces.run():
        assert main(["watch", "results", "--json"]) == 130
    shown = capsys.readouterr()
    assert [json.loads(line)["event"] for line in shown.out.splitlines()] == ["study_started"]
    assert shown.err == ""


# --- the stream


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was streamed, once it is known to be as documented."""
    streamed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for event in streamed:
        TypeAdapter(StreamEvent).validate_python(event)
    return streamed


def test_a_finished_studys_stream_is_whole(traces: Traces, capsys: pytest.CaptureFixture[str]) -> None:
    found = Finding(name="collapsed", message="all one class")
    with traces.run():
        for trial in traces.trials:
            traces.begin(trial, {"kind": "phase", "phase": "train"}, STEP)
            traces.end(trial, findings=(found,))
    assert main(["watch", "results", "--json"]) == 0
    streamed = lines(capsys)
    assert [event["event"] for event in streamed] == [
        "study_started",
        *(["trial_started", "phase", "step", "trial_ended"] * 6),
        "study_ended",
    ]
    assert streamed[0]["trials"] == {"search": 0, "final": 6}
    times = [event["time"] for event in streamed[1:]]
    assert times == sorted(times)
    assert streamed[4]["findings"] == [{"name": "collapsed", "message": "all one class"}]
    assert main(["report", "results", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == streamed[-1]["report"]
    assert streamed[-1]["outcome"] == "completed"


def test_a_stream_tells_of_a_dead_run_and_of_the_next(
    traces: Traces, steps: list[Callable[[], Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    with traces.run():
        traces.begin(traces.trials[0])
        traces.end(traces.trials[0])
        traces.begin(traces.trials[1], STEP)

    def next_run() -> None:
        lock = traces.run()
        lock.__enter__()
        steps.append(lambda: lock.__exit__(None, None, None))
        for trial in traces.trials[1:]:
            traces.begin(trial)
            traces.end(trial, Status.DIVERGED)

    steps += [lambda: None, lambda: traces.age(5), next_run]
    assert main(["watch", "results", "--json"]) == 1
    streamed = [event for event in lines(capsys) if event["event"].startswith("study")]
    assert [event["event"] for event in streamed] == ["study_started", "study_ended"] * 2
    assert [event["outcome"] for event in streamed[1::2]] == ["stopped", "failed_trials"]
    assert streamed[1]["report"] is None
    assert len(streamed[3]["report"]["failures"]) == 5


def test_once_gives_what_there_is(traces: Traces, capsys: pytest.CaptureFixture[str]) -> None:
    with traces.run():
        traces.begin(traces.trials[0])
        assert main(["watch", "results", "--json", "--once"]) == 0
    assert [event["event"] for event in lines(capsys)] == ["study_started", "trial_started"]


def test_seconds_ago_of_a_time_that_cannot_be_read() -> None:
    assert watch._seconds_ago(None) == watch._seconds_ago("yesterday") == watch._seconds_ago("2026-01-01") == 0.0
    assert watch._seconds_ago("2020-01-01T00:00:00.000+00:00") > 1e6
