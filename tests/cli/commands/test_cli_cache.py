"""`tuneoff cache`: shows what was fetched, and deletes it where it was asked to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuneoff.cli.main import main

MODEL = "hub/models--org--name"


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches with a package, a model and, where a variable points at a folder of somebody's, something else."""
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for path, size in {
        "own/packages/a-1.0/data": 3000,
        "hf/hub/models--org--name/blobs/x": 5000,
        "own/thesis": 7,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x" * size)
    (tmp_path / "own/packages/a-1.0.lock").touch()
    return tmp_path


def test_shows_what_and_where_and_how_much(caches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache"]) == 0
    shown = capsys.readouterr().out
    for part in ("tuneoff: 2.9 KiB in 1 file", str(caches / "own"), "tuneoff/packages/a-1.0", MODEL, "datasets: empty"):
        assert part in shown
    assert main(["cache", "--json"]) == 0
    found = {cache["name"]: cache for cache in json.loads(capsys.readouterr().out)}
    assert (found["tuneoff"]["bytes"], found["hub"]["bytes"], found["datasets"]["exists"]) == (3000, 5000, False)
    assert found["hub"]["entries"][0]["name"] == MODEL


def test_nothing_is_deleted_without_a_yes(caches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--clear"]) == 2
    shown = capsys.readouterr().err
    assert "nothing was deleted: 1 entry, 2.9 KiB: tuneoff/packages/a-1.0 would be" in shown
    assert "--yes" in shown
    assert (caches / "own/packages/a-1.0/data").is_file()


def test_clears_its_own_and_nothing_of_others(caches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--clear", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == 3000
    assert not (caches / "own/packages/a-1.0").exists()
    assert (caches / "own/thesis").is_file()
    assert (caches / "hf/hub/models--org--name/blobs/x").is_file()


def test_clears_one_thing_that_is_named(caches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", MODEL, "--clear", "--yes"]) == 0
    assert f"deleted 1 entry, 4.9 KiB: {MODEL}" in capsys.readouterr().out
    assert (caches / "own/packages/a-1.0/data").is_file()
    assert main(["cache", "hub", "--clear", "--yes"]) == 0
    assert "deleted 0 entries" in capsys.readouterr().out


def test_a_name_that_means_nothing_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "hubb", "--clear", "--yes"]) == 2
    assert "did you mean 'hub'" in capsys.readouterr().err
