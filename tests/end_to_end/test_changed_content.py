"""Rows or base weights that change while a study runs: named, never averaged, and healed by the same command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from running_helpers import SharedExecutor, Tiny, tiny_rows, write_rows
from tuneoff.analysis.checks.caveats import caveats
from tuneoff.analysis.results import gather
from tuneoff.executors.base import Progress
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

pytest_plugins = ("running_fixtures",)

Change = Callable[[], None]


@pytest.fixture
def own(tiny: Tiny, tmp_path: Path) -> Path:
    """A copy of model and rows that may be changed."""
    shutil.copytree(tiny.model, tmp_path / "bert")
    for path in (tiny.train, tiny.test):
        shutil.copy(path, tmp_path / path.name)
    return tmp_path


def run(own: Path, after: tuple[str, int], change: Change, **protocol: Any) -> Study:
    """Runs two rows at two seeds; `change` happens once the trial of that label and seed has ended."""
    raw = Tiny(own).study(("majority", "full"), **{"seeds": 2, "max_steps": 2, **protocol})
    study = Study(raw)

    def hear(told: Progress) -> None:
        if told.kind == "ended" and (told.trial.label, told.trial.seed) == after:
            change()

    return study.run(own / "runs", hear, profile=False)


def statuses(records: list[TrialRecord]) -> dict[tuple[str, int], Status]:
    return {(record.spec.label, record.spec.seed): record.status for record in records}


def nothing() -> None:
    """No change."""


def replace_train(own: Path) -> None:
    write_rows(own / "train.csv", tiny_rows(90, 7))


def replace_test(own: Path) -> None:
    write_rows(own / "test.csv", tiny_rows(30, 8))


def replace_weights(own: Path) -> None:
    path = own / "bert" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("change", "named", "unhurt"),
    [(replace_train, "train.csv", []), (replace_weights, "bert", ["majority"])],
)
def test_what_changes_between_two_seeds_is_named_and_the_same_command_heals(
    change: Callable[[Path], None], named: str, unhurt: list[str], own: Path, shared: SharedExecutor
) -> None:
    study = run(own, ("full", 0), lambda: change(own))
    found = statuses(study.records())
    assert {key for key, status in found.items() if status is Status.COMPLETED} == {
        ("majority", 0),
        ("full", 0),
        *((label, 1) for label in unhurt),
    }
    failed = [record for record in study.records() if record.status is Status.FAILED]
    assert all(f"{named} holds something else than when this trial was planned" in record.cause for record in failed)
    assert all(len(row.completed) == 1 or row.label in unhurt for row in gather(StudyStore(own / "runs")).arms)

    again = run(own, ("full", 0), nothing)
    assert set(statuses(again.records()).values()) == {Status.COMPLETED}
    results = gather(StudyStore(own / "runs"))
    assert not results.left_out
    assert [len(row.completed) for row in results.arms] == [2, 2]
    assert {record.spec.id for record in results.records} == {record.spec.id for record in again.records()}
    assert "superseded_trials" in [caution.name for caution in caveats(results)]


@pytest.mark.slow
def test_a_change_between_the_search_and_the_trials_after_it(own: Path, shared: SharedExecutor) -> None:
    searched = {"search": {"trials": 1}, "learning_rate": None, "seeds": 1}
    study = run(own, ("full", 1000), lambda: replace_train(own), **searched)
    assert set(statuses(study.records()).values()) == {Status.FAILED}
    again = run(own, ("full", 1000), nothing, **searched)
    assert set(statuses(again.records()).values()) == {Status.COMPLETED}
    assert len(StudyStore(own / "runs").search_ids()) == 2, "what was searched on other rows is searched again"


def test_seeds_of_other_contents_are_not_averaged(own: Path, shared: SharedExecutor) -> None:
    run(own, ("full", 0), nothing)
    replace_test(own)
    run(own, ("full", 0), nothing, seeds=1)
    results = gather(StudyStore(own / "runs"))
    assert {row.label: [r.spec.seed for r in row.completed] for row in results.arms} == {"majority": [0], "full": [0]}
    assert {trial.split("-")[1] for trial in results.left_out} == {"s1"}
    told = next(caution.message for caution in caveats(results) if caution.name == "left_out_trials")
    assert "it saw other rows than full-s0-" in told
