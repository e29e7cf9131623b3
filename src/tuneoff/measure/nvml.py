"""One CUDA device through NVIDIA's management library, where `nvidia-ml-py` is installed; never a dependency."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

# Bits of NVML's clock event reasons that mean slower than the device's normal: hardware slowdown, software and
# hardware thermal limits, external power brake. The power cap (0x4) is left out: large products reach it on a
# healthy device, every time alike.
_THROTTLE_BITS = 0x08 | 0x20 | 0x40 | 0x80


@dataclass(frozen=True)
class GpuReading:
    """Figures of the device at one moment; None where it does not report the figure."""

    percent: float | None
    memory_bytes: int | None
    power_watts: float | None
    throttled: bool | None


class Gpu:
    """An opened device."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    def read(self) -> GpuReading:
        """Reads utilisation (percent), memory in use by all processes, power, and whether it is throttled now."""
        rates = self._query("nvmlDeviceGetUtilizationRates")
        memory = self._query("nvmlDeviceGetMemoryInfo")
        milliwatts = self._query("nvmlDeviceGetPowerUsage")
        reasons = self._query("nvmlDeviceGetCurrentClocksThrottleReasons")
        return GpuReading(
            percent=None if rates is None else float(rates.gpu),
            memory_bytes=None if memory is None else int(memory.used),
            power_watts=None if milliwatts is None else milliwatts / 1000,
            throttled=None if reasons is None else bool(reasons & _THROTTLE_BITS),
        )

    def joules(self) -> float | None:
        """Returns the energy in joules since the driver was loaded, or None where the device has no counter."""
        millijoules = self._query("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1000

    def _query(self, function: str) -> Any:
        try:
            return getattr(self._nvml, function)(self._handle)
        except (self._nvml.NVMLError, AttributeError):
            return None


def connect(device: str, nvml: ModuleType | Any | None = None) -> tuple[Gpu | None, str]:
    """Opens the device that torch calls `device` ('cuda', 'cuda:1'); returns it, or None and the reason.

    Args:
        device: torch's name of it; it is found by its UUID, so that CUDA_VISIBLE_DEVICES is respected.
        nvml: the module to use; None: `pynvml`, if it is installed.
    """
    if not device.startswith("cuda"):
        return None, f"{device} is no CUDA device"
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return None, "nvidia-ml-py is not installed (pip install 'tuneoff[gpu]')"
    try:
        nvml.nvmlInit()
        return Gpu(nvml, nvml.nvmlDeviceGetHandleByUUID(_uuid(device))), ""
    except (nvml.NVMLError, RuntimeError, AttributeError) as error:
        return None, f"NVML does not know {device}: {error}"


def _uuid(device: str) -> str:
    import torch

    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
