"""Trials gathered into rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthetic_records import World, build_store, small_study
from tuneoff.analysis.results import gather
from tuneoff.record import Status


def test_rows_stand_in_the_studys_order_and_floors_do_not_train(tmp_path: Path) -> None:
    results = gather(build_store(tmp_path / "s", small_study("majority", "full", "lora")))
    assert [(row.label, row.trains) for row in results.rows] == [("majority", False), ("full", True), ("lora", True)]
    assert results.row("lora").statuses == {"completed": 2}
    assert results.primary is not None
    assert results.primary.name == "accuracy"


def test_trials_without_a_record_are_planned_or_running(tmp_path: Path) -> None:
    store = build_store(tmp_path / "s", small_study("lora"), World(skip=frozenset({("lora", 0), ("lora", 1)})))
    store.trial(store.trial_ids()[0]).append_event({"kind": "step"})
    row = gather(store).rows[0]
    assert row.statuses == {"planned": 1, "running": 1}
    assert row.completed == ()
    assert gather(store).primary is None


def test_failed_trials_are_no_part_of_scores(tmp_path: Path) -> None:
    world = World(fail={("lora", 1): Status.DIVERGED})
    row = gather(build_store(tmp_path / "s", small_study("lora"), world)).rows[0]
    assert list(row.scores("accuracy")) == [0]
    assert row.statuses == {"completed": 1, "diverged": 1}


def test_one_label_with_two_configurations_makes_two_rows(tmp_path: Path) -> None:
    """A folder may be run again with another option: averaging both would be wrong."""
    options: dict[str, Any] = {"r": 4}
    build_store(tmp_path / "s", small_study("full", rows={"lora": options}))
    store = build_store(tmp_path / "s", small_study("full", rows={"lora": {"r": 8}}))
    labels = [row.label for row in gather(store).rows]
    assert labels == ["full", "lora (r=4)", "lora (r=8)"]
    assert all(len(row.completed) == 2 for row in gather(store).rows)
