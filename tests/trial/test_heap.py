"""Freed activations leave the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAGMENTED = """
import ctypes, os, sys
from tuneoff.trial.heap import give_back_large_blocks

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def take(count, size):
    blocks = [libc.malloc(size) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    return blocks

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

if sys.argv[1] == "back":
    assert give_back_large_blocks()
libc.free(libc.malloc(30 * 2**20))  # glibc learns from it to keep blocks of that size
before = resident()
blocks = take(20, 8 * 2**20)
libc.malloc(1024)
for block in blocks[:-1]:
    libc.free(block)
print(resident() - before)
"""


def kept_bytes(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FRAGMENTED, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's way of keeping memory")
def test_freed_blocks_leave_the_process() -> None:
    assert kept_bytes("as it is") > 100 * 2**20
    assert kept_bytes("back") < 20 * 2**20


def test_the_users_own_setting_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneoff.trial.heap import give_back_large_blocks

    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1048576")
    assert not give_back_large_blocks()
