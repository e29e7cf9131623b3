"""Trials that train together, are cut off and go on: equal, to the byte, to a group that is not."""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from resume_helpers import EVERY_STEP, PROTOCOL, Killed, die_at, outcome, told
from trial_helpers import MakePlace
from tuneoff.errors import Cancelled
from tuneoff.store import TrialStore
from tuneoff.trial.distributed.aggregation import OnlookerTrialStore
from tuneoff.trial.run import run
from tuneoff.trial.together import run_together
from tuneoff.trial.training import resume
from tuneoff.trial.training.selection import Selection

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread", "often")

COUNT = 3


class Groups:
    """Makes groups of three trials that differ in their seed, and runs them."""

    def __init__(self, make_place: MakePlace) -> None:
        self.make_place = make_place

    def make(self, execution: dict[str, Any] = EVERY_STEP, **protocol: Any) -> list[TrialStore]:
        protocol = {**PROTOCOL, "batch_size": 6, **protocol}
        return [self.make_place("lora", seed=seed, protocol=protocol, execution=execution) for seed in range(COUNT)]

    @staticmethod
    def run(group: list[TrialStore], ended: Collection[TrialStore] = ()) -> dict[str, Exception]:
        """Runs a group in which some have ended; returns trial -> why it ended alone."""
        failures: dict[str, Exception] = {}
        for place in group:
            if place not in ended:
                place.begin_attempt()
        run_together(
            [OnlookerTrialStore(place.folder) if place in ended else place for place in group],
            "cpu",
            time.perf_counter(),
            lambda place, error: failures.update({place.folder.name: error}),
        )
        return failures


@pytest.fixture(scope="module")
def groups(make_place: MakePlace) -> Groups:
    return Groups(make_place)


