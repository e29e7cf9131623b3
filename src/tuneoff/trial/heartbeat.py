"""Signs of life of a trial's processes, and who watches them.

A process that hangs says nothing itself; those that wait for it only wait. So every rank notes in a small shared file
when it enters a collective, which all ranks enter in the same order. A rank is hung if it keeps the others waiting for
long although it does nothing (its processor time stands still), or although all did the same work many times faster.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

IDLE_SECONDS = 30.0
"""How long a rank may keep the others waiting while it uses no processor time and reads and writes nothing."""
BUSY_SECONDS = 45.0
"""How long it may while it works, in training; more where steps themselves are long, see `STEPS`."""
STEPS = 10
"""Training steps, as long as the longest so far, that a rank which works may keep the others waiting."""

_LAYOUT = struct.Struct("<qqdd")
_ACTIVE_SHARE, _TICKS = 0.02, 0.02
"""A rank works if it used more than this share of a core since it last did, and more than two ticks of the clock.
A thread that samples the machine uses a tenth of that."""


@dataclass(frozen=True)
class Pulse:
    """What a rank has noted.

    Attributes:
        pid: of its process; 0 before it began.
        meetings: collectives that it has entered.
        at: when it entered the last one, on the system's monotonic clock.
        longest_step: seconds of its longest training step so far; 0 outside training, where ranks' work may differ.
    """

    pid: int
    meetings: int
    at: float
    longest_step: float


class Beat:
    """A rank's own notes, in a file that others map too. A note costs about a microsecond.

    Args:
        path: of the file, which is made.
    """

    def __init__(self, path: Path) -> None:
        with path.open("wb") as file:
            file.write(bytes(_LAYOUT.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _LAYOUT.size)
        self._pid = os.getpid()
        self._meetings = 0
        self._at = time.monotonic()
        self._longest = self._stepped = 0.0
        self._write()

    def meeting(self) -> None:
        """A collective is entered."""
        self._meetings += 1
        self._at = time.monotonic()
        self._write()

    def step(self) -> None:
        """A training step is over."""
        now = time.monotonic()
        if self._stepped:
            self._longest = max(self._longest, now - self._stepped)
            self._write()
        self._stepped = now

    def rest(self) -> None:
        """Training pauses: what comes now may take ranks differently long."""
        self._longest = self._stepped = 0.0
        self._write()

    def _write(self) -> None:
        _LAYOUT.pack_into(self._map, 0, self._pid, self._meetings, self._at, self._longest)


def read(path: Path) -> Pulse:
    """What a rank has noted so far; nothing, if it has not begun."""
    try:
        data = path.read_bytes()
    except OSError:
        data = b""
    return Pulse(*_LAYOUT.unpack(data)) if len(data) == _LAYOUT.size else Pulse(0, 0, 0.0, 0.0)


class Watch(threading.Thread):
    """Ends ranks that hang. Before that it asks them where they are, which they write to their logs.

    Args:
        paths: the ranks' notes, in order.
        every: seconds between looks.

    Attributes:
        hung: rank -> seconds that it kept the others waiting.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        every: float = 1.0,
        idle: float = IDLE_SECONDS,
        busy: float = BUSY_SECONDS,
        activity: Callable[[int], float] | None = None,
    ) -> None:
        super().__init__(name="tuneoff-watch", daemon=True)
        self.hung: dict[int, float] = {}
        self._paths, self._every, self._idle, self._busy = list(paths), every, idle, busy
        self._activity = activity or _activity
        self._active: dict[int, tuple[float, float]] = {}  # when each rank last worked, and what it had used then
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(self._every):
            for rank, waited in self.look(time.monotonic()).items():
                self.hung[rank] = waited
                _end(read(self._paths[rank]).pid)

    def stop(self) -> None:
        """Ends the watch."""
        self._stopping.set()
        self.join()

    def look(self, now: float) -> dict[int, float]:
        """Ranks that hang now -> seconds that they have kept the others waiting."""
        pulses = [read(path) for path in self._paths]
        leader = max(pulses, key=lambda pulse: pulse.meetings)
        found = {}
        for rank, pulse in enumerate(pulses):
            if pulse.pid == 0 or rank in self.hung:
                continue
            used = self._activity(pulse.pid)
            since, before = self._active.setdefault(rank, (now, used))
            late = pulse.meetings < leader.meetings
            if not late or used - before > _TICKS + _ACTIVE_SHARE * (now - since):
                self._active[rank] = since, _ = now, used
            if not late:
                continue
            # Counted from the last collective that the others entered; they may wait since an earlier one.
            waited = now - leader.at
            idle = min(waited, now - since)
            limit = max(self._busy, STEPS * leader.longest_step) if leader.longest_step else float("inf")
            if idle >= self._idle or waited >= limit:
                found[rank] = waited
        return found


def _activity(pid: int) -> float:
    """A number that grows while a process computes (its processor seconds) or uses a disk (by megabytes)."""
    import psutil

    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        used = times.user + times.system
        with contextlib.suppress(psutil.Error, AttributeError):
            disk = process.io_counters()
            used += (disk.read_bytes + disk.write_bytes) / 2**20
    except psutil.Error:
        return 0.0
    return float(used)


def _end(pid: int) -> None:
    """Lets a hung process write where it is, if it still can, and kills it."""
    with contextlib.suppress(ProcessLookupError):
        if hasattr(signal, "SIGUSR1"):
            os.kill(pid, signal.SIGUSR1)
            time.sleep(1.0)
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
