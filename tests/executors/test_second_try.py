"""A trial that runs out of memory is run once more with half the micro-batch, where that is asked for."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from record_helpers import make_record, small_study
from running_helpers import Prepared, SharedExecutor
from tuneoff.config.spec import TrialSpec
from tuneoff.executors import _endings
from tuneoff.executors._second_try import as_left, second_try
from tuneoff.executors._together import Companions
from tuneoff.planning.plan import plan
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import TrialStore
from tuneoff.study.study import Study

pytest_plugins = ("running_fixtures",)

Prepare = Callable[..., Prepared]
ASKED = {"retry_out_of_memory": True}
MEMORY_CGROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))


# --- the rule: pure


def _trial(asked: bool = True, **protocol: Any) -> TrialSpec:
    study = small_study("head", seeds=1)
    study = study.model_copy(
        update={
            "protocol": study.protocol.model_copy(update=protocol),
            "execution": study.execution.model_copy(update={"retry_out_of_memory": asked}),
        }
    )
    return plan(study)[0]


def _out_of_memory(trial: TrialSpec) -> TrialRecord:
    return TrialRecord(spec=trial, status=Status.OUT_OF_MEMORY)


@pytest.mark.parametrize(("parts", "halved"), [(1, 2), (3, 6), (10, 16), (16, 16)])
def test_the_second_try_has_half_the_micro_batch_and_the_same_batch(parts: int, halved: int) -> None:
    trial = _trial(batch_size=16, gradient_accumulation_steps=parts, evaluation_batch_size=9)
    again = second_try(_out_of_memory(trial))
    assert again is not None
    assert again.id == trial.id
    assert again.protocol == trial.protocol, "what was asked for is what the record tells"
    run_with = again.as_run().protocol
    assert (run_with.gradient_accumulation_steps, run_with.evaluation_batch_size) == (halved, 4)
    assert run_with.batch_size == 16
    assert second_try(_out_of_memory(again)) is None, "it is tried again once"


def test_there_is_none_where_none_is_asked_for_or_nothing_can_be_halved() -> None:
    assert second_try(_out_of_memory(_trial(asked=False))) is None
    smallest = _trial(batch_size=4, gradient_accumulation_steps=4, evaluation_batch_size=1)
    assert second_try(_out_of_memory(smallest)) is None
    for status in set(Status) - {Status.OUT_OF_MEMORY}:
        assert second_try(make_record(_trial(), status=status)) is None


def test_the_key_is_no_part_of_a_trials_id() -> None:
    assert _trial(asked=True).id == _trial(asked=False).id


def test_a_second_try_that_was_interrupted_goes_on_as_it_was(tmp_path: Path) -> None:
    trial = _trial()
    store = TrialStore(tmp_path / trial.id)
    assert as_left(store, trial) == trial
    again = second_try(_out_of_memory(trial))
    assert again is not None
    store.write_spec(again)
    assert as_left(store, trial) == trial, "it left nothing to continue from: memory may be free now"
    store.checkpoints.save(lambda folder: (folder / "state").touch(), {}, 3)
    assert as_left(store, trial) == again
    assert as_left(store, _trial(asked=False)) == _trial(asked=False)


def test_a_second_try_is_trained_alone() -> None:
    trials = [_trial().model_copy(update={"id": str(seed), "seed": seed}) for seed in range(3)]
    trials = [one.model_copy(update={"execution": one.execution.model_copy(update={"together": 3})}) for one in trials]
    again = [one.model_copy(update={"halved_batches": True}) for one in trials]

    def count(lead: TrialSpec, waiting: list[TrialSpec]) -> int:
        companions = Companions()
        companions.expect(trials)
        return len(companions.find(lead, {one.id: one for one in waiting}, False, lambda _: True))

    assert count(trials[0], trials) == 2
    assert count(again[0], again) == 0
    assert count(trials[0], again) == 0


# --- real runs


def _run(prepared: Prepared, executor: SharedExecutor) -> dict[str, TrialRecord]:
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    return {record.spec.label: record for record in prepared.store.records()}


def _exhausting(*ways: str, **options: Any) -> dict[str, Any]:
    return {way: {"method": "faulty", "how": way, **options} for way in ways}


def test_each_way_that_memory_runs_out_is_tried_again_and_told(
    executor: SharedExecutor, prepare: Prepare, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel is said to have killed a process for want of memory each time it is asked.
    monkeypatch.setattr(_endings, "out_of_memory_kills", itertools.count().__next__)
    ways = ("batch_python", "batch_cuda", "batch_kill")
    prepared = prepare(_exhausting(*ways), execution=ASKED, batch_size=16, max_steps=3)
    records = _run(prepared, executor)
    assert {label: record.status for label, record in records.items()} == dict.fromkeys(ways, Status.COMPLETED)
    for label in ways:
        record, place = records[label], prepared.store.trial(records[label].spec.id)
        assert record.spec.halved_batches
        (message,) = [finding.message for finding in record.findings if finding.name == "halved_batches"]
        assert "micro-batches of 8 instead of 16, 16 examples a step as before" in message
        first = TrialStore(place.folder / "attempts" / "1").record_path.read_text(encoding="utf-8")
        assert '"status": "out_of_memory"' in first, "what the first try left is kept"
        told = [progress.kind for progress in prepared.told if progress.trial.label == label]
        assert [kind for kind in told if kind != "event"] == ["started", "started", "ended"]
    page = Study.open(prepared.store.root).report(plots=False).read_text(encoding="utf-8")
    assert "is run again with micro\\-batches of 8 instead of 16".replace("\\", "") in page.replace("\\", "")

    halves = {"batch_size": 16, "gradient_accumulation_steps": 2, "evaluation_batch_size": 32, "max_steps": 3}
    plain = prepare({"smaller": {"method": "full"}}, "plain", **halves)
    by_hand = _run(plain, executor)["smaller"]
    assert records["batch_python"].metrics == by_hand.metrics, "it gives what half the micro-batch gives by hand"
    assert records["batch_python"].predictions["test"].sha256 == by_hand.predictions["test"].sha256


def test_a_second_try_that_runs_out_of_memory_too_is_the_last(
    executor: SharedExecutor, prepare: Prepare, faulty: str
) -> None:
    methods = {**_exhausting("batch_python", most=4), "unasked": {"method": "head"}}
    prepared = prepare(methods, execution=ASKED, batch_size=16, max_steps=3)
    records = _run(prepared, executor)
    assert records["batch_python"].status is Status.OUT_OF_MEMORY
    assert records["batch_python"].spec.halved_batches
    assert records["unasked"].status is Status.COMPLETED
    assert prepared.store.trial(records["batch_python"].spec.id).attempts == 1


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of 512 MiB of memory, where this process may make one."""
    parents = [path for path in MEMORY_CGROUPS if any(path.glob("memory.*"))]
    folder = parents[0] / "tuneoff-test" if parents else None
    try:
        if folder is None:
            raise OSError("there is no memory controller")
        folder.mkdir()
        limit = next(name for name in ("memory.limit_in_bytes", "memory.max") if (folder / name).exists())
        (folder / limit).write_text(str(512 * 2**20))
    except (OSError, StopIteration) as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


@pytest.mark.slow
def test_a_trial_that_the_kernel_kills_for_the_limit_of_its_cgroup_is_tried_again(
    executor: SharedExecutor, prepare: Prepare, faulty: str, cgroup: Path
) -> None:
    methods = {**_exhausting("batch_cgroup", cgroup=str(cgroup)), "head": {}}
    prepared = prepare(methods, execution=ASKED, batch_size=16, max_steps=3)
    records = _run(prepared, executor)
    assert {record.status for record in records.values()} == {Status.COMPLETED}
    record = records["batch_cgroup"]
    assert record.spec.halved_batches
    first = TrialStore(prepared.store.trial(record.spec.id).folder / "attempts" / "1").record_path.read_text("utf-8")
    assert "the kernel killed the process: the machine ran out of memory" in first
