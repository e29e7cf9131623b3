"""A trial's immutable result. Every key is described in docs/record.md; units are in the names.

A figure that could not be measured is null, and `missing` says why under the figure's dotted name.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from tuneoff.config.base import Frozen
from tuneoff.config.spec import TrialSpec
from tuneoff.records.measurements import (
    CurvePoint,
    GradientNorm,
    Inference,
    Memory,
    MemoryKind,
    Money,
    Noise,
    Parameters,
    PhaseMemory,
    RankFigures,
    RoleCounts,
    Throughput,
    Timing,
    Utilisation,
)
from tuneoff.records.predictions import Prediction, PredictionsInfo
from tuneoff.records.provenance import DataInfo, Environment, ModelInfo, PrecisionInfo, SplitInfo
from tuneoff.records.scores import Direction, HeldScore, Metric, Retention, RewindPoint
from tuneoff.records.served import Served
from tuneoff.records.start import Start

__all__ = [
    "RECORD_VERSION",
    "CurvePoint",
    "DataInfo",
    "Direction",
    "Environment",
    "Event",
    "Finding",
    "GradientNorm",
    "HeldScore",
    "Inference",
    "Memory",
    "MemoryKind",
    "Metric",
    "ModelInfo",
    "Money",
    "Noise",
    "Parameters",
    "PhaseMemory",
    "PrecisionInfo",
    "Prediction",
    "PredictionsInfo",
    "RankFigures",
    "Retention",
    "RewindPoint",
    "RoleCounts",
    "SplitInfo",
    "Status",
    "Throughput",
    "Timing",
    "TrialRecord",
    "Utilisation",
    "key_of_held",
]

RECORD_VERSION = 3


class Status(StrEnum):
    """What became of a trial."""

    PLANNED = "planned"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    OVER_BUDGET = "over_budget"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Tells whether the trial has the result that was asked for."""
        return self is Status.COMPLETED

    @property
    def is_answer(self) -> bool:
        """Tells whether it is an outcome of the configuration, which a re-run keeps: to train again would diverge
        again. A trial that ended in any other way is run again."""
        return self in {Status.COMPLETED, Status.DIVERGED}


class Finding(Frozen):
    """Something a reader must know before trusting the figures, e.g. `collapsed` or `contended`."""

    name: str = Field(
        description="e.g. `collapsed`, `below_baseline`, `overlap`, `truncated`, `contended`, `random_weights`, "
        "`fresh_weights`, `halved_batches`, `idle_parameters`, `ia3_without_feedforward`, `tracker_failed`, "
        "`memory_not_released`, `kernels_disagree`, `unseen_targets`, `whole_words`, "
        "`targets_not_read_back`, `single_words`, `similar_labels`, `spaced_labels`, `unlearned_tags`, "
        "`groups_removed`, `groups_of_one`, `few_groups`, `unparsed_answers`, `cut_answers`, `network_latency`, "
        "`started_from`, `start_saw_test`, `retention_not_scored`, "
        "`pad_token_replaced`"
    )
    message: str = Field(description="what was found, for a person")


class TrialRecord(Frozen):
    """Everything known of one trial."""

    record_version: int = Field(RECORD_VERSION, description="version of this format")
    spec: TrialSpec = Field(description="what was asked for")
    status: Status = Field(
        description="`completed`, `failed`, `out_of_memory`, `diverged`, `over_budget` or `cancelled` (`planned` "
        "and `running` are never sealed)"
    )
    cause: str = Field("", description="why the trial did not complete, for a person")
    log_tail: tuple[str, ...] = Field((), description="last lines of its log, where it did not complete")
    metrics: tuple[Metric, ...] = Field((), description="all scores, of validation and of test")
    primary_metric: str | None = Field(None, description="the metric that the task is judged by")
    chosen: dict[str, float | dict[str, float]] = Field(
        default_factory=dict,
        description="option of the task -> what was chosen on the validation split for the tested checkpoint, such as "
        "the `threshold` of each label; empty where nothing was",
    )
    selected_step: int | None = Field(None, description="optimizer step of the tested checkpoint")
    steps: int = Field(0, description="optimizer steps that were run")
    resumed: int = Field(
        0,
        description="how often its training continued from a checkpoint, because its process had ended; times are then "
        "those of all its processes, each up to its last checkpoint, and samples of the machine those of the last",
    )
    parameters: Parameters | None = Field(
        None,
        description="counts by role; null where the trial ended before they were counted, and of a model that others "
        "run",
    )
    timing: Timing = Field(Timing(), description="seconds by phase")
    memory: Memory = Field(Memory(), description="peaks by phase")
    gradient_norm: GradientNorm = Field(GradientNorm(), description="before clipping")
    curve: tuple[CurvePoint, ...] = Field((), description="one point per validation")
    throughput: Throughput = Field(Throughput(), description="training speed")
    ranks: tuple[RankFigures, ...] = Field(
        (), description="of a trial on several devices, each of its processes; else empty"
    )
    inference: Inference = Field(Inference(), description="speed of the trained model")
    served: Served | None = Field(
        None, description="of a model that others run, what was asked of it; null for every other method"
    )
    retention: Retention = Field(Retention(), description="what it can still do of what the base model could")
    utilisation: Utilisation | None = Field(None, description="samples of the machine")
    noise: Noise = Field(Noise(), description="what disturbed the timing")
    stored_bytes: int | None = Field(None, description="files a user must keep beside the base model")
    energy_joules: float | None = Field(None, description="of the training phase, where the hardware reports it")
    data: DataInfo | None = Field(None, description="the rows")
    model: ModelInfo | None = Field(None, description="the base model")
    start: Start | None = Field(
        None, description="trained weights that its training started from (`start_from`); null where there are none"
    )
    precision: PrecisionInfo | None = Field(None, description="the policy in force and its error")
    environment: Environment | None = Field(None, description="machine and software")
    predictions: dict[str, PredictionsInfo] = Field(
        default_factory=dict, description="split -> its file of predictions"
    )
    kept_files: dict[str, str] | None = Field(
        default_factory=dict,
        description="file in `weights/` -> its SHA-256; empty where no weights were kept, null in a record of "
        "version 1",
    )
    findings: tuple[Finding, ...] = Field((), description="what a reader must know first")
    money: Money = Field(
        Money(),
        exclude=True,
        description="what it cost; never in the file, because prices change: set by the study's `prices` when results "
        "are read",
    )
    missing: dict[str, str] = Field(default_factory=dict, description="dotted name -> why it is null")

    @property
    def contents(self) -> dict[str, str]:
        """Returns what the trial loaded, as far as known: split -> fingerprint of its rows, `held NAME` -> that of what
        is held, `model` -> its hub commit."""
        rows = {name: split.fingerprint for name, split in self.data.splits.items()} if self.data else {}
        rows |= {key_of_held(name): score.fingerprint for name, score in self.retention.held.items()}
        commit = self.model.commit if self.model else None
        return rows if commit is None else {**rows, "model": commit}

    def metric(self, name: str, split: str = "test") -> float | None:
        """Returns the value of a metric, or None where it was not measured."""
        for metric in self.metrics:
            if metric.name == name and metric.split == split:
                return metric.value
        return None


def key_of_held(label: str) -> str:
    """Returns the key of `TrialSpec.contents` that holds the fingerprint of the rows of something that is held."""
    return f"held {label}"


Event = dict[str, Any]
"""One line of a trial's event log; keys are described in docs/events.md."""
