"""Trackers of a study, from Python and from the command line: refused early, named when they fail, changing nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from running_helpers import SharedExecutor, Tiny
from tracker_helpers import calls
from tuneoff import registry
from tuneoff.cli.main import main
from tuneoff.errors import StudyError
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan, question
from tuneoff.records.record import TrialRecord
from tuneoff.store import StudyStore
from tuneoff.study.study import Study
from tuneoff.testing.trackers import tracked

pytest_plugins = ("running_fixtures", "tracker_fixtures")
pytestmark = pytest.mark.usefixtures("doubles", "no_outlets")


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds and is tested where it is made."""
    from tuneoff.report import files

    draw = files.write_built
    monkeypatch.setattr(files, "write_built", lambda results, report, plots=True: draw(results, report, plots=False))


def _raw(tiny: Tiny, *trackers: str) -> dict[str, Any]:
    return {**tiny.study(("full",)), "trackers": list(trackers)}


def test_a_real_study_is_followed(tiny: Tiny, shared: SharedExecutor, tmp_path: Path) -> None:
    study = Study(_raw(tiny, "recorder")).run(tmp_path / "study")
    store = StudyStore.open(tmp_path / "study")
    found = calls(store)
    (record,) = study.records()
    names = {name for call in found if call["call"] == "log" for name in call["metrics"]}
    assert {"train/loss", "train/gradient_norm", "train/learning_rate", "validation/accuracy"} <= names
    assert any(name.startswith("system/") for name in names)
    steps = [call["step"] for call in found if call["call"] == "log"]
    assert steps == sorted(steps)
    (end,) = [call for call in found if call["call"] == "end_trial"]
    assert end["metrics"]["final/test/accuracy"] == record.metric("accuracy")
    assert end["step"] == record.steps
    (artifacts,) = [call for call in found if call["call"] == "artifacts"]
    assert "report.md" in artifacts["files"]
    assert tracked(store, "recorder")["state"] == "finished"


def _outcome(record: TrialRecord) -> tuple[Any, ...]:
    predictions = {split: info.sha256 for split, info in record.predictions.items()}
    losses = [point.train_loss for point in record.curve]
    return record.spec.id, record.metrics, predictions, losses, record.gradient_norm


def test_a_tracker_that_fails_changes_no_result_and_is_named_in_record_and_report(
    tiny: Tiny,
    shared: SharedExecutor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TROUBLE", "raise:start")
    (alone,) = Study(_raw(tiny)).run(tmp_path / "alone").records()
    followed = Study(_raw(tiny, "troublemaker")).run(tmp_path / "followed")
    (record,) = followed.records()
    assert _outcome(record) == _outcome(alone)
    said = "the tracker troublemaker was given up: ConnectionError: the network is gone"
    assert [finding.message for finding in record.findings if finding.name == "tracker_failed"] == [
        f"{said}; what was measured does not depend on it"
    ]
    assert "note: tracker troublemaker was given up" in capsys.readouterr().err
    followed.report()
    warnings = json.loads((tmp_path / "followed/report/report.json").read_text())["warnings"]
    (warning,) = [warning for warning in warnings if warning["name"] == "tracker_failed"]
    assert said in warning["message"]


def test_a_tracker_that_fails_at_the_very_end_is_named_in_the_report(
    tiny: Tiny, shared: SharedExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TROUBLE", "raise:finish")
    study = Study(_raw(tiny, "troublemaker")).run(tmp_path / "study")
    assert not [
        finding for record in study.records() for finding in record.findings if finding.name == "tracker_failed"
    ]
    study.report()
    warnings = json.loads((tmp_path / "study/report/report.json").read_text())["warnings"]
    assert [warning["name"] for warning in warnings].count("tracker_failed") == 1


def test_a_trial_that_fails_names_it_too(
    tiny: Tiny, shared: SharedExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TROUBLE", "raise:start")
    raw = _raw(tiny, "troublemaker")
    raw["methods"] = {"full": {"learning_rate": 1e30}}
    raw["protocol"]["learning_rate"] = None
    (record,) = Study(raw).run(tmp_path / "study").records()
    assert not record.status.finished
    assert [finding.name for finding in record.findings] == ["tracker_failed"]


def test_trackers_are_no_part_of_what_is_asked(tiny: Tiny) -> None:
    without, followed = parse(_raw(tiny)), parse(_raw(tiny, "recorder"))
    assert question(without) == question(followed)
    assert [trial.id for trial in plan(without)] == [trial.id for trial in plan(followed)]


def test_unknown_trackers_are_problems_of_the_study(tiny: Tiny) -> None:
    with pytest.raises(StudyError) as caught:
        parse({**_raw(tiny, "recordr", "recorder"), "surprise": 1})
    assert [problem.where for problem in caught.value.problems] == ["surprise"]
    with pytest.raises(StudyError) as caught:
        parse(_raw(tiny, "recordr", "recorder"))
    (problem,) = caught.value.problems
    assert problem.where == "trackers"
    assert "did you mean 'recorder'" in problem.message


def _study_file(tiny: Tiny, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps({key: value for key, value in _raw(tiny).items() if key != "trackers"}))
    return path


def test_the_command_line_names_trackers(tiny: Tiny, shared: SharedExecutor, tmp_path: Path) -> None:
    out = tmp_path / "study"
    arguments = ["run", str(_study_file(tiny, tmp_path)), "--out", str(out), "--device", "cpu", "--methods", "majority"]
    assert main([*arguments, "--tracker", "recorder"]) == 0
    assert calls(StudyStore.open(out))[-1]["call"] == "finish"
    assert StudyStore.open(out).study().trackers == ("recorder",)


def test_a_tracker_that_is_not_there_is_refused_before_anything_is_done(
    tiny: Tiny, shared: SharedExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    arguments = ["run", str(_study_file(tiny, tmp_path)), "--out", str(out)]
    assert main([*arguments, "--tracker", "lacking"]) == 2
    assert "pip install 'tuneoff[lacking]'" in capsys.readouterr().err
    assert main([*arguments, "--tracker", "recordre"]) == 2
    assert "did you mean 'recorder'" in capsys.readouterr().err
    assert not out.exists()


def test_trackers_are_listed_with_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "trackers", "--json"]) == 0
    items = {item["name"]: item for item in json.loads(capsys.readouterr().out)}
    assert set(items) == set(registry.trackers())
    assert items["recorder"]["installed"] is True
    assert items["lacking"]["installed"] is False
    assert "pip install 'tuneoff[lacking]'" in items["lacking"]["summary"]
