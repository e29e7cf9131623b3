"""The hang detector: watches a trial's ranks and ends those that hang.

A rank is hung if it keeps the others waiting for long although it does nothing (its processor time stands still), or
although all did the same work many times faster. Where no rank is behind and all wait for one another, that is a
deadlock: no single rank is the cause, and all are ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tuneoff.trial.distributed.heartbeat import Pulse, read

IDLE_SECONDS = 30.0
"""How long a rank may keep the others waiting while it uses no processor time and reads and writes nothing."""
BUSY_SECONDS = 45.0
"""How long a rank may while it works, in training; longer where steps themselves are long, see `STEPS`."""
STEPS = 10
"""Training steps, as long as the longest so far, that a rank which works may keep the others waiting."""
DEADLOCK_SECONDS = 45.0
"""How long all ranks may wait at once. What they wait for is an exchange between processes of one machine, in which
all take part by now: it is over in milliseconds, but for what it sends, see `SLOWEST`."""
SLOWEST = 50e6
"""Bytes a second that a collective sends at least, many times fewer than any two processes of one machine do."""
AWAY_SECONDS = 10.0
"""A detector that did not check for so long was stopped, and the ranks with it: the machine was suspended. That time
does not count as waiting."""
ALONE_PHASES = ("", "load")
"""Phases in which a rank that does nothing may wait for something else than the others, a download say."""

_ACTIVE_SHARE, _TICKS = 0.02, 0.02
"""A rank works if it used more than this share of a core since it last did, and more than two ticks of the clock.
A thread that samples the machine uses a tenth of that."""


def _worked(used_before: float, used: float, seconds: float) -> bool:
    return used - used_before > _TICKS + _ACTIVE_SHARE * seconds


class Deadlock:
    """Detects ranks that wait for one another for ever.

    A rank waits while it is inside a collective, or does nothing. Where all do for long, and none notes anything new,
    nothing will ever happen. A rank that evaluates, writes or computes longer than the others does not wait.
    """

    def __init__(self) -> None:
        self._lasted = self._looked = 0.0
        self._pulses: list[Pulse] = []
        self._used: list[float] = []

    def lasts(self, now: float, pulses: Sequence[Pulse], used: Sequence[float]) -> bool:
        """Returns whether all have waited for so long that they will wait for ever.

        Args:
            now: seconds on the system's monotonic clock.
            pulses: what the ranks have noted.
            used: their `activity`.
        """
        # Looks are counted, so that time in which the watch itself was stopped does not count.
        self._lasted += min(now - self._looked, AWAY_SECONDS)
        self._looked = now
        if list(pulses) != self._pulses or not all(map(self._waits, pulses, used, self._used)):
            self._lasted, self._pulses, self._used = 0.0, list(pulses), list(used)
        return self._lasted >= DEADLOCK_SECONDS + max(pulse.sending for pulse in pulses) / SLOWEST

    def _waits(self, pulse: Pulse, used: float, used_before: float) -> bool:
        has_begun = pulse.pid != 0 and pulse.phase not in ALONE_PHASES
        return bool(pulse.collective) or (has_begun and not _worked(used_before, used, self._lasted))


class HangDetector(threading.Thread):
    """Ends ranks that hang. Before that it asks them where they are, which they write to their logs.

    Args:
        paths: the ranks' notes, in order.
        every: seconds between checks.

    Attributes:
        hung: rank -> seconds that it kept the others waiting.
        deadlock: what the ranks had noted when all were ended because all waited; empty where they were not.
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
        self.deadlock: list[Pulse] = []
        self._paths, self._every, self._idle, self._busy = list(paths), every, idle, busy
        self._activity = activity or activity_of
        self._deadlock = Deadlock()
        self._active: dict[int, tuple[float, float]] = {}  # when each rank last worked, and what it had used then
        self._looked = self._awake = 0.0  # the last look; the first one since the watch itself was stopped
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(self._every):
            now = time.monotonic()
            for rank, seconds in self.look(now).items():
                self.hung[rank] = seconds
                _end(read(self._paths[rank]).pid)
            if not self.hung and (pulses := self.all_wait(now)):
                self.deadlock = pulses
                _end(*(pulse.pid for pulse in pulses))
                return

    def stop(self) -> None:
        """Ends the watch."""
        self._stopping.set()
        self.join()

    def look(self, now: float) -> dict[int, float]:
        """Finds the ranks that hang now; returns rank -> seconds that it has kept the others waiting."""
        if self._looked and now - self._looked > AWAY_SECONDS:
            self._awake = now
            self._active.clear()
        self._looked = now
        pulses = [read(path) for path in self._paths]
        leader = max(pulses, key=lambda pulse: pulse.meetings)
        hung_seconds = {}
        for rank, pulse in enumerate(pulses):
            if pulse.pid == 0 or rank in self.hung:
                continue
            used = self._activity(pulse.pid)
            active_since, used_before = self._active.setdefault(rank, (now, used))
            # A rank that is inside a collective waits itself.
            late = pulse.meetings < leader.meetings and not pulse.collective
            if not late or _worked(used_before, used, now - active_since):
                self._active[rank] = active_since, _ = now, used
            if not late:
                continue
            # Counted from the last collective that the others entered; they may wait since an earlier one.
            wait_seconds = now - max(leader.at, self._awake)
            idle_seconds = min(wait_seconds, now - active_since)
            limit = max(self._busy, STEPS * leader.longest_step) if leader.longest_step else float("inf")
            if idle_seconds >= self._idle or wait_seconds >= limit:
                hung_seconds[rank] = wait_seconds
        return hung_seconds

    def all_wait(self, now: float) -> list[Pulse]:
        """Returns what all ranks have noted if they will wait for one another for ever; else an empty list."""
        pulses = [read(path) for path in self._paths]
        used = [self._activity(pulse.pid) if pulse.pid else 0.0 for pulse in pulses]
        return pulses if self._deadlock.lasts(now, pulses, used) else []


def activity_of(pid: int) -> float:
    """Returns a number that grows while a process computes (its processor seconds) or uses a disk (by megabytes)."""
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


def _end(*pids: int) -> None:
    """Lets hung processes write where they are, if they still can, and kills them."""
    if hasattr(signal, "SIGUSR1"):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
        time.sleep(1.0)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
