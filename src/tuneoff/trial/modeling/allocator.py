"""What becomes of memory that a trial frees on the CPU: the C library keeps most of it, unless it is set otherwise.

glibc serves tensors from a heap, where blocks of unlike sizes leave holes, and from a size on that grows to 32 MiB by
itself it maps a block alone, which goes back to the system when it is freed. A process therefore holds more than its
tensors. Elsewhere (other C libraries, other systems, CUDA, whose allocator has counters of its own) nothing is changed.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tuneoff.config.execution import ExecutionSpec
from tuneoff.records.record import Event, Finding

if TYPE_CHECKING:
    import torch

RELEASED_BYTES = 2 * 2**20
"""Blocks from this size on are mapped alone where `execution.release_memory` is set."""

KEPT_BYTES = 32 * 2**20
"""Blocks up to this size come from the heap, the most that glibc allows; by itself it grows to that by and by."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def configure(
    execution: ExecutionSpec, device: torch.device, emit: Callable[[Event], None]
) -> tuple[bool, tuple[Finding, ...]]:
    """Applies a trial's `execution.release_memory`; without it the fast engine keeps what is freed for the next step.

    Returns:
        Whether freed memory goes back at once, and a finding where the setting had no effect.
    """
    if not execution.release_memory:
        if execution.engine == "fast":
            keep_freed_blocks(device)
        return False, ()
    reason = release_freed_blocks(device)
    if not reason:
        return True, ()
    finding = Finding(name="memory_not_released", message=f"execution.release_memory had no effect: {reason}.")
    emit({"kind": "finding", **finding.model_dump()})
    return False, (finding,)


def keep_freed_blocks(device: torch.device) -> None:
    """Lets the heap keep what is freed, for the rest of this process, where the C library is glibc.

    By itself it gives the heap's end back when a step's tensors go, and the next step begins with pages that are not
    there. `trim` still gives everything back. No figure that is computed changes.

    Args:
        device: where the trial computes; nothing is done elsewhere than on the CPU.
    """
    libc = _glibc() if device.type == "cpu" else None
    if libc is not None and libc.mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES):
        libc.mallopt(_M_TRIM_THRESHOLD, -1)


def release_freed_blocks(device: torch.device) -> str:
    """Lets freed blocks of 2 MiB and more go back to the system at once, for the rest of this process.

    Its peak is then lower and its steps slower, because every such block begins as pages that are not there yet. No
    figure that is computed changes.

    Args:
        device: where the trial computes.

    Returns:
        Why it has no effect here; empty where it has.
    """
    if device.type != "cpu":
        return f"the trial ran on {device.type}, whose memory the C library does not manage"
    libc = _glibc()
    if libc is None:
        return "this system's C library is not glibc"
    # A threshold that is set stays: glibc no longer raises it when larger blocks are freed.
    if not libc.mallopt(_M_MMAP_THRESHOLD, RELEASED_BYTES) or not _goes_back(libc):
        return "another allocator stands in the place of glibc's, or refuses the setting"
    return ""


def trim(device: torch.device) -> None:
    """Gives back what was freed so far, so that what follows has a peak of its own.

    On the CPU that needs glibc; on CUDA it is what the allocator keeps for later. Reference cycles are
    freed first.
    """
    gc.collect()
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> Any:
    """Loads this process's C library; returns None where it is not glibc."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return None
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = libc.malloc_trim.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    return libc


def _goes_back(libc: Any) -> bool:
    """Returns whether a freed block is no longer mapped: a preloaded allocator ignores glibc's options."""
    block = libc.malloc(RELEASED_BYTES)
    page = (block // mmap.PAGESIZE + 1) * mmap.PAGESIZE
    libc.free(block)
    resident = ctypes.c_ubyte()
    return bool(libc.mincore(page, mmap.PAGESIZE, ctypes.byref(resident)) != 0)
