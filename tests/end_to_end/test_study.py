"""Studies from end to end, in Python: run, run again, add to, copy, read."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from running_helpers import OneExecutor, SharedExecutor, Tiny, tiny_rows, write_rows
from tuneoff.errors import DataError, StoreError, TuneoffError
from tuneoff.executors.base import Progress
from tuneoff.records.record import Status
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

pytest_plugins = ("running_fixtures",)
pytestmark = pytest.mark.usefixtures("shared")


def _kinds(told: list[Progress]) -> Counter[str]:
    return Counter(progress.kind for progress in told if progress.kind != "event")


def _stamps(folder: Path) -> dict[str, int]:
    """What lies in the trials' folders and when each file was last written."""
    files = (path for path in (folder / "trials").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


@pytest.fixture(scope="module")
def finished(tiny: Tiny, executor: SharedExecutor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of four methods that ran; no test writes to it."""
    folder = tmp_path_factory.mktemp("finished") / "study"
    study = Study(tiny.study(("majority", "head", "full", "lora"), epochs=6))
    with OneExecutor(executor).registered():
        study.run(folder)
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may write to."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def _again(tiny: Tiny, folder: Path, methods: Any, **protocol: Any) -> list[Progress]:
    told: list[Progress] = []
    Study(tiny.study(methods, **{"epochs": 6, **protocol})).run(folder, told.append)
    return told


def test_a_study_of_several_methods_learns_and_is_measured(finished: Path) -> None:
    records = {record.spec.label: record for record in Study.open(finished).records()}
    assert list(records) == ["majority", "head", "full", "lora"]
    assert {record.status for record in records.values()} == {Status.COMPLETED}
    accuracy = {label: record.metric("accuracy") or 0.0 for label, record in records.items()}
    assert accuracy["majority"] == pytest.approx(1 / 3)
    assert accuracy["full"] > 0.8
    for label in ("head", "full", "lora"):
        record = records[label]
        assert record.timing.train_seconds is not None
        assert record.timing.train_seconds > 0
        assert (record.memory.peak_memory_bytes or 0) > 1e6
        assert record.steps == 6 * 6, "81 training rows in batches of 16, six times"
        assert record.data is not None
        assert record.data.splits["train"].rows == 81
        assert record.data.splits["validation"].rows == 9
        assert record.stored_bytes
        assert len(record.gradient_norm.per_step) == record.steps
        assert record.curve[-1].step == record.steps
    orders = {r.data.train_order_fingerprint for r in records.values() if r.data and r.spec.label != "majority"}
    assert len(orders) == 1, "every method sees the same examples in the same order"
    assert len({r.data.splits["test"].fingerprint for r in records.values() if r.data}) == 1


def test_predictions_lie_beside_the_record_and_match_its_score(finished: Path) -> None:
    store = StudyStore.open(finished)
    for record in store.records():
        predictions = store.trial(record.spec.id).predictions("test")
        assert predictions is not None
        assert [p.index for p in predictions] == list(range(30))
        right = sum(p.target == p.output for p in predictions) / 30
        assert record.metric("accuracy") == pytest.approx(right)


def test_a_finished_study_is_not_run_again(tiny: Tiny, copied: Path) -> None:
    before = _stamps(copied)
    told = _again(tiny, copied, ("majority", "head", "full", "lora"))
    assert _kinds(told) == {"skipped": 4}
    assert _stamps(copied) == before


def test_a_run_adds_methods_and_seeds_to_what_is_there(tiny: Tiny, copied: Path) -> None:
    before = _stamps(copied)
    told = _again(tiny, copied, ("majority", "last_block"), seeds=2)
    assert _kinds(told) == {"skipped": 1, "started": 3, "ended": 3}
    after = _stamps(copied)
    assert {name: after[name] for name in before} == before
    rows = Study.open(copied).results()
    assert len(rows) == 7
    assert sorted(rows[rows["label"] == "last_block"]["seed"]) == [0, 1]


def test_a_copied_folder_is_read_wherever_it_lies(copied: Path, finished: Path) -> None:
    there, here = Study.open(finished).results(), Study.open(copied).results()
    assert there.equals(here)
    assert {"label", "seed", "status"} <= set(here.columns)
    assert Study.open(copied).report(plots=False).is_relative_to(copied)


def test_a_trial_without_its_record_is_run_and_gives_what_it_gave(tiny: Tiny, copied: Path) -> None:
    store = StudyStore.open(copied)
    trial = next(i for i in store.trial_ids() if i.startswith("full-"))
    first = store.trial(trial).record()
    store.trial(trial).record_path.unlink()
    told = _again(tiny, copied, ("majority", "head", "full", "lora"))
    assert _kinds(told) == {"skipped": 3, "started": 1, "ended": 1}
    second = store.trial(trial).record()
    assert first is not None
    assert second is not None
    assert first.predictions == second.predictions, "bit for bit"
    assert first.gradient_norm == second.gradient_norm


def test_a_different_question_is_refused_and_changes_nothing(tiny: Tiny, copied: Path) -> None:
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises(StoreError, match=r"asks something else \(protocol\.epochs: 6 there, 2 here\)"):
        _again(tiny, copied, ("majority",), epochs=2)
    assert before == {path: path.read_bytes() for path in copied.rglob("*") if path.is_file() and path.name != "lock"}


def test_a_second_run_in_the_same_folder_is_refused(tiny: Tiny, copied: Path) -> None:
    with StudyStore(copied).lock(), pytest.raises(StoreError, match="another run is writing to"):
        _again(tiny, copied, ("majority",))


def test_a_study_that_cannot_be_leaves_the_folder_free_for_the_corrected_one(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(DataError, match="did you mean 'label'"):
        Study(tiny.study(("majority",)), overrides=["task.label=labl"]).run(folder)
    told: list[Progress] = []
    Study(tiny.study(("majority",))).run(folder, told.append)
    assert _kinds(told) == {"started": 1, "ended": 1}


def test_a_method_that_cannot_be_added_leaves_the_study_as_it_was(tiny: Tiny, copied: Path) -> None:
    before = StudyStore.open(copied)
    rows, ids = before.study().methods, before.trial_ids()
    with pytest.raises(TuneoffError, match="virtual tokens"):
        _again(tiny, copied, {"majority": {}, "prompt_tuning": {"tokens": 60}})
    assert StudyStore.open(copied).study().methods == rows
    assert StudyStore.open(copied).trial_ids() == ids


def test_rows_in_train_and_test_are_counted_warned_of_and_removable(tiny: Tiny, tmp_path: Path) -> None:
    rows = tiny_rows(60, 3)
    raw = tiny.study(("majority",))
    train, test = write_rows(tmp_path / "a.csv", rows), write_rows(tmp_path / "b.csv", rows[:6] + tiny_rows(9, 4))
    raw["task"] = {"data": {"train": str(train), "test": str(test)}}
    told: list[Progress] = []
    record = Study(raw).run(tmp_path / "warned", told.append).records()[0]
    assert record.data is not None
    left = 60 - record.data.splits["validation"].rows
    assert record.data.overlap["train/test"] > 0
    assert record.data.splits["train"].rows == left
    assert [finding.name for finding in record.findings] == ["overlap"]

    record = Study(raw, overrides={"protocol.duplicates": "remove"}).run(tmp_path / "removed").records()[0]
    assert record.data is not None
    assert record.data.overlap["train/test"] == 0
    assert record.data.overlap_removed > 0
    assert record.data.splits["train"].rows == left - record.data.overlap_removed
    assert "overlap_removed" in [finding.name for finding in record.findings]


def test_a_changed_file_is_a_new_trial(tiny: Tiny, tmp_path: Path) -> None:
    raw = tiny.study(("majority",))
    train = write_rows(tmp_path / "a.csv", tiny_rows(60, 3))
    raw["task"] = {"data": {"train": str(train), "test": str(tiny.test)}}
    first = Study(raw).plan()
    write_rows(train, tiny_rows(60, 5))
    assert {trial.id for trial in first}.isdisjoint(trial.id for trial in Study(raw).plan())


def test_the_company_and_order_of_methods_change_no_prediction(tiny: Tiny, copied: Path, tmp_path: Path) -> None:
    told = _again(tiny, tmp_path / "other", ("full", "head"))
    assert _kinds(told) == {"started": 2, "ended": 2}
    here = {r.spec.id: r for r in Study.open(tmp_path / "other").records()}
    there = {r.spec.id: r for r in Study.open(copied).records()}
    shared_ids = here.keys() & there.keys()
    assert len(shared_ids) == 2, "the same trial has the same id in every study"
    assert all(here[i].predictions["test"].sha256 == there[i].predictions["test"].sha256 for i in shared_ids)
