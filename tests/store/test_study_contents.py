"""Finished trials that loaded something else than a hub holds now are run once more."""

from __future__ import annotations

from pathlib import Path

from record_helpers import build_store, small_study
from tuneoff.executors.base import Inspection, Progress
from tuneoff.study.study_runner import repeat_changed

SEEN = {"train": "train-print", "validation": "validation-print", "test": "test-print", "model": "commit"}


def test_finished_trials_of_other_contents_are_set_aside_with_their_weights(tmp_path: Path) -> None:
    store = build_store(tmp_path / "study", small_study("lora", "full"))
    trials = [store.trial(trial_id).spec() for trial_id in store.trial_ids()]
    place = store.trial(trials[0].id)
    place.weights.mkdir()
    (place.weights / "kept").write_text("x")
    told: list[Progress] = []

    def repeated(contents: dict[str, str]) -> list[str]:
        told.clear()
        return [
            trial.id for trial in repeat_changed(store, trials, Inspection({}, (), None, (), contents), told.append)
        ]

    assert repeated({}) == repeated(SEEN) == []
    assert repeated({**SEEN, "test": "other"}) == store.trial_ids()
    assert [(one.event or {})["name"] for one in told] == ["changed_content"] * 4
    assert store.records() == []
    assert (place.folder / "attempts" / "1" / "weights" / "kept").is_file()
