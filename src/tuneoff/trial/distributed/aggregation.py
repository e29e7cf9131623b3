"""What the ranks of one trial measured, in one record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
from tuneoff.trial.distributed.context import Ranks

N = TypeVar("N", int, float)


class Onlooker(TrialStore):
    """A trial's folder as all ranks but the first see it: they read there and write nothing."""

    def append_event(self, event: Event) -> None:
        """Not told: the first rank tells the same."""

    def write_record(self, record: TrialRecord) -> None:
        """Not written: the first rank's holds what all measured."""

    def write_predictions(self, split: str, predictions: Iterable[Prediction]) -> PredictionsInfo:
        """Not written: the first rank has the same."""
        return PredictionsInfo(file="", sha256="", rows=len(list(predictions)))


@dataclass(frozen=True)
class _Part:
    """What one rank measured."""

    figures: RankFigures
    memory: Memory
    utilisation: Utilisation | None
    joules: float | None


def combine(record: TrialRecord, ranks: Ranks, device: torch.device, cpu_seconds: float | None) -> TrialRecord:
    """A rank's record with the figures of all; every rank calls it, and a trial of one process is left as it is.

    Peaks of memory, waits for data and the times of training are the greatest of any rank. Samples of the machine are
    those of the rank whose GPU was busiest (on the CPU the first's, which count all ranks as the trial's own). Energy
    is the sum over GPUs; the counter of processors is that of the whole machine already.

    Args:
        record: what this rank measured.
        ranks: all of them.
        device: this rank's.
        cpu_seconds: processor seconds of this rank while it trained; None where nothing was trained.
    """
    if ranks.alone:
        return record
    timing, sampled = record.timing, record.utilisation
    trained = cpu_seconds is not None and bool(timing.train_seconds)
    mine = RankFigures(
        rank=ranks.number,
        device=str(device),
        threads=torch.get_num_threads(),
        peak_memory_bytes=record.memory.peak_memory_bytes,
        train_seconds=timing.train_seconds,
        data_wait_seconds=timing.data_wait_seconds,
        cpu_percent_mean=100 * (cpu_seconds or 0.0) / (timing.train_seconds or 1.0) if trained else None,
        gpu_percent_mean=_mean(sampled.gpu_percent) if sampled is not None else None,
    )
    parts = ranks.gather(_Part(mine, record.memory, sampled, record.energy_joules))
    slowest = _timing(timing, [part.figures for part in parts])
    update = {
        "ranks": tuple(part.figures for part in parts),
        "memory": _greatest([part.memory for part in parts]),
        "utilisation": max(parts, key=lambda part: part.figures.gpu_percent_mean or 0.0).utilisation,
        "timing": slowest,
        "energy_joules": _joules([part.joules for part in parts]) if device.type == "cuda" else record.energy_joules,
        "missing": {**record.missing, **_reasons(mine)},
    }
    if timing.train_seconds and slowest.train_seconds and record.throughput.examples_per_second is not None:
        share = timing.train_seconds / slowest.train_seconds
        speeds = {
            name: value * share
            for name in ("examples_per_second", "tokens_per_second")
            if (value := getattr(record.throughput, name)) is not None
        }
        update["throughput"] = record.throughput.model_copy(update=speeds)
    return record.model_copy(update=update)


def _timing(own: Timing, ranks: Sequence[RankFigures]) -> Timing:
    """The first rank's times, with the longest training and the longest wait for data of any rank."""
    trained = _most(figures.train_seconds for figures in ranks)
    waited = _most(figures.data_wait_seconds for figures in ranks)
    if trained is None or waited is None:
        return own
    return own.model_copy(
        update={"train_seconds": trained, "data_wait_seconds": waited, "train_step_seconds": trained - waited}
    )


def _greatest(memories: Sequence[Memory]) -> Memory:
    """The greatest peak of every phase; the trial's own is that of the rank that had the most, over its base."""
    names = dict.fromkeys(name for memory in memories for name in memory.phases)
    phases = {}
    for name in names:
        found = [memory.phases[name] for memory in memories if name in memory.phases]
        phases[name] = PhaseMemory(
            resident_bytes=_most(phase.resident_bytes for phase in found),
            allocated_bytes=_most(phase.allocated_bytes for phase in found),
            reserved_bytes=_most(phase.reserved_bytes for phase in found),
        )
    most = max(memories, key=lambda memory: memory.peak_memory_bytes or 0)
    return most.model_copy(update={"phases": phases})


def _joules(found: Sequence[float | None]) -> float | None:
    known = [joules for joules in found if joules is not None]
    return math.fsum(known) if len(known) == len(found) else None


def _most(values: Iterable[N | None]) -> N | None:
    return max((value for value in values if value is not None), default=None)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _reasons(figures: RankFigures) -> dict[str, str]:
    """Why figures of the ranks are null."""
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
