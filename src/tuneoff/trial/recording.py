"""A trial's record, built from what its phases returned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneoff.config.spec import TrialSpec
from tuneoff.records.record import (
    DataInfo,
    Environment,
    Finding,
    GradientNorm,
    Inference,
    Memory,
    Noise,
    Parameters,
    Retention,
    Status,
    Throughput,
    Timing,
    TrialRecord,
)
from tuneoff.records.served import Served
from tuneoff.trial.context import TrialContext
from tuneoff.trial.phases import Measured
from tuneoff.trial.results import TrialResults
from tuneoff.trial.training.progress import FIRST_STEPS, Trained

if TYPE_CHECKING:
    import torch

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
ELSEWHERE = (
    "inference.batch_size",
    "inference.batched_examples_per_second",
    "inference.batched_tokens_per_second",
    "inference.generated_tokens_per_second",
    "memory.kind",
    "memory.peak_memory_bytes",
    "memory.peak_over_base_bytes",
    "model",
    "noise",
    "parameters",
    "precision",
    "stored_bytes",
    "utilisation",
)
"""Figures that a model has not which others run."""
UNTESTED = ("inference", "timing.inference_seconds", "timing.test_seconds")
"""Figures that a trial of a search does not have."""
LATENCY = ("inference.latency_seconds_median", "inference.latency_seconds_p95")
"""Figures of timing single examples."""

COSTS = (
    "timing",
    "curve.train_seconds",
    "throughput.examples_per_second",
    "throughput.tokens_per_second",
    "inference.latency_seconds_median",
    "inference.latency_seconds_p95",
    "inference.batch_size",
    "inference.batched_examples_per_second",
    "inference.batched_tokens_per_second",
    "inference.generated_tokens_per_second",
    "energy_joules",
)
"""Figures that tell nothing of a trial whose device others used at the same time. Memory is its own all the same."""


PROCESS = ("memory", "noise", "utilisation")
"""Figures that tell nothing of a trial, either, whose process others shared."""


@dataclass(frozen=True)
class Provenance:
    """What a trial was, and where it ran.

    Attributes:
        spec: what was asked for, as planned.
        environment: versions and hardware.
        total_seconds: of the whole trial from its process's start.
        findings: of the process and of trackers.
        kept_files: file of the trained weights -> its SHA-256.
    """

    spec: TrialSpec
    environment: Environment
    total_seconds: float
    findings: tuple[Finding, ...]
    kept_files: dict[str, str]


def build_record(
    context: TrialContext, results: TrialResults, measured: Measured, provenance: Provenance
) -> TrialRecord:
    """Builds a completed trial's record."""
    model, selected, training, evaluated = results.model, results.selected, results.training, results.evaluated
    retained = results.retained
    findings = [*results.findings, *(evaluated.findings if evaluated else ()), *(retained.findings if retained else ())]
    if measured.noise.contended:
        findings.append(Finding(name="contended", message=measured.noise.reason))
    record = TrialRecord(
        spec=provenance.spec,
        status=Status.COMPLETED,
        metrics=(*selected.metrics, *(evaluated.metrics if evaluated else ())),
        primary_metric=context.task.tested_metric,
        chosen=selected.chosen,
        selected_step=selected.step,
        steps=training.steps if training else 0,
        resumed=results.continuation.resumed,
        parameters=model.parameters if model else Parameters() if results.served is None else None,
        timing=_timing(measured.timing, training, provenance.total_seconds),
        memory=measured.memory,
        gradient_norm=_gradient_norm(training) if training else GradientNorm(),
        curve=training.curve if training else (),
        throughput=_throughput(training, measured.timing) if training else Throughput(),
        ranks=measured.ranks,
        inference=evaluated.inference if evaluated else Inference(),
        served=results.served,
        retention=retained.retention if retained else Retention(),
        utilisation=measured.utilisation,
        noise=measured.noise,
        stored_bytes=selected.stored_bytes if results.served is None else None,
        energy_joules=measured.joules,
        data=_data(results.data, training),
        model=model.info if model else None,
        start=model.start if model else None,
        precision=model.precision if model else None,
        environment=provenance.environment,
        predictions={"test": evaluated.predictions} if evaluated else {},
        kept_files=provenance.kept_files,
        findings=(*findings, *provenance.findings),
        missing={
            **measured.missing,
            **_explain_phases(results),
            **_explain_retention(provenance.spec, results, measured.timing),
        },
    )
    return record.model_copy(
        update={"missing": {**_explain_machine_and_model(record, context.device), **record.missing}}
    )


