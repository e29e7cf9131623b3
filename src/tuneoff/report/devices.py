"""Compares arms on several devices with the same arms on one: speed-up, efficiency, memory, and warnings."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tuneoff.analysis.results import Arm, Results
from tuneoff.encoding import markdown as escaped
from tuneoff.records.record import Finding, RankFigures, TrialRecord
from tuneoff.report import units
from tuneoff.report.markup import grid

Summary = dict[str, Any]


def devices_data(results: Results) -> list[dict[str, Any]]:
    """Returns an entry for every arm on several devices; empty where there is none."""
    multi_device = [arm for arm in results.arms if arm.trials[0].devices > 1]
    return [_entry(arm, _one_device_arm(arm, results)) for arm in multi_device]


def device_warnings(results: Results) -> list[Finding]:
    """Warns that times and memory of arms on different numbers of devices are no comparison of methods."""
    counts = {arm.label: arm.trials[0].devices for arm in results.arms if any(r.model for r in arm.completed)}
    if len(set(counts.values())) < 2:
        return []
    listed = ", ".join(f"{label} {count}" for label, count in counts.items())
    message = f"Arms ran on different numbers of devices ({listed}): their times and memory do not compare methods."
    return [Finding(name="different_devices", message=message)]


def _configuration(arm: Arm) -> str:
    """Returns an arm's configuration as text, without its devices: equal for arms that differ in devices alone."""
    trial = arm.trials[0]
    return json.dumps([trial.method, trial.learning_rate, trial.options], sort_keys=True)


def _one_device_arm(arm: Arm, results: Results) -> Arm | None:
    """Returns the same arm on one device, if the study has it."""
    matches = (
        other for other in results.arms if other.trials[0].devices == 1 and _configuration(other) == _configuration(arm)
    )
    return next(matches, None)


def _entry(arm: Arm, one_device: Arm | None) -> dict[str, Any]:
    pairs = _pairs(arm, one_device) if one_device is not None else []
    one_device_seconds, train_seconds = (_mean([_seconds(pair[side]) for pair in pairs]) for side in (0, 1))
    devices = arm.trials[0].devices
    reason = ""
    if one_device_seconds is None or train_seconds is None:
        reason = "the study has no such arm on one device" if one_device is None else "no seed of both is completed"
        if not arm.trains:
            reason = "nothing is trained"
    speed_up = one_device_seconds / train_seconds if one_device_seconds and train_seconds else None
    return {
        "method": arm.label,
        "devices": devices,
        "shard": arm.trials[0].shard,
        "beside": one_device.label if one_device is not None else None,
        "seeds": [record.spec.seed for _, record in pairs],
        "train_seconds": train_seconds,
        "one_device_train_seconds": one_device_seconds,
        "speed_up": speed_up,
        "efficiency": speed_up / devices if speed_up is not None else None,
        "speed_up_reason": reason,
        "contended": arm.contended or (one_device is not None and one_device.contended),
        **_over_ranks(arm),
    }


_FIGURES: dict[str, Callable[[RankFigures], float | None]] = {
    "peak_memory_bytes": lambda rank: rank.peak_memory_bytes,
    "data_wait_seconds": lambda rank: rank.data_wait_seconds,
    "cpu_percent_mean": lambda rank: rank.cpu_percent_mean,
    "gpu_percent_mean": lambda rank: rank.gpu_percent_mean,
}


def _over_ranks(arm: Arm) -> dict[str, Any]:
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


def section(summary: Summary) -> str:
    """Writes the section in report.md; empty where no arm runs on several devices."""
    entries = summary["devices"]
    if not entries:
        return ""
    heads = ["arm", "devices", "beside", "train time", "on one", "speed-up", "efficiency", "memory per rank", "waits"]
    rows = [
        [
            escaped(entry["method"]),
            f"{entry['devices']}{', sharded' if entry['shard'] else ''}",
            escaped(entry["beside"]) if entry["beside"] else "–",
            _format_value(entry["train_seconds"], units.seconds),
            _format_value(entry["one_device_train_seconds"], units.seconds),
            _format_value(entry["speed_up"], lambda value: f"{value:.2f}×") + _contended_mark(entry),
            _format_value(entry["efficiency"], lambda value: f"{value:.0%}"),
            _format_range(entry, "peak_memory_bytes", units.size),
            _format_range(entry, "data_wait_seconds", units.seconds),
        ]
        for entry in entries
    ]
    explanation = (
        "Speed-up is the train time on one device over that on several, on the seeds that both have; efficiency is "
        "that over the number of devices (†: timed on a busy machine). Memory is the peak of a rank and “waits” its "
        "wait for data, least to greatest."
    )
    reasons = [
        f"{escaped(e['method'])}: no speed-up, because {e['speed_up_reason']}." for e in entries if e["speed_up_reason"]
    ]
    return "\n\n".join(["## Several devices", grid(heads, rows), explanation, *reasons])


def _contended_mark(entry: dict[str, Any]) -> str:
    return "†" if entry["contended"] and entry["speed_up"] is not None else ""


def _format_value(value: Any, show: Callable[[Any], str]) -> str:
    return "–" if value is None else show(value)


def _format_range(entry: dict[str, Any], name: str, show: Callable[[Any], str]) -> str:
    least, greatest = entry[f"{name}_least"], entry[f"{name}_greatest"]
    if least is None:
        return "–"
    texts = list(dict.fromkeys((show(least), show(greatest))))
    return " – ".join(texts)
