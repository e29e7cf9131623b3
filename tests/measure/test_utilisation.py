"""Samples are aligned and few; noise is the training phase's own and judged against the cores in use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from tuneoff.measure import nvml, utilisation
from tuneoff.measure.machine import MachineReader, PeerTrials, Reading
from tuneoff.measure.nvml import GpuReading
from tuneoff.measure.utilisation import MOST_SAMPLES, Sampler
from tuneoff.records.record import Event

NEVER = 3600.0


class FakeMachine:
    """Counters that the test advances; rates are cores in use."""

    def __init__(self) -> None:
        self.reading: Reading = Reading(at=50.0, own=1.0, busy=10.0, steal=2.0, resident=1000)
        self.broken = False

    def __call__(self) -> Reading:
        if self.broken:
            raise OSError("no counters now")
        return self.reading

    def advance(
        self, seconds: float, own: float = 0.0, other: float = 0.0, steal: float = 0.0, peers: float = 0.0
    ) -> None:
        now = self.reading
        self.reading = replace(
            now,
            at=now.at + seconds,
            own=now.own + own * seconds,
            busy=None if now.busy is None else now.busy + (own + other + peers) * seconds,
            peers=now.peers + peers * seconds,
            steal=None if now.steal is None else now.steal + steal * seconds,
        )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    monkeypatch.setattr(utilisation, "core_count", lambda: 2)
    return FakeMachine()


def measure(machine: FakeMachine, what: Callable[[Sampler], None], **options: Any) -> Sampler:
    sampler = Sampler(NEVER, read=machine, **options)
    with sampler:
        what(sampler)
    return sampler


def test_noise_is_the_training_phases_alone(machine: FakeMachine) -> None:
    def trial(sampler: Sampler) -> None:
        sampler.mark("load")
        machine.advance(10, own=1, other=1, steal=0.5)
        sampler.mark("train")
        machine.advance(4, own=1.5, other=0.02)
        sampler.mark("validation")
        machine.advance(4, own=1, other=1)
        sampler.mark("train")
        machine.advance(4, own=1.5, other=0.04, steal=0.02)
        sampler.mark("test")
        machine.advance(10, own=1, other=1)

    noise = measure(machine, trial).noise(threads=2)
    assert noise.other_cpu_percent_mean == pytest.approx(3.0)
    assert noise.steal_percent_mean == pytest.approx(1.0)
    assert noise.gpu_throttled_share is None
    assert not noise.contended
    assert noise.reason == ""


@pytest.mark.parametrize(
    ("threads", "other", "steal", "contended"),
    [
        (2, 0.10, 0.00, False),
        (2, 0.20, 0.00, True),
        (2, 0.00, 0.20, True),
        (2, 0.10, 0.10, True),
        (1, 0.50, 0.00, False),  # a free core takes half a core of others
        (1, 0.65, 0.00, True),
        (6, 0.00, 0.00, False),  # more threads than cores disturb themselves alone
        (6, 1.00, 0.00, True),
    ],
)
def test_contended_counts_what_the_free_cores_cannot_take(
    machine: FakeMachine, threads: int, other: float, steal: float, contended: bool
) -> None:
    def trial(sampler: Sampler) -> None:
        sampler.mark("train")
        machine.advance(60, own=1, other=other, steal=steal)

    noise = measure(machine, trial).noise(threads)
    assert noise.contended is contended
    assert (f"{other:.2f} of a core" in noise.reason) is contended


@pytest.mark.parametrize(
    ("threads", "peers", "other", "contended"),
    [
        (2, 4.0, 0.00, False),  # four cores are left to trials of one's own
        (2, 5.9, 0.00, False),
        (2, 4.0, 0.90, False),  # and half of what is free then to others
        (2, 4.0, 1.30, True),
        (2, 6.5, 0.00, True),  # more trials than cores
    ],
)
def test_trials_of_ones_own_on_cores_of_their_own_are_no_disturbance(
    machine: FakeMachine,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    peers: float,
    other: float,
    contended: bool,
) -> None:
    monkeypatch.setattr(utilisation, "core_count", lambda: 8)

    def trial(sampler: Sampler) -> None:
        sampler.mark("train")
        machine.advance(60, own=2, other=other, peers=peers)

    noise = measure(machine, trial).noise(threads)
    assert noise.contended is contended
    assert noise.other_cpu_percent_mean == pytest.approx(100 * other)
    assert (f"your other trials {peers:.2f}" in noise.reason) is contended


def test_other_trials_are_known_by_their_command_and_counted_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = os.sysconf("SC_CLK_TCK")

    def process(pid: int, command: str, seconds: float) -> None:
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        (tmp_path / str(pid) / "cmdline").write_bytes(command.replace(" ", "\0").encode())
        fields = " ".join(["S", *["0"] * 10, str(int(seconds * ticks)), "0", "0"])
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) b) {fields}\n")

    process(10, "python -m tuneoff.trial serve /tmp/a", 100)
    process(11, "python -m tuneoff.trial serve /tmp/a", 5)
    process(12, "firefox", 50)
    peers = PeerTrials({11}, tmp_path)
    assert peers.count_seconds() == 0
    process(10, "python -m tuneoff.trial serve /tmp/a", 103)
    process(11, "python -m tuneoff.trial serve /tmp/a", 9)
    process(12, "firefox", 60)
    assert peers.count_seconds() == 3
    shutil.rmtree(tmp_path / "10")
    process(13, "python -m tuneoff.trial once", 7)
    assert peers.count_seconds() == 3, "it keeps what an ended trial used; a new one is looked for later"
    monkeypatch.setattr("tuneoff.measure.machine.PEERS_EVERY_SECONDS", -1.0)
    assert peers.count_seconds() == 3
    process(13, "python -m tuneoff.trial once", 8)
    assert peers.count_seconds() == 4


def test_noise_can_be_asked_while_the_phase_runs(machine: FakeMachine) -> None:
    with Sampler(NEVER, read=machine) as sampler:
        sampler.mark("train")
        machine.advance(2, own=1, other=0.5)
        assert sampler.noise(2).other_cpu_percent_mean == pytest.approx(50.0)


def test_too_short_or_absent_training_is_null_with_a_reason(machine: FakeMachine) -> None:
    def trial(sampler: Sampler) -> None:
        sampler.mark("train")
        machine.advance(0.02, own=1, other=1)

    sampler = measure(machine, trial)
    short = sampler.noise(2)
    assert (short.other_cpu_percent_mean, short.steal_percent_mean, short.contended) == (None, None, False)
    assert "too short" in short.reason
    assert set(sampler.missing) == {"noise.other_cpu_percent_mean", "noise.steal_percent_mean"}
    absent = sampler.noise(2, phase="validation")
    assert absent.other_cpu_percent_mean is None
    assert "'validation'" in absent.reason


def test_systems_that_do_not_tell_are_null_with_a_reason(machine: FakeMachine) -> None:
    machine.reading = replace(machine.reading, busy=None, steal=None)

    def trial(sampler: Sampler) -> None:
        sampler.mark("train")
        machine.advance(5, own=1)

    sampler = measure(machine, trial)
    assert sampler.noise(2).other_cpu_percent_mean is None
    samples = sampler.utilisation()
    assert samples.other_cpu_percent == samples.steal_percent == ()
    assert samples.process_cpu_percent == (100.0,)
    assert {"utilisation.other_cpu_percent", "noise.other_cpu_percent_mean"} <= sampler.missing.keys()


def test_a_processor_clock_that_stands_still_is_not_read_as_a_quiet_machine(machine: FakeMachine) -> None:
    def trial(sampler: Sampler) -> None:
        sampler.mark("train")
        machine.reading = replace(machine.reading, at=60.0, own=11.0)

    noise = measure(machine, trial).noise(2)
    assert noise.other_cpu_percent_mean is None
    assert "not measured" in noise.reason


def test_a_short_trial_has_one_sample_from_start_to_stop(machine: FakeMachine) -> None:
    samples = measure(machine, lambda _: machine.advance(0.3, own=0.5, other=0.25, steal=0.125)).utilisation()
    assert samples.seconds == (0.3,)
    assert samples.process_cpu_percent == (50.0,)
    assert samples.other_cpu_percent == (25.0,)
    assert samples.steal_percent == (12.5,)
    assert samples.resident_bytes == (1000,)
    assert samples.gpu_percent == ()


def test_no_time_at_all_gives_no_sample_and_a_reason(machine: FakeMachine) -> None:
    sampler = measure(machine, lambda _: None)
    assert sampler.utilisation().seconds == ()
    assert "utilisation" in sampler.missing


def test_many_samples_are_thinned_without_changing_the_mean(machine: FakeMachine) -> None:
    sampler = Sampler(NEVER, read=machine)
    looks = 2 * MOST_SAMPLES + 77
    with sampler:
        for look in range(looks):
            machine.advance(1, own=look % 2)
            sampler._look()
    samples = sampler.utilisation()
    assert MOST_SAMPLES / 4 < len(samples.seconds) <= MOST_SAMPLES
    lengths = {
        len(column) for column in (samples.process_cpu_percent, samples.other_cpu_percent, samples.steal_percent)
    }
    assert lengths == {len(samples.seconds)}
    assert samples.seconds[-1] == looks
    assert samples.interval_seconds == NEVER * 4
    assert set(samples.process_cpu_percent[:-1]) == {50.0}


def test_counters_that_fail_for_a_while_lose_no_time(machine: FakeMachine) -> None:
    def trial(sampler: Sampler) -> None:
        machine.broken = True
        machine.advance(1, own=1)
        sampler._look()
        machine.broken = False
        machine.advance(1, own=0)
        sampler._look()

    samples = measure(machine, trial).utilisation()
    assert samples.seconds == (2.0,)
    assert samples.process_cpu_percent == (50.0,)


def test_a_sampler_starts_once(machine: FakeMachine) -> None:
    with Sampler(NEVER, read=machine) as sampler, pytest.raises(RuntimeError, match="only once"):
        sampler.start()
    sampler.stop()


def fake_nvml(reasons: int) -> Any:
    return SimpleNamespace(
        NVMLError=OSError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=87),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=2**30),
        nvmlDeviceGetPowerUsage=lambda handle: 250_500,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: reasons,
    )


@pytest.mark.parametrize(("reasons", "throttled"), [(0x20, True), (0x48, True), (0x4 | 0x1, False)])
def test_gpu_is_read_and_throttling_is_told_from_its_power_cap(
    monkeypatch: pytest.MonkeyPatch, reasons: int, throttled: bool
) -> None:
    monkeypatch.setattr(nvml, "_uuid", lambda device: "GPU-1")
    gpu, reason = nvml.connect("cuda:0", fake_nvml(reasons))
    assert reason == ""
    assert gpu is not None
    assert gpu.read() == GpuReading(87.0, 2**30, 250.5, throttled)


def test_gpu_throttling_makes_a_trial_contended(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_uuid", lambda device: "GPU-1")

    def trial(sampler: Sampler) -> None:
        sampler.mark("train")
        for look in range(10):
            machine.reading = replace(machine.reading, gpu=GpuReading(80.0, 100, 200.0, look == 3))
            machine.advance(1, own=1)
            sampler._look()

    sampler = measure(machine, trial, device="cuda", nvml=fake_nvml(0))
    noise = sampler.noise(1)
    assert noise.gpu_throttled_share == pytest.approx(1 / 11)
    assert noise.contended
    assert "throttled 9%" in noise.reason
    samples = sampler.utilisation()
    assert samples.gpu_throttled.count(True) == 1
    assert samples.gpu_percent == (80.0,) * 10
    assert samples.gpu_memory_bytes == (100,) * 10


def test_cuda_without_the_library_says_how_to_get_it(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    def trial(sampler: Sampler) -> None:
        sampler.mark("train")
        machine.advance(1, own=1)

    sampler = measure(machine, trial, device="cuda")
    assert sampler.noise(1).gpu_throttled_share is None
    assert sampler.utilisation().gpu_percent == ()
    assert "nvidia-ml-py" in sampler.missing["utilisation.gpu_percent"]
    assert "nvidia-ml-py" in sampler.missing["noise.gpu_throttled_share"]


def test_real_counters_see_own_work_and_that_of_a_child() -> None:
    machine = MachineReader(None)
    before = machine()
    end = time.process_time() + 0.15
    while time.process_time() < end:
        pass
    after = machine()
    assert 0.15 <= after.own - before.own < 0.5
    assert after.resident > 2**20
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        running = machine()
        child.communicate(b"\n")
    ended = machine()
    assert running.own - after.own >= 0.25
    # The child's end moves its time from the running to the ended; it is neither lost nor counted twice.
    assert -0.03 < ended.own - running.own < 0.25


def test_what_was_used_is_told_at_once_and_then_every_few_seconds(machine: FakeMachine) -> None:
    told: list[Event] = []
    sampler = Sampler(NEVER, read=machine, emit=told.append)
    with sampler:
        for other in (0.0, 0.5, 0.5, 0.5, 1.5):
            machine.advance(2, own=1, other=other)
            sampler._look()
        assert [event["kind"] for event in told] == ["machine", "machine"]
    first, second = told
    assert first == {"kind": "machine", "cpu_percent": 100.0, "other_cpu_percent": 0.0, "resident_bytes": 1000}
    assert second["other_cpu_percent"] == 50.0, "the mean of the three samples since"


def test_what_the_machine_does_not_tell_is_left_out(machine: FakeMachine) -> None:
    told: list[Event] = []
    machine.reading = replace(machine.reading, busy=None)
    with Sampler(NEVER, read=machine, emit=told.append):
        machine.advance(1, own=1)
        machine.reading = replace(machine.reading, gpu=GpuReading(93.0, 7, None, None))
    assert told == [
        {"kind": "machine", "cpu_percent": 100.0, "resident_bytes": 1000, "gpu_percent": 93.0, "gpu_memory_bytes": 7}
    ]


def test_a_thread_samples_by_itself() -> None:
    with Sampler(0.05) as sampler:
        deadline = time.monotonic() + 10
        while len(sampler.utilisation().seconds) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
    samples = sampler.utilisation()
    assert len(samples.seconds) >= 3
    assert list(samples.seconds) == sorted(samples.seconds)
    assert all(resident > 2**20 for resident in samples.resident_bytes)


BURN = """
import subprocess, sys, time
if sys.argv[1:]:
    below = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    below.stdout.readline()
while time.process_time() < 0.3: pass
print(flush=True)
input()
if sys.argv[1:]:
    below.communicate(b"\\n")
"""


@pytest.mark.parametrize("told", [True, False], ids=["the system tells children", "every process is read"])
def test_the_work_of_a_running_grandchild_is_seen(told: bool) -> None:
    machine = MachineReader(None)
    if told and not machine._tells_children:
        pytest.skip("this system does not tell a process's children")
    machine._tells_children = told
    before = machine()
    arguments = [sys.executable, "-c", BURN, BURN]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        after = machine()
        child.communicate(b"\n")
    assert after.own - before.own >= 0.55, "0.3 s each"


def test_a_look_does_not_read_every_process_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes milliseconds, and grows with what else runs there."""
    machine = MachineReader(None)
    if not machine._tells_children:
        pytest.skip("this system does not tell a process's children")
    monkeypatch.setattr(psutil.Process, "children", lambda *_, **__: pytest.fail("psutil reads every process"))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        seen = {process.pid for process in machine._descendants()}
        machine()
        child.communicate(b"\n")
    assert child.pid in seen
    assert os.getpid() not in seen
