"""Energy counters: wrap-around, several stretches, and reasons where there is none."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuneoff.measure import nvml
from tuneoff.measure.energy import EnergyMeter


def domain(powercap: Path, folder: str, name: str, microjoules: int, top: int = 1_000_000) -> Path:
    path = powercap / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "max_energy_range_uj").write_text(f"{top}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    return path / "energy_uj"


def test_rapl_adds_packages_and_memory_undoes_wraps_and_leaves_out_subsets(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 900_000)
    memory = domain(tmp_path, "intel-rapl:0:0", "dram", 0)
    core = domain(tmp_path, "intel-rapl:0:1", "core", 0)
    platform = domain(tmp_path, "intel-rapl:1", "psys", 0)
    meter = EnergyMeter("cpu", tmp_path)
    assert meter.source == "rapl"
    with meter:
        package.write_text("100000")
        memory.write_text("50000")
        core.write_text("700000")
        platform.write_text("700000")
    assert meter.joules == pytest.approx(0.25)


def test_stretches_add_up_and_what_lies_between_is_not_counted(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = EnergyMeter("cpu", tmp_path)
    for before, after in ((100_000, 300_000), (600_000, 700_000)):
        package.write_text(str(before))
        meter.start()
        package.write_text(str(after))
        meter.stop()
    meter.stop()
    assert meter.joules == pytest.approx(0.3)
    assert meter.missing_reason == ""


def test_a_meter_that_never_ran_has_no_joules(tmp_path: Path) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0", 5)
    meter = EnergyMeter("cpu", tmp_path)
    unused = meter.joules
    assert unused is None
    assert "never ran" in meter.missing_reason
    meter.start()
    with pytest.raises(RuntimeError, match="running already"):
        meter.start()
    meter.stop()
    assert meter.joules == 0.0
    assert meter.missing_reason == ""


@pytest.mark.parametrize("exists", [True, False])
def test_no_counter_is_null_with_a_reason(tmp_path: Path, exists: bool) -> None:
    meter = EnergyMeter("cpu", tmp_path if exists else tmp_path / "absent")
    with meter:
        pass
    assert meter.joules is None
    assert meter.source is None
    assert "no energy counter" in meter.missing_reason


def test_a_counter_for_root_only_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = domain(tmp_path, "intel-rapl:0", "package-0", 5)
    path.chmod(0)
    if os.geteuid() == 0:  # root reads it all the same
        read = Path.read_text

        def refuse(self: Path, *arguments: Any, **options: Any) -> str:
            if self == path:
                raise PermissionError(13, "Permission denied")
            return read(self, *arguments, **options)

        monkeypatch.setattr(Path, "read_text", refuse)
    meter = EnergyMeter("cpu", tmp_path)
    assert meter.joules is None
    assert "root" in meter.missing_reason


def test_a_counter_that_vanishes_midway_is_null_with_a_reason(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = EnergyMeter("cpu", tmp_path)
    with meter:
        package.unlink()
    assert meter.joules is None
    assert "any more" in meter.missing_reason


def test_cuda_uses_the_devices_own_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = iter([5_000, 6_000, 9_500])
    fake = SimpleNamespace(
        NVMLError=OSError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(counter),
    )
    monkeypatch.setattr(nvml, "_uuid", lambda device: "GPU-1")
    meter = EnergyMeter("cuda", nvml=fake)
    with meter:
        pass
    assert meter.source == "nvml"
    assert meter.joules == pytest.approx(3.5)


def test_a_gpu_without_a_counter_is_null_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(NVMLError=OSError, nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=lambda uuid: uuid)
    monkeypatch.setattr(nvml, "_uuid", lambda device: "GPU-1")
    meter = EnergyMeter("cuda", nvml=fake)
    with meter:
        pass
    assert meter.joules is None
    assert "no energy counter" in meter.missing_reason
