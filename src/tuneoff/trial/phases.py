"""One trial's phases: each has its clock, its memory peak, its mark on the machine's samples and its event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch

from tuneoff.config.base import Frozen
from tuneoff.measure.memory import MemoryMeter
from tuneoff.measure.timing import Stopwatch
from tuneoff.measure.utilisation import PhaseSums, Sampler
from tuneoff.records.record import Event, Memory, Noise, PhaseMemory, RankFigures, Timing, Utilisation
from tuneoff.trial.modeling import allocator

TRIMMED = ("train", "test")
"""Phases whose memory peaks are reported. What came before must not count in them, so freed memory is given back when
one begins; training begins again after every validation."""


@dataclass(frozen=True)
class Measured:
    """What a trial took: seconds, memory and energy, and how busy the machine was meanwhile.

    Attributes:
        ranks: the figures of each process, where there are several.
        missing: figure -> why it is null.
    """

    timing: Timing
    memory: Memory
    missing: dict[str, str]
    utilisation: Utilisation | None = None
    noise: Noise = field(default_factory=Noise)
    joules: float | None = None
    ranks: tuple[RankFigures, ...] = ()


RESUMED = frozenset({"train_step", "data_wait", "prefix", "validation", "checkpoint"})
"""Phases whose seconds go on when a trial continues; the others are done anew, and counted once."""


class PhasesState(Frozen):
    """What the phases took so far, as a training's checkpoint keeps it.

    Attributes:
        seconds: of those of training.
        peaks: of memory, of all phases.
        sums: of what the trial and others used while it trained.
        added_seconds: those of the phases that were spent in other trials.
    """

    seconds: dict[str, float]
    peaks: dict[str, PhaseMemory]
    sums: PhaseSums
    added_seconds: float = 0.0


class Phases:
    """Clock, memory meter, sampler and event log of one trial.

    Attributes:
        watch: seconds of every phase.
        meter: memory peaks of every phase.
        sampler: samples of the machine.
    """

    def __init__(self, device: torch.device, sampler: Sampler, emit: Callable[[Event], None]) -> None:
        synchronise = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else None
        self.watch = Stopwatch(synchronise)
        self.meter = MemoryMeter(device)
        self.sampler = sampler
        self._emit = emit
        self._device = device

    @property
    def train_seconds(self) -> float:
        """Returns the seconds of training so far."""
        return self.watch.train_seconds

    @property
    def step_seconds(self) -> float:
        """Returns the seconds of training steps and their data waits so far."""
        return self.watch.step_seconds

    def state(self) -> PhasesState:
        """Returns what the phases took so far."""
        seconds = self.watch.seconds
        return PhasesState(
            seconds={name: seconds[name] for name in RESUMED if name in seconds},
            peaks=self.meter.phases,
            sums=self.sampler.sums("train"),
            added_seconds=self.watch.added_seconds,
        )

    def restore(self, state: PhasesState) -> None:
        """Continues from what an earlier process took. Its seconds replace those of what was done again here."""
        self.watch.set({**dict.fromkeys(RESUMED & self.watch.seconds.keys(), 0.0), **state.seconds})
        self.watch.added_seconds = state.added_seconds
        self.meter.include(state.peaks)
        self.sampler.include(state.sums, "train")

    def clock(self, name: str) -> AbstractContextManager[None]:
        """Measures time alone; for the parts of a training step."""
        return self.watch.phase(name)

    @contextmanager
    def memory(self, name: str) -> Iterator[None]:
        """Measures memory peak and samples of a phase and emits its event, without a clock."""
        self._emit({"kind": "phase", "phase": name})
        if name in TRIMMED:
            allocator.trim(self._device)
        self.sampler.mark(name)
        try:
            with self.meter.phase(name):
                yield
        finally:
            self.sampler.mark("")

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Measures time, memory peak and samples of a phase and emits its event."""
        with self.memory(name), self.watch.phase(name):
            yield
