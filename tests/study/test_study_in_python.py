"""tuneoff.Study as people use it by hand."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from record_helpers import World, build_store, small_study
from tuneoff.config.retention import RetentionSpec
from tuneoff.errors import DataError, StoreError, StudyError
from tuneoff.study.study import Study

FakeExecutor = Any  # the class is in cli_fixtures.py, which pytest imports as a plug-in
pytest_plugins = ("cli_fixtures",)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study that was run, with made-up results."""
    return Study.open(build_store(tmp_path / "s", small_study("majority", "full", "lora", seeds=6), World()).root)


def test_results_print_as_few_columns_and_hold_all(study: Study) -> None:
    found: Any = study.results()
    lines = str(found).splitlines()
    assert lines[0].split()[:4] == ["label", "seed", "status", "accuracy"]
    assert "memory MiB" in lines[0]
    assert max(map(len, lines)) <= 110
    assert "18 trials; " in lines[-1]
    assert "<NA>" not in str(found)
    assert "<table" in found._repr_html_()
    assert {"id", "method", "peak_memory_bytes", "train_seconds", "findings"} <= set(found.columns)
    assert type(found[["label", "seed"]]).__name__ == "DataFrame"
    assert found["accuracy"].mean() > 0.5


def test_a_study_shows_what_it_asks_and_what_was_found(study: Study) -> None:
    assert "3 arms × 6 seeds" in repr(study)
    assert "lora" in study._repr_html_()
    shown = io.StringIO()
    Console(file=shown, width=80).print(study)
    assert "majority" in shown.getvalue()
    assert "…" not in shown.getvalue()
    asked = Study(small_study("full"))
    assert "arms: full" in asked._repr_html_()


def test_recommend_answers_under_limits_and_prints_as_words(study: Study) -> None:
    found = study.recommend(at_least={"accuracy": 0.1})
    assert found.answer in ("full", "lora")
    assert found.answer in str(found)
    assert study.recommend(max_memory="1MB").answer is None
    assert found.as_data()["answer"] == found.answer
    with pytest.raises(StudyError, match="--max-memory"):
        study.recommend(max_memory="much")


def test_a_narrower_run_recommends_among_its_own_rows(small_study: Path, fake_executor: FakeExecutor) -> None:
    Study(small_study).run("results")
    assert {arm.label for arm in Study(small_study, methods=["lora"]).run("results").recommend().results.arms} == {
        "lora"
    }


def test_export_and_predict_ask_for_a_trial(
    small_study: Path, fake_executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = Study(small_study).run("results")
    monkeypatch.setattr("tuneoff.study.study.early.refuse_export", lambda *_: None)
    monkeypatch.setattr("tuneoff.study.study.early.rows_to_predict", lambda *_: None)
    monkeypatch.setattr("tuneoff.report.add_comparison", lambda *_: None)
    predictions = [{"index": 0, "output": "good", "probability": 0.75, "scores": {"good": 0.75, "bad": 0.25}}]
    fake_executor.answers = {"export": {"folder": "out"}, "predict": {"predictions": predictions}}
    assert made.export("lora-s0", "out") == Path("out")
    assert list(made.predict("lora-s0", "rows.csv")["output"]) == ["good"]
    assert [verb for verb, _ in fake_executor.calls] == ["export", "predict"]


@pytest.mark.parametrize("how", ["asked", "notebook", "neither"])
def test_a_bar_is_shown_in_a_notebook_or_where_it_is_asked_for(
    how: str, small_study: Path, fake_executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    shell = type("ZMQInteractiveShell", (), {})()
    if how == "notebook":
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    Study(small_study).run("results", progress=True if how == "asked" else None)
    assert ("6/6" in capsys.readouterr().out) == (how != "neither")


def test_an_executor_of_ones_own_is_used_as_it_is_and_left_open(small_study: Path, fake_executor: FakeExecutor) -> None:
    study = Study(small_study, executor=fake_executor, device="cuda").run("results")
    assert len(study.records()) == 6
    assert (fake_executor.closed, fake_executor.device) == (False, "")


def test_processes_begin_to_start_before_a_run_is_planned_and_where_all_of_it_is_to_be_done(
    small_study: Path, fake_executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def noted(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            steps.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    noted(type(fake_executor), "warm_up")
    noted(type(fake_executor), "inspect")
    noted(type(fake_executor), "close")
    noted(Study, "plan")
    study = Study(small_study)
    with study.started(Path("results")):
        study.plan()
        study.run("results")
    assert steps[:2] == ["warm_up", "plan"]
    assert (steps.count("warm_up"), steps.count("inspect"), steps[-1]) == (1, 1, "close")
    steps.clear()
    Study(small_study).run("results")
    assert "warm_up" not in steps, "what is missing of a study that was begun is found out first"
    Study(small_study).run("elsewhere")
    assert steps.index("warm_up") < steps.index("inspect")


def test_what_cannot_be_run_starts_no_processes_ahead_and_the_run_says_why(
    small_study: Path, fake_executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small_study.parent / "rows.csv").write_text("text,label\n")
    monkeypatch.setattr(type(fake_executor), "warm_up", lambda _: pytest.fail("started"))
    study = Study(small_study)
    with study.started(Path("results")), pytest.raises(DataError):
        study.run("results")


def test_an_executor_is_named(small_study: Path, fake_executor: FakeExecutor) -> None:
    study = Study(small_study, executor="local", device="cuda").run("results")
    assert (fake_executor.closed, fake_executor.device) == (True, "cuda")
    assert Study(study.spec, executor="local").spec == study.spec
    with pytest.raises(StudyError, match="unknown executor 'nowhere'"):
        Study(study.spec, executor="nowhere")


def test_what_a_study_holds_is_not_written_over(tmp_path: Path) -> None:
    notes = tmp_path / "notes.csv"
    notes.write_text("text\na\n", encoding="utf-8")
    spec = small_study("lora").model_copy(update={"retention": RetentionSpec.model_validate(str(notes))})
    study = Study.open(build_store(tmp_path / "study", spec, World()).root)
    with pytest.raises(StoreError, match="is what is read"):
        study.refuse_overwriting(notes)
