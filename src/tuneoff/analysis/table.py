"""Records as data frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tuneoff.analysis.figures import COSTS
from tuneoff.records.record import TrialRecord

if TYPE_CHECKING:
    import pandas as pd

_WHOLE = (
    "peak_memory_bytes",
    "peak_over_base_bytes",
    "stored_bytes",
    "trainable_parameters",
    "trainable_head_parameters",
    "trainable_adapter_parameters",
    "trainable_base_parameters",
    "total_parameters",
    "selected_step",
)


def trials_frame(records: Iterable[TrialRecord]) -> pd.DataFrame:
    """Builds a data frame with one row per trial, in the given order; blank where a figure was not measured.

    Test metrics have their own names as columns, those of other splits `SPLIT_NAME`. Units are in the names;
    `latency_seconds` is the median for one example. Printed, it shows the few columns that are read most.
    """
    from tuneoff.analysis.frame import TrialsFrame

    records = list(records)
    rows = [_row(record) for record in records]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if not rows:
        columns = ["id", "label", "method", "seed", "status"]
    # Metrics differ between statuses; keeping them after the identity keeps the columns' order stable.
    fixed = list(_identity_keys())
    metrics = [c for c in columns if c not in fixed and c not in _cost_keys()]
    ordered = [c for c in (*fixed, *metrics, *_cost_keys()) if c in columns]
    frame = TrialsFrame(rows, columns=ordered)
    tested = [m.name for record in records for m in record.metrics if m.split == "test"]
    primary = [record.primary_metric for record in records if record.primary_metric in tested]
    frame.attrs["metrics"] = list(dict.fromkeys([*primary, *tested]))
    for name in _WHOLE:
        if name in frame:
            frame[name] = frame[name].astype("Int64")
    for name in [*metrics, *(cost.name for cost in COSTS), "learning_rate", "latency_seconds_p95"]:
        if name in frame and name not in _WHOLE:
            frame[name] = frame[name].astype("Float64")
    return frame


def _identity_keys() -> tuple[str, ...]:
    return ("id", "label", "method", "seed", "status", "learning_rate")


def _cost_keys() -> tuple[str, ...]:
    return (
        *(cost.name for cost in COSTS),
        "latency_seconds_p95",
        *_WHOLE[3:8],
        "steps",
        "selected_step",
        "contended",
        "memory_kind",
        "device",
        "random_weights",
        "findings",
        "cause",
    )


def _row(record: TrialRecord) -> dict[str, Any]:
    spec = record.spec
    row: dict[str, Any] = {
        "id": spec.id,
        "label": spec.label,
        "method": spec.method,
        "seed": spec.seed,
        "status": record.status.value,
        "learning_rate": spec.learning_rate,
    }
    for split in ("test", "validation", "train"):
        prefix = "" if split == "test" else f"{split}_"
        row |= {f"{prefix}{m.name}": m.value for m in record.metrics if m.split == split}
    row |= {cost.name: cost.of(record) for cost in COSTS}
    trainable = record.parameters.trainable if record.parameters else None
    row |= {
        "latency_seconds_p95": record.inference.latency_seconds_p95,
        "trainable_parameters": trainable.total if trainable else None,
        "trainable_head_parameters": trainable.head if trainable else None,
        "trainable_adapter_parameters": trainable.adapter if trainable else None,
        "trainable_base_parameters": trainable.base if trainable else None,
        "total_parameters": record.parameters.total.total if record.parameters else None,
        "steps": record.steps,
        "selected_step": record.selected_step,
        "contended": record.noise.contended,
        "memory_kind": record.memory.kind,
        "device": record.environment.device if record.environment else None,
        "random_weights": spec.model.random_weights,
        "findings": "; ".join(finding.name for finding in record.findings),
        "cause": record.cause,
    }
    return row
