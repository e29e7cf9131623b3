"""Which trial starts next, and on which devices and cores; pure but for two readings of the machine."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tuneoff.config.spec import TrialSpec
from tuneoff.records.record import TrialRecord

Cores = tuple[int, ...]
HOST = "host"
"""The memory of the machine itself, which all trials on the CPU share."""
FORECAST_MARGIN = 1.1
"""What is kept free for a trial, as a multiple of the memory that its forecast expects; what was measured has none."""
TOPOLOGY = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Device:
    """What one trial computes on; several trials where it has several slots.

    Attributes:
        slots: for each trial that it takes at once, the cores of that trial; None: all cores of this process.
        gpu: as CUDA_VISIBLE_DEVICES names it; None: the device is the slot's cores.
        memory_bytes: of the GPU; None: trials use the memory of the machine.
    """

    slots: tuple[Cores | None, ...]
    gpu: str | None = None
    memory_bytes: int | None = None

    @property
    def pool(self) -> str:
        """Returns the name of the memory that its trials share."""
        return self.gpu or HOST


@dataclass(frozen=True)
class Need:
    """What a trial is expected to take; None where it is not known."""

    seconds: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Allocation:
    """What a trial is given.

    Attributes:
        devices: numbers of the devices.
        slots: of each of them, the numbers of its slots.
        gpus: as CUDA_VISIBLE_DEVICES names them; empty: those that this process sees.
        cores: that its process is confined to; None: all cores of this process.
        shared: whether other trials may use its device at the same time.
        trials_at_once: how many trials divide the processor among them; 1 on a GPU.
    """

    devices: tuple[int, ...]
    slots: tuple[tuple[int, ...], ...]
    gpus: tuple[str, ...] = ()
    cores: Cores | None = None
    shared: bool = False
    trials_at_once: int = 1


@dataclass
class Placement:
    """Places trials, each on devices of its own or, where a device has several slots, beside others.

    Trials start seed by seed, and among those of one seed the longest first: so an interrupted study has the same seeds
    of all arms. With one place for all they start in the order given.

    A device with several slots is shared, so what a trial costs there cannot be told. The first trial of each arm has
    it alone.

    Args:
        devices: of the machine; at least one.
        memory_bytes: of the machine, for trials on the CPU.
        needs: trial -> what it is expected to take.
    """

    devices: Sequence[Device]
    memory_bytes: int
    needs: Mapping[str, Need] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)
    """Arms whose costs are known."""
    _measured: dict[str, int] = field(default_factory=dict)
    """Arm -> bytes that a trial of it took."""
    _running: dict[str, tuple[TrialSpec, Allocation]] = field(default_factory=dict)
    _free: list[set[int]] = field(init=False)
    """For each device its free slots."""
    _beside: dict[str, list[tuple[TrialSpec, Allocation]]] = field(default_factory=dict)
    """For each pool of memory the trials that are computed on it, until their process ends."""

    def __post_init__(self) -> None:
        self._free = [set(range(len(device.slots))) for device in self.devices]

    @property
    def at_once(self) -> int:
        """Returns how many trials run at once at most."""
        return sum(len(device.slots) for device in self.devices)

    def ordered(self, trials: Sequence[TrialSpec]) -> list[TrialSpec]:
        """Returns trials in the order in which they are to start."""
        if self.at_once == 1:
            return list(trials)
        return longest_first(trials, self.needs)

    @property
    def on_gpu(self) -> bool:
        """Tells whether trials compute on GPUs."""
        return self.devices[0].gpu is not None

    def next(
        self, waiting: Iterable[TrialSpec], others_of: Callable[[TrialSpec], Sequence[TrialSpec]] = lambda _: ()
    ) -> tuple[TrialSpec, Allocation] | None:
        """Places the first of the waiting trials that can start now; None where none can.

        A trial that has to wait is overtaken by others of its seed alone, so that it does not wait for ever.

        Args:
            waiting: the trials, in their order.
            others_of: returns the trials that the process of a trial computes in any case, whether it trains them or
                they have ended; memory must be enough for all.
        """
        if not any(self._free):
            return None
        refused, seed = set(), None
        for trial in waiting:
            seed = trial.seed if seed is None else seed
            if trial.seed != seed:
                break
            # Trials of one arm need the same: where one has to wait, the others have to.
            group = (trial, *others_of(trial))
            needed_bytes = sum(map(self._memory, group))
            kind = (trial.label, trial.purpose, trial.devices, needed_bytes)
            if kind in refused:
                continue
            if (allocation := self._allocate(trial, needed_bytes)) is not None:
                self._running[trial.id] = (trial, allocation)
                for number, slots in zip(allocation.devices, allocation.slots, strict=True):
                    self._free[number] -= set(slots)
                self._compute(group, allocation)
                return trial, allocation
            refused.add(kind)
        return None

    def _compute(self, trials: Sequence[TrialSpec], allocation: Allocation) -> None:
        """Notes that trials take memory."""
        for pool in self._pools(allocation):
            self._beside.setdefault(pool, []).extend((trial, allocation) for trial in trials)

    def _pools(self, allocation: Allocation) -> set[str]:
        return {self.devices[number].pool for number in allocation.devices}

    def join(self, trial: TrialSpec, lead: TrialSpec) -> bool:
        """Places a trial where another one was placed just now, to share its process; returns whether it may.

        A final trial may once the costs of its arm are known, and where memory is enough for both; any trial may that
        the process computes in any case.
        """
        _, allocation = self._running[lead.id]
        pool = self.devices[allocation.devices[0]].pool
        if not any(place is allocation and one.id == trial.id for one, place in self._beside[pool]):
            known = trial.purpose != "final" or trial.label in self._known
            needed_bytes = self._memory(trial)
            if not known or not all(self._fits(needed_bytes, self.devices[number]) for number in allocation.devices):
                return False
            self._compute([trial], allocation)
        self._running[trial.id] = (trial, allocation)
        return True

    def release(self, trial: TrialSpec) -> None:
        """Frees what a trial was given, unless others share its process: that computes it until all of them have
        ended."""
        _, allocation = self._running.pop(trial.id)
        if any(other is allocation for _, other in self._running.values()):
            return
        for number, slots in zip(allocation.devices, allocation.slots, strict=True):
            self._free[number] |= set(slots)
        for pool in self._pools(allocation):
            self._beside[pool] = [(one, place) for one, place in self._beside[pool] if place is not allocation]

    def note(self, record: TrialRecord) -> None:
        """Notes a finished trial: whether the costs of its arm are known now, and how much memory it took."""
        if not record.status.finished:
            return
        if record.spec.purpose == "final" and record.timing.total_seconds is not None:
            self._known.add(record.spec.label)
        peaks = [phase.reserved_bytes or phase.resident_bytes or 0 for phase in record.memory.phases.values()]
        if peaks:
            self._measured[record.spec.label] = max(peaks)

    def _allocate(self, trial: TrialSpec, needed_bytes: int) -> Allocation | None:
        if trial.devices > (len(self.devices) if self.on_gpu else 1):
            # On the CPU its ranks divide all cores between them. Too few GPUs it finds out itself.
            every = tuple(tuple(range(len(device.slots))) for device in self.devices)
            return None if self._running else Allocation(tuple(range(len(every))), every)
        alone = trial.devices > 1 or (self.on_gpu and self._is_first(trial))
        chosen: list[tuple[int, tuple[int, ...]]] = []
        # The emptiest first, so that trials share a device only where all are taken.
        numbers = [number for number, free in enumerate(self._free) if free]
        for number in sorted(numbers, key=lambda number: len(self.devices[number].slots) - len(self._free[number])):
            free = sorted(self._free[number])
            is_free = len(free) == len(self.devices[number].slots)
            if (is_free or not alone) and self._fits(needed_bytes, self.devices[number]):
                chosen.append((number, tuple(free) if alone else (free[0],)))
            if len(chosen) == trial.devices:
                return self._allocation(chosen, alone)
        return None

    def _allocation(self, chosen: Sequence[tuple[int, tuple[int, ...]]], alone: bool) -> Allocation:
        devices = [self.devices[number] for number, _ in chosen]
        # Of a device that it has alone too, so that all trials of a study have equally many.
        cores = [device.slots[slots[0]] for device, (_, slots) in zip(devices, chosen, strict=True)]
        known = [part for part in cores if part is not None]
        return Allocation(
            devices=tuple(number for number, _ in chosen),
            slots=tuple(slots for _, slots in chosen),
            # A single GPU is found without a name, as by a trial that runs alone.
            gpus=tuple(device.gpu for device in devices if device.gpu is not None) if len(self.devices) > 1 else (),
            cores=tuple(sorted(core for part in known for core in part)) if len(known) == len(cores) else None,
            shared=not alone and any(len(device.slots) > 1 for device in devices),
            trials_at_once=self.at_once if devices[0].gpu is None else 1,
        )

    def _is_first(self, trial: TrialSpec) -> bool:
        """Tells whether a trial is the one of its arm whose costs are measured. What a search costs is not compared."""
        running = {
            (other.label, other.purpose) for other, allocation in self._running.values() if not allocation.shared
        }
        return trial.purpose == "final" and trial.label not in self._known and (trial.label, "final") not in running

    def _fits(self, needed_bytes: int, device: Device) -> bool:
        """Tells whether so much memory fits beside what runs; what runs with no other is tried in any case."""
        beside = [trial for trial, _ in self._beside.get(device.pool, ())]
        total = self.memory_bytes if device.memory_bytes is None else device.memory_bytes
        return not beside or needed_bytes + sum(map(self._memory, beside)) <= total

    def _memory(self, trial: TrialSpec) -> int:
        expected = self.needs.get(trial.id, Need()).memory_bytes or 0
        return self._measured.get(trial.label) or int(expected * FORECAST_MARGIN)


def longest_first(trials: Sequence[TrialSpec], needs: Mapping[str, Need]) -> list[TrialSpec]:
    """Returns trials seed by seed, and those of one seed the longest first; one of which nothing is known may be the
    longest."""
    rounds = {seed: number for number, seed in enumerate(dict.fromkeys(trial.seed for trial in trials))}

    def seconds(trial: TrialSpec) -> float:
        expected = needs.get(trial.id, Need()).seconds
        return math.inf if expected is None else expected

    return sorted(trials, key=lambda trial: (rounds[trial.seed], -seconds(trial)))


def own_cores() -> set[int] | None:
    """Returns the cores that this process may use; None where the system confines no process."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def divide_cores(cores: set[int] | None, parts: int, topology: Path = TOPOLOGY) -> list[Cores] | None:
    """Divides cores into parts that share none: threads of one physical core stay together.

    Returns:
        Equally many physical cores for each part, so that trials are comparable; some may be left over. None where
        there are fewer of them than parts, or where the system confines no process to its cores.
    """
    if cores is None:
        return None
    physical: list[Cores] = []
    for core in sorted(cores):
        if not any(core in group for group in physical):
            physical.append(_siblings(core, topology, cores))
    if len(physical) < parts:
        return None
    bounds = range(0, len(physical) + 1, len(physical) // parts)[: parts + 1]
    return [tuple(sorted(core for group in physical[first:last] for core in group)) for first, last in pairwise(bounds)]


def _siblings(core: int, topology: Path, cores: set[int]) -> Cores:
    """Returns the allowed cores that are threads of one physical core with this one."""
    siblings = {core}
    with suppress(OSError, ValueError):
        text = (topology / f"cpu{core}" / "topology" / "thread_siblings_list").read_text(encoding="ascii")
        for part in text.strip().split(","):
            first, _, last = part.partition("-")
            siblings |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(siblings & cores))
