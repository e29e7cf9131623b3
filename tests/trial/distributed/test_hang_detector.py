"""Who hangs, who only waits or works, and when all wait for ever."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import astuple
from pathlib import Path
from typing import Any

import psutil
import pytest

from tuneoff.trial.distributed import hang_detector
from tuneoff.trial.distributed.hang_detector import HangDetector
from tuneoff.trial.distributed.heartbeat import _LAYOUT, Beat, Pulse, read


class Machine:
    """Ranks whose notes and processor time a test sets by hand, on a clock of its own."""

    def __init__(self, folder: Path, size: int = 2) -> None:
        self.paths = [folder / f"{rank}.beat" for rank in range(size)]
        self.used = dict.fromkeys(range(1, size + 1), 0.0)
        self.watch = HangDetector(self.paths, activity=lambda pid: self.used[pid])

    def note(self, rank: int, meetings: int, at: float, longest: float = 0.0, **more: Any) -> None:
        pulse = Pulse(rank + 1, meetings, at, longest, **{"phase": "train", **more})
        *numbers, phase, collective = astuple(pulse)
        self.paths[rank].write_bytes(_LAYOUT.pack(*numbers, phase.encode(), collective.encode()))

    def inside(self, rank: int, meetings: int, at: float, size: int = 0, **more: Any) -> None:
        """The rank waits in a collective since it entered it."""
        self.note(rank, meetings, at, sending=size, collective="all_reduce", **more)

    def looks(self, until: float, busy: tuple[int, ...] = ()) -> dict[int, tuple[float, float]]:
        """Looks every second; rank -> when it was found, and how long it had kept the others waiting."""
        found: dict[int, tuple[float, float]] = {}
        for now in range(int(until) + 1):
            for rank in busy:
                self.used[rank + 1] += 0.9
            for rank, waited in self.watch.look(float(now)).items():
                found.setdefault(rank, (float(now), waited))
        return found

    def deadlock(
        self, until: float, since: float = 0.0, busy: tuple[int, ...] = (), share: float = 0.9
    ) -> float | None:
        """Looks every second; when all ranks were found to wait for ever, or None."""
        for now in range(int(since), int(until) + 1):
            for rank in busy:
                self.used[rank + 1] += share
            if self.watch.all_wait(float(now)):
                return float(now)
        return None


def test_a_rank_that_does_nothing_while_others_wait_is_found(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.note(0, meetings=5, at=10.0)
    machine.note(1, meetings=4, at=9.0)
    found = machine.looks(60)
    assert set(found) == {1}
    when, waited = found[1]
    assert when == 10 + hang_detector.IDLE_SECONDS
    assert waited == hang_detector.IDLE_SECONDS


def test_the_ticks_of_a_thread_that_samples_are_no_work(tmp_path: Path) -> None:
    """The kernel counts in steps of 10 ms, so that little work comes as a jump now and then."""
    machine = Machine(tmp_path)
    machine.note(0, meetings=5, at=0.0)
    machine.note(1, meetings=4, at=0.0)
    found: dict[int, float] = {}
    for now in range(60):
        machine.used[2] = 10.0 + 0.01 * (now // 4)
        found |= machine.watch.look(float(now))
        if found:
            break
    assert found == {1: hang_detector.IDLE_SECONDS}


def test_little_work_on_a_crowded_machine_is_work(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.note(0, meetings=5, at=0.0)
    machine.note(1, meetings=4, at=0.0)
    for now in range(300):
        machine.used[2] += 0.05
        assert not machine.watch.look(float(now))


def test_a_rank_that_works_is_left_alone_outside_training(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.note(0, meetings=5, at=0.0)
    machine.note(1, meetings=4, at=0.0)
    assert not machine.looks(600, busy=(1,))


@pytest.mark.parametrize(("longest", "when"), [(0.5, hang_detector.BUSY_SECONDS), (20.0, 200.0)])
def test_in_training_work_may_take_a_few_steps_at_most(longest: float, when: float, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.note(0, meetings=50, at=0.0, longest=longest)
    machine.note(1, meetings=49, at=0.0, longest=longest)
    assert machine.looks(300, busy=(1,)) == {1: (when, when)}


def test_ranks_at_the_same_place_are_not_late(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.note(0, meetings=7, at=0.0, longest=0.1)
    machine.note(1, meetings=7, at=0.0, longest=0.1)
    assert not machine.looks(600)


def test_a_rank_inside_a_collective_waits_itself(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.inside(0, meetings=7, at=0.0, longest=0.1)
    machine.inside(1, meetings=6, at=0.0, longest=0.1)
    assert not machine.looks(600)


def test_time_in_which_the_machine_was_suspended_does_not_count(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.note(0, meetings=5, at=0.0, longest=0.1)
    machine.note(1, meetings=4, at=0.0, longest=0.1)
    assert not machine.looks(20)
    assert not machine.watch.look(5000.0)
    assert not machine.watch.look(5001.0)
    found = {now for now in range(5002, 5040) if machine.watch.look(float(now))}
    assert min(found) == 5000 + hang_detector.IDLE_SECONDS


def test_a_rank_that_has_not_begun_is_left_alone(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.note(0, meetings=1, at=0.0)
    assert not machine.looks(600)
    assert read(machine.paths[1]).pid == 0


# --- all wait alike


def test_ranks_that_all_wait_in_collectives_are_a_deadlock(tmp_path: Path) -> None:
    """Whatever their processors do: some libraries wait by asking again and again."""
    machine = Machine(tmp_path, 3)
    for rank in range(3):
        machine.inside(rank, meetings=7 + rank % 2, at=0.0)
    assert machine.deadlock(600, busy=(0, 1, 2)) == hang_detector.DEADLOCK_SECONDS


def test_a_collective_that_sends_much_is_given_the_time_for_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.inside(0, 7, 0.0, size=4_000_000_000)
    machine.inside(1, 7, 0.0, size=4_000_000_000)
    assert machine.deadlock(600) == hang_detector.DEADLOCK_SECONDS + 80


def test_a_rank_that_works_while_others_wait_is_no_deadlock(tmp_path: Path) -> None:
    """An evaluation of hours, at which the others wait; and much less work than that."""
    machine = Machine(tmp_path)
    machine.inside(0, 7, 0.0, phase="inference")
    machine.note(1, 6, 0.0, phase="inference")
    assert machine.deadlock(7200, busy=(1,)) is None
    assert machine.deadlock(14400, since=7201, busy=(1,), share=0.05) is None
    assert machine.deadlock(14400, since=14401 - 100) is not None, "it does nothing any more"


def test_collectives_that_come_one_after_another_are_no_deadlock(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for now in range(0, 400, 40):
        for rank in range(2):
            machine.inside(rank, now, float(now))
        assert machine.deadlock(now + 39, since=now) is None


def test_ranks_that_all_do_nothing_are_a_deadlock_too(tmp_path: Path) -> None:
    """What waits in a collective that is none of ours cannot be told from what sleeps."""
    machine = Machine(tmp_path)
    machine.note(0, 7, 0.0)
    machine.inside(1, 7, 0.0)
    assert machine.deadlock(600) == hang_detector.DEADLOCK_SECONDS
    sleeping = Machine(tmp_path)
    sleeping.note(0, 7, 0.0)
    sleeping.note(1, 7, 0.0)
    assert sleeping.deadlock(600) == hang_detector.DEADLOCK_SECONDS


def test_while_data_is_loaded_a_rank_may_wait_for_others_than_ranks(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.note(0, 2, 0.0, phase="load")
    machine.inside(1, 2, 0.0, phase="load")
    assert machine.deadlock(600) is None
    machine.inside(0, 2, 0.0, phase="load")
    assert machine.deadlock(1200, since=601) is not None


def test_no_deadlock_before_all_have_begun(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.inside(0, 1, 0.0)
    assert machine.deadlock(600) is None


def test_a_deadlock_is_not_made_of_time_asleep(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.inside(0, 7, 0.0)
    machine.inside(1, 7, 0.0)
    assert machine.deadlock(20) is None
    assert not machine.watch.all_wait(90_000.0)
    found = machine.deadlock(91_000, since=90_001)
    assert found is not None
    assert found <= 90_000 + hang_detector.DEADLOCK_SECONDS


# --- what is asked of the system


def test_activity_grows_with_processor_time_and_not_without(tmp_path: Path) -> None:
    def spin(code: str) -> float:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        first = hang_detector.activity_of(process.pid)
        time.sleep(0.6)
        second = hang_detector.activity_of(process.pid)
        process.kill()
        process.communicate()
        return second - first

    assert spin("print(flush=True)\nwhile True: pass") > 0.05
    assert spin("import time\nprint(flush=True)\ntime.sleep(60)") < 0.01
    assert hang_detector.activity_of(2**22 + 1) == 0.0


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
def test_a_hung_rank_says_where_it_is_and_is_ended(tmp_path: Path) -> None:
    """A stopped process would say nothing; one that sleeps does."""
    code = (
        "import faulthandler, signal, sys, time\n"
        "from pathlib import Path\n"
        "from tuneoff.trial.distributed.heartbeat import Beat\n"
        "faulthandler.register(signal.SIGUSR1, all_threads=True)\n"
        f"Beat(Path({str(tmp_path / '1.beat')!r}))\n"
        "print(flush=True)\n"
        "def stuck(): time.sleep(60)\n"
        "stuck()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    Beat(tmp_path / "0.beat").meeting()
    looking = HangDetector([tmp_path / "0.beat", tmp_path / "1.beat"], every=0.1, idle=0.5)
    looking.start()
    try:
        assert process.wait(timeout=20) == -signal.SIGKILL
    finally:
        looking.stop()
    assert set(looking.hung) == {1}
    assert "in stuck" in process.communicate()[1]
    assert not psutil.pid_exists(process.pid)
