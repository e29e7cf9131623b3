"""Phases add up, never overlap, and wait for the device."""

from __future__ import annotations

import pytest

from tuneoff.measure import timing
from tuneoff.measure.timing import Stopwatch


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "perf_counter", clock)
    return clock


def test_a_phase_entered_again_adds_up(clock: Clock) -> None:
    watch = Stopwatch()
    for seconds in (1.0, 2.5):
        with watch.phase("load"):
            clock.now += seconds
        clock.now += 10
    assert watch.seconds == {"load": 3.5}
    assert sum(watch.seconds.values()) == 3.5


def test_an_inner_phase_suspends_the_outer(clock: Clock) -> None:
    watch = Stopwatch()
    with watch.phase("validation"):
        clock.now += 1
        with watch.phase("data_wait"):
            clock.now += 2
            with watch.phase("validation"):
                clock.now += 4
        clock.now += 8
    assert watch.seconds == {"validation": 13.0, "data_wait": 2.0}
    assert sum(watch.seconds.values()) == 15.0


def test_a_running_phase_is_counted_so_far(clock: Clock) -> None:
    watch = Stopwatch()
    with watch.phase("train_step"):
        clock.now += 3
        assert watch.seconds == {"train_step": 3.0}
        assert watch.train_seconds == 3.0
        clock.now += 1
    assert watch.seconds == {"train_step": 4.0}


def test_device_phases_wait_for_the_device_before_their_time_is_read(clock: Clock) -> None:
    waits: list[float] = []

    def synchronise() -> None:
        waits.append(clock.now)
        clock.now += 5

    watch = Stopwatch(synchronise)
    with watch.phase("data_wait"):
        clock.now += 1
    assert waits == []
    with watch.phase("train_step"):
        clock.now += 1
        with watch.phase("data_wait"):
            clock.now += 1
    # Once when suspended (queued work is its own, not the wait's), once at its end.
    assert watch.seconds == {"data_wait": 2.0, "train_step": 11.0}
    assert len(waits) == 2


def test_a_failing_phase_counts_and_its_error_is_not_hidden_by_the_device(clock: Clock) -> None:
    def synchronise() -> None:
        raise RuntimeError("the device is gone")

    watch = Stopwatch(synchronise)

    def step() -> None:
        clock.now += 2
        raise MemoryError

    with pytest.raises(MemoryError), watch.phase("train_step"):
        step()
    assert watch.seconds == {"train_step": 2.0}
    with pytest.raises(RuntimeError, match="the device is gone"), watch.phase("train_step"):
        clock.now += 1
    with watch.phase("data_wait"):
        clock.now += 4
    assert watch.seconds == {"train_step": 3.0, "data_wait": 4.0}


def test_timing_holds_steps_and_waits_as_train_seconds_and_null_for_the_rest(clock: Clock) -> None:
    watch = Stopwatch()
    for phase, seconds in {"train_step": 2.0, "data_wait": 1.0, "validation": 4.0, "something_else": 8.0}.items():
        with watch.phase(phase):
            clock.now += seconds
    result = watch.timing()
    assert result.train_seconds == 3.0
    assert result.train_step_seconds == 2.0
    assert result.data_wait_seconds == 1.0
    assert result.validation_seconds == 4.0
    assert result.load_seconds is None
    assert Stopwatch().timing().train_seconds is None


def test_a_phase_reads_the_clock_twice_and_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = 0

    def clock() -> float:
        nonlocal readings
        readings += 1
        return 0.0

    monkeypatch.setattr(timing, "perf_counter", clock)
    watch = Stopwatch()
    phase = watch.phase("train_step")
    for _ in range(100):
        with watch.phase("train_step") as entered:
            assert entered is None
        assert watch.phase("train_step") is phase
    assert readings == 200


def test_what_another_trial_spent_counts_in_the_phase_and_in_the_whole() -> None:
    watch = Stopwatch()
    watch.add("data_wait", 1.0)
    watch.add_found("tokenize", 2.0)
    watch.add_found("prefix", 0.5)
    assert watch.seconds == {"data_wait": 1.0, "tokenize": 2.0, "prefix": 0.5}
    assert watch.added_seconds == 2.5
