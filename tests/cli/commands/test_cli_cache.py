"""`tuneoff cache`: shows what was fetched, and deletes it where it was asked to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from record_helpers import failed, make_record, small_study
from tuneoff.cli.main import main
from tuneoff.planning.plan import plan
from tuneoff.records.record import Status
from tuneoff.store import StudyStore

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


def _study_with_checkpoints(folder: Path) -> list[str]:
    """A study whose first trial is finished, the second cancelled and the third diverged, each with a checkpoint."""
    study = small_study("lora", seeds=3)
    trials = plan(study)
    store = StudyStore.create(folder, study, trials)
    records = (make_record(trials[0]), failed(trials[1], Status.CANCELLED), failed(trials[2], Status.DIVERGED))
    for number, (trial, record) in enumerate(zip(trials, records, strict=True)):
        place = store.trial(trial.id)
        place.write_record(record)
        # As where the process was killed between the record and their removal.
        place.checkpoints.save(lambda folder: (folder / "state").write_bytes(b"x" * 4000), {}, 10 * number)
    return [trial.id for trial in trials]


@pytest.mark.parametrize("place", ["runs/mine", "elsewhere"])
def test_checkpoints_are_listed_and_those_of_trials_that_have_ended_are_removed(
    place: str, caches: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(caches)
    ids = _study_with_checkpoints(Path(place))
    assert main(["cache", *([] if place.startswith("runs") else [place])]) == 0
    lines = " ".join(capsys.readouterr().out.split())
    assert f"{place}/{ids[1]} step 10, the trial continues from it" in lines
    assert f"{place}/{ids[2]} step 20, the trial has ended" in lines
    assert main(["cache", place, "--clear"]) == 2
    assert "nothing was deleted: 2 entries" in capsys.readouterr().err
    assert main(["cache", place, "--clear", "--yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in told["deleted"]] == [f"{place}/{ids[0]}", f"{place}/{ids[2]}"]
    assert [(entry["name"], entry["step"]) for entry in told["kept"]] == [(f"{place}/{ids[1]}", 10)]
    assert list(StudyStore(Path(place)).checkpoints()) == [ids[1]]
    assert main(["cache", f"{place}/{ids[1]}", place, "--clear"]) == 0
    assert "kept 1 entry" in capsys.readouterr().out
    assert (Path(place) / "trials" / ids[1] / "checkpoints" / "1").is_dir()
