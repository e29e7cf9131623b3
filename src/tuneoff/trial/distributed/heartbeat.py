"""Signs of life of a trial's processes: every rank notes in a small shared file where it is.

A process that hangs says nothing itself, and those that wait for it only wait. So a rank notes when it enters a
collective, which all ranks enter in the same order, and when it comes out. `hang_detector` reads the notes.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

_LAYOUT = struct.Struct("<qqddqq16s40s")


@dataclass(frozen=True)
class Pulse:
    """What a rank has noted.

    Attributes:
        pid: of its process; 0 before it began.
        meetings: collectives that it has entered.
        at: when it entered the last one, on the system's monotonic clock.
        longest_step: seconds of its longest training step so far; 0 outside training, where ranks' work may differ.
        steps: training steps that are over.
        sending: bytes that are sent in the collective that it waits in.
        phase: the last that it began, e.g. train.
        collective: the one that it waits in; empty where it does not.
    """

    pid: int = 0
    meetings: int = 0
    at: float = 0.0
    longest_step: float = 0.0
    steps: int = 0
    sending: int = 0
    phase: str = ""
    collective: str = ""


class Beat:
    """A rank's own notes, in a file that others map too. A note costs about a microsecond.

    Args:
        path: of the file, which is created.
    """

    def __init__(self, path: Path) -> None:
        with path.open("wb") as file:
            file.write(bytes(_LAYOUT.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _LAYOUT.size)
        self._pid = os.getpid()
        self._meetings = self._steps = self._sending = 0
        self._at = time.monotonic()
        self._longest = self._stepped = 0.0
        self._phase = self._collective = b""
        self._write()

    def meeting(self) -> None:
        """Notes that a collective begins, while the rank goes on."""
        self._meetings += 1
        self._at = time.monotonic()
        self._write()

    def enter(self, collective: str, size: int) -> None:
        """Notes that the rank enters a collective and waits in it.

        Args:
            collective: its name.
            size: bytes that are sent.
        """
        self._collective, self._sending = collective.encode(), size
        self.meeting()

    def leave(self) -> None:
        """Notes that the collective is over."""
        self._collective, self._sending = b"", 0
        self._write()

    def phase(self, name: str) -> None:
        """Notes that a phase of the trial begins."""
        self._phase = name.encode()
        self._write()

    def step(self) -> None:
        """Notes that a training step is over."""
        now = time.monotonic()
        if self._stepped:
            self._longest = max(self._longest, now - self._stepped)
        self._stepped = now
        self._steps += 1
        self._write()

    def rest(self) -> None:
        """Notes that training pauses: what comes now may take some ranks longer than others."""
        self._longest = self._stepped = 0.0
        self._write()

    def _write(self) -> None:
        numbers = (self._pid, self._meetings, self._at, self._longest, self._steps, self._sending)
        _LAYOUT.pack_into(self._map, 0, *numbers, self._phase, self._collective)


def read(path: Path) -> Pulse:
    """Reads what a rank has noted so far; an empty pulse if it has not begun."""
    try:
        data = path.read_bytes()
    except OSError:
        data = b""
    if len(data) != _LAYOUT.size:
        return Pulse()
    *numbers, phase, collective = _LAYOUT.unpack(data)
    return Pulse(*numbers, *(name.rstrip(b"\0").decode(errors="replace") for name in (phase, collective)))
