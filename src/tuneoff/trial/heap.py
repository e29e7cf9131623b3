"""How the C library gives memory back.

glibc keeps freed blocks of up to 32 MiB for later. Activations are of that size, come in a few sizes and go in another
order than they came, so that a training step holds on to far more than it uses (`benchmarks/heap.py` measures how
much). Blocks that are mapped by themselves go back the moment they are freed.
"""

from __future__ import annotations

import ctypes
import os
import sys

MAPPED_BYTES = 4 * 2**20
"""Blocks from this size on are mapped by themselves. Smaller ones are many, and mapping costs time."""
_M_MMAP_THRESHOLD = -3


def give_back_large_blocks() -> bool:
    """Has large blocks of memory mapped by themselves, from now on in this process.

    Returns:
        Whether that was done: not where the C library is not glibc, nor where the user's environment sets the size.
    """
    if sys.platform != "linux" or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES))
