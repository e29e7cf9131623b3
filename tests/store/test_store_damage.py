"""Everything that is read of a trial is bound to it and checked; damage is named, left out and repeated, never used."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from record_helpers import Level, World, build_store, small_study
from tuneoff.analysis.results import gather
from tuneoff.checksums import content_hash
from tuneoff.config.execution import ExecutionSpec
from tuneoff.errors import RecordExists
from tuneoff.planning.plan import plan, trial_id
from tuneoff.records.record import RECORD_VERSION, TrialRecord
from tuneoff.report.builder import build_report
from tuneoff.store import StudyStore, TrialStore

LEVELS = {"majority": Level(0.5), "lora": Level(0.7), "full": Level(0.9)}
OLD = Path(__file__).parent / "version_1_study"


def keep_weights(place: TrialStore, record: TrialRecord) -> None:
    """Seals the record anew with trained weights beside it."""
    (place.weights / "deep").mkdir(parents=True)
    (place.weights / "model.safetensors").write_bytes(bytes(1000))
    (place.weights / "deep" / "config.json").write_text("{}")
    place.record_path.unlink()
    place.write_record(record.model_copy(update={"kept_files": place.weight_checksums()}))


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    """Three arms at two seeds, all completed, with predictions and weights."""
    made = build_store(tmp_path / "study", small_study("majority", "lora", "full"), World(LEVELS, test_rows=40))
    for record in made.records():
        keep_weights(made.trial(record.spec.id), record)
    return made


def place_of(store: StudyStore, label: str, seed: int = 0) -> TrialStore:
    return next(
        place for place in map(store.trial, store.trial_ids()) if place.folder.name.startswith(f"{label}-s{seed}")
    )


def edit(path: Path, change: Callable[[dict[str, Any]], None], seal: bool = False) -> None:
    body = json.loads(path.read_text())
    change(body)
    if seal:
        body["sha256"] = content_hash({key: value for key, value in body.items() if key != "sha256"})
    path.write_text(json.dumps(body))


def flip(path: Path) -> None:
    """Turns one bit, and gives the file its old time back."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def exchange(first: Path, second: Path) -> None:
    kept = first.with_name("kept")
    first.rename(kept)
    second.rename(first)
    kept.rename(second)


def exchange_records(store: StudyStore) -> None:
    exchange(place_of(store, "lora").record_path, place_of(store, "full").record_path)


def exchange_records_and_predictions(store: StudyStore) -> None:
    exchange_records(store)
    exchange_predictions(store)


def exchange_predictions(store: StudyStore) -> None:
    first, second = (place_of(store, label).folder / "predictions-test.jsonl" for label in ("lora", "full"))
    exchange(first, second)


def exchange_folders(store: StudyStore) -> None:
    exchange(place_of(store, "lora").folder, place_of(store, "full").folder)


def exchange_specifications(store: StudyStore) -> None:
    exchange(place_of(store, "lora").spec_path, place_of(store, "full").spec_path)


def double_alpha(body: dict[str, Any]) -> None:
    body["options"]["alpha"] *= 8


def alpha_in_trial(store: StudyStore) -> None:
    edit(place_of(store, "lora").spec_path, double_alpha)


def alpha_in_record(store: StudyStore) -> None:
    edit(place_of(store, "lora").record_path, lambda body: double_alpha(body["spec"]), seal=True)


def alpha_in_both(store: StudyStore) -> None:
    alpha_in_trial(store)
    alpha_in_record(store)


def other_seed(store: StudyStore) -> None:
    edit(place_of(store, "lora").record_path, lambda body: body["spec"].update(seed=1), seal=True)


def record_of_another_study(store: StudyStore) -> None:
    other = build_store(store.root.with_name("other"), small_study("lora", model="smollm2-135m"), World(test_rows=40))
    shutil.copy(place_of(other, "lora").record_path, place_of(store, "lora").record_path)


def flipped_weights(store: StudyStore) -> None:
    flip(place_of(store, "lora").weights / "model.safetensors")


def one_weight_file_less(store: StudyStore) -> None:
    (place_of(store, "lora").weights / "deep" / "config.json").unlink()


def flipped_predictions(store: StudyStore) -> None:
    flip(place_of(store, "lora").folder / "predictions-test.jsonl")


def no_predictions(store: StudyStore) -> None:
    (place_of(store, "lora").folder / "predictions-test.jsonl").unlink()


def no_specification(store: StudyStore) -> None:
    place_of(store, "lora").spec_path.unlink()


def torn_record(store: StudyStore) -> None:
    path = place_of(store, "lora").record_path
    path.write_bytes(path.read_bytes()[:500])


OF_TWO = [exchange_records, exchange_records_and_predictions, exchange_predictions, exchange_folders]
READ = [
    alpha_in_trial,
    alpha_in_record,
    alpha_in_both,
    other_seed,
    record_of_another_study,
    flipped_predictions,
    no_predictions,
    no_specification,
    torn_record,
]
WEIGHTS = [flipped_weights, one_weight_file_less]


