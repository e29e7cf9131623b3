"""Samples of the machine while a trial runs, and whether others disturbed its timing.

One reading costs about 0.1 ms of a core (`time.thread_time` on a 2-core Linux virtual machine: median 0.11 ms) and
0.15 ms more for every running child, so sampling every 0.5 s costs 0.02 % of one core; querying NVML comes on top
where there is a GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tuneoff.measure.machine import MachineReader, Reading, core_count
from tuneoff.measure.nvml import GpuReading, connect
from tuneoff.records.record import Event, Noise, Utilisation

if TYPE_CHECKING:
    import torch

MOST_SAMPLES = 600
"""Samples kept of a trial; longer ones are thinned by averaging neighbours."""

CONTENDED_SHARE = 0.075
"""Largest share of each of the trial's threads that others may take: a two-thread trial may lose 0.15 of a core.
OpenMP splits a product evenly over threads and waits for the last, so taking 0.15 of one core makes two threads up to
15 % slower."""

THROTTLED_SHARE = 0.05
"""Largest share of GPU readings that may be throttled before the timing counts as contended."""

TOLD_EVERY_SECONDS = 5.0

# The kernel counts busy time in ticks of 10 ms a core: over less than this, a mean says nothing.
_SHORTEST_SECONDS = 0.1
_TICK_SECONDS = 0.01

_NOISE_FIGURES = ("other_cpu_percent_mean", "steal_percent_mean", "gpu_throttled_share")


@dataclass(frozen=True)
class _Sample:
    """Means over one period; percentages of one core, `resident` in bytes."""

    at: float
    seconds: float
    own: float
    other: float | None
    steal: float | None
    resident: float
    gpu: GpuReading | None


@dataclass
class PhaseSums:
    """Sums over one phase: its seconds, and the processor seconds of the trial, of all processes and of the hypervisor;
    readings of the GPU, and those of them that found it throttled."""

    seconds: float = 0.0
    own: float = 0.0
    busy: float | None = 0.0
    steal: float | None = 0.0
    peers: float = 0.0
    readings: int = 0
    throttled: int = 0


class Sampler:
    """Samples the machine at regular intervals, from a thread of its own, between `start` and `stop`.

    Args:
        interval_seconds: time between readings.
        device: where the model is; on CUDA the GPU is read too, if `nvidia-ml-py` is installed.
        read: gives the counters; None: the system's.
        nvml: the NVML module to use; None: `pynvml`, if it is installed.
        emit: takes what was used, as a `machine` event: the first sample, then means every `TOLD_EVERY_SECONDS`. Called
            from the sampler's thread.
        others: process ids of the trial's other ranks, whose processor time is the trial's own too.

    Attributes:
        missing: the record's dotted name -> why it is null; filled by `utilisation` and `noise`.
    """

    def __init__(
        self,
        interval_seconds: float = 0.5,
        device: torch.device | str | None = None,
        read: Callable[[], Reading] | None = None,
        nvml: Any = None,
        emit: Callable[[Event], None] | None = None,
        others: Sequence[int] = (),
    ) -> None:
        self.interval_seconds = interval_seconds
        self._emit = emit
        self._untold: list[_Sample] = []
        self._told_at: float | None = None
        self.missing: dict[str, str] = {}
        self._cuda = str(device).startswith("cuda")
        self._gpu, self._gpu_reason = connect(str(device), nvml) if self._cuda else (None, "")
        self._read = read or MachineReader(self._gpu, others)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._phase = ""
        self._phases: dict[str, PhaseSums] = {}
        self._samples: list[_Sample] = []
        self._group: list[_Sample] = []
        self._stride = 1
        self._started = False
        self._began: float | None = None
        self._counted: Reading | None = None
        self._sampled: Reading | None = None

    def start(self) -> None:
        """Starts sampling.

        Raises:
            RuntimeError: if it was started before.
        """
        if self._started:
            raise RuntimeError("a sampler can be started only once")
        self._started = True
        self._look()
        self._thread = threading.Thread(target=self._run, name="tuneoff-sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Takes a last sample and ends; once ended it does nothing."""
        if self._thread is None:
            return
        self._stopping.set()
        self._thread.join()
        self._thread = None
        self._look()

    def mark(self, phase: str) -> None:
        """Says that `phase` begins now: what was used since the last mark belonged to the phase before.

        It reads the counters, so call it when a phase of the trial changes, not at every step.
        """
        with self._lock:
            if self._thread is not None:
                self._count()
            self._phase = phase

    def sums(self, phase: str = "train") -> PhaseSums:
        """Returns the sums over a phase so far, what was included of earlier processes too."""
        with self._lock:
            return replace(self._phases.get(phase, PhaseSums()))

    def include(self, earlier: PhaseSums, phase: str = "train") -> None:
        """Adds to a phase the sums of an earlier process of the same trial, so that `noise` tells of both."""
        with self._lock:
            own = self._phases.get(phase, PhaseSums())
            self._phases[phase] = PhaseSums(
                seconds=own.seconds + earlier.seconds,
                own=own.own + earlier.own,
                busy=_add(own.busy, earlier.busy),
                steal=_add(own.steal, earlier.steal),
                peers=own.peers + earlier.peers,
                readings=own.readings + earlier.readings,
                throttled=own.throttled + earlier.throttled,
            )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def utilisation(self) -> Utilisation:
        """Returns the samples so far, at most `MOST_SAMPLES`. A figure that some sample lacks is left out."""
        with self._lock:
            samples = [*self._samples, *([_merge(self._group)] if self._group else [])]
            began = self._began or 0.0
            stride = self._stride
        if not samples:
            self.missing["utilisation"] = f"the trial ended within {_SHORTEST_SECONDS} s, too soon for a sample"
        columns: dict[str, Any] = {
            "other_cpu_percent": [sample.other for sample in samples],
            "steal_percent": [sample.steal for sample in samples],
        }
        if self._cuda:
            gpu_readings = [sample.gpu or GpuReading(None, None, None, None) for sample in samples]
            columns["gpu_percent"] = [gpu.percent for gpu in gpu_readings]
            columns["gpu_memory_bytes"] = [gpu.memory_bytes for gpu in gpu_readings]
            columns["gpu_power_watts"] = [gpu.power_watts for gpu in gpu_readings]
            columns["gpu_throttled"] = [gpu.throttled for gpu in gpu_readings]
        for name, values in columns.items():
            if any(value is None for value in values):
                columns[name] = ()
                reason = self._gpu_reason or "the device does not report it"
                self.missing[f"utilisation.{name}"] = (
                    reason if name.startswith("gpu") else "this system does not report it"
                )
        return Utilisation(
            interval_seconds=self.interval_seconds * stride,
            seconds=tuple(round(sample.at - began, 3) for sample in samples),
            process_cpu_percent=tuple(round(sample.own, 1) for sample in samples),
            resident_bytes=tuple(round(sample.resident) for sample in samples),
            **{name: tuple(_round(value) for value in values) for name, values in columns.items()},
        )

    def noise(self, threads: int, phase: str = "train") -> Noise:
        """Measures what others used during `phase`, and whether that makes its timing `contended`.

        The same person's other trials are no disturbance while all have cores enough: what they use is left to them.
        Other processes and the hypervisor may take half of the cores that are free then without disturbing it (half,
        because such cores are often hyper-threads of the trial's own). Beyond that the limit is `CONTENDED_SHARE` of
        each of the trial's threads, plus one kernel tick a core for the clock's coarseness.

        Args:
            threads: threads that one operation of the trial uses.
            phase: the name given to `mark`.
        """
        with self._lock:
            if self._thread is not None and self._phase == phase:
                self._count()
            total = self._phases.get(phase)
            if total is None:
                reason = f"the trial had no {phase!r} phase"
                figures = _NOISE_FIGURES if self._cuda else _NOISE_FIGURES[:2]
                self.missing |= {f"noise.{name}": reason for name in figures}
                return Noise(reason=f"not measured: {reason}")
            throttled = total.throttled / total.readings if total.readings else None
        if self._cuda and throttled is None:
            self.missing["noise.gpu_throttled_share"] = self._gpu_reason or "the device does not report it"
        other, steal = self._measure_others(total)
        if other is None and steal is None and throttled is None:
            return Noise(reason="not measured: " + self.missing["noise.other_cpu_percent_mean"])
        cores = core_count()
        peers = total.peers / total.seconds
        # More threads than cores crowd one another, which no other process is to blame for.
        spare = max(0, cores - threads) - peers
        lost_cores = (other or 0.0) + (steal or 0.0) - (spare / 2 if spare > 0 else spare)
        limit = CONTENDED_SHARE * threads + cores * _TICK_SECONDS / max(total.seconds, _SHORTEST_SECONDS)
        reasons = []
        if lost_cores > limit:
            beside = f", your other trials {peers:.2f}," if peers > limit else ""
            reasons.append(
                f"other processes used {other or 0.0:.2f} of a core{beside} and the hypervisor took {steal or 0.0:.2f} "
                f"while the trial trained on {threads} of {cores} cores (limit {limit:.2f})"
            )
        if throttled is not None and throttled > THROTTLED_SHARE:
            reasons.append(f"the GPU was throttled {throttled:.0%} of the time (limit {THROTTLED_SHARE:.0%})")
        return Noise(
            other_cpu_percent_mean=None if other is None else round(100 * other, 2),
            steal_percent_mean=None if steal is None else round(100 * steal, 2),
            gpu_throttled_share=throttled,
            contended=bool(reasons),
            reason="; ".join(reasons),
        )

    def _measure_others(self, total: PhaseSums) -> tuple[float | None, float | None]:
        """Returns the cores used by other processes and taken by the hypervisor, None with a reason where not known."""
        reason = ""
        if total.seconds < _SHORTEST_SECONDS:
            reason = f"training lasted {total.seconds:.3f} s, too short for the kernel's {_TICK_SECONDS} s ticks"
        elif total.busy is None or (total.busy == 0 and total.own > _SHORTEST_SECONDS):
            reason = "this system does not report the CPU time of other processes"
        if reason:
            self.missing["noise.other_cpu_percent_mean"] = self.missing["noise.steal_percent_mean"] = reason
            return None, None
        # Own time is exact while busy time comes in ticks, so the difference may fall just below nothing.
        other = None if total.busy is None else max(0.0, total.busy - total.own - total.peers) / total.seconds
        if total.steal is None:
            self.missing["noise.steal_percent_mean"] = "this system does not report it"
        return other, None if total.steal is None else total.steal / total.seconds

    def _run(self) -> None:
        while not self._stopping.wait(self.interval_seconds):
            self._look()

    def _look(self) -> None:
        with self._lock:
            now = self._count()
            sample = self._add_sample(now) if now is not None else None
        if self._emit is not None and sample is not None:
            self._emit_means(sample, self._emit)

    def _emit_means(self, sample: _Sample, emit: Callable[[Event], None]) -> None:
        """Emits what was used since the last event, if that is long enough ago; takes no lock, for it writes a file."""
        self._untold.append(sample)
        if self._told_at is not None and sample.at - self._told_at < TOLD_EVERY_SECONDS:
            return
        mean = _merge(self._untold)
        self._untold, self._told_at = [], sample.at
        figures: dict[str, float | None] = {
            "cpu_percent": mean.own,
            "other_cpu_percent": mean.other,
            "resident_bytes": round(mean.resident),
            "gpu_percent": mean.gpu.percent if mean.gpu else None,
            "gpu_memory_bytes": mean.gpu.memory_bytes if mean.gpu else None,
        }
        emit({"kind": "machine", **{name: _round(value) for name, value in figures.items() if value is not None}})

    def _count(self) -> Reading | None:
        """Reads the counters and adds the time since the last reading to the phase that ran.

        Returns None where they cannot be read just now: the next reading then covers this period too.
        """
        try:
            now = self._read()
        except OSError:
            return None
        previous = self._counted
        self._counted = now
        if previous is None:
            self._began = now.at
            return now
        total = self._phases.setdefault(self._phase, PhaseSums())
        total.seconds += now.at - previous.at
        total.own += max(0.0, now.own - previous.own)
        total.busy = _add(total.busy, _subtract(now.busy, previous.busy))
        total.steal = _add(total.steal, _subtract(now.steal, previous.steal))
        total.peers += max(0.0, now.peers - previous.peers)
        if now.gpu is not None and now.gpu.throttled is not None:
            total.readings += 1
            total.throttled += now.gpu.throttled
        return now

    def _add_sample(self, now: Reading) -> _Sample | None:
        """Keeps the means since the last sample, thinning when there are many; returns None too soon after the last."""
        previous = self._sampled
        if previous is None:
            self._sampled = now
            return None
        if now.at - previous.at < min(_SHORTEST_SECONDS, self.interval_seconds):
            return None
        self._sampled = now
        seconds = now.at - previous.at
        own_seconds = max(0.0, now.own - previous.own)
        busy, steal = _subtract(now.busy, previous.busy), _subtract(now.steal, previous.steal)
        sample = _Sample(
            at=now.at,
            seconds=seconds,
            own=100 * own_seconds / seconds,
            other=None if busy is None else max(0.0, 100 * (busy - own_seconds) / seconds),
            steal=None if steal is None else 100 * steal / seconds,
            resident=float(now.resident),
            gpu=now.gpu,
        )
        self._group.append(sample)
        if len(self._group) == self._stride:
            self._samples.append(_merge(self._group))
            self._group = []
        if len(self._samples) == MOST_SAMPLES:
            pairs = zip(self._samples[::2], self._samples[1::2], strict=True)
            self._samples = [_merge(list(pair)) for pair in pairs]
            self._stride *= 2
        return sample


