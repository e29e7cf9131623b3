"""Series of studies on the command line: run, plan, watch, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from tuneoff.cli.commands import plan
from tuneoff.cli.main import main
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import SourceNotFound, StoreError
from tuneoff.executors.base import Inspection
from tuneoff.records.events import StreamEvent
from tuneoff.store import SeriesStore
from tuneoff.store.lock import hold

FakeExecutor = Any  # the class is in cli_fixtures.py, which pytest imports as a plug-in
pytest_plugins = ("cli_fixtures",)

SIZES = ("--set", "protocol.train_rows=[4, 8]")
BASES = ("--set", "model=[org/other, minilm]")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Gives a command; returns its exit code, output and messages. One of the base models cannot be had."""
    inspect: Callable[..., Inspection] = fake_executor.inspect

    def refuse(study: StudySpec, trials: Sequence[TrialSpec], require_data: bool) -> Inspection:
        if study.model.source == "org/other":
            raise SourceNotFound("no model org/other")
        return inspect(study, trials, require_data)

    monkeypatch.setattr(fake_executor, "inspect", refuse)
    monkeypatch.setenv("COLUMNS", "200")
    fake_executor.answers["check_sizes"] = None

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(words))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def stream(text: str) -> list[dict[str, Any]]:
    """What was streamed, once what is told of studies and series is known to be as documented."""
    events = [json.loads(line) for line in text.splitlines()]
    for event in events:
        if event["event"].startswith(("study_", "series_")):
            TypeAdapter(StreamEvent).validate_python(event)
    return events


def test_run_runs_all_members_and_says_where_they_are(command: Command) -> None:
    code, out, err = command("run", "small.yaml", *SIZES, "--out", "sizes")
    assert code == 0
    assert "series small: protocol.train_rows 4, 8; results in sizes" in err
    assert "4 (1 of 2)" in err
    assert "study small-8: minilm" in err
    for name in ("4", "8"):
        assert f"{name}: " in out
        assert Path(f"sizes/members/{name}/report/report.md").is_file()
    assert command("run", "sizes")[0] == 0


def test_an_interrupted_series_continues_by_the_same_command(command: Command, fake_executor: FakeExecutor) -> None:
    fake_executor.raise_at = 1
    code, _, err = command("run", "small.yaml", *SIZES, "--out", "sizes")
    assert code == 130
    assert err.count("Interrupted") == 1
    assert "the same command continues with the rest" in err
    fake_executor.raise_at = None
    assert command("run", "small.yaml", *SIZES, "--out", "sizes")[0] == 0
    assert all(len(member.store.records()) == 6 for member in SeriesStore("sizes").members)


def test_a_member_that_cannot_be_run_is_told_and_the_others_run(command: Command) -> None:
    code, out, err = command("run", "small.yaml", *BASES, "--out", "bases")
    assert code == 1
    assert "other cannot be run: no model org/other" in err
    assert err.rstrip().endswith("not run: other: no model org/other")
    assert "minilm: " in out


def test_nothing_that_can_be_run_is_bad_input(command: Command) -> None:
    code, _, err = command("run", "small.yaml", "--set", "model=[org/other, {source: org/other, revision: a, name: b}]")
    assert code == 2
    assert "Error: no model org/other" in err


def test_a_stream_begins_and_ends_with_the_series(command: Command) -> None:
    code, out, _ = command("run", "small.yaml", *BASES, "--out", "bases", "--json")
    events = stream(out)
    assert code == 1
    assert [event["event"] for event in events if "study" in event["event"] or "series" in event["event"]] == [
        "series_started",
        "study_started",
        "study_ended",
        "study_started",
        "study_ended",
        "series_ended",
    ]
    assert (events[0]["axis"], events[0]["members"]) == ("model", ["other", "minilm"])
    assert events[-1]["report"] == json.loads(Path("bases/report/report.json").read_text(encoding="utf-8"))
    assert (events[-1]["outcome"], events[-1]["problems"]) == ("failed_trials", {"other": "no model org/other"})
    code, out, _ = command("watch", "bases", "--json")
    watched = stream(out)
    assert code == 1
    assert [watched[0]["members"], watched[-1]["problems"]] == [events[0]["members"], events[-1]["problems"]]
    assert sum(event["event"] == "trial_ended" for event in watched) == 6


def test_an_interrupted_stream_says_so(command: Command, fake_executor: FakeExecutor) -> None:
    fake_executor.raise_at = 1
    code, out, _ = command("run", "small.yaml", *SIZES, "--out", "sizes", "--json")
    assert code == 130
    assert [event["outcome"] for event in stream(out) if "outcome" in event] == ["interrupted", "interrupted"]
    code, out, _ = command("watch", "sizes", "--once", "--json")
    assert stream(out)[-1]["outcome"] == "stopped"


