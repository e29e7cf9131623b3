"""Series of a tiny model, from a file to records: real draws, real members."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from running_helpers import Ended, OneExecutor, SharedExecutor, Tiny
from tuneoff.cli.main import main
from tuneoff.store import SeriesStore

pytest_plugins = ("running_fixtures",)

Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def folder(tiny: Tiny, executor: SharedExecutor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `study.yaml` and, in `out`, its series."""
    place = tmp_path_factory.mktemp("series")
    study = tiny.study(("majority", "full"), train_rows=[24, 12, 48])
    (place / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    with OneExecutor(executor).registered():
        assert main(["run", str(place / "study.yaml"), "--out", str(place / "out"), "--no-profile"]) == 0
    return place


def test_members_have_their_sizes_and_equal_other_rows(folder: Path) -> None:
    members = SeriesStore.open(folder / "out").members
    data = [record.data for member in members for record in member.store.records()]
    assert [(info.splits["train"].rows, info.splits["train"].classes["cats"]) for info in data if info][::2] == [
        (12, 4),
        (24, 8),
        (48, 16),
    ]
    for split in ("validation", "test"):
        assert len({info.splits[split].fingerprint for info in data if info}) == 1
    assert len({info.splits["train"].fingerprint for info in data if info}) == 3


def test_the_same_command_has_nothing_left_to_do(folder: Path, run: Run) -> None:
    ended = run("run", folder / "study.yaml", "--out", folder / "out", "--json")
    assert ended.code == 0, ended.err
    assert ended.out.count('"earlier": true') + ended.out.count('"earlier":true') == 6


@pytest.mark.parametrize(("command", "small_bytes"), [("run", 10), ("plan", 2**20)])
def test_sizes_that_do_not_go_with_the_rows_are_refused_before_training(
    command: str, small_bytes: int, folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tuneoff.trial.early.SMALL_BYTES", small_bytes)  # larger files are read in a child process
    ended = run(command, folder / "study.yaml", "--set", "protocol.train_rows=[2, 12, 5000]")
    assert ended.code == 2
    assert "5,000 is more than the 81 training rows that there are" in ended.err
    assert "2 rows leave out some of the 3 classes" in ended.err
    assert ended.err.count("Error:") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_there_stops_no_other(folder: Path, run: Run, tiny: Tiny, tmp_path: Path) -> None:
    models = f"model=[{tmp_path / 'nosuch'}, {tiny.model}]"
    ended = run(
        "run",
        folder / "study.yaml",
        "--set",
        "protocol.train_rows=12",
        "--set",
        models,
        "--out",
        tmp_path / "bases",
        "--no-profile",
    )
    assert ended.code == 1, ended.err
    assert "not run: nosuch: " in ended.err
    nosuch, bert = SeriesStore.open(tmp_path / "bases").members
    assert nosuch.problem
    assert [record.status for record in bert.store.records()] == ["completed", "completed"]


def test_data_sets_have_columns_of_their_own(folder: Path, run: Run, tiny: Tiny, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text(tiny.train.read_text(encoding="utf-8").replace("text,label", "body,kind", 1), encoding="utf-8")
    study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    study["protocol"]["train_rows"] = 12
    study["methods"] = ["majority"]
    study["task"]["data"] = [
        {"train": str(tiny.train), "test": str(tiny.test)},
        {"train": str(other), "text": "body", "label": "kind"},
    ]
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    ended = run("run", tmp_path / "sets.yaml", "--out", tmp_path / "sets", "--no-profile")
    assert ended.code == 0, ended.err
    columns = [
        record.data.columns
        for member in SeriesStore.open(tmp_path / "sets").members
        for record in member.store.records()
        if record.data
    ]
    assert columns == [{"text": "text", "label": "label"}, {"text": "body", "label": "kind"}]
