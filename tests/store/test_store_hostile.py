"""Files of a study's folder that are no longer what tuneoff wrote: named in one sentence, without a wait or a fault."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from record_helpers import build_store, small_study
from tuneoff.checksums import content_hash
from tuneoff.cli.main import main
from tuneoff.errors import CorruptRecord, StoreError
from tuneoff.study.study import Study

Damage = Callable[[Path], object]


def _replaced(path: Path, make: Damage) -> None:
    path.unlink()
    make(path)


DAMAGES: dict[str, Damage] = {
    "list": lambda path: path.write_bytes(b"[]"),
    "null": lambda path: path.write_bytes(b"null"),
    "number": lambda path: path.write_bytes(b"3"),
    "text": lambda path: path.write_bytes(b'"x"'),
    "empty object": lambda path: path.write_bytes(b"{}"),
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "deep": lambda path: path.write_bytes(b"[" * 50_000),
    "digits": lambda path: path.write_bytes(b"9" * 5000),
    "pipe": lambda path: _replaced(path, os.mkfifo),
    "folder": lambda path: _replaced(path, Path.mkdir),
    "loop": lambda path: _replaced(path, lambda place: place.symlink_to(place.name)),
    "device": lambda path: _replaced(path, lambda place: place.symlink_to("/dev/full")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_damage_is_named(tmp_path: Path, damage: Damage, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("study.json", "trial.json", "record.json", "predictions-test.jsonl"):
        store = build_store(tmp_path / name, small_study("head", "full"))
        place = store.trial(store.trial_ids()[0]).folder
        damage(store.root / name if name == "study.json" else place / name)
        for arguments in (["recommend", str(store.root)], ["watch", str(store.root), "--once"]):
            status = main(arguments)
            told = capsys.readouterr().err
            assert "fault in tuneoff" not in told, (name, arguments)
            if name == "study.json":
                assert status == 2
                assert "study.json" in told
        if name == "study.json":
            with pytest.raises(StoreError, match=r"study\.json"):
                Study.open(store.root)
        else:
            page = Study.open(store.root).report(plots=False).read_text()
            # A link that leads nowhere is a record that is not there yet.
            assert place.name in page or "3 of 4 trials" in page, (name, "the report tells of the damage")


def test_half_a_character_in_a_trial_is_damage_like_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = build_store(tmp_path / "study", small_study("head", "full"))
    place = store.trial(store.trial_ids()[0])
    text = place.spec_path.read_text()
    place.spec_path.write_text(text.replace('"head"', '"\\ud800"'))
    assert main(["recommend", str(store.root)]) in (0, 2)
    assert "fault in tuneoff" not in capsys.readouterr().err


def test_events_and_logs_that_are_no_files(tmp_path: Path) -> None:
    store = build_store(tmp_path / "study", small_study("head"))
    trial = store.trial(store.trial_ids()[0])
    for path in (trial.events_path, trial.log_path):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    trial.append_event({"kind": "step"})
    assert trial.events() == ([], 0)
    assert trial.log_tail() == ()


OUTSIDE = ("../../../outside", "/etc/passwd", "..", "", "a\0b", "C:\\x", "a\\..\\b", 3, None)


def _resealed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a document and its checksum, as whoever can write to the folder can."""
    body = json.loads(path.read_text(encoding="utf-8"))
    del body["sha256"]
    change(body)
    path.write_text(json.dumps({"sha256": content_hash(body), **body}), encoding="utf-8")


@pytest.mark.parametrize("name", [*OUTSIDE, "trials/x"])
@pytest.mark.parametrize("key", ["trials", "search_trials"])
def test_a_study_names_no_trial_outside_its_folder(tmp_path: Path, key: str, name: Any) -> None:
    store = build_store(tmp_path / "study", small_study("head"))
    _resealed(store.root / "study.json", lambda body: body.update({key: [*body["trials"], name]}))
    for read in (store.trial_ids, store.search_ids, store.records):
        with pytest.raises(CorruptRecord, match=r"study\.json holds a trial's id that is none"):
            read()


@pytest.mark.parametrize("name", [name for name in OUTSIDE if isinstance(name, str)])
def test_a_record_names_no_file_outside_its_trial(tmp_path: Path, name: str) -> None:
    store = build_store(tmp_path / "study", small_study("head"))
    trial = store.trial(store.trial_ids()[0])
    trial.weights.mkdir()
    _resealed(trial.record_path, lambda body: body.update(kept_files={name: "0" * 64}))
    assert "which is not the trial's" in trial.damage()
    _resealed(trial.record_path, lambda body: body["predictions"]["test"].update(file=name))
    with pytest.raises(CorruptRecord, match="which is not the trial's"):
        trial.prediction_rows()
    assert trial.finished_record() is None


def test_options_that_a_task_no_longer_takes_are_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = build_store(tmp_path / "study", small_study("head"))
    _resealed(store.root / "study.json", lambda body: body["study"]["task"]["options"].update(former=1))
    assert main(["merge", str(tmp_path / "whole"), str(store.root)]) == 2
    told = capsys.readouterr().err
    assert "Error: task classification does not take these options: former" in told