def _subtract(now: float | None, previous: float | None) -> float | None:
    return None if now is None or previous is None else max(0.0, now - previous)


def _add(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second


def _round(value: Any) -> Any:
    return round(value, 1) if isinstance(value, float) else value


def _merge(samples: list[_Sample]) -> _Sample:
    """Merges neighbouring samples into one: means weighted by their length; throttled if any was."""
    if len(samples) == 1:
        return samples[0]
    seconds = sum(sample.seconds for sample in samples)

    def mean(values: Sequence[float | None]) -> float | None:
        numbers = [value for value in values if value is not None]
        if len(numbers) < len(samples):
            return None
        return sum(value * sample.seconds for value, sample in zip(numbers, samples, strict=True)) / seconds

    gpu_readings = [sample.gpu for sample in samples if sample.gpu is not None]
    gpu = None
    if len(gpu_readings) == len(samples):
        memory = mean([reading.memory_bytes for reading in gpu_readings])
        throttled = [reading.throttled for reading in gpu_readings]
        gpu = GpuReading(
            percent=mean([reading.percent for reading in gpu_readings]),
            memory_bytes=None if memory is None else round(memory),
            power_watts=mean([reading.power_watts for reading in gpu_readings]),
            throttled=None if None in throttled else any(throttled),
        )
    return _Sample(
        at=samples[-1].at,
        seconds=seconds,
        own=mean([sample.own for sample in samples]) or 0.0,
        other=mean([sample.other for sample in samples]),
        steal=mean([sample.steal for sample in samples]),
        resident=mean([sample.resident for sample in samples]) or 0.0,
        gpu=gpu,
    )
