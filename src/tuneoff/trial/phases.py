"""One trial's phases: each has its clock, its memory peak, its mark on the machine's samples and its event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch

from tuneoff.measure.memory import MemoryMeter
from tuneoff.measure.timing import Stopwatch
from tuneoff.measure.utilisation import Sampler
from tuneoff.records.record import Event, Memory, Noise, RankFigures, Timing, Utilisation
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
