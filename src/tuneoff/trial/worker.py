"""A trial from its specification to its record: one straight line.

data -> model -> method -> preflight -> train -> test -> inference -> record
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tuneoff import registry
from tuneoff.errors import StoreError
from tuneoff.measure import energy, environment, parameters
from tuneoff.measure.utilisation import Sampler
from tuneoff.methods.base import Attached, Baseline, Method
from tuneoff.record import (
    DataInfo,
    Event,
    Finding,
    GradientNorm,
    Metric,
    ModelInfo,
    Parameters,
    Prediction,
    Status,
    Throughput,
    TrialRecord,
)
from tuneoff.spec import TrialSpec
from tuneoff.store import TrialStore
from tuneoff.tasks.base import Features, Task
from tuneoff.trial import data as trial_data
from tuneoff.trial import model as trial_model
from tuneoff.trial import preflight
from tuneoff.trial.checkpoint import Checkpoint
from tuneoff.trial.evaluate import Bench, measure_inference, predict
from tuneoff.trial.loop import FIRST_STEPS, Training, train
from tuneoff.trial.phases import Phases
from tuneoff.trial.precision import PolicyName, apply_policy, choose_attention, choose_device
from tuneoff.trial.seed import seed_all

MANY_TRUNCATED = 0.05
UNTRAINED = (
    "data.train_order_fingerprint",
    "energy_joules",
    "gradient_norm",
    "inference",
    "memory.kind",
    "memory.peak_memory_bytes",
    "model",
    "noise",
    "precision",
    "selected_step",
    "throughput",
    "timing",
    "utilisation",
)
"""Figures that a method without training does not have."""


@dataclass
class Assembled:
    """A trial ready to train: examples, tokens, model and method."""

    spec: TrialSpec
    task: Task
    method: Method[Any]
    data: trial_data.TrialData
    features: dict[str, list[Features]]
    bench: Bench
    counts: Parameters
    model: ModelInfo
    findings: list[Finding]
    policy: PolicyName


def run(place: TrialStore, wanted_device: str, started: float, commit: str | None = None) -> TrialRecord:
    """Runs the trial whose specification lies in `place` and seals its record there.

    Args:
        place: the trial's folder, holding `trial.json`.
        wanted_device: auto, cpu or cuda.
        started: `time.perf_counter()` at the start of the trial's process.
        commit: of the source tree, if the caller knows it.

    Raises:
        TuneoffError: whatever ended the trial early; no record is written then.
    """
    spec = place.spec()
    method = registry.methods()[spec.method].create(spec.options)
    device = choose_device(wanted_device)
    seed_all(spec.seed)
    with Sampler(device=device) as sampler:
        phases = Phases(device, sampler, place.append_event)
        if isinstance(method, Baseline):
            record = _run_baseline(spec, method, place, phases)
        else:
            assert isinstance(method, Method)
            record = _run_training(spec, method, place, phases, sampler, device)
    machine = environment.describe(str(device), torch.get_num_threads(), commit=commit)
    timing = record.timing.model_copy(update={"total_seconds": time.perf_counter() - started})
    complete = record.model_copy(update={"environment": machine, "timing": timing})
    complete = complete.model_copy(update={"missing": {**_reasons(complete, device), **complete.missing}})
    place.write_record(complete)
    return complete


def _run_baseline(spec: TrialSpec, method: Baseline[Any], place: TrialStore, phases: Phases) -> TrialRecord:
    """A floor: predicts from the training rows; loads no model."""
    task = registry.tasks()[spec.task.name](spec.task.options)
    with phases("load"):
        data = trial_data.load(task, spec.task, spec.protocol)
    with phases("test"):
        predictions = {s: method.predict(task, data.splits["train"], data.splits[s]) for s in ("validation", "test")}
    metrics = [metric for split, made in predictions.items() for metric in task.score(made, split)]
    memory = phases.meter.memory("train")
    return TrialRecord(
        spec=spec,
        status=Status.COMPLETED,
        metrics=tuple(metrics),
        primary_metric=task.primary_metric,
        parameters=Parameters(),
        timing=phases.watch.timing(),
        memory=memory,
        stored_bytes=0,
        data=data.info,
        predictions={"test": place.write_predictions("test", predictions["test"])},
        findings=data.findings,
        missing={**phases.meter.missing, **dict.fromkeys(UNTRAINED, "this method does not train")},
    )


def _reasons(record: TrialRecord, device: torch.device) -> dict[str, str]:
    """Why figures are null that no trial on this machine, or with this model, could have."""
    reasons: dict[str, str] = {}
    if device.type != "cuda":
        for phase in record.memory.phases:
            for figure in ("allocated_bytes", "reserved_bytes"):
                reasons[f"memory.phases.{phase}.{figure}"] = "the trial ran on the CPU"
        reasons["noise.gpu_throttled_share"] = "the trial ran on the CPU"
    if record.environment is not None and record.environment.commit is None:
        reasons["environment.commit"] = "tuneoff did not run from a git checkout"
    if record.model is not None and record.model.checksum is None:
        reasons["model.checksum"] = "random weights come from no file"
    if record.model is not None and record.model.max_positions is None:
        reasons["model.max_positions"] = "the model sets no limit"
    return reasons


def load_model(spec: TrialSpec, task: Task, device: torch.device) -> trial_model.Loaded:
    """The base model as the trial's protocol wants it on this device."""
    protocol = spec.protocol
    attention = choose_attention(protocol.attention, device, protocol.max_length)
    return trial_model.load(spec.model, task, seed=spec.seed, dropout=protocol.dropout, attention=attention)


