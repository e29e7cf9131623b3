"""Peak memory per phase of this process.

On Linux the kernel keeps the peak of the resident set (`VmHWM`), and writing 5 to `/proc/self/clear_refs` resets it
to the present size, so each phase has an exact peak of its own. Where that is not allowed or silently does nothing
(some sandboxes, other systems) the resident set is sampled every 10 ms instead, which may miss shorter peaks.
`MemoryMeter.how` says which. A forked process starts with its parent's shared pages resident; they count.
"""

from __future__ import annotations

import mmap
import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.records.record import Memory, PhaseMemory

if TYPE_CHECKING:
    import torch

_TEST_PEAK_BYTES = 8 * 2**20
_SAMPLE_SECONDS = 0.01


class MemoryMeter:
    """Measures the peak of each phase. Make it in the process that is measured, after any fork and before anything is
    loaded: what the process holds by then is the base, and peaks are also reported over this base.

    Args:
        device: where the model is; on CUDA the allocator's peaks are kept too.
        proc: this process's folder in the proc file system.
        resident: gives the resident set in bytes, for sampling; None: psutil's.

    Attributes:
        how: how resident peaks are measured: 'reset', 'sampled' or 'unavailable'.
        missing: the record's dotted name -> why it is null.
    """

    def __init__(
        self,
        device: torch.device | str,
        proc: Path = Path("/proc/self"),
        resident: Callable[[], int] | None = None,
    ) -> None:
        self.device = str(device)
        self.cuda = self.device.startswith("cuda")
        self.missing: dict[str, str] = {}
        self._phases: dict[str, PhaseMemory] = {}
        self._running: str | None = None
        resident = resident or resident_bytes
        self._base, self._base_reason = self._measure_base(resident)
        self._resident, self._reason = _choose_resident_peak(proc, resident)
        self.how = self._resident.how if self._resident else "unavailable"

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures the peak of what runs inside; a phase entered again keeps the greater peak.

        The peak is kept too when the phase ends with an error, such as running out of memory.

        Raises:
            RuntimeError: if another phase is running: a peak cannot be reset for one and kept for the other.
        """
        if self._running is not None:
            raise RuntimeError(f"memory phase {name!r} entered inside {self._running!r}: phases cannot be nested")
        self._running = name
        self._start(name)
        try:
            yield
        finally:
            self._running = None
            self._stop(name)

    @property
    def phases(self) -> dict[str, PhaseMemory]:
        """Returns the peaks of the phases so far."""
        return dict(self._phases)

    def include(self, phases: Mapping[str, PhaseMemory]) -> None:
        """Includes the peaks of an earlier process of the same trial: of each phase the greater counts."""
        for name, peaks in phases.items():
            self._note(name, peaks)

    def memory(self, train_phase: str = "train") -> Memory:
        """Returns all peaks so far; `peak_memory_bytes` is that of `train_phase`. `missing` says why one is null."""
        phase = self._phases.get(train_phase)
        peak = None if phase is None else phase.allocated_bytes if self.cuda else phase.resident_bytes
        peak_reason = (
            f"the trial has no {train_phase!r} phase" if phase is None else self._reason if peak is None else None
        )
        self._explain("memory.peak_memory_bytes", peak_reason)
        kind = None if peak is None else "cuda_allocated" if self.cuda else "resident"
        peak_over_base = None if peak is None or self._base is None else peak - self._base
        self._explain("memory.base_bytes", None if self._base is not None else self._base_reason)
        over_base_reason = self._base_reason if peak is not None else self.missing.get("memory.peak_memory_bytes")
        self._explain("memory.peak_over_base_bytes", None if peak_over_base is not None else over_base_reason)
        return Memory(
            peak_memory_bytes=peak,
            base_bytes=self._base,
            peak_over_base_bytes=peak_over_base,
            kind=kind,
            phases=dict(self._phases),
        )

    def _measure_base(self, resident: Callable[[], int]) -> tuple[int | None, str]:
        """Measures what is held before anything is loaded, counted as the peak will be; None with the reason."""
        if self.cuda:
            import torch

            return int(torch.cuda.memory_allocated(self.device)), ""
        try:
            return resident(), ""
        except OSError as error:
            return None, f"the resident set could not be read: {error}"

    def _explain(self, figure: str, reason: str | None) -> None:
        """Says why a figure is null; without a reason it is not null."""
        if reason is None:
            self.missing.pop(figure, None)
        else:
            self.missing[figure] = reason

    def _start(self, name: str) -> None:
        if self.cuda:
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
        if self._resident is not None:
            try:
                self._resident.start()
            except OSError as error:
                self._give_up(f"the resident-set peak could not be reset for {name!r}: {error.strerror or error}")

    def _stop(self, name: str) -> None:
        allocated = reserved = resident = None
        if self._resident is not None:
            try:
                resident = self._resident.stop()
            except OSError as error:
                self._give_up(f"the resident-set peak could not be read after {name!r}: {error.strerror or error}")
        if resident is None:
            self.missing[f"memory.phases.{name}.resident_bytes"] = self._reason
        if self.cuda:
            import torch

            allocated = torch.cuda.max_memory_allocated(self.device)
            reserved = torch.cuda.max_memory_reserved(self.device)
        self._note(name, PhaseMemory(resident_bytes=resident, allocated_bytes=allocated, reserved_bytes=reserved))

    def _note(self, name: str, peaks: PhaseMemory) -> None:
        previous = self._phases.get(name, PhaseMemory())
        self._phases[name] = PhaseMemory(
            resident_bytes=_find_greater(previous.resident_bytes, peaks.resident_bytes),
            allocated_bytes=_find_greater(previous.allocated_bytes, peaks.allocated_bytes),
            reserved_bytes=_find_greater(previous.reserved_bytes, peaks.reserved_bytes),
        )

    def _give_up(self, reason: str) -> None:
        self._resident, self._reason, self.how = None, reason, "unavailable"


def _find_greater(first: int | None, second: int | None) -> int | None:
    values = [value for value in (first, second) if value is not None]
    return max(values, default=None)


class _ResidentPeak(ABC):
    """One way to measure the peak of the resident set between `start` and `stop`. Both may raise OSError."""

    how: str

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> int:
        """Returns the peak in bytes."""


class _ResetPeak(_ResidentPeak):
    """The kernel's own peak, reset at the start."""

    how = "reset"

    def __init__(self, proc: Path) -> None:
        self._status = proc / "status"
        self._clear = proc / "clear_refs"

    def start(self) -> None:
        # Not `open("w")`, which would create the file where there is no proc file system.
        descriptor = os.open(self._clear, os.O_WRONLY)
        try:
            os.write(descriptor, b"5")
        finally:
            os.close(descriptor)

    def stop(self) -> int:
        match = re.search(r"^VmHWM:\s+(\d+) kB", self._status.read_text(), re.MULTILINE)
        if match is None:
            raise OSError(f"{self._status} has no VmHWM")
        return int(match[1]) * 1024

    def works(self) -> bool:
        """Returns whether a reset really lowers the peak, tested with a peak made for it: some sandboxes accept the
        write and do nothing."""
        try:
            self.start()
            with mmap.mmap(-1, _TEST_PEAK_BYTES) as pages:
                for page in range(0, _TEST_PEAK_BYTES, mmap.PAGESIZE):
                    pages[page] = 1
            peak = self.stop()
            self.start()
            return peak - self.stop() > _TEST_PEAK_BYTES // 2
        except OSError:
            return False