def without_costs(
    record: TrialRecord, reason: str = "other trials used its device at the same time (executor.trials_per_device)"
) -> TrialRecord:
    """Returns the record of a trial that shared its device with others: its costs are null, with that reason."""
    speeds = [name.partition(".")[2] for name in COSTS if name.startswith("inference.")]
    return record.model_copy(
        update={
            "timing": Timing(first_steps=record.timing.first_steps),
            "curve": tuple(point.model_copy(update={"train_seconds": None}) for point in record.curve),
            "throughput": Throughput(padding_share=record.throughput.padding_share),
            "inference": record.inference.model_copy(update=dict.fromkeys(speeds)),
            "energy_joules": None,
            "missing": {**dict.fromkeys(COSTS, reason), **record.missing},
        }
    )


def without_figures_of_process(reason: str, record: TrialRecord) -> TrialRecord:
    """Returns the record of a trial that shared its process with others: memory, too, is null, with the reason."""
    missing = {name: why for name, why in record.missing.items() if name not in COSTS and not name.startswith(PROCESS)}
    reasons = dict.fromkeys((*COSTS, *PROCESS), reason)
    update = {"memory": Memory(), "noise": Noise(), "utilisation": None, "missing": {**missing, **reasons}}
    return without_costs(record).model_copy(update=update)


def _timing(timing: Timing, training: Trained | None, total_seconds: float) -> Timing:
    update: dict[str, float | None] = {"total_seconds": total_seconds}
    if training is not None:
        update |= {
            "first_steps": min(FIRST_STEPS, training.steps),
            "first_steps_seconds": training.first_steps_seconds,
            "step_seconds_median": training.step_seconds_median,
        }
    return timing.model_copy(update=update)


def _data(data: DataInfo, training: Trained | None) -> DataInfo:
    if training is None:
        return data
    return data.model_copy(update={"train_order_fingerprint": training.order, "examples_trained": training.examples})


def _gradient_norm(training: Trained) -> GradientNorm:
    norms = training.gradient_norms
    return GradientNorm(per_step=norms, mean=sum(norms) / len(norms), max=max(norms))


def _throughput(training: Trained, timing: Timing) -> Throughput:
    assert timing.train_seconds is not None
    return Throughput(
        examples_per_second=training.examples / timing.train_seconds,
        tokens_per_second=training.tokens / timing.train_seconds,
        padding_share=1 - training.tokens / training.computed_tokens,
    )


def _explain_phases(results: TrialResults) -> dict[str, str]:
    """Explains why figures are null of phases that the trial does not have."""
    training, reasons = results.training, dict[str, str]()
    if results.served is None:
        reasons["served"] = "nothing is asked over a network"
    if results.evaluated is None:
        reasons |= dict.fromkeys(UNTESTED, "a trial of a search scores validation alone")
    start = results.model.start if results.model else None
    if start is None:
        reasons["start"] = "its training started from no trained weights (start_from)"
    else:
        unknown = [name for name, value in start if value is None]
        reasons |= dict.fromkeys((f"start.{name}" for name in unknown), "what trained it is not known here any more")
    if training is None:
        reasons |= dict.fromkeys(UNTRAINED, "this method does not train")
    elif training.joules is None:
        reasons["energy_joules"] = training.joules_reason
    if training is not None and training.step_seconds_median is None:
        reasons["timing.step_seconds_median"] = f"the trial has no more than {FIRST_STEPS} steps"
    if results.served is not None:
        reasons |= dict.fromkeys(ELSEWHERE, "the model runs elsewhere, and is asked over a network")
    elif results.model is None:
        reasons |= dict.fromkeys(MODELLESS, "this method uses no model")
    return reasons


