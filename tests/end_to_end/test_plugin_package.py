"""The example package of plug-ins: installed as its reader would, tested by its own tests, and used."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from running_helpers import Tiny, tiny_rows

pytest_plugins = ("running_fixtures",)
EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin_package"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the package is installed."""
    folder = tmp_path_factory.mktemp("site")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(folder), str(EXAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def run(site: Path, *command: str, cwd: Path) -> str:
    """What a Python module prints that is run where the package is installed."""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_plugin_is_one_file_that_tuneoff_finds(site: Path, tmp_path: Path) -> None:
    files = {path.stem for path in (site / "tuneoff_examples").glob("*.py")} - {"__init__"}
    assert files == {"grounded", "idle", "norms", "ordinal", "sqlite", "table"}
    for kind, name in (
        ("methods", "norms"),
        ("tasks", "ordinal"),
        ("metrics", "grounded"),
        ("trackers", "table"),
        ("executors", "idle"),
    ):
        assert name in run(site, "tuneoff", "list", kind, cwd=tmp_path).split()
    assert "mean absolute error" in run(site, "tuneoff", "show", "task", "ordinal", cwd=tmp_path)


@pytest.mark.slow
def test_the_package_passes_its_own_tests(site: Path) -> None:
    out = run(site, "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", cwd=EXAMPLE)
    assert " passed" in out
    assert "skipped" not in out


@pytest.mark.slow
def test_a_study_runs_with_all_of_them(site: Path, tiny: Tiny, tmp_path: Path) -> None:
    stars = {"cats": 1, "dogs": 3, "fish": 5}
    with closing(sqlite3.connect(tmp_path / "reviews.sqlite")) as connection, connection:
        for split, count in (("train", 60), ("test", 12)):
            connection.execute(f"CREATE TABLE {split} (review TEXT, stars INTEGER)")
            rows = [(text, stars[label]) for text, label in tiny_rows(count, seed=len(split))]
            connection.executemany(f"INSERT INTO {split} VALUES (?, ?)", rows)
    study = tiny.study(("majority", "norms"))
    study["task"] = {"name": "ordinal", "text": "review", "grade": "stars"}
    study["task"]["data"] = dict.fromkeys(("train", "test"), "sqlite:reviews.sqlite")
    study["executor"] = {"name": "idle", "max_percent": 100, "seconds": 0.1}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    run(site, "tuneoff", "run", "study.yaml", "--out", "out", "--tracker", "table", "--no-profile", cwd=tmp_path)
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("trials/*/record.json")]
    assert {record["spec"]["method"] for record in records} == {"majority", "norms"}
    assert {record["primary_metric"] for record in records} == {"mean_absolute_error"}
    with (tmp_path / "out/trackers/table/figures.csv").open(encoding="utf-8") as file:
        figures = {line[2] for line in csv.reader(file)}
    assert "final/test/mean_absolute_error" in figures
    report = (tmp_path / "out/report/report.md").read_text(encoding="utf-8")
    assert "norms has the lowest test mean absolute error" in report
