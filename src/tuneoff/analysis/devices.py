"""Compares arms on several devices with the same arms on one: speed-up, efficiency and memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic import Field

from tuneoff.analysis.results import Arm, Results
from tuneoff.config.base import Frozen
from tuneoff.records.record import RankFigures, TrialRecord


class DeviceComparison(Frozen):
    """An arm on several devices beside the same arm on one."""

    method: str = Field(description="the arm's label")
    devices: int = Field(description="how many devices a trial of it ran on")
    shard: bool = Field(description="whether weights are spread over them")
    beside: str | None = Field(description="label of the same arm on one device; null where the study has none")
    seeds: tuple[int, ...] = Field(description="seeds that both have completed")
    train_seconds: float | None = Field(description="mean over these seeds, on several devices; null without any")
    one_device_train_seconds: float | None = Field(description="the same on one device")
    speed_up: float | None = Field(description="the latter over the former")
    efficiency: float | None = Field(description="`speed_up` over `devices`")
    speed_up_reason: str = Field(description="why there is none; else empty")
    contended: bool = Field(description="true when a timing of either arm was taken on a busy machine")
    peak_memory_bytes_least: float | None = Field(
        description="of any rank, mean over the arm's seeds, like all below; null where not measured"
    )
    peak_memory_bytes_greatest: float | None = Field(description="the most of any rank")
    data_wait_seconds_least: float | None = Field(description="wait for data")
    data_wait_seconds_greatest: float | None = Field(description="wait for data")
    cpu_percent_mean_least: float | None = Field(description="processor time while training, 100 = one core")
    cpu_percent_mean_greatest: float | None = Field(description="processor time while training, 100 = one core")
    gpu_percent_mean_least: float | None = Field(description="utilisation of its GPU")
    gpu_percent_mean_greatest: float | None = Field(description="utilisation of its GPU")


def compare_devices(results: Results) -> tuple[DeviceComparison, ...]:
    """Compares every arm on several devices; empty where there is none."""
    multi_device = [arm for arm in results.arms if arm.trials[0].devices > 1]
    return tuple(_compare(arm, _one_device_arm(arm, results)) for arm in multi_device)


def _configuration(arm: Arm) -> str:
    """Returns an arm's configuration as text, without its devices: equal for arms that differ in devices alone."""
    trial = arm.trials[0]
    settings = [trial.method, trial.learning_rate, trial.options, trial.protocol.searchable]
    return json.dumps(settings, sort_keys=True)


def _one_device_arm(arm: Arm, results: Results) -> Arm | None:
    """Returns the same arm on one device, if the study has it."""
    matches = (
        other for other in results.arms if other.trials[0].devices == 1 and _configuration(other) == _configuration(arm)
    )
    return next(matches, None)


def _compare(arm: Arm, one_device: Arm | None) -> DeviceComparison:
    pairs = _pairs(arm, one_device) if one_device is not None else []
    one_device_seconds, train_seconds = (_mean([_seconds(pair[side]) for pair in pairs]) for side in (0, 1))
    devices = arm.trials[0].devices
    reason = ""
    if one_device_seconds is None or train_seconds is None:
        reason = "the study has no such arm on one device" if one_device is None else "no seed of both is completed"
        if not arm.trains:
            reason = "nothing is trained"
    speed_up = one_device_seconds / train_seconds if one_device_seconds and train_seconds else None
    return DeviceComparison(
        method=arm.label,
        devices=devices,
        shard=arm.trials[0].shard,
        beside=one_device.label if one_device is not None else None,
        seeds=tuple(record.spec.seed for _, record in pairs),
        train_seconds=train_seconds,
        one_device_train_seconds=one_device_seconds,
        speed_up=speed_up,
        efficiency=speed_up / devices if speed_up is not None else None,
        speed_up_reason=reason,
        contended=arm.contended or (one_device is not None and one_device.contended),
        **_over_ranks(arm),
    )


_FIGURES: dict[str, Callable[[RankFigures], float | None]] = {
    "peak_memory_bytes": lambda rank: rank.peak_memory_bytes,
    "data_wait_seconds": lambda rank: rank.data_wait_seconds,
    "cpu_percent_mean": lambda rank: rank.cpu_percent_mean,
    "gpu_percent_mean": lambda rank: rank.gpu_percent_mean,
}


def _over_ranks(arm: Arm) -> dict[str, float | None]:
    """Returns the least and the greatest value over ranks, each a mean over seeds; null where no rank has a value."""
    bounds = {}
    for name, read in _FIGURES.items():
        values_by_seed = [
            values for r in arm.completed if (values := [v for rank in r.ranks if (v := read(rank)) is not None])
        ]
        bounds[f"{name}_least"] = _mean([min(values) for values in values_by_seed])
        bounds[f"{name}_greatest"] = _mean([max(values) for values in values_by_seed])
    return bounds


def _pairs(arm: Arm, one_device: Arm) -> list[tuple[TrialRecord, TrialRecord]]:
    """Pairs the records of one device with those of several, at the seeds that both have."""
    by_seed = {record.spec.seed: record for record in one_device.completed}
    shared = [(by_seed[record.spec.seed], record) for record in arm.completed if record.spec.seed in by_seed]
    return [pair for pair in shared if all(_seconds(record) is not None for record in pair)]


def _seconds(record: TrialRecord) -> float | None:
    return record.timing.train_seconds


def _mean(values: list[Any]) -> float | None:
    return sum(values) / len(values) if values else None
