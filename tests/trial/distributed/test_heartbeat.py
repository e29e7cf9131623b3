"""What a rank notes, and what others read of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tuneoff.trial.distributed.heartbeat import Beat, Pulse, read


def test_notes_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "0.beat"
    beat = Beat(path)
    assert (read(path).pid, read(path).meetings) == (os.getpid(), 0)
    before = time.monotonic()
    for _ in range(3):
        beat.meeting()
    pulse = read(path)
    assert (pulse.meetings, pulse.collective) == (3, ""), "what is only begun is not waited for"
    assert before <= pulse.at <= time.monotonic()
    beat.step()
    assert read(path).longest_step == 0.0, "one end of a step is no length"
    time.sleep(0.02)
    beat.step()
    assert 0.02 <= read(path).longest_step < 10
    beat.rest()
    assert (read(path).longest_step, read(path).steps) == (0.0, 2)


def test_a_collective_is_noted_while_it_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "0.beat"
    beat = Beat(path)
    beat.phase("validation")
    before = time.monotonic()
    beat.enter("all_gather", 7)
    pulse = read(path)
    assert (pulse.phase, pulse.collective, pulse.sending, pulse.meetings) == ("validation", "all_gather", 7, 1)
    assert before <= pulse.at <= time.monotonic()
    beat.leave()
    pulse = read(path)
    assert (pulse.collective, pulse.sending, pulse.meetings) == ("", 0, 1)
    assert pulse.phase == "validation"


def test_names_too_long_are_cut_and_what_is_no_note_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "0.beat"
    Beat(path).phase("x" * 50)
    assert set(read(path).phase) == {"x"}
    path.write_bytes(b"torn")
    assert read(path) == read(tmp_path / "1.beat") == Pulse()