class _SampledPeak(_ResidentPeak):
    """The greatest of samples taken by a thread, and at both ends."""

    how = "sampled"

    def __init__(self, resident: Callable[[], int]) -> None:
        self._resident = resident
        self._peak = 0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._peak = self._resident()
        self._stopped.clear()
        self._thread = threading.Thread(target=self._sample, name="tuneoff-memory", daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._peak = max(self._peak, self._resident())
        return self._peak

    def _sample(self) -> None:
        while not self._stopped.wait(_SAMPLE_SECONDS):
            try:
                self._peak = max(self._peak, self._resident())
            except OSError:
                # One sample lost; `stop` reads again and reports a lasting failure.
                continue


def resident_bytes() -> int:
    """Returns the resident set of this process. Raises OSError where it cannot be read."""
    import psutil

    try:
        return int(psutil.Process().memory_info().rss)
    except psutil.Error as error:
        raise OSError(str(error)) from None


def _choose_resident_peak(proc: Path, resident: Callable[[], int]) -> tuple[_ResidentPeak | None, str]:
    """Returns the best way to measure the peak that works here, or None and the reason."""
    reset_peak = _ResetPeak(proc)
    if reset_peak.works():
        return reset_peak, ""
    try:
        resident()
    except OSError as error:
        return None, f"neither the kernel's resident-set peak nor the resident set can be read here ({error})"
    return _SampledPeak(resident), ""
