"""Peaks are each phase's own, however they are had."""

from __future__ import annotations

import mmap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tuneoff.measure.memory import MemoryMeter

MIB = 2**20


def touch(mebibytes: int) -> mmap.mmap:
    """Memory that is resident, and new: a long process may take a bytearray's from what was let go before."""
    block = mmap.mmap(-1, mebibytes * MIB)
    for page in range(0, len(block), mmap.PAGESIZE):
        block[page] = 1
    return block


def silent(folder: Path, high_kb: int = 300_000) -> Path:
    """A proc folder where the reset is accepted and does nothing, as in some sandboxes."""
    (folder / "status").write_text(f"Name:\tpython\nVmHWM:\t  {high_kb} kB\nVmRSS:\t  {high_kb} kB\n")
    (folder / "clear_refs").write_text("")
    return folder


def failing() -> int:
    raise OSError("no resident set here")


def test_a_peak_that_is_freed_is_seen_and_not_inherited_by_the_next_phase() -> None:
    meter = MemoryMeter(torch.device("cpu"))
    assert meter.how in {"reset", "sampled"}
    with meter.phase("load"):
        block = touch(64)
        time.sleep(0.05)
        del block
    with meter.phase("train"):
        block = touch(16)
        time.sleep(0.05)
        del block
    memory = meter.memory()
    load, train = memory.phases["load"].resident_bytes, memory.phases["train"].resident_bytes
    assert load is not None
    assert train is not None
    assert load - train > 32 * MIB
    assert memory.peak_memory_bytes == train
    assert memory.kind == "resident"
    assert memory.phases["train"].allocated_bytes is None
    assert meter.missing == {}


def test_a_reset_that_silently_does_nothing_is_noticed(tmp_path: Path) -> None:
    meter = MemoryMeter("cpu", silent(tmp_path))
    assert meter.how == "sampled"
    with meter.phase("train"):
        block = touch(64)
        time.sleep(0.1)
        del block
    after = meter.memory().peak_memory_bytes
    with meter.phase("test"):
        pass
    later = meter.memory().phases["test"].resident_bytes
    assert after is not None
    assert later is not None
    assert after - later > 32 * MIB


def test_no_proc_file_system_means_sampling_and_nothing_is_created(tmp_path: Path) -> None:
    meter = MemoryMeter("cpu", tmp_path / "absent", resident=lambda: 7)
    assert meter.how == "sampled"
    with meter.phase("train"):
        pass
    assert meter.memory().peak_memory_bytes == 7
    assert not (tmp_path / "absent").exists()


def test_nothing_readable_is_null_with_a_reason(tmp_path: Path) -> None:
    meter = MemoryMeter("cpu", tmp_path, resident=failing)
    assert meter.how == "unavailable"
    with meter.phase("train"):
        pass
    memory = meter.memory()
    assert memory.peak_memory_bytes is None
    assert memory.kind is None
    assert memory.phases["train"].resident_bytes is None
    figures = ("peak_memory_bytes", "base_bytes", "peak_over_base_bytes", "phases.train.resident_bytes")
    assert set(meter.missing) == {f"memory.{figure}" for figure in figures}
    assert "no resident set here" in meter.missing["memory.peak_memory_bytes"]


def test_sampling_that_breaks_midway_is_null_with_a_reason(tmp_path: Path) -> None:
    readings = iter([5, 5, 5])

    def resident() -> int:
        try:
            return next(readings)
        except StopIteration:
            raise OSError("gone") from None

    meter = MemoryMeter("cpu", tmp_path, resident)
    with meter.phase("train"):
        pass
    assert meter.memory().peak_memory_bytes is None
    assert "gone" in meter.missing["memory.peak_memory_bytes"]


def test_a_phase_entered_again_keeps_the_greater_peak(tmp_path: Path) -> None:
    sizes = {"now": 1}
    meter = MemoryMeter("cpu", tmp_path, resident=lambda: sizes["now"])
    for size in (10, 30, 20):
        sizes["now"] = size
        with meter.phase("train"):
            pass
    assert meter.memory().peak_memory_bytes == 30


def test_a_phase_never_entered_is_null_with_a_reason(tmp_path: Path) -> None:
    meter = MemoryMeter("cpu", tmp_path, resident=lambda: 1)
    assert meter.memory().peak_memory_bytes is None
    assert "'train'" in meter.missing["memory.peak_memory_bytes"]
    with meter.phase("train"):
        pass
    assert meter.memory().peak_memory_bytes == 1
    assert meter.missing == {}


def test_phases_cannot_be_nested_and_a_failed_phase_is_kept(tmp_path: Path) -> None:
    meter = MemoryMeter("cpu", tmp_path, resident=lambda: 9)
    nested = pytest.raises(RuntimeError, match=r"'validation' entered inside 'train'")
    with nested, meter.phase("train"), meter.phase("validation"):
        pass
    assert meter.memory().peak_memory_bytes == 9
    with meter.phase("validation"):
        pass
    assert meter.memory().phases["validation"].resident_bytes == 9


def test_cuda_peaks_come_from_the_allocator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resets: list[str] = []
    fake = SimpleNamespace(
        reset_peak_memory_stats=resets.append,
        memory_allocated=lambda device: 20,
        max_memory_allocated=lambda device: 100 * len(resets),
        max_memory_reserved=lambda device: 200 * len(resets),
    )
    monkeypatch.setattr(torch, "cuda", fake)
    meter = MemoryMeter("cuda:1", tmp_path, resident=lambda: 5)
    for name in ("load", "train"):
        with meter.phase(name):
            pass
    memory = meter.memory()
    assert resets == ["cuda:1", "cuda:1"]
    assert memory.kind == "cuda_allocated"
    assert memory.peak_memory_bytes == 200
    assert (memory.base_bytes, memory.peak_over_base_bytes) == (20, 180)
    assert memory.phases["train"].reserved_bytes == 400
    assert memory.phases["train"].resident_bytes == 5


def test_a_peak_is_told_over_what_was_there_before_anything_was_loaded() -> None:
    meter = MemoryMeter("cpu")
    with meter.phase("load"):
        kept = touch(32)
    with meter.phase("train"):
        block = touch(32)
        time.sleep(0.05)
        del block
    memory = meter.memory()
    assert len(kept) == 32 * MIB
    assert memory.peak_memory_bytes is not None
    assert memory.base_bytes is not None
    assert memory.peak_over_base_bytes == memory.peak_memory_bytes - memory.base_bytes
    assert 60 * MIB < memory.peak_over_base_bytes < 100 * MIB
