"""The project's own files agree: versions, pins, commands of continuous integration, and what a wheel holds."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from running_helpers import Tiny
from tuneoff import __version__, registry

pytest_plugins = ("running_fixtures",)
ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def constraints() -> dict[str, str]:
    """Canonical name -> version pinned."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins), "only exact versions"
    return {canonicalize_name(name): version for name, version in pins}


def test_what_was_tested_is_pinned_and_within_the_packages_ranges() -> None:
    pinned = constraints()
    for text in [
        *PROJECT["dependencies"],
        *PROJECT["optional-dependencies"]["dev"],
        *PROJECT["optional-dependencies"]["docs"],
    ]:
        wanted = Requirement(text)
        if wanted.name == "pip":
            continue  # part of every virtual environment
        version = pinned[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), f"{text} excludes the tested {version}"
    assert pinned["torch"] == "2.13.0"


def test_pins_fit_any_build() -> None:
    assert not [name for name, version in constraints().items() if not re.fullmatch(r"[\d.]+(?:\.?post\d+)?", version)]


def test_ci_runs_the_readmes_test_command_and_stops_at_the_first_error() -> None:
    script = ROOT / ".ci" / "run"
    text = script.read_text(encoding="utf-8")
    commands = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert commands[:3] == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "make test"]
    assert commands[-1] == "make test-services"
    assert os.stat(script).st_mode & stat.S_IXUSR
    assert "make test " in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_package_ships_its_data() -> None:
    from importlib.resources import files

    assert files("tuneoff").joinpath("py.typed").is_file()
    for folder, ending in (("recipes", ".yaml"), ("architectures", ".json")):
        assert [entry.name for entry in files(f"tuneoff.{folder}").iterdir() if entry.name.endswith(ending)]


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_version_stands_alike_wherever_it_stands() -> None:
    assert PROJECT["version"] == __version__ == read_yaml("CITATION.cff")["version"]
    assert f"## {__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_workflow_runs_the_readmes_test_command_and_may_write_nothing() -> None:
    workflow = read_yaml(".github/workflows/ci.yml")
    commands = {name: [s["run"] for s in job["steps"] if "run" in s] for name, job in workflow["jobs"].items()}
    assert commands == {"test": ["make test"], "test-all": ["make test-all"]}
    assert workflow["permissions"] == {"contents": "read"}


def test_hooks_run_the_checks_of_make() -> None:
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    hooks = [hook["entry"].removesuffix(" --force-exclude") for hook in repository["hooks"]]
    check = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ncheck:")[2].partition("\n\n")[0]
    made = [line.strip().replace("$(BIN)", ".venv/bin") for line in check.splitlines()[1:]]
    assert hooks == [re.sub(r"( --check)? \.$", "", command) for command in made]


@pytest.mark.parametrize("name", ["bug", "idea", "config"])
def test_issue_forms_are_forms(name: str) -> None:
    form = read_yaml(f".github/ISSUE_TEMPLATE/{name}.yml")
    if name == "config":
        assert form == {"blank_issues_enabled": True}
        return
    assert form["name"]
    assert form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    assert {field["type"] for field in form["body"]} <= {"textarea", "checkboxes"}


@pytest.mark.slow
def test_a_wheel_runs_outside_the_repository(tiny: Tiny, tmp_path: Path) -> None:
    site, study = tmp_path / "site", tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(tiny.study()), encoding="utf-8")

    def run(*command: str, cwd: Path = tmp_path) -> str:
        environment = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=cwd, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("hatchling", "build", "-d", str(tmp_path / "dist"), cwd=ROOT)
    names = {path.name for path in (tmp_path / "dist").iterdir()}
    assert names == {f"tuneoff-{__version__}.tar.gz", f"tuneoff-{__version__}-py3-none-any.whl"}
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    run("pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(site), str(wheel), cwd=tmp_path)
    (tmp_path / "where.py").write_text("import tuneoff.testing, sys; print(tuneoff.__file__)", encoding="utf-8")
    assert Path(run("where").strip()).is_relative_to(site)
    assert run("tuneoff", "--version").split()[-1] == __version__
    assert set(registry.methods()) <= set(run("tuneoff", "list", "methods").split())
    trials = json.loads(run("tuneoff", "plan", "study.yaml", "--json"))["trials"]
    assert [trial["method"] for trial in trials] == ["majority", "full"]
