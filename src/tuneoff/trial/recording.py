"""A trial's record, built from what its phases returned."""

from __future__ import annotations

from dataclasses import dataclass, field

from tuneoff.records.record import (
    DataInfo,
    Finding,
    GradientNorm,
    Inference,
    Memory,
    Metric,
    ModelInfo,
    Noise,
    Parameters,
    PrecisionInfo,
    PredictionsInfo,
    Status,
    Throughput,
    Timing,
    TrialRecord,
    Utilisation,
)
from tuneoff.trial.context import TrialContext
from tuneoff.trial.training.selection import Selected
from tuneoff.trial.training.trainer import FIRST_STEPS, Training

UNTRAINED = (
    "data.train_order_fingerprint",
    "energy_joules",
    "gradient_norm",
    "selected_step",
    "throughput",
    "timing",
)
"""Figures that a method without training does not have."""
MODELLESS = (
    "inference",
    "memory.kind",
    "memory.peak_memory_bytes",
    "memory.peak_over_base_bytes",
    "model",
    "noise",
    "precision",
    "utilisation",
)
"""Figures that a baseline does not have either: it uses no model."""
UNTESTED = ("inference", "timing.inference_seconds", "timing.test_seconds")
"""Figures that a trial of a search does not have."""


@dataclass(frozen=True)
class Tested:
    """Results of the test split."""

    metrics: tuple[Metric, ...]
    predictions: PredictionsInfo
    inference: Inference = field(default_factory=Inference)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Used:
    """The model that a trial used: what the record says of it."""

    info: ModelInfo
    parameters: Parameters
    precision: PrecisionInfo


@dataclass(frozen=True)
class Measured:
    """What the trial took: seconds, memory, and how busy the machine was meanwhile."""

    timing: Timing
    memory: Memory
    missing: dict[str, str]
    utilisation: Utilisation | None = None
    noise: Noise = field(default_factory=Noise)


@dataclass(frozen=True)
class Results:
    """What the phases of a trial returned.

    Attributes:
        data: the rows.
        findings: what a reader must know of data, model and method.
        selected: the scores on validation.
        measured: what it took.
        model: None for a baseline, which uses none.
        training: None for a method without training.
        tested: None for a trial of a search.
    """

    data: DataInfo
    findings: tuple[Finding, ...]
    selected: Selected
    measured: Measured
    model: Used | None = None
    training: Training | None = None
    tested: Tested | None = None


def build_record(context: TrialContext, results: Results) -> TrialRecord:
    """Builds a completed trial's record of what its phases returned."""
    selected, training, tested, measured = results.selected, results.training, results.tested, results.measured
    findings = [*results.findings, *(tested.findings if tested else ())]
    if measured.noise.contended:
        findings.append(Finding(name="contended", message=measured.noise.reason))
    return TrialRecord(
        spec=context.spec,
        status=Status.COMPLETED,
        metrics=(*selected.metrics, *(tested.metrics if tested else ())),
        primary_metric=context.task.tested_metric,
        selected_step=selected.step,
        steps=training.steps if training else 0,
        parameters=results.model.parameters if results.model else Parameters(),
        timing=_timing(measured.timing, training),
        memory=measured.memory,
        gradient_norm=_gradient_norm(training) if training else GradientNorm(),
        curve=training.curve if training else (),
        throughput=_throughput(training) if training else Throughput(),
        inference=tested.inference if tested else Inference(),
        utilisation=measured.utilisation,
        noise=measured.noise,
        stored_bytes=selected.stored_bytes,
        energy_joules=training.joules if training else None,
        data=_data(results.data, training),
        model=results.model.info if results.model else None,
        precision=results.model.precision if results.model else None,
        predictions={"test": tested.predictions} if tested else {},
        findings=tuple(findings),
        missing=_missing(results),
    )


def _missing(results: Results) -> dict[str, str]:
    """Returns the reasons of figures that are null because of what the trial's phases are."""
    reasons = dict(results.measured.missing)
    if results.tested is None:
        reasons |= dict.fromkeys(UNTESTED, "a trial of a search scores validation alone")
    if results.training is None:
        reasons |= dict.fromkeys(UNTRAINED, "this method does not train")
    else:
        if results.training.joules is None:
            reasons["energy_joules"] = results.training.joules_reason
        if results.training.step_seconds_median is None:
            reasons["timing.step_seconds_median"] = f"the trial has no more than {FIRST_STEPS} steps"
    if results.model is None:
        reasons |= dict.fromkeys(MODELLESS, "this method uses no model")
    return reasons


def _timing(timing: Timing, training: Training | None) -> Timing:
    if training is None:
        return timing
    return timing.model_copy(
        update={
            "first_steps": min(FIRST_STEPS, training.steps),
            "first_steps_seconds": training.first_steps_seconds,
            "step_seconds_median": training.step_seconds_median,
        }
    )


def _data(data: DataInfo, training: Training | None) -> DataInfo:
    if training is None:
        return data
    return data.model_copy(update={"train_order_fingerprint": training.order, "examples_trained": training.examples})


def _gradient_norm(training: Training) -> GradientNorm:
    norms = training.gradient_norms
    return GradientNorm(per_step=norms, mean=sum(norms) / len(norms), max=max(norms))


def _throughput(training: Training) -> Throughput:
    return Throughput(
        examples_per_second=training.examples / training.seconds,
        tokens_per_second=training.tokens / training.seconds,
        padding_share=1 - training.tokens / training.computed_tokens,
    )
