"""Which trial starts next and where: pure, so any machine can be made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import ExecutorError
from tuneoff.executors._placement import Allocation, Device, Need, Placement, divide_cores
from tuneoff.executors.local import devices_of
from tuneoff.planning.plan import plan
from tuneoff.records.record import Memory, PhaseMemory, Status, Timing, TrialRecord

pytest_plugins = ("study_fixtures",)

MakeStudy = Callable[..., StudySpec]
GB = 10**9


def gpus(count: int, memory: int = 80 * GB) -> list[dict[str, Any]]:
    return [{"name": str(number), "memory_bytes": memory} for number in range(count)]


@pytest.fixture
def trials(make_study: MakeStudy) -> list[TrialSpec]:
    """Three arms at two seeds."""
    return plan(make_study(methods={"lora": {}, "full": {}, "ia3": {}}))


def label(trial: TrialSpec) -> str:
    return f"{trial.label}{trial.seed}"


def fill(placement: Placement, waiting: list[TrialSpec]) -> list[tuple[str, Allocation]]:
    """Starts all that can start; they are no longer waiting."""
    started = []
    while waiting and (placed := placement.next(waiting)):
        waiting.remove(placed[0])
        started.append((label(placed[0]), placed[1]))
    return started


def completed(trial: TrialSpec, memory: int = 0, seconds: float | None = 1.0) -> TrialRecord:
    phases = {"train": PhaseMemory(reserved_bytes=memory)} if memory else {}
    return TrialRecord(
        spec=trial, status=Status.COMPLETED, timing=Timing(total_seconds=seconds), memory=Memory(phases=phases)
    )


def test_one_place_keeps_the_order_given(trials: list[TrialSpec]) -> None:
    needs = {trial.id: Need(seconds=number) for number, trial in enumerate(trials)}
    placement = Placement(devices_of([], 1, {0, 1}), 8 * GB, needs)
    assert placement.ordered(trials) == trials
    ((name, allocation),) = fill(placement, list(trials))
    assert (name, allocation.cores, allocation.gpus, allocation.shared) == (label(trials[0]), None, (), False)


def test_the_longest_start_first_within_a_seed(trials: list[TrialSpec]) -> None:
    seconds = {"lora": 5.0, "full": 9.0}
    needs = {trial.id: Need(seconds.get(trial.label)) for trial in trials}
    placement = Placement(devices_of([], 2, {0, 1}), 8 * GB, needs)
    order = [label(trial) for trial in placement.ordered(trials)]
    assert order == ["ia30", "full0", "lora0", "ia31", "full1", "lora1"], "one of unknown length may be the longest"


def test_trials_on_the_cpu_have_cores_of_their_own(trials: list[TrialSpec]) -> None:
    placement = Placement(devices_of([], 2, {0, 1, 2, 3}), 8 * GB)
    started = fill(placement, list(trials))
    assert [allocation.cores for _, allocation in started] == [(0, 1), (2, 3)]
    assert [allocation.trials_at_once for _, allocation in started] == [2, 2]
    assert not any(allocation.shared for _, allocation in started)
    placement.release(trials[0])
    assert fill(placement, trials[2:])[0][1].cores == (0, 1)


def test_trials_start_only_where_memory_is_enough(trials: list[TrialSpec]) -> None:
    memory = {"lora": 3 * GB, "full": 7 * GB, "ia3": 2 * GB}
    needs = {trial.id: Need(memory_bytes=memory[trial.label]) for trial in trials}
    placement = Placement(devices_of([], 3, {0, 1, 2}), 8 * GB, needs)
    waiting = list(trials)
    assert [name for name, _ in fill(placement, waiting)] == ["lora0", "ia30"], "full0 is overtaken by its own seed"
    placement.release(trials[0])
    assert fill(placement, waiting) == [], "but not by the next seed, or it would wait for ever"
    placement.release(trials[2])
    assert [name for name, _ in fill(placement, waiting)] == ["full0"]


def test_a_process_waits_until_memory_is_enough_for_all_that_it_computes(trials: list[TrialSpec]) -> None:
    needs = {trial.id: Need(memory_bytes=2 * GB) for trial in trials}
    placement = Placement(devices_of([], 3, {0, 1, 2}), 8 * GB, needs)
    first, second, third = trials[0], trials[1], trials[2]
    ended = [trials[3], trials[4]]

    def place(trial: TrialSpec, others: Sequence[TrialSpec] = ()) -> bool:
        return placement.next([trial], lambda _: others) is not None

    assert place(first)
    assert not place(second, ended), "three beside one take 8.8 of 8 GB"
    placement.release(first)
    assert place(second, [third, *ended]), "with no other it is tried"
    assert placement.join(third, second), "it is computed in any case"
    assert not place(first)
    placement.release(second)
    assert not place(first), "the process still computes all four"
    placement.release(third)
    assert place(first)


def test_what_was_measured_counts_more_than_the_forecast(trials: list[TrialSpec]) -> None:
    needs = {trial.id: Need(memory_bytes=GB) for trial in trials}
    placement = Placement(devices_of([], 2, {0, 1}), 8 * GB, needs)
    placement.note(completed(trials[0], memory=8 * GB))
    assert [name for name, _ in fill(placement, [trials[0], trials[1]])] == ["lora0"]


def test_each_gpu_has_a_trial_and_its_share_of_the_cores(trials: list[TrialSpec]) -> None:
    placement = Placement(devices_of(gpus(2), 1, set(range(8))), 8 * GB)
    started = fill(placement, list(trials))
    assert [(name, allocation.gpus, allocation.cores, allocation.shared) for name, allocation in started] == [
        ("lora0", ("0",), (0, 1, 2, 3), False),
        ("full0", ("1",), (4, 5, 6, 7), False),
    ]
    assert {allocation.trials_at_once for _, allocation in started} == {1}


def test_the_first_trial_of_each_arm_has_a_shared_gpu_to_itself(trials: list[TrialSpec]) -> None:
    placement = Placement(devices_of(gpus(1), 2, set(range(4))), 8 * GB)
    waiting = list(trials)
    for name in ("lora0", "full0", "ia30"):
        ((started, allocation),) = fill(placement, waiting)
        assert (started, allocation.shared, allocation.cores) == (name, False, (0, 1))
        trial = next(trial for trial in trials if label(trial) == name)
        placement.note(completed(trial))
        placement.release(trial)
    pair = fill(placement, waiting)
    assert [(allocation.shared, allocation.cores) for _, allocation in pair] == [(True, (0, 1)), (True, (2, 3))]


def test_an_arm_without_costs_is_measured_although_a_shared_trial_of_it_is_finished(trials: list[TrialSpec]) -> None:
    placement = Placement(devices_of(gpus(1), 2, set(range(4))), 8 * GB)
    placement.note(completed(trials[0], seconds=None))
    assert not fill(placement, [trials[0]])[0][1].shared


def test_a_trial_on_several_gpus_waits_until_they_are_free(make_study: MakeStudy) -> None:
    (one, three) = plan(make_study(methods={"one": {"method": "lora"}, "three": {"method": "full", "devices": 3}}))[:2]
    placement = Placement(devices_of(gpus(3), 1, set(range(6))), 8 * GB)
    assert fill(placement, [one])[0][1].gpus == ("0",)
    assert fill(placement, [three]) == []
    placement.release(one)
    ((_, allocation),) = fill(placement, [three])
    assert (allocation.gpus, allocation.cores) == (("0", "1", "2"), (0, 1, 2, 3, 4, 5))


def test_a_trial_of_several_ranks_on_the_cpu_has_all_cores(make_study: MakeStudy) -> None:
    (one, two) = plan(make_study(methods={"one": {"method": "lora"}, "two": {"method": "full", "devices": 2}}))[:2]
    placement = Placement(devices_of([], 2, {0, 1}), 8 * GB)
    ((_, allocation),) = fill(placement, [two])
    assert (allocation.cores, allocation.trials_at_once) == (None, 1)
    assert fill(placement, [one]) == []


def test_threads_of_one_core_stay_together(tmp_path: Path) -> None:
    for core in range(8):
        folder = tmp_path / f"cpu{core}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{core % 4},{core % 4 + 4}\n")
    assert divide_cores(set(range(8)), 2, tmp_path) == [(0, 1, 4, 5), (2, 3, 6, 7)]
    assert divide_cores(set(range(8)), 3, tmp_path) == [(0, 4), (1, 5), (2, 6)], "equally many for each"
    assert divide_cores(set(range(8)), 5, tmp_path) is None, "a thread of another's core is no core of one's own"
    (tmp_path / "cpu0" / "topology" / "thread_siblings_list").write_text("0-1\n")
    assert divide_cores({0, 1}, 1, tmp_path) == [(0, 1)]


def test_too_few_cores_are_refused_with_the_way_out() -> None:
    with pytest.raises(ExecutorError, match=r"3 trials at once need as many cores .* there are 2") as caught:
        devices_of([], 3, {0, 1})
    assert "executor.trials_per_device" in caught.value.hint
    with pytest.raises(ExecutorError, match="this system confines no process"):
        devices_of([], 2, None)


def test_more_gpus_than_cores_run_one_trial_at_a_time() -> None:
    assert devices_of(gpus(4), 1, {0, 1}) == [Device((None,), "0", 80 * GB)]
