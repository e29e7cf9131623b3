"""`deployability.json` in a trial's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuneoff.errors import CorruptRecord, StoreError
from tuneoff.records.deployability import Deployability, FormResult
from tuneoff.store import TrialStore
from tuneoff.store.transfer import adopt


def results(*forms: FormResult, trial: str = "lora-s0-0123456789") -> Deployability:
    return Deployability(trial=trial, weights={"a.safetensors": "0" * 64}, forms=forms)


@pytest.fixture
def place(tmp_path: Path) -> TrialStore:
    found = TrialStore(tmp_path / "lora-s0-0123456789")
    found.folder.mkdir()
    return found


def test_what_is_written_is_read(place: TrialStore) -> None:
    assert place.deployability.read() is None
    written = results(FormResult(form="gguf", works=False, reason="no converter"))
    place.deployability.write(written)
    assert place.deployability.read() == written
    grown = written.with_result(FormResult(form="merged", works=True)).with_result(FormResult(form="gguf", works=True))
    place.deployability.write(grown)
    assert [(one.form, one.works) for one in grown.forms] == [("merged", True), ("gguf", True)]
    assert place.deployability.read() == grown


def test_what_was_changed_is_refused(place: TrialStore) -> None:
    place.deployability.write(results(FormResult(form="merged", works=False, reason="out of memory")))
    path = place.deployability.path
    path.write_text(path.read_text().replace("out of memory", "out of patience"))
    with pytest.raises(CorruptRecord, match="does not match its checksum") as caught:
        place.deployability.read()
    assert "tuneoff deployability" in caught.value.hint


def test_another_trials_and_another_versions_are_refused(place: TrialStore) -> None:
    place.deployability.write(results(trial="full-s0-0123456789"))
    with pytest.raises(CorruptRecord, match="belongs to another trial"):
        place.deployability.read()
    place.deployability.write(results().model_copy(update={"deployability_version": 9}))
    with pytest.raises(StoreError, match="version 9"):
        place.deployability.read()
    assert json.loads(place.deployability.path.read_text())["deployability_version"] == 9


def test_a_trial_that_is_taken_over_brings_it_and_nothing_that_is_still_written(
    place: TrialStore, tmp_path: Path
) -> None:
    place.deployability.write(results())
    (place.folder / ".forms.x").mkdir()
    other = TrialStore(tmp_path / "other" / place.folder.name)
    other.folder.mkdir(parents=True)
    adopt(other, place)
    assert [path.name for path in other.folder.iterdir()] == ["deployability.json"]
    assert other.deployability.read() == results()
