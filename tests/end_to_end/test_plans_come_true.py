"""Plans that come true: real forecasts of the tiny model, and what is made of them on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from running_helpers import OneExecutor, SharedExecutor, Tiny, wait_until
from tuneoff import report
from tuneoff.cli.main import main
from tuneoff.records.forecast import StudyForecast
from tuneoff.records.record import TrialRecord
from tuneoff.store import StudyStore
from tuneoff.study import forecast_worth
from tuneoff.study.study import Study

pytest_plugins = ("running_fixtures",)

ROWS = ("majority", "full", "lora")


@pytest.fixture(scope="module")
def ran(tiny: Tiny, executor: SharedExecutor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that was forecast and run."""
    folder = tmp_path_factory.mktemp("forecast") / "study"
    with OneExecutor(executor).registered(), pytest.MonkeyPatch.context() as patch:
        # So small a study is left alone else.
        patch.setattr(forecast_worth, "SHORT_OPERATIONS", 0.0)
        patch.setattr(forecast_worth, "PAYS", 0.0)
        Study(tiny.study(ROWS)).run(folder)
    return folder


def records(folder: Path) -> dict[str, TrialRecord]:
    return {record.spec.label: record for record in StudyStore.open(folder).records()}


def kept(folder: Path) -> StudyForecast:
    found = StudyStore.open(folder).forecast()
    assert found is not None
    return found


def test_a_run_keeps_its_forecast_and_sizes_come_true(ran: Path) -> None:
    made, found = kept(ran), records(ran)
    assert made.arms.keys() == set(ROWS)
    for label, record in found.items():
        arm = made.arms[label]
        assert arm.trial == record.spec.id
        assert arm.stored_bytes is not None
        assert arm.stored_bytes == pytest.approx(record.stored_bytes, rel=0.25, abs=2000)
        predictions = ran / "trials" / record.spec.id / record.predictions["test"].file
        assert arm.predictions_bytes == pytest.approx(predictions.stat().st_size, rel=0.15)
    assert made.arms["full"].memory["weights"] > 0
    assert made.total_seconds is not None
    assert made.disk_bytes is not None


def test_the_report_sets_it_beside_what_was_measured(ran: Path) -> None:
    body = report.build(StudyStore.open(ran)).as_data()["forecast"]
    for arm in body["arms"]:
        memory = arm["peak_memory_bytes"]
        if arm["method"] == "majority":
            assert memory["relative_error"] is None
            assert memory["reason"]
        else:
            assert abs(memory["relative_error"]) < 0.5
            assert arm["train_seconds"]["relative_error"] is not None
    assert body["accuracy"]["peak_memory_bytes"]["arms"] == 2


def test_a_finished_study_is_not_forecast_again(ran: Path, shared: SharedExecutor, tiny: Tiny) -> None:
    before = (ran / "forecast.json").read_bytes()
    told: list[Any] = []
    Study(tiny.study(ROWS)).run(ran, forecast_listener=told.append)
    assert told == []
    assert (ran / "forecast.json").read_bytes() == before


@pytest.fixture
def study_file(tiny: Tiny, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny.study(ROWS, learning_rate=None)), encoding="utf-8")
    return path


def test_a_plan_probes_every_row_and_its_search(
    study_file: Path, shared: SharedExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(study_file), "--json", "--search", "2"]) == 0
    said = capsys.readouterr()
    assert "profiling lora (3/3)" in said.err
    found = json.loads(said.out)["forecast"]
    full, lora, baseline = (found["arms"][label] for label in ("full", "lora", "majority"))
    assert (full["how"], lora["how"]) == ("profile", "profile")
    assert full["profiled_steps"][0]["seconds"] > 0
    assert full["memory"]["optimizer"] > lora["memory"]["optimizer"] > 0
    assert full["peak_memory_bytes"] > full["memory"]["process"] > 0
    assert full["search_seconds"]["train"] > 0
    assert baseline["search_seconds"] == {}
    trials = 2 * (sum(full["search_seconds"].values()) + sum(lora["search_seconds"].values()))
    trials += sum(sum(arm["seconds"].values()) for arm in (full, lora, baseline))
    # The second trial of each search finds the tokens of the first.
    trials -= full["search_seconds"]["tokenize"] + lora["search_seconds"]["tokenize"]
    assert found["total_seconds"] == pytest.approx(trials)


def test_a_gpu_that_is_too_small_is_told_with_what_would_help(
    study_file: Path, shared: SharedExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(study_file), "--no-profile", "--gpu-memory", "1MB"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "full will not fit: it needs" in shown
    assert "of memory, there are 976.6 KiB." in shown


def test_an_answer_before_any_run(
    study_file: Path, shared: SharedExecutor, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["recommend", "--before", str(study_file), "--no-profile", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["answer"] in {"full", "lora"}
    assert {arm["method"]: arm["forecast"] for arm in body["arms"] if arm["trains"]} == {
        "full": "estimate",
        "lora": "estimate",
    }
    assert list(tmp_path.iterdir()) == [study_file]


@pytest.mark.slow
def test_an_interrupted_plan_leaves_no_process(
    study_file: Path, child_environment: dict[str, str], tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tuneoff", "plan", str(study_file)],
        cwd=tmp_path,
        env=child_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "profiling" in line
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted." in error
    assert "Traceback" not in error
    wait_until(lambda: not any(child.is_running() for child in children), 20)
