"""Which checkpoints of a trial are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tuneoff.config.spec import StudySpec
from tuneoff.planning.plan import plan
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.store.checkpoints import MANIFEST, Checkpoints
from tuneoff.store.transfer import receive, trial_files

pytest_plugins = ("study_fixtures",)


def _save(checkpoints: Checkpoints, processor: str, step: int) -> list[tuple[str, int]]:
    """Saves one; returns those that are kept then, the newest first: processor and step."""
    checkpoints.save(lambda folder: (folder / "state.json").write_text("{}"), {"processor": processor}, step)
    checkpoints.prune({"processor": processor}, step)
    manifests = [checkpoint.manifest() for checkpoint in checkpoints.newest_first()]
    return [(manifest.identity["processor"], manifest.step) for manifest in manifests]


def test_a_further_checkpoint_of_another_processor_is_kept_until_it_is_passed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (800, 900):
        _save(checkpoints, "old", step)
    assert _save(checkpoints, "new", 100) == [("new", 100), ("old", 900)]
    assert _save(checkpoints, "new", 200) == [("new", 200), ("new", 100), ("old", 900)]
    assert _save(checkpoints, "new", 850) == [("new", 850), ("new", 200), ("old", 900)]
    assert _save(checkpoints, "new", 900) == [("new", 900), ("new", 850)]


def test_one_processor_keeps_the_two_newest_whatever_their_steps(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (900, 100):
        _save(checkpoints, "one", step)
    assert _save(checkpoints, "one", 200) == [("one", 200), ("one", 100)]
    (checkpoints.newest_first()[0].folder / MANIFEST).write_text("{")
    assert checkpoints.newest_step() == -1, "it cannot be read"


@pytest.mark.parametrize("way", ["written", "received", "locked"])
@pytest.mark.parametrize(
    ("status", "kept"), [(Status.COMPLETED, False), (Status.DIVERGED, False), (Status.CANCELLED, True)]
)
def test_a_trial_that_nothing_continues_has_no_checkpoints(
    make_study: Callable[..., StudySpec], tmp_path: Path, way: str, status: Status, kept: bool
) -> None:
    study = make_study()
    there, here = (StudyStore.create(tmp_path / name, study, plan(study)) for name in ("there", "here"))
    source, target = (store.trial(there.trial_ids()[0]) for store in (there, here))
    source.write_record(TrialRecord(spec=source.spec(), status=status))
    if way != "locked":
        _save(target.checkpoints, "one", 5)
    if way == "written":
        target.write_record(TrialRecord(spec=target.spec(), status=status))
    else:
        receive(target, trial_files(source))
    if way == "locked":
        _save(target.checkpoints, "one", 5)
        with here.lock():
            pass
    assert bool(target.checkpoints.newest_first()) is kept