@pytest.fixture(scope="module")
def whole(groups: Groups) -> list[dict[str, Any]]:
    """The outcomes of a group that nothing ended."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    group = groups.make(execution={"checkpoint_minutes": None, "latency_examples": 1})
    groups.run(group)
    done = outcomes(group)
    torch.set_num_threads(threads)
    return done


def outcomes(group: list[TrialStore]) -> list[dict[str, Any]]:
    done = []
    for place in group:
        record = place.record()
        assert record is not None
        done.append(outcome(place, record))
    return done


def resumed_at(place: TrialStore) -> list[int]:
    return [event["step"] for event in told(place, "resumed")]


@pytest.mark.parametrize(
    ("owner", "name", "call", "step"),
    [
        (torch.optim.AdamW, "step", COUNT * 4 + 2, 4),
        (torch.optim.AdamW, "step", COUNT * 6 + 1, 6),
        # While the second of three writes its third checkpoint, and while the first writes its first.
        (resume, "save_file", COUNT * 2 + 2, 2),
        (resume, "save_file", 1, None),
        # In the validation after the second step, of the third trial.
        (Selection, "validate", COUNT, 1),
    ],
    ids=["fifth_step", "last_epoch", "third_checkpoint", "first_checkpoint", "validation"],
)
def test_a_group_that_is_cut_off_ends_as_if_nothing_had_happened(
    owner: Any,
    name: str,
    call: int,
    step: int | None,
    groups: Groups,
    whole: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    group = groups.make()
    with monkeypatch.context() as patch:
        die_at(patch, owner, name, call)
        with pytest.raises(Killed):
            groups.run(group)
    assert not groups.run(group)
    assert outcomes(group) == whole
    for place in group:
        record = place.record()
        assert record is not None
        assert record.resumed == (0 if step is None else 1)
        assert resumed_at(place) == ([] if step is None else [step])
        assert not place.checkpoints.newest_first(), "a finished trial needs none"


def test_a_group_goes_on_from_its_last_common_step_where_one_trial_cannot_write(
    groups: Groups, whole: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    group = groups.make()

    def save_or_fail(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if path.is_relative_to(group[-1].folder) and group[-1].checkpoints.newest_step() == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save_file(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(resume, "save_file", save_or_fail)
        die_at(patch, torch.optim.AdamW, "step", COUNT * 5 + 1)
        with pytest.raises(Killed):
            groups.run(group)
    for place in group:
        steps = [checkpoint.manifest().step for checkpoint in place.checkpoints.newest_first()]
        assert steps == [2, 1], "three more that not all could write are not kept"
        assert [event["name"] for event in told(place, "finding")].count("checkpoint_failed") == 1
    assert not groups.run(group)
    assert [resumed_at(place) for place in group] == [[2]] * COUNT
    assert [without_findings(each) for each in outcomes(group)] == [without_findings(each) for each in whole]


def test_a_group_that_is_killed_each_time_it_writes_keeps_a_common_step(
    groups: Groups, whole: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    group = groups.make()
    for call in (COUNT * 2 + 2, 2, 2):
        # While the second of three writes its checkpoint of the third step, again and again.
        with monkeypatch.context() as patch:
            die_at(patch, resume, "save_file", call)
            with pytest.raises(Killed):
                groups.run(group)
    assert not groups.run(group)
    assert [resumed_at(place) for place in group] == [[2]] * COUNT
    assert outcomes(group) == whole


def test_a_group_goes_on_beside_one_that_has_finished(
    groups: Groups, whole: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off in the test of the second; the first is computed on and keeps its files as they are."""
    group = groups.make()
    with monkeypatch.context() as patch:
        die_at(patch, TrialStore, "write_predictions", 2)
        with pytest.raises(Killed):
            groups.run(group)
    for place in group[1:]:
        # A kill some steps before: the last checkpoints are gone.
        for checkpoint in place.checkpoints.newest_first()[:1]:
            (checkpoint.folder / "state.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in group[0].folder.rglob("*")}
    assert not groups.run(group, ended=group[:1])
    assert outcomes(group) == whole
    assert {path: path.stat().st_mtime_ns for path in group[0].folder.rglob("*")} == before
    assert [resumed_at(place) for place in group] == [[], [6], [6]]


def test_a_group_goes_on_beside_one_that_diverged(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> list[TrialStore]:
        group = groups.make()
        hot = {**PROTOCOL, "batch_size": 6, "learning_rate": 1e30}
        group[1] = groups.make_place("lora", seed=1, protocol=hot, execution=EVERY_STEP)
        return group

    undisturbed, group = make(), make()
    assert list(groups.run(undisturbed)) == [undisturbed[1].folder.name]
    with monkeypatch.context() as patch:
        die_at(patch, torch.optim.AdamW, "step", 14)
        with pytest.raises(Killed):
            groups.run(group)
    assert not groups.run(group, ended=group[1:2])
    assert outcomes(group[::2]) == outcomes(undisturbed[::2])


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="no such signals here")
@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize(("owner", "name"), [(torch.optim.AdamW, "step"), (Selection, "validate")])
def test_a_group_that_is_asked_to_stop_keeps_all_steps_that_it_did(
    owner: Any, name: str, groups: Groups, whole: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    group = groups.make(execution={"latency_examples": 1})
    original, calls = getattr(owner, name), 0

    def asked(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        result, calls = original(self, *arguments), calls + 1
        if calls == COUNT + 2:
            signal.raise_signal(signal.SIGUSR2)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, asked)
        with pytest.raises(Cancelled):
            groups.run(group)
    steps = [[checkpoint.manifest().step for checkpoint in place.checkpoints.newest_first()] for place in group]
    assert steps == [[2 if name == "step" else 5]] * COUNT
    assert not groups.run(group)
    assert outcomes(group) == whole


def test_what_was_trained_together_does_not_go_on_alone_nor_the_other_way_round(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = groups.make()
    ids = [place.folder.name for place in group]
    with monkeypatch.context() as patch:
        die_at(patch, torch.optim.AdamW, "step", COUNT * 3)
        with pytest.raises(Killed):
            groups.run(group)
    assert group[0].checkpoints.trained_together() == tuple(ids)
    group[0].begin_attempt()
    with monkeypatch.context() as patch:
        die_at(patch, torch.optim.AdamW, "step", 4)
        with pytest.raises(Killed):
            run(group[0], "cpu", time.perf_counter())
    assert _refusals(group[0]) == [
        f"the checkpoint of step {step} is not used: trials at once: {' '.join(ids)} there, {ids[0]} here"
        for step in (2, 1)
    ]
    assert group[0].checkpoints.trained_together() == ()
    assert not groups.run(group)
    assert any(f"trials at once: {ids[0]} there, {' '.join(ids)} here" in message for message in _refusals(group[0]))
    assert all("the trials beside it have none of that step" in _refusals(place)[-1] for place in group[1:])
    assert [resumed_at(place) for place in group] == [[], [], []]


def without_findings(done: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in done.items() if key != "findings"}


def _refusals(place: TrialStore) -> list[str]:
    return [event["message"] for event in told(place, "finding") if event["name"] == "checkpoint_refused"]
