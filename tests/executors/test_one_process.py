"""Trials of one arm in one process: which go together, and that each has the record that it would have alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from running_helpers import Prepared, SharedExecutor, starter_of
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.executors._placement import Device, Placement
from tuneoff.executors._together import Companions
from tuneoff.executors.base import Progress
from tuneoff.executors.local import LocalExecutor
from tuneoff.planning.plan import plan, search_trial
from tuneoff.records.record import Memory, PhaseMemory, Status, Timing, TrialRecord
from tuneoff.store import TRIALS, StudyStore

pytest_plugins = ("running_fixtures", "study_fixtures")

Prepare = Callable[..., Prepared]
MakeStudy = Callable[..., StudySpec]


# --- which go together: pure


def trials_of(make_study: MakeStudy, together: Any = 4, **changes: Any) -> list[TrialSpec]:
    methods: dict[str, Any] = {"lora": {}, "head": {}, "majority": {}}
    return plan(make_study(methods=methods, execution={"together": together}, protocol={"seeds": 6}, **changes))


def found(trials: list[TrialSpec], lead: str, on_gpu: bool = False, companions: Companions | None = None) -> list[str]:
    by_name = {f"{trial.label}{trial.seed}": trial for trial in trials}
    companions = companions or Companions()
    companions.expect(trials)
    others = companions.find(by_name[lead], {trial.id: trial for trial in trials}, on_gpu, lambda trial: True)
    return [f"{trial.label}{trial.seed}" for trial in others]


def test_trials_that_differ_in_seed_or_rate_go_together_as_many_as_asked(make_study: MakeStudy) -> None:
    trials = trials_of(make_study)
    assert found(trials, "lora0") == ["lora1", "lora2", "lora3"]
    assert found(trials[3:], "head1") == ["head2", "head3", "head4"]
    faster = [trial.model_copy(update={"learning_rate": 0.1}) if trial.seed == 2 else trial for trial in trials]
    assert found(faster, "lora0") == ["lora1", "lora2", "lora3"]
    wider = [trial.model_copy(update={"options": {"r": 99}}) if trial.seed == 2 else trial for trial in trials]
    assert found(wider, "lora0") == ["lora1", "lora3", "lora4"]
    assert found(trials, "majority0") == [], "it trains nothing"


def test_auto_is_for_a_gpu(make_study: MakeStudy) -> None:
    assert len(found(trials_of(make_study, "auto"), "lora0", on_gpu=True)) == 5
    assert found(trials_of(make_study, "auto"), "lora0") == []
    assert found(trials_of(make_study, 1), "lora0", on_gpu=True) == []


def test_the_plain_engine_and_several_devices_train_each_alone(make_study: MakeStudy) -> None:
    trials = trials_of(make_study)
    plain = [t.model_copy(update={"execution": t.execution.model_copy(update={"engine": "plain"})}) for t in trials]
    assert found(plain, "lora0") == []
    assert found([trial.model_copy(update={"devices": 2}) for trial in trials], "lora0") == []


def test_a_kind_that_could_not_be_trained_together_is_not_tried_again_and_says_so_once(make_study: MakeStudy) -> None:
    trials, companions = trials_of(make_study), Companions()
    lora = [trial for trial in trials if trial.label == "lora"]
    assert companions.take_reason(lora[0]) == ""
    for trial in lora[:2]:
        companions.separate(trial, "no such operation")
    assert found(trials, "lora0", companions=companions) == []
    assert found(trials, "head0", companions=companions) == ["head1", "head2", "head3"]
    assert [companions.take_reason(trial) for trial in lora[:3]] == ["no such operation", "", ""]


def test_the_costs_of_an_arm_are_measured_before_any_go_together_and_memory_decides(make_study: MakeStudy) -> None:
    trials = [trial for trial in trials_of(make_study) if trial.label == "lora"]
    placement = Placement([Device((None,))], 100)
    placement.next(trials)
    assert not placement.join(trials[1], trials[0])
    placement.release(trials[0])
    placement.note(TrialRecord(spec=trials[0], status=Status.COMPLETED, timing=Timing(total_seconds=1.0)))
    placement.next(trials[1:])
    assert placement.join(trials[2], trials[1])
    placement._measured["lora"] = 30
    assert placement.join(trials[3], trials[1])
    assert not placement.join(trials[4], trials[1]), "four would take 120 of 100 bytes"
    search = trials[5].model_copy(update={"purpose": "search", "label": "unknown"})
    assert placement.join(search, trials[1]), "what a search costs is not compared"


def test_the_key_is_no_part_of_a_trials_id(make_study: MakeStudy) -> None:
    assert [t.id for t in trials_of(make_study, 1)] == [t.id for t in trials_of(make_study, 64)]


# --- real runs


@pytest.fixture
def apart_forgotten(executor: SharedExecutor) -> Iterator[SharedExecutor]:
    """The shared executor, which knows of no kind that cannot be trained together."""
    yield executor
    executor._companions = Companions()


def records(prepared: Prepared) -> dict[str, TrialRecord]:
    return {f"{record.spec.label}{record.spec.seed}": record for record in prepared.store.records()}


def test_one_seed_is_run_alone_for_its_costs_and_the_others_together(
    apart_forgotten: SharedExecutor, prepare: Prepare
) -> None:
    methods: dict[str, Any] = {"head": {}, "full": {}}
    prepared = prepare(methods, execution={"together": 3}, seeds=4, max_steps=4)
    apart_forgotten.run(prepared.store, prepared.trials, prepared.told.append)
    sealed = records(prepared)
    assert {record.status for record in sealed.values()} == {Status.COMPLETED}
    assert sealed["head0"].timing.total_seconds
    for seed in (1, 2, 3):
        record = sealed[f"head{seed}"]
        assert record.timing.total_seconds is None
        assert record.missing["timing"] == "trained together with 2 others"
        assert record.metric("accuracy", "test") is not None
        assert sealed[f"full{seed}"].timing.total_seconds, "it trains most of the model, so each alone"
    reasons = [f.message for r in sealed.values() for f in r.findings if f.name == "trained_apart"]
    assert len(reasons) == 1
    assert "most of the model" in reasons[0]
    kinds = [(p.kind, p.trial.label, p.trial.seed) for p in prepared.told if p.kind != "event"]
    together = [seed for kind, label, seed in kinds if (kind, label) == ("started", "head")]
    assert together == [0, 1, 2, 3]
    first_end = kinds.index(("ended", "head", 1))
    assert ("started", "head", 3) in kinds[:first_end]
    assert all(prepared.store.trial(trial.id).log_path.exists() for trial in prepared.trials)


def test_one_that_diverges_is_recorded_so_and_the_others_go_on(
    apart_forgotten: SharedExecutor, prepare: Prepare
) -> None:
    """Trials of a search, which differ in their rate."""
    prepared = prepare({"head": {}}, execution={"together": 3}, search=3, learning_rate=None, epochs=20)
    study = prepared.store.study()
    trials = [search_trial(study, "head", {"learning_rate": rate}) for rate in (1e-2, 1e30, 1e-3)]
    StudyStore.create(prepared.store.root, study, trials)
    apart_forgotten.run(prepared.store, trials, prepared.told.append)
    sealed = [prepared.store.trial(trial.id).record() for trial in trials]
    assert [record and record.status for record in sealed] == [Status.COMPLETED, Status.DIVERGED, Status.COMPLETED]
    assert sealed[1] is not None
    assert "Try a lower learning rate than 1e+30" in sealed[1].cause
    assert sealed[2] is not None
    assert sealed[2].missing["timing"] == "trained together with 2 others"
    assert next(p.trial.learning_rate for p in prepared.told if p.kind == "ended") == 1e30, "as soon as it did"


def test_a_group_that_is_killed_runs_again_each_alone_and_loses_no_record(
    apart_forgotten: SharedExecutor, prepare: Prepare
) -> None:
    prepared = prepare({"head": {}}, execution={"together": 3}, seeds=4, epochs=40)
    first = prepared.trials[0]
    apart_forgotten.run(prepared.store, [first], prepared.told.append)
    before = prepared.store.trial(first.id).record_path.stat().st_mtime_ns
    killed: list[int] = []

    def listen(progress: Progress) -> None:
        if not killed and progress.event.get("kind") == "step":
            parent = starter_of(apart_forgotten)
            killed.extend(child.pid for child in parent.children())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    apart_forgotten.run(prepared.store, prepared.trials, listen)
    assert killed
    sealed = records(prepared)
    assert {record.status for record in sealed.values()} == {Status.COMPLETED}
    assert prepared.store.trial(first.id).record_path.stat().st_mtime_ns == before
    assert all(record.timing.total_seconds for record in sealed.values())
    reasons = [f.message for r in sealed.values() for f in r.findings if f.name == "trained_apart"]
    assert reasons == ["not trained together with others: their process ended without a result (killed by SIGKILL)"]


def test_an_interrupt_cancels_all_of_a_group_which_goes_on_to_the_same_bytes(
    apart_forgotten: SharedExecutor, prepare: Prepare
) -> None:
    """The group is of two, and none that waits takes the place of one of them."""
    undisturbed = prepare({"head": {}}, "undisturbed", execution={"together": 2}, seeds=3, epochs=20)
    apart_forgotten.run(undisturbed.store, undisturbed.trials, undisturbed.told.append)
    prepared = prepare({"head": {}}, execution={"together": 2}, seeds=3, epochs=20)
    apart_forgotten.run(prepared.store, prepared.trials[:1], prepared.told.append)

    def listen(progress: Progress) -> None:
        if progress.kind == "event" and progress.event["kind"] == "step":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apart_forgotten.run(prepared.store, prepared.trials, listen)
    assert [record.status for record in prepared.store.records()].count(Status.CANCELLED) == 2
    apart_forgotten.run(prepared.store, prepared.trials, prepared.told.append)
    sealed = records(prepared)
    assert {record.status for record in sealed.values()} == {Status.COMPLETED}
    assert sealed["head2"].missing["timing"] == "trained together with 1 other"
    assert [sealed[f"head{seed}"].resumed for seed in range(3)] == [0, 1, 1]
    for name, record in records(undisturbed).items():
        assert (record.metrics, record.predictions) == (sealed[name].metrics, sealed[name].predictions)
        assert record.kept_files == sealed[name].kept_files


def checkpointed(prepared: Prepared, trial: TrialSpec, ids: Sequence[str]) -> None:
    """Gives a trial a checkpoint of a training together with others."""
    checkpoints = prepared.store.trial(trial.id).checkpoints
    checkpoints.save(lambda folder: None, {TRIALS: " ".join(ids)}, 5)


def group_of(prepared: Prepared, number: int, together: int = 3, memory: int = 0) -> tuple[list[int], list[str]]:
    """The seeds of the trials that start when one is placed on 100 bytes, and the ids of their process.

    Args:
        prepared: the trials, of one arm.
        number: of the one that is placed; those before it have ended.
        together: how many are trained in one process.
        memory: bytes that each of them takes.
    """
    trials = [
        trial.model_copy(update={"execution": trial.execution.model_copy(update={"together": together})})
        for trial in prepared.trials
    ]
    executor, placement = LocalExecutor("cpu"), Placement([Device((None,))], 100)
    placement.note(
        TrialRecord(
            spec=trials[0],
            status=Status.COMPLETED,
            timing=Timing(total_seconds=1.0),
            memory=Memory(phases={"train": PhaseMemory(resident_bytes=memory)}),
        )
    )
    waiting = {trial.id: trial for trial in trials[number:]}
    executor._companions.expect(waiting.values())
    placement.next(waiting.values(), lambda trial: executor._earlier_group(prepared.store, placement, trial))
    started, ids = executor._find_group(prepared.store, placement, trials[number], waiting)
    return [trial.seed for trial in started], ids


def test_a_group_that_goes_on_trains_all_that_it_computes_whatever_memory_they_take(prepare: Prepare) -> None:
    """None is computed for the sake of the others and then trained again."""
    prepared = prepare({"head": {}}, execution={"together": 3}, seeds=6)
    ids = [trial.id for trial in prepared.trials]
    for trial in prepared.trials[1:4]:
        checkpointed(prepared, trial, ids[1:4])
    assert group_of(prepared, 4, memory=60) == ([4], ids[4:5]), "one that begins alone has that choice"
    assert group_of(prepared, 1, memory=60) == ([1, 2, 3], ids[1:4])


def test_a_group_that_was_interrupted_is_put_together_again(prepare: Prepare) -> None:
    prepared = prepare({"head": {}}, execution={"together": 3}, seeds=6)
    ids = [trial.id for trial in prepared.trials]
    for trial in prepared.trials[1:4]:
        checkpointed(prepared, trial, ids[1:4])
    assert group_of(prepared, 1) == ([1, 2, 3], ids[1:4])
    assert group_of(prepared, 4) == ([4, 5], ids[4:])
    assert group_of(prepared, 2) == ([2, 3], ids[1:4]), "beside the first, which has ended"
    assert group_of(prepared, 1, together=2) == ([1], ids[1:2]), "as many are not wanted any more"
    diverged = TrialRecord(spec=prepared.trials[2], status=Status.DIVERGED)
    prepared.store.trial(ids[2]).write_record(diverged)
    assert group_of(prepared, 1) == ([1, 3], ids[1:4])
    checkpointed(prepared, prepared.trials[3], ids[3:4])
    assert group_of(prepared, 1) == ([1], ids[1:4]), "the last has gone on alone since"
    assert group_of(prepared, 3) == ([3], ids[3:4])
    prepared.store.trial(ids[2]).spec_path.unlink()
    assert group_of(prepared, 1) == ([1], ids[1:2])
