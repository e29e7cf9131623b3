"""Machine, commit and precision are described as they are."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pytest
import torch

from tuneoff.measure import environment


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package's folder in a new repository, nothing committed."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path / "src" / "package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    git(tmp_path, "init", "--quiet")
    return folder


def test_describe_names_machine_and_versions() -> None:
    found = environment.describe("cpu", threads=2, commit="abc")
    assert found.device == "cpu"
    assert found.device_name == found.processor != ""
    assert found.cores >= 1
    assert found.threads == 2
    assert found.memory_bytes > 2**27
    assert found.commit == "abc"
    assert found.versions["torch"] == metadata.version("torch")
    assert {"tuneoff", "transformers", "peft"} <= found.versions.keys()
    started = datetime.fromisoformat(found.started_at)
    assert timedelta(0) <= datetime.now(UTC) - started < timedelta(minutes=1)
    assert environment.describe("cpu", threads=2, commit=None).commit is None


def test_packages_that_are_not_installed_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("torch", "no-such-package"))
    assert environment.versions.__wrapped__() == {"torch": metadata.version("torch")}


def test_processor_is_the_model_name_or_what_the_platform_says(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel\t\t: 167\nmodel name\t: A Fine CPU @ 2 GHz\n")
    assert environment.processor(file) == "A Fine CPU @ 2 GHz"
    assert environment.processor(tmp_path / "absent") != ""


def test_commit_of_a_checkout_says_when_the_package_was_changed(package: Path) -> None:
    look = environment.source_commit.__wrapped__
    assert look(package) is None  # nothing committed
    git(package, "add", ".")
    git(package, "commit", "--quiet", "-m", "first")
    commit = git(package, "rev-parse", "HEAD")
    assert look(package) == commit
    (package.parent / "notes.md").write_text("outside the package")
    assert look(package) == commit
    (package / "new.py").write_text("")
    assert look(package) == commit + "+dirty"
    (package / "new.py").unlink()
    (package / "__init__.py").write_text("changed = True")
    assert look(package) == commit + "+dirty"


def test_a_copy_installed_inside_another_repository_has_no_commit(package: Path) -> None:
    (package.parents[1] / ".gitignore").write_text("installed/\n")
    git(package, "add", "--all", str(package.parents[1]))
    git(package, "commit", "--quiet", "-m", "first")
    installed = package.parents[1] / "installed"
    installed.mkdir()
    (installed / "__init__.py").write_text("")
    assert environment.source_commit.__wrapped__(installed) is None


def test_no_repository_and_no_git_mean_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = environment.source_commit.__wrapped__
    (tmp_path / "__init__.py").write_text("")
    assert look(tmp_path) is None
    assert look(tmp_path / "absent") is None
    monkeypatch.setenv("PATH", "")
    assert look(Path(environment.__file__).parents[1]) is None


def test_precision_measures_and_says_what_products_are() -> None:
    setting = torch.get_float32_matmul_precision()
    state = torch.get_rng_state()
    full = environment.precision("fp32", "cpu")
    half = environment.precision("bf16", torch.device("cpu"))
    assert torch.get_float32_matmul_precision() == setting
    assert torch.equal(torch.get_rng_state(), state)
    assert full.matmul_relative_error is not None
    assert half.matmul_relative_error is not None
    assert 0 < full.matmul_relative_error < 1e-5
    assert 1e-4 < half.matmul_relative_error < 2e-2
    assert "computed in full float32" in full.description
    assert "computed in reduced precision" in half.description
    assert "bfloat16" in half.description


def test_a_policy_that_the_settings_break_is_disclosed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "matmul_relative_error", lambda device, autocast: 2e-3)
    found = environment.precision("fp32", "cpu")
    assert "computed in reduced precision (relative error 2e-03)" in found.description
    assert found.matmul_relative_error == 2e-3
