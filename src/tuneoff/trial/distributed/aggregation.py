"""What the ranks of one trial measured, merged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from tuneoff.records.record import (
    Event,
    Memory,
    PhaseMemory,
    Prediction,
    PredictionsInfo,
    RankFigures,
    Timing,
    TrialRecord,
    Utilisation,
)
from tuneoff.store import TrialStore
from tuneoff.trial.distributed.context import RankContext
from tuneoff.trial.phases import Measured

N = TypeVar("N", int, float)


class OnlookerTrialStore(TrialStore):
    """A trial's folder as those see it who read there and write nothing: all ranks but the first, and a process that
    computes a finished trial on for the sake of others."""

    def append_event(self, event: Event) -> None:
        """Writes nothing: another process has written it, or does."""

    def write_record(self, record: TrialRecord) -> None:
        """Writes nothing: another process has written it, or does."""

    def write_predictions(self, split: str, predictions: Iterable[Prediction]) -> PredictionsInfo:
        """Writes nothing: another process has written it, or does; counts the predictions."""
        return PredictionsInfo(file="", sha256="", rows=len(list(predictions)))


@dataclass(frozen=True)
class _Part:
    """What one rank measured."""

    figures: RankFigures
    memory: Memory
    utilisation: Utilisation | None
    joules: float | None


def combine(measured: Measured, ranks: RankContext, device: torch.device, cpu_seconds: float | None) -> Measured:
    """Merges what all ranks measured; every rank calls it. What one process measured stays as it is.

    Peaks of memory, waits for data and the times of training are the greatest of any rank. Samples of the machine are
    those of the rank whose GPU was busiest (on the CPU those of the first rank, which count all ranks as the trial's
    own). Energy is the sum over GPUs; on the CPU the counter is that of the whole machine already.

    Args:
        measured: by this rank.
        ranks: all of them.
        device: this rank's.
        cpu_seconds: processor seconds of this rank while it trained; None where nothing was trained.
    """
    if ranks.alone:
        return measured
    timing, utilisation = measured.timing, measured.utilisation
    has_trained = cpu_seconds is not None and bool(timing.train_seconds)
    own_figures = RankFigures(
        rank=ranks.rank,
        device=str(device),
        threads=torch.get_num_threads(),
        peak_memory_bytes=measured.memory.peak_memory_bytes,
        train_seconds=timing.train_seconds,
        data_wait_seconds=timing.data_wait_seconds,
        cpu_percent_mean=100 * (cpu_seconds or 0.0) / (timing.train_seconds or 1.0) if has_trained else None,
        gpu_percent_mean=_mean(utilisation.gpu_percent) if utilisation is not None else None,
    )
    parts = ranks.gather(_Part(own_figures, measured.memory, utilisation, measured.joules))
    return replace(
        measured,
        ranks=tuple(part.figures for part in parts),
        memory=_merge_memories([part.memory for part in parts]),
        utilisation=max(parts, key=lambda part: part.figures.gpu_percent_mean or 0.0).utilisation,
        timing=_merge_timings(timing, [part.figures for part in parts]),
        joules=_sum_joules([part.joules for part in parts]) if device.type == "cuda" else measured.joules,
        missing={**measured.missing, **_explain_nulls(own_figures)},
    )


def _merge_timings(timing: Timing, ranks: Sequence[RankFigures]) -> Timing:
    """Returns the first rank's times, with the longest training and the longest wait for data of any rank."""
    train_seconds = _find_maximum(figures.train_seconds for figures in ranks)
    wait_seconds = _find_maximum(figures.data_wait_seconds for figures in ranks)
    if train_seconds is None or wait_seconds is None:
        return timing
    return timing.model_copy(
        update={
            "train_seconds": train_seconds,
            "data_wait_seconds": wait_seconds,
            "train_step_seconds": train_seconds - wait_seconds,
        }
    )


def _merge_memories(memories: Sequence[Memory]) -> Memory:
    """Returns the greatest peak of every phase; the trial's own is that of the rank with the highest peak."""
    names = dict.fromkeys(name for memory in memories for name in memory.phases)
    phases = {}
    for name in names:
        peaks = [memory.phases[name] for memory in memories if name in memory.phases]
        phases[name] = PhaseMemory(
            resident_bytes=_find_maximum(phase.resident_bytes for phase in peaks),
            allocated_bytes=_find_maximum(phase.allocated_bytes for phase in peaks),
            reserved_bytes=_find_maximum(phase.reserved_bytes for phase in peaks),
        )
    largest = max(memories, key=lambda memory: memory.peak_memory_bytes or 0)
    return largest.model_copy(update={"phases": phases})


def _sum_joules(values: Sequence[float | None]) -> float | None:
    measured_joules = [joules for joules in values if joules is not None]
    return math.fsum(measured_joules) if len(measured_joules) == len(values) else None


def _find_maximum(values: Iterable[N | None]) -> N | None:
    return max((value for value in values if value is not None), default=None)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _explain_nulls(figures: RankFigures) -> dict[str, str]:
    """Explains why figures of the ranks are null."""
    reasons = {}
    if figures.train_seconds is None:
        untrained = ("train_seconds", "data_wait_seconds", "cpu_percent_mean")
        reasons = dict.fromkeys((f"ranks.{name}" for name in untrained), "this method does not train")
    if figures.gpu_percent_mean is None:
        cuda = figures.device.startswith("cuda")
        reasons["ranks.gpu_percent_mean"] = "the GPU was not sampled" if cuda else "the trial ran on the CPU"
    if figures.peak_memory_bytes is None:
        reasons["ranks.peak_memory_bytes"] = "it could not be measured; see memory.peak_memory_bytes"
    return reasons