def assemble(
    spec: TrialSpec, method: Method[Any], phases: Phases, device: torch.device, emit: Callable[[Event], None]
) -> Assembled:
    """Loads and tokenizes the data, loads the model and attaches the method."""
    task = registry.tasks()[spec.task.name](spec.task.options)
    with phases("load"):
        data = trial_data.load(task, spec.task, spec.protocol)
        loaded = load_model(spec, task, device)
        limit = spec.protocol.max_length
        trial_model.check_length(loaded.model.config, limit, method.virtual_tokens, spec.label)
        policy = apply_policy(spec.protocol.precision, device)
        view = task.view(loaded.model)
        before = parameters.BaseIdentity.of(loaded.model, view)
        seed_all(spec.seed)
        attached = method.attach(loaded.model, view)
        attached.module.to(device)
        counts = parameters.count(attached.module, before)
    with phases("tokenize"):
        features = {split: task.encode(rows, loaded.tokenizer, limit) for split, rows in data.splits.items()}
    size = spec.protocol.evaluation_batch_size
    bench = Bench(task, attached, device, policy.autocast, loaded.pad_token_id, size)
    info, findings = _note_lengths(data.info, features, limit)
    found = [*loaded.findings, *data.findings, *findings]
    data = trial_data.TrialData(data.splits, info, data.findings)
    for finding in found:
        emit({"kind": "finding", **finding.model_dump()})
    return Assembled(spec, task, method, data, features, bench, counts, loaded.info, found, policy.name)


def _run_training(
    spec: TrialSpec, method: Method[Any], place: TrialStore, phases: Phases, sampler: Sampler, device: torch.device
) -> TrialRecord:
    trial = assemble(spec, method, phases, device, place.append_event)
    with phases("preflight"):
        preflight.check(trial.bench, trial.features["train"], spec.label)
    joules = energy.EnergyMeter(device)
    selection = _Selection(trial, Checkpoint(place.weights, trial.method, trial.bench.attached), phases, place)
    seed_all(spec.seed)
    assert spec.learning_rate is not None
    training = train(
        trial.bench,
        trial.method,
        trial.features["train"],
        spec.protocol,
        spec.learning_rate,
        spec.seed,
        phases,
        selection.validate,
        place.append_event,
        joules,
    )
    selection.finish()
    with phases("test"):
        predictions = predict(trial.bench, trial.features["test"], trial.data.splits["test"])
    with phases("inference"):
        inference = measure_inference(trial.bench, trial.features["test"], spec.execution.latency_examples)
    metrics = [*selection.metrics, *trial.task.score(predictions, "test")]
    noise = sampler.noise(torch.get_num_threads())
    findings = [*trial.findings, *_findings(trial.task, predictions, metrics, trial.data.info)]
    if noise.contended:
        findings.append(Finding(name="contended", message=noise.reason))
    stored = selection.checkpoint.stored_bytes()
    if not spec.execution.keep_weights:
        selection.checkpoint.discard()
    memory, samples = phases.meter.memory("train"), sampler.utilisation()
    missing = {**phases.meter.missing, **sampler.missing}
    if joules.joules is None:
        missing["energy_joules"] = joules.missing_reason
    return TrialRecord(
        spec=spec,
        status=Status.COMPLETED,
        metrics=tuple(metrics),
        primary_metric=trial.task.primary_metric,
        selected_step=selection.checkpoint.step,
        steps=training.steps,
        parameters=trial.counts,
        timing=phases.watch.timing(
            first_steps=min(FIRST_STEPS, training.steps), first_steps_seconds=training.first_steps_seconds
        ),
        memory=memory,
        gradient_norm=_norms(training),
        curve=tuple(training.curve),
        throughput=_throughput(training, phases.train_seconds),
        inference=inference,
        utilisation=samples,
        noise=noise,
        stored_bytes=stored,
        energy_joules=joules.joules,
        data=trial.data.info.model_copy(
            update={"train_order_fingerprint": training.order.hexdigest(), "examples_trained": training.examples}
        ),
        model=trial.model,
        precision=environment.precision(trial.policy, device),
        predictions={"test": place.write_predictions("test", predictions)},
        findings=tuple(findings),
        missing=missing,
    )


