"""Energy of the training phase, where the hardware counts it.

On CUDA it is the device's own counter (through NVML). On CPU it is RAPL: all processor packages and their memory,
other processes' share included, because the hardware does not separate processes. Linux lets only root read RAPL
unless an administrator allows more, so null with a reason is the usual outcome there.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from tuneoff.measure import nvml as nvml_devices

if TYPE_CHECKING:
    import torch

# A RAPL counter of 2^18 J wraps after 10 minutes at 400 W; it must be read more often than that.
_POLL_SECONDS = 60.0


class EnergyMeter:
    """Measures joules between `start` and `stop`; several such periods add up.

    Args:
        device: where the model is.
        powercap: the kernel's powercap folder.
        nvml: the NVML module to use; None: `pynvml`, if it is installed.

    Attributes:
        source: 'nvml', 'rapl', or None where nothing counts.
        missing_reason: why `joules` is None, or an empty string.
    """

    def __init__(
        self,
        device: torch.device | str,
        powercap: Path = Path("/sys/class/powercap"),
        nvml: ModuleType | Any | None = None,
    ) -> None:
        self.source: str | None = None
        self.missing_reason = ""
        self._counter: _Nvml | _Rapl | None = None
        self._joules = 0.0
        self._running = False
        self._measured = False
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        name = str(device)
        if name.startswith("cuda"):
            gpu, reason = nvml_devices.connect(name, nvml)
            self._use("nvml", _Nvml(gpu) if gpu else None, reason)
        else:
            domains, reason = _find_rapl_domains(powercap)
            self._use("rapl", _Rapl(domains) if domains else None, reason)

    def _use(self, source: str, counter: _Nvml | _Rapl | None, reason: str) -> None:
        if counter is None:
            self.missing_reason = reason
            return
        try:
            counter.advance()
        except (OSError, ValueError) as error:
            self.missing_reason = f"the energy counter cannot be read: {error}"
            return
        self.source, self._counter = source, counter

    def add(self, joules: float | None) -> None:
        """Adds what an earlier process of the same trial measured; None: it measured nothing, so that the sum is not
        known."""
        with self._lock:
            if joules is None:
                self._counter, self.source = None, None
                self.missing_reason = self.missing_reason or "an earlier part of the training was not measured"
            else:
                self._joules += joules
                self._measured = True

    @property
    def joules(self) -> float | None:
        """Returns the joules of all finished periods, or None (see `missing_reason`)."""
        if self._counter is None:
            return None
        if not self._measured:
            self.missing_reason = "nothing was measured: the meter never ran"
            return None
        return self._joules

    def start(self) -> None:
        """Begins a period.

        Raises:
            RuntimeError: if one is running.
        """
        if self._running:
            raise RuntimeError("the energy meter is running already")
        self._running = True
        self._advance(count=False)
        if self._counter is not None and self._counter.wraps:
            self._stopped.clear()
            self._thread = threading.Thread(target=self._poll, name="tuneoff-energy", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends the period; does nothing where none is running."""
        if not self._running:
            return
        self._running = False
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._advance(count=True)
        self._measured = True
        if self._counter is not None:
            self.missing_reason = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _poll(self) -> None:
        while not self._stopped.wait(_POLL_SECONDS):
            self._advance(count=True)

    def _advance(self, count: bool) -> None:
        with self._lock:
            if self._counter is None:
                return
            try:
                joules = self._counter.advance()
            except (OSError, ValueError) as error:
                self._counter, self.source = None, None
                self.missing_reason = f"the energy counter could not be read any more: {error}"
                return
            if count:
                self._joules += joules


class _Nvml:
    """The CUDA device's counter: 64 bits of millijoules, which do not wrap."""

    wraps = False

    def __init__(self, gpu: nvml_devices.Gpu) -> None:
        self._gpu = gpu
        self._last = 0.0

    def advance(self) -> float:
        """Returns the joules since the last call; raises OSError where the device does not report them."""
        joules = self._gpu.joules()
        if joules is None:
            raise OSError("this device has no energy counter")
        last_joules, self._last = self._last, joules
        return joules - last_joules


class _Rapl:
    """The sum of RAPL domains, each a folder with `energy_uj` and its range."""

    wraps = True

    def __init__(self, domains: list[Path]) -> None:
        self._ranges = {domain: int((domain / "max_energy_range_uj").read_text()) for domain in domains}
        self._last = dict.fromkeys(domains, 0)

    def advance(self) -> float:
        """Returns the joules since the last call, one wrap of each counter undone; raises OSError or ValueError."""
        microjoules = 0
        for domain, last_count in self._last.items():
            count = int((domain / "energy_uj").read_text())
            microjoules += count - last_count if count >= last_count else count - last_count + self._ranges[domain]
            self._last[domain] = count
        return microjoules / 1e6


def _find_rapl_domains(powercap: Path) -> tuple[list[Path], str]:
    """Returns the readable packages and memory domains, or an empty list and the reason.

    `psys` and a package's `core` and `uncore` are left out: they count again what packages count.
    """
    try:
        folders = sorted(folder for folder in powercap.iterdir() if re.match(r"intel-rapl:\d", folder.name))
    except OSError:
        folders = []
    domains = []
    for folder in folders:
        try:
            if re.match(r"package|dram", (folder / "name").read_text()):
                int((folder / "energy_uj").read_text())
                int((folder / "max_energy_range_uj").read_text())
                domains.append(folder)
        except PermissionError:
            return [], f"{folder / 'energy_uj'} may be read by root only"
        except (OSError, ValueError) as error:
            return [], f"{folder} cannot be read: {error}"
    return domains, "" if domains else "this machine shows no energy counter (no RAPL, or a virtual machine)"
