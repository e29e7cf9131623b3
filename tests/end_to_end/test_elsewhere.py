"""A study that names its model and rows by relative paths, used from another folder than it was run from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from running_helpers import OneExecutor, SharedExecutor, Tiny
from tuneoff.errors import TuneoffError
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

pytest_plugins = ("running_fixtures",)
MODEL = "models/tiny"


@pytest.fixture(scope="module")
def project(tiny: Tiny, executor: SharedExecutor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, rows and, in `runs/out`, a finished study; no test writes to it."""
    place = tmp_path_factory.mktemp("project")
    shutil.copytree(tiny.model, place / MODEL)
    shutil.copy(tiny.train, place / "train.csv")
    shutil.copy(tiny.test, place / "test.csv")
    raw = tiny.study(("lora",), max_steps=3)
    raw |= {"model": MODEL, "task": {"data": {"train": "./train.csv", "test": "./test.csv"}}}
    with OneExecutor(executor).registered(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        Study(raw).run("runs/out")
    return place


@pytest.fixture(autouse=True)
def _shared(shared: SharedExecutor) -> None:
    """Every study here runs on the one executor."""


def predicted(folder: Path, rows: Path) -> list[dict[str, Any]]:
    predictions: list[dict[str, Any]] = Study.open(folder).call("predict", "lora", file=str(rows))["predictions"]
    return predictions


def test_where_it_was_run_from_is_kept_as_seen_from_the_study(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    body = json.loads((project / "runs/out/study.json").read_text(encoding="utf-8"))
    assert body["origin"] == "../.."
    assert StudyStore.open(project / "runs/out").origin() == project


def test_predict_and_export_work_from_anywhere(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    at_home = predicted(Path("runs/out"), Path("test.csv"))
    monkeypatch.chdir(tmp_path)
    shutil.copy(project / "test.csv", "rows.csv")
    assert predicted(project / "runs/out", Path("rows.csv")) == at_home
    done = Study.open(project / "runs/out").call("export", "lora", out="adapter", merged=False)
    assert Path(done["folder"]) == tmp_path / "adapter", "what is written is meant from here"
    card = (tmp_path / "adapter" / "README.md").read_text(encoding="utf-8")
    assert str(project / MODEL) in card, "the card names the base model's folder, wherever one stands"


def test_a_whole_project_that_moved_still_works(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = Path(shutil.copytree(project, tmp_path / "moved"))
    monkeypatch.chdir(tmp_path)
    assert StudyStore.open(moved / "runs/out").origin() == moved
    assert predicted(moved / "runs/out", moved / "test.csv") == predicted(project / "runs/out", project / "test.csv")


def test_the_report_says_how_to_repeat_a_study_of_relative_files(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = Path(shutil.copytree(project, tmp_path / "moved"))
    monkeypatch.chdir(moved)
    first = Study.open("runs/out")
    _, _, how = first.report(plots=False).read_text(encoding="utf-8").partition("tuneoff run ")
    path, *options = how.splitlines()[0].split()
    again = Study(path, device=options[options.index("--device") + 1])
    again.run(options[options.index("--out") + 1])
    assert again.folder != first.folder
    assert again.records()[0].spec.id == first.records()[0].spec.id
    assert again.records()[0].metrics == first.records()[0].metrics


def test_a_study_folder_that_moved_alone_works_where_its_model_is(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Path(shutil.copytree(project / "runs/out", tmp_path / "a" / "b" / "alone"))
    assert StudyStore.open(alone).origin() == tmp_path / "a", "a folder, though another one"
    monkeypatch.chdir(project)
    assert predicted(alone, Path("test.csv")) == predicted(Path("runs/out"), Path("test.csv"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TuneoffError, match=MODEL):
        predicted(alone, project / "test.csv")


def test_a_study_of_before_its_folder_was_kept_is_looked_for_here(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Path(shutil.copytree(project / "runs/out", tmp_path / "old"))
    body = json.loads((old / "study.json").read_text(encoding="utf-8"))
    del body["origin"], body["sha256"]
    (old / "study.json").write_text(json.dumps(body), encoding="utf-8")
    assert StudyStore.open(old).origin() is None
    monkeypatch.chdir(project)
    assert predicted(old, Path("test.csv")) == predicted(Path("runs/out"), Path("test.csv"))
