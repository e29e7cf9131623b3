"""Folders of parts of one study, joined in one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tuneoff.cli.main import main
from tuneoff.config.spec import StudySpec
from tuneoff.errors import StoreError
from tuneoff.planning.plan import plan
from tuneoff.records.record import Metric, Status, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.store.merging import merge

pytest_plugins = ("study_fixtures",)

MakeStudy = Callable[..., StudySpec]


def _part(folder: Path, study: StudySpec, accuracy: float = 0.5, status: Status = Status.COMPLETED) -> StudyStore:
    """A study's folder whose trials have all ended."""
    trials = plan(study)
    store = StudyStore.create(folder, study, trials)
    for trial in trials:
        metric = Metric(name="accuracy", value=accuracy, unit="fraction", direction="higher", split="test")
        store.trial(trial.id).write_record(TrialRecord(spec=trial, status=status, metrics=(metric,)))
    return store


def test_arms_and_seeds_of_all_parts_are_one_study(make_study: MakeStudy, tmp_path: Path) -> None:
    one = _part(tmp_path / "one", make_study(methods={"lora": {}}))
    two = _part(tmp_path / "two", make_study(methods={"full": {}}, protocol={"seeds": [2]}))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    merged = merge(tmp_path / "out", [one.root, two.root])
    store = StudyStore.open(tmp_path / "out")
    assert merged.taken == [*one.trial_ids(), *two.trial_ids()] == store.trial_ids()
    assert list(store.study().methods) == ["lora", "full"]
    assert store.study().protocol.seeds == (0, 1, 2)
    assert [record.spec.id for record in store.records()] == merged.taken
    assert {path: path.read_bytes() for path in before} == before, "the parts stay as they are"
    assert merge(tmp_path / "out", [one.root]).equal == one.trial_ids(), "and again"


def test_a_trial_run_twice_keeps_the_first_record_and_tells_what_differs(
    make_study: MakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(methods={"lora": {}}, protocol={"seeds": [0]})
    one, two = _part(tmp_path / "one", study), _part(tmp_path / "two", study, accuracy=0.75)
    (trial,) = one.trial_ids()
    assert main(["merge", str(tmp_path / "out"), str(one.root), str(two.root)]) == 0
    assert f"{trial}: test accuracy 0.5 here, 0.75 in {two.root}. The first is kept." in capsys.readouterr().err
    assert [record.metric("accuracy") for record in StudyStore.open(tmp_path / "out").records()] == [0.5]


def test_what_did_not_finish_is_not_taken(
    make_study: MakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(methods={"lora": {}}, protocol={"seeds": [0]})
    failed = _part(tmp_path / "failed", study, status=Status.FAILED)
    done = _part(tmp_path / "done", study)
    assert main(["merge", str(tmp_path / "out"), str(failed.root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unfinished"] == failed.trial_ids()
    assert merge(tmp_path / "out", [done.root]).taken == done.trial_ids()


def test_parts_that_are_no_one_study_are_refused_and_nothing_is_written(make_study: MakeStudy, tmp_path: Path) -> None:
    one = _part(tmp_path / "one", make_study(methods={"lora": {"r": 4}}))
    other = _part(tmp_path / "other", make_study(methods={"lora": {"r": 8}}))
    with pytest.raises(StoreError, match=r"the arm 'lora' is configured otherwise in .*other than in .*one"):
        merge(tmp_path / "out", [one.root, other.root])
    longer = _part(tmp_path / "longer", make_study(protocol={"epochs": 9}))
    with pytest.raises(StoreError, match="asks something else"):
        merge(tmp_path / "out", [one.root, longer.root])
    with pytest.raises(StoreError, match="is named as a part of itself"):
        merge(one.root, [one.root])
    with one.lock(), pytest.raises(StoreError, match="a run is writing to"):
        merge(tmp_path / "out", [one.root])
    assert not (tmp_path / "out").exists()
