"""A study's folder: made whole or made good by the same command, and not made again once it is gone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tuneoff.config.spec import StudySpec
from tuneoff.errors import CorruptRecord, StoreError
from tuneoff.planning.plan import plan
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore, TrialStore

pytest_plugins = ("study_fixtures",)

MakeStudy = Callable[..., StudySpec]


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("left", range(4))
def test_a_run_that_was_killed_while_it_made_the_folder_is_made_good(
    left: int, tmp_path: Path, make_study: MakeStudy
) -> None:
    study, root = make_study(), tmp_path / "study"
    trials = plan(study)
    whole = names(StudyStore.create(tmp_path / "whole", study, trials).root)
    with StudyStore(root).lock():
        for trial in trials[:left]:
            StudyStore(root).trial(trial.id).write_spec(trial)
        # What another command had begun, and files that were being written.
        strange = plan(make_study(methods={"bitfit": {}}))[0]
        StudyStore(root).trial(strange.id).write_spec(strange)
        (root / ".study.json.a1b2c3d4").write_text("{")
        (root / "trials" / strange.id / ".trial.json.a1b2c3d4").write_text("{")
    with StudyStore(root).lock():
        store = StudyStore.create(root, study, trials)
    assert store.trial_ids() == [trial.id for trial in trials]
    assert names(root) == ["lock", *whole]


def test_what_was_run_is_never_taken_for_a_folder_half_made(tmp_path: Path, make_study: MakeStudy) -> None:
    study = make_study()
    store = StudyStore.create(tmp_path / "study", study, plan(study))
    place = store.trial(store.trial_ids()[0])
    place.write_record(TrialRecord(spec=place.spec(), status=Status.FAILED))
    (store.root / "study.json").unlink()
    before = names(store.root)
    with pytest.raises(StoreError, match="not empty and not a study"):
        StudyStore.create(store.root, study, plan(study))
    assert names(store.root) == before


def test_folders_made_for_a_run_that_was_refused_do_not_stay(tmp_path: Path) -> None:
    def refused() -> None:
        with StudyStore(tmp_path / "runs" / "deep" / "study").lock():
            raise StoreError("refused")

    with pytest.raises(StoreError, match="refused"):
        refused()
    assert list(tmp_path.iterdir()) == []


def remove(root: Path) -> None:
    shutil.rmtree(root)


def rename(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))


def replace(root: Path) -> None:
    rename(root)
    root.mkdir()


@pytest.mark.parametrize("lose", [remove, rename, replace])
def test_a_folder_that_is_gone_is_not_made_again_by_the_run_that_wrote_there(
    lose: Callable[[Path], None], tmp_path: Path, make_study: MakeStudy
) -> None:
    study, root = make_study(), tmp_path / "study"
    store = StudyStore(root)
    with store.lock():
        StudyStore.create(root, study, plan(study))
        place = store.trial(store.trial_ids()[0])
        record = TrialRecord(spec=place.spec(), status=Status.FAILED)
        lose(root)
        writes: list[Callable[[], object]] = [
            lambda: StudyStore.create(root, study, plan(study)),
            lambda: store.write_search({}),
            lambda: place.write_record(record),
            lambda: place.write_predictions("test", []),
        ]
        if lose is replace:
            writes = writes[:1]
        for write in writes:
            with pytest.raises(StoreError, match=r"removed or renamed|no longer there"):
                write()
        place.append_event({"kind": "step"})
        TrialStore(place.folder).write_tracker_failures({"x": "y"})
        assert not root.exists() or list(root.iterdir()) == []
    assert not (root / "trials").exists()
    if lose is not remove:
        kept = StudyStore.open(tmp_path / "elsewhere")
        assert kept.trial(kept.trial_ids()[0]).spec() == record.spec, "what was there went along"


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def a_trial_less(path: Path) -> None:
    body = json.loads(path.read_text())
    body["trials"].pop()
    path.write_text(json.dumps(body))


@pytest.mark.parametrize("damage", [torn, a_trial_less])
def test_a_damaged_study_is_refused_and_made_anew_by_a_run_with_all_that_was_trained(
    damage: Callable[[Path], None], tmp_path: Path, make_study: MakeStudy
) -> None:
    study, more = make_study(), make_study(methods={"bitfit": {}})
    store = StudyStore.create(tmp_path / "study", study, plan(study))
    StudyStore.create(store.root, more, plan(more))
    before = store.trial_ids()
    other = plan(make_study(model="smollm2-135m"))[0]
    store.trial(other.id).write_spec(other)
    damage(store.root / "study.json")
    with pytest.raises(CorruptRecord, match=r"study\.json") as caught:
        store.trial_ids()
    if damage is a_trial_less:
        assert "makes study.json anew" in caught.value.hint
    store.set_aside_damage()
    StudyStore.create(store.root, study, plan(study))
    assert sorted(store.trial_ids()) == sorted(before), "not those of another question"
    assert (store.root / "study.json.damaged").is_file()
    store.set_aside_damage()
    assert store.is_there
