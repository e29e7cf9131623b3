"""Who hangs, and who only waits or works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tuneoff.trial import heartbeat
from tuneoff.trial.heartbeat import Beat, Watch, read


class Machine:
    """Ranks whose notes and processor time a test sets by hand, on a clock of its own."""

    def __init__(self, folder: Path, size: int = 2) -> None:
        self.paths = [folder / f"{rank}.beat" for rank in range(size)]
        self.used = dict.fromkeys(range(1, size + 1), 0.0)
        self.watch = Watch(self.paths, activity=lambda pid: self.used[pid])

    def note(self, rank: int, meetings: int, at: float, longest: float = 0.0) -> None:
        self.paths[rank].write_bytes(heartbeat._LAYOUT.pack(rank + 1, meetings, at, longest))

    def looks(self, until: float, busy: tuple[int, ...] = ()) -> dict[int, tuple[float, float]]:
        """Looks every second; rank -> when it was found, and how long it had kept the others waiting."""
        found: dict[int, tuple[float, float]] = {}
        for now in range(int(until) + 1):
            for rank in busy:
                self.used[rank + 1] += 0.9
            for rank, waited in self.watch.look(float(now)).items():
                found.setdefault(rank, (float(now), waited))
        return found


def test_a_rank_that_does_nothing_while_others_wait_is_found(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.note(0, meetings=5, at=10.0)
    machine.note(1, meetings=4, at=9.0)
    found = machine.looks(60)
    assert set(found) == {1}
    when, waited = found[1]
    assert when == 10 + heartbeat.IDLE_SECONDS
    assert waited == heartbeat.IDLE_SECONDS


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
    assert found == {1: heartbeat.IDLE_SECONDS}


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


@pytest.mark.parametrize(("longest", "when"), [(0.5, heartbeat.BUSY_SECONDS), (20.0, 200.0)])
def test_in_training_work_may_take_a_few_steps_at_most(longest: float, when: float, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.note(0, meetings=50, at=0.0, longest=longest)
    machine.note(1, meetings=49, at=0.0, longest=longest)
    assert machine.looks(300, busy=(1,)) == {1: (when, when)}


def test_ranks_at_the_same_place_are_left_alone(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.note(0, meetings=7, at=0.0, longest=0.1)
    machine.note(1, meetings=7, at=0.0, longest=0.1)
    assert not machine.looks(600)


def test_a_rank_that_has_not_begun_is_left_alone(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.note(0, meetings=1, at=0.0)
    assert not machine.looks(600)
    assert read(machine.paths[1]).pid == 0


def test_notes_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "0.beat"
    beat = Beat(path)
    assert (read(path).pid, read(path).meetings) == (os.getpid(), 0)
    before = time.monotonic()
    for _ in range(3):
        beat.meeting()
    pulse = read(path)
    assert pulse.meetings == 3
    assert before <= pulse.at <= time.monotonic()
    beat.step()
    assert read(path).longest_step == 0.0, "one end of a step is no length"
    time.sleep(0.02)
    beat.step()
    assert 0.02 <= read(path).longest_step < 10
    beat.rest()
    assert read(path).longest_step == 0.0


def test_activity_grows_with_processor_time_and_not_without(tmp_path: Path) -> None:
    def spin(code: str) -> float:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        first = heartbeat._activity(process.pid)
        time.sleep(0.6)
        second = heartbeat._activity(process.pid)
        process.kill()
        process.communicate()
        return second - first

    assert spin("print(flush=True)\nwhile True: pass") > 0.05
    assert spin("import time\nprint(flush=True)\ntime.sleep(60)") < 0.01
    assert heartbeat._activity(2**22 + 1) == 0.0


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
def test_a_hung_rank_says_where_it_is_and_is_ended(tmp_path: Path) -> None:
    """A stopped process would say nothing; one that sleeps does."""
    code = (
        "import faulthandler, signal, sys, time\n"
        "from pathlib import Path\n"
        "from tuneoff.trial.heartbeat import Beat\n"
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
    watch = Watch([tmp_path / "0.beat", tmp_path / "1.beat"], every=0.1, idle=0.5)
    watch.start()
    try:
        assert process.wait(timeout=20) == -signal.SIGKILL
    finally:
        watch.stop()
    assert set(watch.hung) == {1}
    assert "in stuck" in process.communicate()[1]
    assert not psutil.pid_exists(process.pid)
