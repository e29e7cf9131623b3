"""The machine's counters at one moment: who used which processor time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneoff.measure.memory import resident_bytes
from tuneoff.measure.nvml import Gpu, GpuReading

PEERS_EVERY_SECONDS = 10.0
"""How often other trials are looked for."""


@dataclass(frozen=True)
class Reading:
    """Counters at one moment; those in seconds only ever grow. None where the system does not report it.

    Attributes:
        at: seconds of a monotonic clock.
        own: CPU seconds of this process and its children, and of the trial's other ranks.
        busy: CPU seconds of everybody, on the cores this process may use.
        steal: seconds those cores were held back by the hypervisor.
        resident: bytes of this process.
        peers: CPU seconds of the same person's other trials, where they may run on these cores.
    """

    at: float
    own: float
    busy: float | None
    steal: float | None
    resident: int
    gpu: GpuReading | None = None
    peers: float = 0.0


class MachineReader:
    """Reads the counters of this process, this machine and this GPU.

    Args:
        gpu: the device to read.
        others: process ids whose processor seconds count as this process's own.
    """

    def __init__(self, gpu: Gpu | None, others: Sequence[int] = ()) -> None:
        import psutil

        self._psutil = psutil
        self._process = psutil.Process()
        self._others = [psutil.Process(pid) for pid in others if psutil.pid_exists(pid)]
        self._gpu = gpu
        self._used: dict[int, float] = {}
        self._tells_children = os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
        cores = allowed_cores()
        # The whole machine's line is cheaper to read, so cores are read one by one only where some are not ours.
        self._cores = cores if cores is not None and len(cores) < (os.cpu_count() or 1) else None
        self._peers = PeerTrials({os.getpid(), *others})

    def __call__(self) -> Reading:
        """Reads all counters now; raises OSError where one cannot be read."""
        try:
            busy, steal = self._read_machine_seconds()
            return Reading(
                at=time.perf_counter(),
                own=self._count_own_seconds(),
                busy=busy,
                steal=steal,
                resident=resident_bytes(),
                gpu=self._gpu.read() if self._gpu else None,
                # On cores of its own there are no others.
                peers=self._peers.count_seconds() if self._cores is None else 0.0,
            )
        except self._psutil.Error as error:
            raise OSError(str(error)) from None

    def _read_machine_seconds(self) -> tuple[float | None, float | None]:
        try:
            if self._cores is None:
                times: list[Any] = [self._psutil.cpu_times()]
            else:
                all_times = self._psutil.cpu_times(percpu=True)
                times = [all_times[core] for core in self._cores if core < len(all_times)]
        except (OSError, ValueError, IndexError):
            return None, None
        names = ("user", "nice", "system", "irq", "softirq")
        busy = sum(getattr(core, name, 0.0) for core in times for name in names)
        return busy, sum(core.steal for core in times) if hasattr(times[0], "steal") else None

    def _count_own_seconds(self) -> float:
        """Counts the seconds of this process, its ended children (`os.times`) and those still running.

        A running child's own ended children are in its figures, so a child's end moves its time and loses none.
        """
        times = os.times()
        seconds = time.process_time() + times.children_user + times.children_system + self._count_others_seconds()
        for child in self._descendants():
            with suppress(self._psutil.Error):
                seconds += sum(child.cpu_times()[:4])
        return seconds

    def _count_others_seconds(self) -> float:
        """Counts the seconds of the processes that count as this one; an ended process keeps its last count."""
        for process in self._others:
            with suppress(self._psutil.Error):
                self._used[process.pid] = sum(process.cpu_times()[:2])
        return sum(self._used.values())

    def _descendants(self) -> Iterator[Any]:
        """Yields the running children and their children, as psutil's processes.

        Linux lists the children of a thread; elsewhere psutil finds them by reading every process of the machine,
        which takes milliseconds on a quiet laptop and far more on a busy node.
        """
        if not self._tells_children:
            yield from self._process.children(recursive=True)
            return
        pids = [os.getpid()]
        while pids:
            children = _list_children(pids.pop())
            pids += children
            for child in children:
                with suppress(self._psutil.Error):
                    yield self._psutil.Process(child)


class PeerTrials:
    """The same person's other trials on this machine, as where a cluster gives several of them cores of one node. Known
    by their command line, on Linux; looked for now and then, because that reads every process.

    Args:
        own: process ids that are no others.
        proc: where the system tells of processes.
    """

    def __init__(self, own: Iterable[int], proc: Path = Path("/proc")) -> None:
        self._own, self._proc = frozenset(own), proc
        self._looked: float | None = None
        self._last: dict[int, float] = {}
        self._seconds = 0.0

    def count_seconds(self) -> float:
        """Counts the processor seconds that they have used since the first call."""
        if self._looked is None or time.monotonic() - self._looked > PEERS_EVERY_SECONDS:
            self._looked = time.monotonic()
            for pid in self._list_trials() - self._last.keys():
                self._last[pid] = self._used_by(pid) or 0.0
        for pid in list(self._last):
            used = self._used_by(pid)
            if used is None:
                del self._last[pid]
            else:
                self._seconds += max(0.0, used - self._last[pid])
                self._last[pid] = used
        return self._seconds

    def _list_trials(self) -> set[int]:
        found: set[int] = set()
        with suppress(OSError):
            for name in os.listdir(self._proc):
                if not name.isdigit() or int(name) in self._own:
                    continue
                with suppress(OSError):
                    path = self._proc / name
                    if path.stat().st_uid == os.getuid() and b"tuneoff.trial" in (path / "cmdline").read_bytes():
                        found.add(int(name))
        return found

    def _used_by(self, pid: int) -> float | None:
        """Returns the seconds that a process has used; None where it has ended."""
        try:
            text = (self._proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
            fields = text.rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return None


def _list_children(pid: int) -> list[int]:
    """Lists the process ids of the running children, from Linux's list of each of its threads."""
    children: list[int] = []
    # A thread, or the process, may end while it is read.
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as file:
                children += map(int, file.read().split())
    return children


def allowed_cores() -> set[int] | None:
    """Returns the numbers of the cores this process may run on, or None where the system does not limit them."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def core_count() -> int:
    """Counts the cores this process may run on."""
    cores = allowed_cores()
    return len(cores) if cores is not None else os.cpu_count() or 1
