"""Seconds by phase, from a monotonic clock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from time import perf_counter
from types import TracebackType

from tuneoff.records.record import Timing

STEP_PHASES = ("train_step", "data_wait")
TRAIN_PHASES = (*STEP_PHASES, "prefix", "start")
"""Phases that are training."""
DEVICE_PHASES = frozenset(
    {
        "load",
        "preflight",
        "train_step",
        "validation",
        "test",
        "inference",
        "retention",
        "rewind",
        "checkpoint",
        "prefix",
        "start",
    }
)
"""Phases that queue work on a device: their end waits for that work, so that no later phase pays for it."""


class Stopwatch:
    """Accumulates seconds per named phase.

    Phases never overlap: one entered inside another suspends it, so the phases' seconds add up to the time spent
    in any of them. Use from one thread. Entering and leaving a phase costs about two microseconds in all, the wait
    for the device apart.

    Args:
        synchronise: waits until the device has done all queued work (`torch.cuda.synchronize`); None on CPU.
        device_phases: phases at whose end, or suspension, `synchronise` is called.

    Attributes:
        added_seconds: what other trials spent and `add_found` added.
    """

    def __init__(
        self, synchronise: Callable[[], object] | None = None, device_phases: Collection[str] = DEVICE_PHASES
    ) -> None:
        self._synchronise = synchronise
        self._device_phases = frozenset(device_phases) if synchronise else frozenset()
        self._seconds: dict[str, float] = {}
        self.added_seconds = 0.0
        self._running: list[str] = []
        self._since = 0.0
        self._phases: dict[str, _Phase] = {}

    def phase(self, name: str) -> _Phase:
        """Returns a context manager whose time counts for `name`. It may be entered again and again, and nested."""
        phase = self._phases.get(name)
        if phase is None:
            phase = self._phases[name] = _Phase(self, name)
        return phase

    @property
    def seconds(self) -> dict[str, float]:
        """Returns phase -> seconds so far, the running phase's included."""
        seconds = dict(self._seconds)
        if self._running:
            name = self._running[-1]
            seconds[name] = seconds.get(name, 0.0) + perf_counter() - self._since
        return seconds

    @property
    def train_seconds(self) -> float:
        """Returns the seconds of training: its steps, their data waits, what a frozen prefix gives for its rows, and a
        start that is computed from rows."""
        return self._sum(TRAIN_PHASES)

    @property
    def step_seconds(self) -> float:
        """Returns the seconds of training steps and their data waits."""
        return self._sum(STEP_PHASES)

    def _sum(self, names: Iterable[str]) -> float:
        seconds = self.seconds
        return sum(seconds.get(name, 0.0) for name in names)

    def add(self, name: str, seconds: float) -> None:
        """Adds seconds to a phase that were spent elsewhere."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def add_found(self, name: str, seconds: float) -> None:
        """Adds seconds to a phase that another trial spent, and whose outcome was found. They count in the whole trial
        too, so that it costs the same whichever trial came first."""
        self.added_seconds += seconds
        self.add(name, seconds)

    def set(self, seconds: Mapping[str, float]) -> None:
        """Sets the seconds of phases, none of which runs now: those of a trial that continues."""
        self._seconds.update(seconds)

    def timing(self) -> Timing:
        """Returns the record's seconds by phase; a phase that was never entered is null."""
        seconds = self.seconds
        fields = {f"{name}_seconds": value for name, value in seconds.items() if f"{name}_seconds" in _PHASE_FIELDS}
        has_trained = not seconds.keys().isdisjoint(STEP_PHASES)
        return Timing(train_seconds=self.train_seconds if has_trained else None, **fields)

    def _enter(self, name: str) -> None:
        if self._running:
            outer = self._running[-1]
            if outer in self._device_phases:
                self._wait()
            now = perf_counter()
            self._seconds[outer] = self._seconds.get(outer, 0.0) + now - self._since
        else:
            now = perf_counter()
        self._running.append(name)
        self._since = now

    def _exit(self, name: str, failed: bool) -> None:
        try:
            if name in self._device_phases:
                if failed:
                    # A broken device must not hide the error that broke it.
                    with suppress(Exception):
                        self._wait()
                else:
                    self._wait()
        finally:
            now = perf_counter()
            self._seconds[name] = self._seconds.get(name, 0.0) + now - self._since
            self._running.pop()
            self._since = now

    def _wait(self) -> None:
        if self._synchronise is not None:
            self._synchronise()


_PHASE_FIELDS = Timing.model_fields.keys() - {"train_seconds", "total_seconds", "first_steps_seconds"}


class _Phase:
    """One phase of a stopwatch. It holds no state of its own, so that one object serves every entry."""

    __slots__ = ("_name", "_watch")

    def __init__(self, watch: Stopwatch, name: str) -> None:
        self._watch = watch
        self._name = name

    def __enter__(self) -> None:
        self._watch._enter(self._name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch._exit(self._name, error is not None)