@pytest.mark.parametrize("damage", [*OF_TWO, exchange_specifications, *READ])
def test_a_report_names_a_damaged_trial_and_leaves_it_out(
    store: StudyStore, damage: Callable[[StudyStore], None]
) -> None:
    whole = gather(store)
    damage(store)
    results = gather(store)
    hurt = {"lora", "full"} if damage in [*OF_TWO, exchange_specifications] else {"lora"}
    assert {trial.partition("-")[0] for trial in results.left_out} == hurt
    body = build_report(results).as_data()
    caution = next(w for w in body["warnings"] if w["name"] == "left_out_trials")
    assert all(trial in caution["message"] for trial in results.left_out)
    assert str(store.root) not in caution["message"], "a report names no folder of this machine"
    assert [arm.label for arm in results.arms] == ["majority", "lora", "full"], "no arm is gone without a word"
    for arm in results.arms:
        before = whole.arm(arm.label).scores("accuracy")
        assert arm.scores("accuracy") == ({1: before[1]} if arm.label in hurt else before)


@pytest.mark.parametrize("damage", [*OF_TWO, *READ, *WEIGHTS])
def test_a_damaged_trial_is_to_be_run_again_and_set_aside(
    store: StudyStore, damage: Callable[[StudyStore], None]
) -> None:
    specs = [place_of(store, label).spec() for label in ("lora", "full", "majority")]
    study = store.study()
    damage(store)
    StudyStore.create(store.root, study, specs)
    lora, majority = store.trial(specs[0].id), store.trial(specs[2].id)
    assert lora.spec() == specs[0], "what is to be run is known from the study"
    with pytest.raises(RecordExists):
        majority.begin_attempt()
    if damage in (alpha_in_trial, no_specification):
        # Its result is whole: what was asked for is written anew, and nothing is trained twice.
        assert lora.finished_record() is not None
        return
    assert lora.damage()
    assert lora.finished_record() is None
    lora.begin_attempt()
    assert not lora.record_path.exists()
    assert (lora.folder / "attempts" / "1" / "record.json").is_file()


def test_a_removed_folder_of_weights_is_no_damage(store: StudyStore) -> None:
    place = place_of(store, "lora")
    shutil.rmtree(place.weights)
    assert place.finished_record() is not None


def test_the_records_of_a_study_come_with_a_warning_of_those_left_out(store: StudyStore) -> None:
    torn_record(store)
    with pytest.warns(UserWarning, match=r"trial lora-s0-\w+ is left out: .*record\.json"):
        records = store.records()
    assert len(records) == 5


def test_a_trial_of_which_nothing_can_be_told_is_named_too(store: StudyStore) -> None:
    torn_record(store)
    no_specification(store)
    results = gather(store)
    assert [trial.partition("-")[0] for trial in results.left_out] == ["lora"]
    assert results.arm("lora").statuses == {"completed": 1}


def test_an_id_is_derived_from_what_the_trial_is(store: StudyStore) -> None:
    for place in map(store.trial, store.trial_ids()):
        read = place.spec()
        assert trial_id(read) == read.id == place.folder.name


# --- the form of version 1


def old_study(tmp_path: Path) -> StudyStore:
    shutil.copytree(OLD, tmp_path / "old")
    return StudyStore.open(tmp_path / "old")


def test_records_of_version_1_are_read_and_what_they_did_not_keep_is_null_with_its_reason(tmp_path: Path) -> None:
    store = old_study(tmp_path)
    records = store.records()
    assert {record.spec.execution.engine for record in records} == {"plain"}
    assert [record.spec.label for record in records] == ["majority", "lora"]
    for record in records:
        assert record.record_version == RECORD_VERSION
        assert record.spec.purpose == "final"
        assert record.kept_files is None
        assert record.spec.fingerprints is None
        assert record.missing.keys() >= {"kept_files", "spec.fingerprints", "energy_joules"}
        # Batches were random before they could be chosen, and ids are derived from that.
        assert record.spec.protocol.batching == "random"
        assert record.spec.protocol.frozen_dropout
        assert trial_id(store.trial(record.spec.id).spec()) == record.spec.id
    assert store.study().protocol.batching == "random"
    results = gather(store)
    assert not results.left_out
    assert results.arm("lora").scores("accuracy") == {0: 1.0}
    assert (store.trial(records[0].spec.id).predictions() or [])[0].target in ("acq", "crude", "earn", "grain")


@pytest.mark.parametrize("damage", [alpha_in_trial, torn_record, flipped_predictions])
def test_records_of_version_1_are_checked_as_far_as_can_be(
    tmp_path: Path, damage: Callable[[StudyStore], None]
) -> None:
    store = old_study(tmp_path)
    damage(store)
    assert [trial.partition("-")[0] for trial in gather(store).left_out] == ["lora"]


def test_a_study_of_version_1_goes_on_with_the_plain_engine_without_running_anything_again(tmp_path: Path) -> None:
    store = old_study(tmp_path)
    study = small_study("majority", "lora", seeds=1)
    protocol = study.protocol.model_copy(update={"batching": "random", "frozen_dropout": True})
    study = study.model_copy(update={"execution": ExecutionSpec(engine="plain"), "protocol": protocol})
    trials = plan(study)
    StudyStore.create(store.root, study, trials)
    assert [trial.id for trial in trials] == store.trial_ids()
    assert all(store.trial(trial.id).finished_record() for trial in trials)