def test_a_stream_ends_where_the_report_cannot_be_written(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr("tuneoff.report.series.files.write_built", refuse)
    code, out, err = command("run", "small.yaml", *SIZES, "--out", "sizes", "--json")
    assert code != 0
    assert [stream(out)[-1][key] for key in ("event", "outcome", "error")] == [
        "series_ended",
        "error",
        "the disk is full",
    ]
    assert "Error: the disk is full" in err


def test_watch_leaves_a_member_that_the_run_has_left(
    command: Command, fake_executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_executor.raise_at = 1
    command("run", "small.yaml", *SIZES, "--out", "sizes")
    fake_executor.raise_at = None
    command("run", "sizes", "--methods", "full", "--set", "protocol.train_rows=[6, 8]")

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tuneoff.cli.commands.watch.time.sleep", stop)
    with hold(Path("sizes/lock")), hold(Path("sizes/members/8/lock")):
        code, out, _ = command("watch", "sizes")
    assert (code, "\n8\n" in out) == (130, True), "it waits at 8, where the run is, and not at 4, which is not over"
    SeriesStore("sizes").note_problem("4", "the disk is full")
    code, out, _ = command("watch", "sizes")
    assert code == 1
    assert "4: cannot be run: the disk is full" in out


def test_watch_shows_member_after_member(command: Command, fake_executor: FakeExecutor) -> None:
    fake_executor.raise_at = 1
    command("run", "small.yaml", *SIZES, "--out", "sizes")
    code, out, _ = command("watch", "sizes", "--once")
    assert code == 0
    assert "stopped: no run is on" in out
    assert "8: not begun" in out
    fake_executor.raise_at = None
    command("run", "sizes")
    code, out, _ = command("watch", "sizes")
    assert (code, out.count("6/6 done")) == (0, 2)
    command("run", "small.yaml", *BASES, "--out", "bases")
    code, out, _ = command("watch", "bases", "--once")
    assert code == 1
    assert "other: cannot be run: no model org/other" in out


def test_watch_waits_for_the_member_that_a_run_comes_to_next(
    command: Command, fake_executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_executor.raise_at = 1
    command("run", "small.yaml", *SIZES, "--out", "sizes")
    fake_executor.raise_at = None
    command("run", "sizes/members/4")
    pauses = 0

    def sleep(_: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses > 1:
            SeriesStore("sizes").note_problem("8", "no rows")

    monkeypatch.setattr("tuneoff.cli.commands.watch.time.sleep", sleep)
    with hold(Path("sizes/lock")):
        code, out, _ = command("watch", "sizes")
    assert (code, pauses) == (1, 2)
    assert "8: cannot be run: no rows" in out


def test_plan_shows_every_member_and_what_all_take(command: Command) -> None:
    code, out, _ = command("plan", "small.yaml", *SIZES)
    assert code == 0
    assert "small-4" in out
    assert "small-8" in out
    assert "series small: 2 members (4, 8), 12 trials, one after another: about " in out
    code, out, _ = command("plan", "small.yaml", *SIZES, "--json")
    data = json.loads(out)
    assert set(data) == set(plan.SERIES_KEYS)
    assert data["series"] == {"name": "small", "axis": "train_rows", "values": {"4": 4, "8": 8}}
    totals = [member["forecast"]["total_seconds"] for member in data["members"].values()]
    assert data["total_seconds"] == pytest.approx(sum(totals))
    assert not Path("runs").exists()


def test_plan_tells_of_a_member_that_cannot_be_run_after_the_others(command: Command) -> None:
    code, out, err = command("plan", "small.yaml", *BASES, "--json")
    data = json.loads(out)
    assert (code, data["problems"], data["total_seconds"]) == (2, {"other": "no model org/other"}, None)
    assert list(data["members"]) == ["minilm"]
    assert "no model org/other" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "small.yaml", *SIZES, "--budget", "30m"), "--budget is for one study, and this is a series"),
        (("plan", "small.yaml", *SIZES, "--budget", "30m"), "--budget is for one study, and this is a series"),
        (("recommend", "--before", "small.yaml", *SIZES), "protocol.train_rows: a list of sizes is a series"),
        (("run", "small.yaml", *SIZES, *BASES), "model: protocol.train_rows and model are lists, and a series has one"),
        (("run", "small.yaml", "--set", "protocol.train_rows=[]"), "protocol.train_rows: an empty list"),
        (("run", "small.yaml", "--set", "protocol.train_rows=[4]"), "a list of one size is no series"),
    ],
)
def test_what_no_series_takes_is_refused_with_one_error(words: tuple[str, ...], message: str, command: Command) -> None:
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("Error:") == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "words", [("export", "sizes", "full-s0", "x"), ("merge", "whole", "sizes"), ("compare", "sizes", "other")]
)
def test_what_takes_one_study_names_the_members(words: tuple[str, ...], command: Command) -> None:
    command("run", "small.yaml", *SIZES, "--out", "sizes")
    code, _, err = command(*words)
    assert code == 2
    assert "sizes holds a series of studies" in err
    assert "sizes/members/4" in err
