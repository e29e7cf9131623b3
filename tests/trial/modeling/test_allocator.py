"""Freed memory goes back to the system where that is asked for, and it is said where it does not."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tuneoff.config.execution import ExecutionSpec
from tuneoff.records.record import Event
from tuneoff.trial import requests, run
from tuneoff.trial.modeling import allocator
from tuneoff.trial.phases import Phases

if TYPE_CHECKING:
    from trial_helpers import MakePlace

pytest_plugins = ("trial_fixtures",)

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
WANTED = ExecutionSpec(release_memory=True)
glibc = pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")

HOLES = """
import ctypes, sys
from types import SimpleNamespace
from tuneoff.trial.modeling import allocator

libc = allocator._glibc()

def resident():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))

def block(mebibytes):
    made = libc.malloc(mebibytes << 20)
    ctypes.memset(made, 1, mebibytes << 20)
    return made

if "release" in sys.argv:
    assert allocator.release_freed_blocks(SimpleNamespace(type="cpu")) == ""
libc.free(block(24))  # from here on glibc by itself takes blocks up to this size from its heap
before = resident()
blocks = [block(8) for _ in range(16)]
pin = block(1)  # what lies above them keeps the heap from shrinking
for one in blocks:
    libc.free(one)
freed = resident()
allocator.trim(SimpleNamespace(type="cpu"))
print(freed - before, resident() - before)
"""


def kept(*arguments: str) -> tuple[int, int]:
    """MiB that a fresh process still holds of 128 freed ones: at once, and once the heap was trimmed."""
    done = subprocess.run([sys.executable, "-c", HOLES, *arguments], check=True, capture_output=True, text=True)
    freed, trimmed = map(int, done.stdout.split())
    return freed, trimmed


STRETCHES = """
import ctypes
import torch
from tuneoff.measure.utilisation import Sampler
from tuneoff.trial.modeling import allocator
from tuneoff.trial.phases import Phases

libc = allocator._glibc()

def block(mebibytes):
    made = libc.malloc(mebibytes << 20)
    ctypes.memset(made, 1, mebibytes << 20)
    return made

cpu = torch.device("cpu")
libc.free(block(24))
phases = Phases(cpu, Sampler(device=cpu), lambda event: None)
with phases.memory("train"):
    libc.free(block(8))
before = phases.meter.memory().peak_memory_bytes
with phases.memory("validation"):
    blocks = [block(8) for _ in range(16)]
    pin = block(1)
    for one in blocks:
        libc.free(one)
with phases.memory("train"):
    libc.free(block(8))
print((phases.meter.memory().peak_memory_bytes - before) // 2**20)
"""


@glibc
def test_what_a_validation_freed_is_not_in_the_peak_of_the_training_after_it() -> None:
    done = subprocess.run([sys.executable, "-c", STRETCHES], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 16, "MiB by which the peak grew, of 128 that the validation took and freed"


@glibc
def test_freed_blocks_stay_with_the_process_unless_they_are_released() -> None:
    freed, trimmed = kept()
    assert freed > 100
    assert trimmed < 16
    assert kept("release")[0] < 16


TOP = """
import ctypes, resource, sys
import torch
from tuneoff.config.execution import ExecutionSpec
from tuneoff.trial.modeling import allocator

libc = allocator._glibc()
allocator.configure(ExecutionSpec(engine=sys.argv[1]), torch.device("cpu"), lambda event: None)

def step():
    blocks = [libc.malloc(1 << 20) for _ in range(64)]
    for block in blocks:
        ctypes.memset(block, 1, 1 << 20)
    for block in blocks:
        libc.free(block)

step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 256)
"""


@glibc
def test_the_fast_engine_takes_the_pages_of_the_step_before() -> None:
    def new_mebibytes(engine: str) -> int:
        command = [sys.executable, "-c", TOP, engine]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert new_mebibytes("fast") < 4, "MiB of fresh pages in a second step of 64"
    assert new_mebibytes("plain") > 32


# --- what a trial says of it


def test_what_was_not_asked_for_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "release_freed_blocks", lambda device: pytest.fail("asked"))
    assert allocator.configure(ExecutionSpec(), CPU, lambda event: None) == (False, ())


@pytest.mark.parametrize(("engine", "device"), [("plain", CPU), ("fast", CUDA)])
def test_a_plain_engine_and_gpus_leave_the_c_library_as_it_is(
    engine: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OtherAllocator, "mallopt", lambda *_: pytest.fail("set"))
    monkeypatch.setattr(allocator, "_glibc", OtherAllocator)
    assert allocator.configure(ExecutionSpec(engine=engine), device, lambda event: None) == (False, ())


class OtherAllocator:
    """A C library whose `malloc` another has taken over: options are accepted, and freed blocks stay mapped."""

    def __init__(self, accepts: int = 1, mapped: int = 0) -> None:
        self.accepts, self.mapped = accepts, mapped

    def mallopt(self, option: int, value: int) -> int:
        return self.accepts

    def malloc(self, size: int) -> int:
        return 1 << 30

    def free(self, block: int) -> None:
        """Nothing is there."""

    def mincore(self, page: int, size: int, resident: Any) -> int:
        return self.mapped


@pytest.mark.parametrize(
    ("device", "libc", "words"),
    [
        (CUDA, OtherAllocator(mapped=-1), "ran on cuda"),
        (CPU, None, "not glibc"),
        (CPU, OtherAllocator(), "another allocator"),
        (CPU, OtherAllocator(accepts=0, mapped=-1), "refuses"),
    ],
)
def test_where_it_has_no_effect_a_finding_says_why(
    device: torch.device, libc: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allocator, "_glibc", lambda: libc)
    events: list[Event] = []
    released, (found,) = allocator.configure(WANTED, device, events.append)
    assert not released
    assert found.name == "memory_not_released"
    assert words in found.message
    assert events == [{"kind": "finding", **found.model_dump()}]


@pytest.mark.parametrize("reason", ["", "this system's C library is not glibc"])
@pytest.mark.usefixtures("one_thread")
def test_the_record_says_whether_it_had_an_effect(
    reason: str, make_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allocator, "release_freed_blocks", lambda device: reason)
    record = run.run(make_place("majority", execution={"release_memory": True}), "cpu", 0.0)
    assert record.environment is not None
    assert record.environment.release_memory is not bool(reason)
    assert [f.name for f in record.findings if reason and reason in f.message] == ["memory_not_released"] * bool(reason)


@pytest.mark.parametrize("wanted", [False, True])
def test_a_forecast_is_made_as_its_trials_will_run(
    wanted: bool, make_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(allocator, "release_freed_blocks", lambda device: done.append(device.type))
    spec = make_place("majority", execution={"release_memory": wanted}).spec()
    asked = {"trial": spec.model_dump(mode="json"), "search_trial": None, "device": "cpu", "memory_limit_bytes": None}
    requests._do("profile", asked, 0.0)
    assert done == ["cpu"] * wanted


# --- between phases


class NoSampler:
    """Marks nothing."""

    def mark(self, phase: str) -> None:
        """Not kept."""


def test_every_stretch_of_training_and_the_test_begin_without_what_was_freed_before_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(allocator, "trim", lambda device: told.append("trim"))
    sampler: Any = NoSampler()
    phases = Phases(CPU, sampler, lambda event: told.append(event["phase"]))
    for name in ("preflight", "train", "validation", "train", "test", "inference"):
        with phases.memory(name):
            pass
    assert told == ["preflight", "train", "trim", "validation", "train", "trim", "test", "trim", "inference"]