class _Selection:
    """Scores validation while training and keeps the checkpoint that the protocol selects."""

    def __init__(self, trial: Assembled, checkpoint: Checkpoint, phases: Phases, place: TrialStore) -> None:
        self.trial, self.checkpoint, self.phases, self.place = trial, checkpoint, phases, place
        protocol = trial.spec.protocol
        self.name = protocol.select_metric or trial.task.primary_metric
        self.sign = 1.0 if trial.task.directions[self.name] == "higher" else -1.0
        self.metrics: list[Metric] = []
        self.best: tuple[float, float] | None = None
        self.last_step = 0

    def validate(self, step: int) -> dict[str, float]:
        """Scores validation; a better score, or an equal one at a lower loss, is kept."""
        trial = self.trial
        with self.phases("validation"):
            made = predict(trial.bench, trial.features["validation"], trial.data.splits["validation"])
            metrics = trial.task.score(made, "validation")
        values = {metric.name: metric.value for metric in metrics}
        self.place.append_event({"kind": "validation", "step": step, "metrics": values})
        rank = (self.sign * values[self.name], -values.get("loss", 0.0))
        self.last_step = step
        if trial.spec.protocol.select == "last" or self.best is None or rank > self.best:
            self.best, self.metrics = rank, metrics
            with self.phases("checkpoint"):
                self.checkpoint.save(step)
        return values

    def finish(self) -> None:
        """Leaves the selected weights in the model."""
        if self.checkpoint.step != self.last_step:
            with self.phases("checkpoint"):
                self.checkpoint.restore()


def _note_lengths(info: DataInfo, features: dict[str, list[Features]], limit: int) -> tuple[DataInfo, list[Finding]]:
    """Adds each split's longest example and how many were cut to the data's description."""
    splits, cut, many = {}, [], False
    for name, split in info.splits.items():
        lengths = [feature.length for feature in features[name]]
        longer = sum(length > limit for length in lengths)
        splits[name] = split.model_copy(update={"truncated": longer, "longest_tokens": max(lengths)})
        cut.append(f"{longer} of {len(lengths)} {name}")
        many = many or longer > MANY_TRUNCATED * len(lengths)
    findings = []
    if many:
        message = f"examples longer than {limit} tokens were cut: {', '.join(cut)}"
        findings.append(Finding(name="truncated", message=message))
    return info.model_copy(update={"splits": splits}), findings


def _findings(task: Task, predictions: list[Prediction], metrics: list[Metric], info: DataInfo) -> list[Finding]:
    """What went wrong with the result itself."""
    found = []
    outputs = {prediction.output for prediction in predictions}
    if task.labels and len(outputs) == 1 and len({p.target for p in predictions}) > 1:
        message = f"every test example is predicted as {next(iter(outputs))!r}"
        found.append(Finding(name="collapsed", message=message))
    accuracy = next((m.value for m in metrics if m.name == "accuracy" and m.split == "test"), None)
    classes = info.splits["test"].classes
    if accuracy is not None and classes:
        floor = max(classes.values()) / sum(classes.values())
        if accuracy <= floor:
            message = f"test accuracy {accuracy:.3f} is not above the largest class's share, {floor:.3f}"
            found.append(Finding(name="below_floor", message=message))
    return found


def _norms(training: Training) -> GradientNorm:
    norms = training.gradient_norms
    return GradientNorm(per_step=tuple(norms), mean=sum(norms) / len(norms), max=max(norms))


def _throughput(training: Training, seconds: float) -> Throughput:
    return Throughput(
        examples_per_second=training.examples / seconds,
        tokens_per_second=training.tokens / seconds,
        padding_share=1 - training.tokens / training.computed_tokens,
    )


def restore(place: TrialStore, device: torch.device) -> tuple[Task, Attached, Any, Bench]:
    """Rebuilds a finished trial's trained model; returns its task, model, tokenizer and bench.

    Raises:
        StoreError: if its weights were not kept.
    """
    spec, record = place.spec(), place.record()
    if record is None or not record.status.finished or record.data is None:
        raise StoreError(f"trial {spec.id} is not completed", hint="Run the study again to complete it.")
    method = registry.methods()[spec.method].create(spec.options)
    if not isinstance(method, Method):
        raise StoreError(f"{spec.label} trains nothing, so there is no model to use")
    if not place.weights.is_dir():
        raise StoreError(
            f"trial {spec.id} kept no weights", hint="Run it again with --set execution.keep_weights=true."
        )
    task = registry.tasks()[spec.task.name]({**spec.task.options, "labels": list(record.data.labels) or None})
    loaded = load_model(spec, task, device)
    if record.model and record.model.checksum != loaded.info.checksum:
        raise StoreError(
            f"{spec.model.source} now holds other weights than trial {spec.id} was trained on",
            hint="Name the revision that was used, or restore the folder.",
        )
    attached = method.attach(loaded.model, task.view(loaded.model))
    method.load(attached, place.weights)
    attached.module.to(device).eval()
    policy = apply_policy(spec.protocol.precision, device)
    bench = Bench(task, attached, device, policy.autocast, loaded.pad_token_id, spec.protocol.evaluation_batch_size)
    return task, attached, loaded.tokenizer, bench
