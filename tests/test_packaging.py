from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
    for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]:
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
    assert commands == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "make test"]
    assert os.stat(script).st_mode & stat.S_IXUSR
    assert "make test " in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_package_ships_its_data() -> None:
    from importlib.resources import files

    assert files("tuneoff").joinpath("py.typed").is_file()
    for folder, ending in (("recipes", ".yaml"), ("architectures", ".json")):
        assert [entry.name for entry in files(f"tuneoff.{folder}").iterdir() if entry.name.endswith(ending)]
