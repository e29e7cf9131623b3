"""One trial's phases: each has its clock, its memory peak, its mark on the machine's samples and its event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from tuneoff.measure.memory import MemoryMeter
from tuneoff.measure.timing import Stopwatch
from tuneoff.measure.utilisation import Sampler
from tuneoff.records.record import Event
from tuneoff.trial.modeling import allocator

TRIMMED = ("train", "test")
"""Phases whose peaks are told of a trial. What came before is not to count in them, so whenever one begins, what was
freed is given back: training begins again after every validation."""


class Phases:
    """Clock, memory meter, sampler and event log of one trial."""

    def __init__(self, device: torch.device, sampler: Sampler, emit: Callable[[Event], None]) -> None:
        synchronise = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else None
        self.watch = Stopwatch(synchronise)
        self.meter = MemoryMeter(device)
        self._sampler = sampler
        self._emit = emit
        self._device = device
        self.cpu_seconds: float | None = None
        """Processor seconds of this process while it trained; None without training."""

    @property
    def train_seconds(self) -> float:
        """Seconds of training steps and their data waits so far."""
        return self.watch.train_seconds

    def clock(self, name: str) -> AbstractContextManager[None]:
        """Time alone; for the parts of a training step."""
        return self.watch.phase(name)

    @contextmanager
    def memory(self, name: str) -> Iterator[None]:
        """Memory peak, samples and event, without a clock."""
        self._emit({"kind": "phase", "phase": name})
        if name in TRIMMED:
            allocator.trim(self._device)
        self._sampler.mark(name)
        try:
            with self.meter.phase(name):
                yield
        finally:
            self._sampler.mark("")

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Everything."""
        with self.memory(name), self.watch.phase(name):
            yield
