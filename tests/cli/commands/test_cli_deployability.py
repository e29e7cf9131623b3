"""`tuneoff deployability`, with answers made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneoff.cli.main import main
from tuneoff.records.record import Metric
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

FakeExecutor = Any  # the class is in cli_fixtures.py, which pytest imports as a plug-in
pytest_plugins = ("cli_fixtures",)

ACCURACY = Metric(name="accuracy", value=0.9, unit="fraction", direction="higher", split="test")
ANSWERS = {
    "build_form": {"weights_bytes": 2048, "base_bytes": 0},
    "score_form": {
        "form": "as_trained",
        "works": True,
        "metrics": [ACCURACY.model_dump(mode="json")],
        "weights_bytes": 2048,
        "base_bytes": 0,
    },
}


@pytest.fixture
def ran(small_study: Path, fake_executor: FakeExecutor) -> str:
    """A folder of results; the executor answers for every form alike."""
    for record in Study(small_study).run("results").records():
        if record.spec.learning_rate is not None:
            StudyStore.open("results").trial(record.spec.id).weights.mkdir()
    fake_executor.answers = ANSWERS
    return "results"


def test_it_measures_prints_a_table_and_writes_the_report(
    ran: str, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["deployability", ran, "--arm", "lora", "--form", "as_trained", "--device", "cpu"]) == 0
    assert [verb for verb, _ in fake_executor.calls] == ["build_form", "score_form"] * 2
    assert {payload["device"] for _, payload in fake_executor.calls} == {"cpu"}
    told = capsys.readouterr()
    (row,) = [line for line in told.out.splitlines() if line.startswith("as trained")]
    assert len(row) <= 80
    assert "2.0 KiB" in row
    assert "as trained …" in told.err
    assert "works (accuracy 0.9)" in told.err
    assert "## Deployability" in (Path(ran) / "report" / "report.md").read_text(encoding="utf-8")


def test_json_is_the_reports_own(ran: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deployability", ran, "--arm", "lora", "--form", "as_trained", "--json"]) == 0
    (arm,) = json.loads(capsys.readouterr().out)
    assert arm == json.loads((Path(ran) / "report" / "report.json").read_text())["deployability"][0]
    assert (arm["method"], arm["forms"][0]["form"]) == ("lora", "as_trained")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--form", "onx"], "'onx' is not one of"),
        (["--arm", "majority"], "trains nothing"),
        (["--arm", "lora", "--all"], "--all measures every arm"),
    ],
)
def test_what_makes_no_sense_is_one_error(
    arguments: list[str], message: str, ran: str, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deployability", ran, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert fake_executor.calls == []


def test_recommend_names_the_command_that_measures_what_it_asks_for(
    ran: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", ran, "--deployable", "merged"]) == 3
    assert "tuneoff deployability results --arm" in " ".join(capsys.readouterr().out.split())
    assert main(["recommend", ran, "--before", "--deployable", "merged"]) == 2
    assert "--deployable needs measured results" in capsys.readouterr().err


def test_a_study_that_asks_for_forms_has_them_measured_in_the_end(
    small_study: Path, fake_executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = fake_executor.run

    def run(store: StudyStore, trials: Any, listener: Any) -> None:
        made(store, trials, listener)
        for trial in trials:
            store.trial(trial.id).weights.mkdir(exist_ok=True)

    monkeypatch.setattr(fake_executor, "run", run)
    fake_executor.answers = ANSWERS
    arguments = ["run", str(small_study), "--out", "asked", "--no-profile", "--set", "deployability=[as_trained]"]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert "the recommended arm's trained models are scored again: as_trained" in told.err
    assert "as trained: works" in told.err
    assert [verb for verb, _ in fake_executor.calls].count("score_form") == 2
    assert "## Deployability" in (Path("asked") / "report" / "report.md").read_text(encoding="utf-8")
    before = len(fake_executor.calls)
    assert main(arguments) == 0
    assert len(fake_executor.calls) == before


def test_where_all_that_trains_failed_nothing_is_measured_and_the_report_is_there(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_executor.fail = {"full", "lora"}
    arguments = ["run", str(small_study), "--out", "asked", "--no-profile", "--set", "deployability=[as_trained]"]
    assert main(arguments) == 1
    assert [verb for verb, _ in fake_executor.calls] == []
    assert "no arm that trains" not in capsys.readouterr().err
    assert (Path("asked") / "report" / "report.md").is_file()


@pytest.mark.usefixtures("fake_executor")
def test_a_plan_says_that_its_time_is_without_the_forms(small_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(small_study), "--no-profile", "--set", "deployability=[merged]"]) == 0
    assert "scored again: as_trained, merged (no forecast or budget counts" in " ".join(capsys.readouterr().out.split())
