"""A third party's task with metrics of its own is one file: recognised by `init`, planned, run, compared, reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from running_helpers import Ended, Tiny, tiny_rows, write_rows

pytest_plugins = ("running_fixtures",)
TASK = Path(__file__).parents[2] / "examples/plugin_package/src/tuneoff_examples/ordinal.py"
GRADES = {"cats": "1", "dogs": "3", "fish": "5"}


@pytest.fixture
def grades(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the task, which this process and those of trials know."""
    shutil.copyfile(TASK, tiny.plugins / "grades_of_texts.py")
    about = tiny.plugins / "grades_of_texts-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: grades-of-texts\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[tuneoff.tasks]\ngrades = grades_of_texts:plugin\n")
    monkeypatch.syspath_prepend(str(tiny.plugins))
    return "grades"


def test_a_task_in_one_file_goes_the_whole_way(
    grades: str, tiny: Tiny, run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [(text, GRADES[label]) for text, label in tiny_rows(120, seed=1)]
    data = write_rows(tmp_path / "reviews.csv", rows, header=("text", "grade"))

    seen = run("init", data, "--model", tiny.model, "--no-forecast", "--json")
    assert seen.code == 0, seen.err
    found = json.loads(seen.out)
    assert (found["task"], found["columns"]) == (grades, {"text": "text", "grade": "grade"})
    study = Path(found["study"])
    assert "# select_metric: accuracy" in study.read_text(encoding="utf-8")

    # By the name of a role alone, too: nobody else has it.
    named = run("init", data, "--grade", "grade", "--out", "named.yaml", "--no-forecast", "--json")
    assert json.loads(named.out)["task"] == grades
    assert "--grade COLUMN" in run("init", "--help").out

    settings = ("--methods", "majority,full", "--seeds", "2", "--epochs", "1", "--set", "protocol.learning_rate=1e-3")
    planned = run("plan", study, *settings, "--no-profile", "--json")
    assert planned.code == 0, planned.err
    assert json.loads(planned.out)["study"]["primary_metric"] == "mean_absolute_error"

    ended = run("run", study, *settings, "--out", "out", "--no-profile")
    assert ended.code == 0, ended.err
    report = json.loads((tmp_path / "out/report/report.json").read_text(encoding="utf-8"))
    (full,) = (arm for arm in report["methods"] if arm["method"] == "full")
    assert list(full["metrics"]) == ["mean_absolute_error", "accuracy", "correlation", "loss"]
    for name, metric in full["metrics"].items():
        # Means over examples and the jackknife alike: the error is told by seeds and by examples.
        assert metric["n"] == 2, name
        assert metric["interval_over"] == "seeds and examples", name
        assert not metric["note"], name
    assert report["verdict"]["metric"] == "mean_absolute_error"
    assert [pair["p"] is not None for pair in report["verdict"]["pairs"]] == [True]
    assert full["metrics"]["mean_absolute_error"]["unit"] == "grades"
    assert "lowest test mean absolute error" in (tmp_path / "out/report/report.md").read_text(encoding="utf-8")
