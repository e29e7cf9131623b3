"""Trials gathered into arms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from record_helpers import World, build_store, environment, small_study
from tuneoff.analysis.results import gather
from tuneoff.planning.plan import plan
from tuneoff.records.record import ModelInfo, SplitInfo, Status
from tuneoff.store import StudyStore


def test_rows_stand_in_the_studys_order_and_floors_do_not_train(tmp_path: Path) -> None:
    results = gather(build_store(tmp_path / "s", small_study("majority", "full", "lora")))
    assert [(arm.label, arm.trains) for arm in results.arms] == [("majority", False), ("full", True), ("lora", True)]
    assert results.arm("lora").statuses == {"completed": 2}
    assert results.primary is not None
    assert results.primary.name == "accuracy"


def test_trials_without_a_record_are_planned_or_running(tmp_path: Path) -> None:
    store = build_store(tmp_path / "s", small_study("lora"), World(skip=frozenset({("lora", 0), ("lora", 1)})))
    store.trial(store.trial_ids()[0]).append_event({"kind": "step"})
    arm = gather(store).arms[0]
    assert arm.statuses == {"planned": 1, "running": 1}
    assert arm.completed == ()
    assert gather(store).primary is None


def test_failed_trials_are_no_part_of_scores(tmp_path: Path) -> None:
    world = World(fail={("lora", 1): Status.DIVERGED})
    arm = gather(build_store(tmp_path / "s", small_study("lora"), world)).arms[0]
    assert list(arm.scores("accuracy")) == [0]
    assert arm.statuses == {"completed": 1, "diverged": 1}


def test_one_label_with_two_configurations_makes_two_rows(tmp_path: Path) -> None:
    """A folder may be run again with another option: averaging both would be wrong."""
    options: dict[str, Any] = {"r": 4}
    build_store(tmp_path / "s", small_study("full", arms={"lora": options}))
    store = build_store(tmp_path / "s", small_study("full", arms={"lora": {"r": 8}}))
    labels = [arm.label for arm in gather(store).arms]
    assert labels == ["full", "lora (r=4)", "lora (r=8)"]
    assert all(len(arm.completed) == 2 for arm in gather(store).arms)


def test_of_equal_rows_and_seeds_the_last_that_was_asked_for_counts(tmp_path: Path) -> None:
    """A file may be changed and put back; ids tell its contents apart."""
    study = small_study("lora", seeds=1)
    store = build_store(tmp_path / "s", study)
    (first,) = store.trial_ids()
    (other,) = plan(study, {"rows.csv": "other"})
    StudyStore.create(store.root, study, [other])
    results = gather(store)
    assert (results.arms[0].trials, results.superseded) == ((other,), (first,))
    StudyStore.create(store.root, study, plan(study))
    results = gather(store)
    assert ([trial.id for trial in results.arms[0].trials], results.superseded) == ([first], (other.id,))


def test_seeds_that_saw_other_rows_or_weights_are_left_out_and_named(tmp_path: Path) -> None:
    store = build_store(tmp_path / "s", small_study("lora", "full", seeds=3))
    first, second, third = (r for r in store.records() if r.spec.label == "lora")
    assert second.data is not None
    splits = {**second.data.splits, "test": SplitInfo(rows=400, fingerprint="other")}
    changed = second.model_copy(update={"data": second.data.model_copy(update={"splits": splits})})
    later = third.model_copy(update={"environment": environment(started_at="2026-01-02T00:00:00Z")})
    earlier = first.model_copy(update={"model": ModelInfo(source="minilm", checksum="another")})
    for record in (changed, later, earlier):
        store.trial(record.spec.id).record_path.unlink()
        store.trial(record.spec.id).write_record(record)
    results = gather(store)
    assert [record.spec.seed for record in results.arm("lora").completed] == [2]
    assert len(results.arm("full").completed) == 3
    assert results.left_out == {
        first.spec.id: f"it saw other base weights than {third.spec.id}, which ran later",
        second.spec.id: f"it saw other rows than {third.spec.id}, which ran later",
    }