def _explain_retention(spec: TrialSpec, results: TrialResults, timing: Timing) -> dict[str, str]:
    """Explains why figures of what the study holds are null."""
    rewound = ("retention.rewind_metric", "timing.rewind_seconds")
    if (retained := results.retained) is not None:
        reasons = {"retention.forgetting": retained.reason, **dict.fromkeys(rewound, retained.rewind_reason)}
        # An attempt that failed took its seconds.
        tried = () if timing.rewind_seconds is None else ("timing.rewind_seconds",)
        return {name: reason for name, reason in reasons.items() if reason and name not in tried}
    reason = "the study has no `retention`"
    if results.evaluated is None:
        reason = "a trial of a search scores validation alone"
    elif spec.learning_rate is None:
        reason = "this method does not train"
    return dict.fromkeys(("retention.forgetting", "timing.retention_seconds", *rewound), reason)


def _explain_machine_and_model(record: TrialRecord, device: torch.device) -> dict[str, str]:
    """Explains why figures are null that no trial on this machine, or with this model, could have."""
    reasons: dict[str, str] = {}
    if device.type != "cuda":
        for phase in record.memory.phases:
            for figure in ("allocated_bytes", "reserved_bytes"):
                reasons[f"memory.phases.{phase}.{figure}"] = "the trial ran on the CPU"
        reasons["noise.gpu_throttled_share"] = "the trial ran on the CPU"
        reasons["environment.device_memory_bytes"] = "the trial ran on the CPU"
    if record.timing.prefix_seconds is None:
        reasons["timing.prefix_seconds"] = "nothing of this arm was computed once and kept (docs/protocol.md)"
    if record.timing.start_seconds is None:
        reasons["timing.start_seconds"] = "its start is computed from no rows"
    if record.served is not None:
        reasons |= _explain_served(record, record.served)
    elif "inference" not in record.missing:
        reasons |= _explain_inference(record)
    if record.environment is not None and record.environment.commit is None:
        reasons["environment.commit"] = "tuneoff did not run from a git checkout"
    if record.model is not None and record.model.checksum is None:
        reasons["model.checksum"] = "random weights come from no file"
    if record.model is not None and record.model.commit is None:
        reasons["model.commit"] = "the model was not fetched from the hub"
    if record.model is not None and record.model.max_positions is None:
        reasons["model.max_positions"] = "the model sets no limit"
    return reasons


def _explain_served(record: TrialRecord, served: Served) -> dict[str, str]:
    """Explains why figures are null of a model that others run."""
    uncounted, reasons = "the server does not count tokens", {}
    if served.input_tokens is None:
        reasons["served.input_tokens"] = uncounted
    if served.output_tokens is None:
        reasons["served.output_tokens"] = uncounted
    if served.unparsed is None:
        reasons["served.unparsed"] = "the task writes text, which names no class"
    if not record.spec.times_inference:
        names = (*LATENCY, "inference.generated_tokens_mean")
        reasons |= dict.fromkeys(names, "timed at the study's first seeds alone (execution.latency_seeds)")
    elif record.inference.generated_tokens_mean is None:
        has_classes = served.unparsed is not None
        reasons["inference.generated_tokens_mean"] = "the task writes no text" if has_classes else uncounted
    return reasons


def _explain_inference(record: TrialRecord) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if not record.spec.times_inference:
        count = record.spec.execution.latency_seeds
        reason = f"timed at the study's first {count} seeds alone (execution.latency_seeds)"
        reasons = dict.fromkeys([*LATENCY, "timing.inference_seconds"], reason)
        if record.inference.batched_examples_per_second is None:
            speeds = ("batch_size", "batched_examples_per_second", "batched_tokens_per_second")
            reasons |= {f"inference.{name}": reason for name in speeds}
    elif not record.inference.latency_examples:
        reasons = dict.fromkeys(LATENCY, "execution.latency_examples is 0")
    if record.inference.generated_tokens_per_second is not None:
        return {**reasons, "inference.batched_tokens_per_second": "the speed is that of generated tokens"}
    generation = ("inference.generated_tokens_per_second", "inference.generated_tokens_mean")
    return {**reasons, **dict.fromkeys(generation, "the task writes no text")}
