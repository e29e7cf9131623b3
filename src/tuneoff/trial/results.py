"""What the phases of a trial return."""

from __future__ import annotations

from dataclasses import dataclass, field

from tuneoff.records.record import (
    DataInfo,
    Finding,
    Inference,
    Metric,
    ModelInfo,
    Parameters,
    PrecisionInfo,
    PredictionsInfo,
    Retention,
)
from tuneoff.records.served import Served
from tuneoff.records.start import Start
from tuneoff.trial.training.progress import Trained
from tuneoff.trial.training.resume import Continuation
from tuneoff.trial.training.selection import Selected


@dataclass(frozen=True)
class UsedModel:
    """The model that a trial used, in the record's words."""

    info: ModelInfo
    parameters: Parameters
    precision: PrecisionInfo
    start: Start | None = None


@dataclass(frozen=True)
class Evaluated:
    """Results of the test split.

    Attributes:
        metrics: its scores.
        predictions: the file of its predictions.
        inference: the speed of the model on it.
        findings: what went wrong with the result itself.
    """

    metrics: tuple[Metric, ...]
    predictions: PredictionsInfo
    inference: Inference = field(default_factory=Inference)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Retained:
    """What of the base model's own was kept.

    Attributes:
        retention: the scores.
        reason: why there are none; empty where there are.
        rewind_reason: likewise, of models between the base model and the trained one.
        findings: what could not be scored.
    """

    retention: Retention
    reason: str = ""
    rewind_reason: str = ""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class TrialResults:
    """What the phases of a trial returned.

    Attributes:
        data: the rows.
        findings: what a reader must know of data, model and method.
        selected: the scores on validation.
        model: None for a baseline, which uses none, and for a model that others run.
        training: None for a method without training.
        evaluated: None for a trial of a search.
        retained: None where nothing is held for it.
        continuation: what earlier processes of the trial did.
        served: what was asked of a model that others run; None for every other method.
    """

    data: DataInfo
    findings: tuple[Finding, ...]
    selected: Selected
    model: UsedModel | None = None
    training: Trained | None = None
    evaluated: Evaluated | None = None
    retained: Retained | None = None
    continuation: Continuation = field(default_factory=Continuation)
    served: Served | None = None
