"""The warm parent of trials: what its children inherit."""

from __future__ import annotations

import ctypes
import gc
import io
import os
import subprocess
import sys
from types import ModuleType

import pytest

from tuneoff.trial import __main__ as parent
from tuneoff.trial import requests


def test_children_do_not_look_through_the_libraries_for_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen_at_fork: list[int] = []

    def fork() -> int:
        frozen_at_fork.append(gc.get_freeze_count())
        return 4321

    monkeypatch.setattr(os, "fork", fork)
    gc.unfreeze()
    objects = len(gc.get_objects())
    running: dict[int, str] = {}
    try:
        parent._serve_one({"verb": "trial", "id": "a"}, io.StringIO(), running)
    finally:
        gc.unfreeze()
    assert running == {4321: "a"}
    assert frozen_at_fork[0] > 0.9 * objects


GROWTH = """
import ctypes, torch
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks used".split()]
    _fields_ += [("fordblks", ctypes.c_size_t), ("keepcost", ctypes.c_size_t)]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
torch.set_num_threads(1)
weight = torch.ones(64, 64, dtype=torch.bfloat16)
def multiply(widths):
    for width in widths:
        torch.nn.functional.linear(torch.ones(8, width, 64, dtype=torch.bfloat16), weight)
multiply(range(1, 101))
before = libc.mallinfo2().used
multiply(range(101, 201))
print(libc.mallinfo2().used - before)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs the counters of glibc"
)
def test_kernels_of_new_widths_take_the_place_of_old_ones() -> None:
    environment = {**os.environ, **parent.KEPT_KERNELS}
    done = subprocess.run([sys.executable, "-c", GROWTH], env=environment, check=True, capture_output=True, text=True)
    # Kept, a hundred of them would take 50 MiB on a processor that has them.
    assert int(done.stdout) < 8 << 20


PACKED = """
import sys
from tuneoff.trial import __main__ as parent
parent._import("peft")
from peft import get_peft_model
from peft.import_utils import is_bnb_4bit_available
assert "bitsandbytes" not in sys.modules and not is_bnb_4bit_available()
import tuneoff.methods._quantised
from tuneoff.methods._peft_import import show_bitsandbytes
show_bitsandbytes()
from peft.tuners.lora import Linear4bit
from transformers.utils import is_bitsandbytes_available
assert is_bitsandbytes_available()
print(Linear4bit.__name__)
"""


def test_only_trials_with_packed_weights_load_bitsandbytes_and_peft_knows_its_layers_there() -> None:
    pytest.importorskip("bitsandbytes")
    done = subprocess.run([sys.executable, "-c", PACKED], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["Linear4bit"]


def test_a_child_with_bitsandbytes_has_the_warm_parent_import_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", ModuleType("bitsandbytes"))
    assert requests.modules_to_share() == []
    monkeypatch.delitem(sys.modules, "bitsandbytes")
    assert "tuneoff.trial.requests" in requests.modules_to_share()
