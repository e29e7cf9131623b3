"""Turns trials and their events into what trackers are given: names of metrics, configurations, final figures."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.interfaces import StudyInfo, TrialInfo
from tuneoff.records.record import Event, TrialRecord

STEP = ("loss", "learning_rate", "gradient_norm", "examples_per_second", "epoch")
MACHINE = ("_percent", "_bytes", "_watts")
"""How the names of a machine's figures end."""
ID_LENGTH = 20
GROUP_LENGTH = 6


def study_info(spec: StudySpec, key: str) -> StudyInfo:
    """Returns what trackers are told of a study; `key` names its folder (see `StudyTrackers.followed`)."""
    return StudyInfo(
        name=spec.name,
        group=f"{spec.name}-{key[:GROUP_LENGTH]}",
        id=run_id(key, "study"),
        description=spec.description,
        configuration=spec.model_dump(mode="json", exclude={"name", "description", "execution", "trackers"}),
    )


def trial_info(spec: TrialSpec, key: str, attempt: int) -> TrialInfo:
    """Returns what trackers are told of a trial. How it is run (`execution`) is no part of what it is."""
    return TrialInfo(
        id=run_id(key, spec.id),
        name=spec.id,
        label=spec.label,
        purpose=spec.purpose,
        seed=spec.seed,
        attempt=attempt,
        configuration=spec.model_dump(mode="json", exclude={"id", "execution", "halved_batches", "times_inference"}),
    )


def run_id(key: str, name: str) -> str:
    """Returns the id of a run: equal for equal folders and trials."""
    return hashlib.sha256(f"{key}/{name}".encode()).hexdigest()[:ID_LENGTH]


def metrics_of(event: Event) -> dict[str, float]:
    """Returns the metrics that one line of a trial's event log adds to its run; empty for a line without figures."""
    kind = event.get("kind")
    if kind == "step":
        metrics = {f"train/{name}": event.get(name) for name in STEP}
    elif kind == "validation":
        metrics = {f"validation/{name}": value for name, value in dict(event.get("metrics") or {}).items()}
    elif kind == "machine":
        metrics = {f"system/{name}": value for name, value in event.items() if name.endswith(MACHINE)}
    else:
        metrics = {}
    return _finite(metrics.items())


def final_metrics(record: TrialRecord) -> dict[str, float]:
    """Returns the scores and costs of a trial; what is null in its record is left out."""
    scores = [(f"final/{metric.split}/{metric.name}", metric.value) for metric in record.metrics]
    parameters = record.parameters
    costs: dict[str, Any] = {
        "train_seconds": record.timing.train_seconds,
        "total_seconds": record.timing.total_seconds,
        "peak_memory_bytes": record.memory.peak_memory_bytes,
        "stored_bytes": record.stored_bytes,
        "energy_joules": record.energy_joules,
        "trainable_parameters": parameters.trainable.total if parameters else None,
        "total_parameters": parameters.total.total if parameters else None,
        "examples_per_second": record.throughput.examples_per_second,
        "tokens_per_second": record.throughput.tokens_per_second,
        "latency_seconds_median": record.inference.latency_seconds_median,
        "gradient_norm_mean": record.gradient_norm.mean,
        "gradient_norm_max": record.gradient_norm.max,
        "selected_step": record.selected_step,
    }
    return _finite([*scores, *((f"final/{name}", value) for name, value in costs.items())])


def _finite(items: Iterable[tuple[str, Any]]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in items
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


def step_of(event: Mapping[str, Any], previous: int) -> int:
    """Returns the optimizer step that an event belongs to: its own, or the previous one."""
    step = event.get("step")
    return step if isinstance(step, int) and not isinstance(step, bool) else previous
