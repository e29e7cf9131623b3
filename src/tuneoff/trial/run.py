"""A trial from its specification to its record, in one sequence of phases.

data -> model -> method -> preflight -> train -> test -> inference -> record

A trial of a search ends after training: it scores validation and leaves the test split alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch

from tuneoff import registry
from tuneoff.config.spec import TrialSpec
from tuneoff.measure import energy, environment, parameters
from tuneoff.measure.utilisation import Sampler
from tuneoff.methods.base import Baseline, Method
from tuneoff.records.record import (
    Event,
    Finding,
    GradientNorm,
    Inference,
    Metric,
    ModelInfo,
    Parameters,
    PredictionsInfo,
    Status,
    Throughput,
    TrialRecord,
)
from tuneoff.store import TrialStore
from tuneoff.tasks.base import Example, Features, Task
from tuneoff.trial.data import commits, contents
from tuneoff.trial.data import load as trial_data
from tuneoff.trial.data.lengths import check_length
from tuneoff.trial.distributed import fsdp
from tuneoff.trial.distributed.aggregation import RankTrialStore, combine
from tuneoff.trial.distributed.context import ALONE, RankContext
from tuneoff.trial.exhaustion import loading
from tuneoff.trial.modeling import allocator, head
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.activation_checkpointing import checkpoint_activations
from tuneoff.trial.modeling.frozen_bf16 import keep_frozen_in_bf16
from tuneoff.trial.modeling.precision import PolicyName, apply_policy, choose_attention, choose_device
from tuneoff.trial.modeling.vocabulary import check_tokens
from tuneoff.trial.randomness import seed_all
from tuneoff.trial.training import kernels, preflight
from tuneoff.trial.training.checkpoint import Checkpoint
from tuneoff.trial.training.evaluate import ModelRunner, latency_budget, measure_inference, predict, write
from tuneoff.trial.training.findings import note_lengths, note_references, result_findings
from tuneoff.trial.training.phases import Phases
from tuneoff.trial.training.reasons import null_reasons
from tuneoff.trial.training.selection import Selection
from tuneoff.trial.training.trainer import FIRST_STEPS, Training, train

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


@dataclass
class Assembled:
    """A trial ready to train: examples, tokens, model and method."""

    spec: TrialSpec
    task: Task
    method: Method[Any]
    data: trial_data.TrialData
    features: dict[str, list[Features]]
    runner: ModelRunner
    counts: Parameters
    model: ModelInfo
    findings: list[Finding]
    policy: PolicyName
    before: parameters.BaseIdentity


def run(
    place: TrialStore, wanted_device: str, started: float, commit: str | None = None, ranks: RankContext = ALONE
) -> TrialRecord:
    """Runs the trial whose specification is in `place` and writes its record there.

    Args:
        place: the trial's folder, holding `trial.json`.
        wanted_device: auto, cpu or cuda; of a rank its own, e.g. cuda:1.
        started: `time.perf_counter()` at the start of the trial's process.
        commit: of the source tree, if the caller knows it.
        ranks: the processes that share the trial; the first of them writes the record.

    Raises:
        TuneoffError: whatever ended the trial early; no record is written then.
    """
    spec = place.spec()
    method = registry.methods()[spec.method].create(spec.options)
    device = choose_device(wanted_device)
    seed_all(spec.seed)
    place = place if ranks.is_main else RankTrialStore(place.folder)
    released, allocator_findings = allocator.settle(spec.execution, device, place.append_event)
    with Sampler(device=device, emit=place.append_event, others=ranks.others) as sampler:
        phases = Phases(device, sampler, ranks.noting(place.append_event))
        pinned_spec = commits.as_seen(spec)
        if isinstance(method, Baseline):
            record = _run_baseline(pinned_spec, method, place, phases)
        else:
            assert isinstance(method, Method)
            record = _run_model(pinned_spec, method, place, phases, sampler, device, ranks)
        record = combine(record, ranks, device, phases.cpu_seconds)
    environment_info = environment.describe(
        str(device), torch.get_num_threads(), commit=commit, release_memory=released
    )
    timing = record.timing.model_copy(update={"total_seconds": time.perf_counter() - started})
    findings = (*record.findings, *allocator_findings, *place.tracker_findings())
    checksums = place.weight_checksums() if ranks.is_main else {}
    complete = record.model_copy(
        update={
            "spec": spec,
            "environment": environment_info,
            "timing": timing,
            "findings": findings,
            "kept_files": checksums,
        }
    )
    complete = complete.model_copy(update={"missing": {**null_reasons(complete, device), **complete.missing}})
    place.write_record(complete)
    return complete


def _run_baseline(spec: TrialSpec, method: Baseline[Any], place: TrialStore, phases: Phases) -> TrialRecord:
    """Runs a baseline: it predicts from the training rows and loads no model."""
    task = registry.tasks()[spec.task.name](spec.task.options)
    with phases("load"):
        data = trial_data.load(task, spec.task, spec.protocol)
        contents.verify_rows(spec, data.info)
    for finding in data.findings:
        place.append_event({"kind": "finding", **finding.model_dump()})
    with phases("test"):
        predictions = {s: method.predict(task, data.splits["train"], data.splits[s]) for s in ("validation", "test")}
    metrics = [
        metric for split, split_predictions in predictions.items() for metric in task.score(split_predictions, split)
    ]
    memory = phases.meter.memory("train")
    return TrialRecord(
        spec=spec,
        status=Status.COMPLETED,
        metrics=tuple(metrics),
        primary_metric=task.tested_metric,
        parameters=Parameters(),
        timing=phases.watch.timing(),
        memory=memory,
        stored_bytes=0,
        data=data.info,
        predictions={"test": place.write_predictions("test", predictions["test"])},
        findings=data.findings,
        missing={
            **phases.meter.missing,
            **dict.fromkeys(UNTRAINED, "this method does not train"),
            **dict.fromkeys(MODELLESS, "this method uses no model"),
        },
    )


def demonstrations(method: Method[Any], train: Sequence[Example], seed: int) -> list[Example]:
    """Draws the solved examples that a method shows from the training rows, by the trial's seed."""
    count = min(method.demonstrations, len(train))
    return [train[int(i)] for i in np.random.default_rng([seed, 1]).choice(len(train), size=count, replace=False)]


def load_model(spec: TrialSpec, task: Task, device: torch.device, policy: PolicyName) -> trial_model.Loaded:
    """Loads the base model as the trial's protocol wants it on this device."""
    protocol = spec.protocol
    attention = choose_attention(protocol.attention, device, protocol.max_length, policy)
    return trial_model.load(
        spec.model,
        task,
        seed=spec.seed,
        dropout=protocol.dropout,
        attention=attention.training,
        evaluation=attention.evaluation,
    )


def assemble(
    spec: TrialSpec,
    method: Method[Any],
    phases: Phases,
    device: torch.device,
    emit: Callable[[Event], None],
    ranks: RankContext = ALONE,
) -> Assembled:
    """Loads and tokenizes the data, loads the model and attaches the method."""
    task = registry.tasks()[spec.task.name](spec.task.options)
    with phases("load"), loading("the model"):
        data = trial_data.load(task, spec.task, spec.protocol)
        contents.verify_rows(spec, data.info)
        policy = apply_policy(spec.protocol.precision, device)
        loaded = load_model(spec, task, device, policy.name)
        contents.verify_model(spec, loaded.info)
        limit = spec.protocol.max_length
        check_length(loaded.model, task, limit, method, spec.label)
        view = trial_model.view(task, loaded)
        base_identity = parameters.BaseIdentity.of(loaded.model, view)
        head_values = head.values(loaded.model, view) if method.trains else {}
        seed_all(spec.seed)
        attached = method.attach(loaded.model, view)
        head.check(attached, head_values, spec.label)
        if policy.name == "bf16" and not ranks.sharded:
            keep_frozen_in_bf16(attached)
        if spec.protocol.gradient_checkpointing:
            checkpoint_activations(attached.model)
        if not ranks.sharded:
            attached.module.to(device)
        counts = parameters.count(attached.module, base_identity)
        if ranks.sharded:
            fsdp.shard(attached, device, ranks)
    with phases("tokenize"), loading("the rows"):
        solved_examples = demonstrations(method, data.splits["train"], spec.seed)
        features = {
            split: task.encode(rows, loaded.tokenizer, limit, solved_examples) for split, rows in data.splits.items()
        }
        check_tokens(chain(*features.values()), loaded.tokenizer, loaded.model.config, spec.model.source)
    size = spec.protocol.evaluation_batch_size
    runner = ModelRunner(
        task,
        attached,
        device,
        policy.autocast,
        loaded.pad_token_id,
        size,
        loaded.tokenizer,
        ranks,
        attention=loaded.info.evaluation_attention,
    )
    kernel_findings: tuple[Finding, ...] = ()
    if runner.attention != loaded.info.attention:
        with phases("preflight"):
            runner, kernel_findings = kernels.settle(runner, features["train"], loaded.info.attention)
    model = loaded.info.model_copy(update={"evaluation_attention": runner.attention})
    info, findings = note_lengths(data.info, features, limit, task.target_room)
    findings += note_references(task, data.splits["test"], loaded.tokenizer)
    method_findings = [Finding(name=name, message=message) for name, message in attached.extra.get("findings", ())]
    all_findings = [*loaded.findings, *data.findings, *findings, *method_findings, *kernel_findings]
    data = trial_data.TrialData(data.splits, info, data.findings)
    for finding in all_findings:
        emit({"kind": "finding", **finding.model_dump()})
    return Assembled(
        spec, task, method, data, features, runner, counts, model, all_findings, policy.name, base_identity
    )


def _run_model(
    spec: TrialSpec,
    method: Method[Any],
    place: TrialStore,
    phases: Phases,
    sampler: Sampler,
    device: torch.device,
    ranks: RankContext,
) -> TrialRecord:
    """Runs a method that needs the model: it is trained, or the base model is used as it is."""
    trial = assemble(spec, method, phases, device, place.append_event, ranks)
    checkpoint = Checkpoint(place.weights, trial.method, trial.runner.attached, ranks) if method.trains else None
    selection = Selection(
        trial.runner,
        spec.protocol,
        trial.features["validation"],
        trial.data.splits["validation"],
        checkpoint,
        phases,
        place.append_event,
    )
    trained = _train(trial, selection, phases, place) if method.trains else _untrained(selection)
    verdict = spec.purpose == "verdict"
    tested = _test(trial, selection, phases, place) if verdict else UNTESTED
    noise = sampler.noise(torch.get_num_threads() * ranks.world_size)
    findings = [*trial.findings, *tested.findings]
    if noise.contended:
        findings.append(Finding(name="contended", message=noise.reason))
    stored_bytes = checkpoint.stored_bytes() if checkpoint is not None and ranks.is_main else 0
    if checkpoint is not None and ranks.is_main and not (verdict and spec.execution.keep_weights):
        checkpoint.discard()
    # The figures of training are null for a method without it, with their reasons in `trained`.
    memory = phases.meter.memory("train" if method.trains else "test")
    record = TrialRecord(
        spec=spec,
        status=Status.COMPLETED,
        metrics=(*selection.metrics, *tested.metrics),
        primary_metric=trial.task.tested_metric,
        parameters=trial.counts,
        timing=phases.watch.timing(),
        memory=memory,
        inference=tested.inference,
        utilisation=sampler.utilisation(),
        noise=noise,
        stored_bytes=stored_bytes,
        data=trial.data.info,
        model=trial.model,
        precision=environment.precision(trial.policy, device),
        predictions=tested.predictions,
        findings=tuple(findings),
        missing={**phases.meter.missing, **sampler.missing, **tested.missing},
    )
    return trained(record)


@dataclass(frozen=True)
class Tested:
    """Results of the test split."""

    metrics: tuple[Metric, ...] = ()
    inference: Inference = field(default_factory=Inference)
    predictions: dict[str, PredictionsInfo] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)


UNTESTED = Tested(
    missing=dict.fromkeys(
        ("inference", "timing.inference_seconds", "timing.test_seconds"), "a trial of a search scores validation alone"
    )
)


def _test(trial: Assembled, selection: Selection, phases: Phases, place: TrialStore) -> Tested:
    """Scores the test split with the selected weights, and times the model on it."""
    selection.finish()
    test, examples = trial.features["test"], trial.data.splits["test"]
    with phases("test"):
        predictions, writing = predict(trial.runner, test, examples), None
        if trial.runner.writes:
            predictions, writing = write(trial.runner, test, examples, predictions, place.append_event)
    budget_seconds = latency_budget(sum(phases.watch.seconds.values()))
    with phases("inference"):
        inference = measure_inference(
            trial.runner, test, trial.spec.execution.latency_examples, writing, budget_seconds
        )
    metrics = tuple(trial.task.score(predictions, "test"))
    findings = result_findings(trial.task, predictions, [*selection.metrics, *metrics], trial.data.info)
    return Tested(metrics, inference, {"test": place.write_predictions("test", predictions)}, tuple(findings))


Completion = Callable[[TrialRecord], TrialRecord]
"""Adds the figures of training to a record."""


def _train(trial: Assembled, selection: Selection, phases: Phases, place: TrialStore) -> Completion:
    spec = trial.spec
    with phases("preflight"):
        idle = preflight.check(trial.runner, trial.features["train"], spec.label, trial.before)
    if idle:
        message = f"{len(idle)} of the model's tensors take no part in this task and stay as they are, e.g. {idle[0]}"
        trial.findings.append(Finding(name="idle_parameters", message=message))
        place.append_event({"kind": "finding", **trial.findings[-1].model_dump()})
    joules = energy.EnergyMeter(trial.runner.device)
    trial.runner.ranks.seed(spec.seed)
    assert spec.learning_rate is not None
    training = train(
        trial.runner,
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

    phases.cpu_seconds = training.cpu_seconds

    def add(record: TrialRecord) -> TrialRecord:
        assert selection.checkpoint is not None
        assert record.data is not None
        data_fields = {"train_order_fingerprint": training.order.hexdigest(), "examples_trained": training.examples}
        timing_fields = {
            "first_steps": min(FIRST_STEPS, training.steps),
            "first_steps_seconds": training.first_steps_seconds,
            "step_seconds_median": training.step_seconds_median,
        }
        missing = {} if joules.joules is not None else {"energy_joules": joules.missing_reason}
        if training.step_seconds_median is None:
            missing["timing.step_seconds_median"] = f"the trial has no more than {FIRST_STEPS} steps"
        return record.model_copy(
            update={
                "selected_step": selection.checkpoint.step,
                "steps": training.steps,
                "timing": record.timing.model_copy(update=timing_fields),
                "gradient_norm": _norms(training),
                "curve": tuple(training.curve),
                "throughput": _throughput(training, phases.train_seconds),
                "energy_joules": joules.joules,
                "data": record.data.model_copy(update=data_fields),
                "missing": {**record.missing, **missing},
            }
        )

    return add


def _untrained(selection: Selection) -> Completion:
    selection.validate(0)
    reasons = dict.fromkeys(UNTRAINED, "this method does not train")
    return lambda record: record.model_copy(update={"missing": {**record.missing, **reasons}})


def _norms(training: Training) -> GradientNorm:
    norms = training.gradient_norms
    return GradientNorm(per_step=tuple(norms), mean=sum(norms) / len(norms), max=max(norms))


def _throughput(training: Training, seconds: float) -> Throughput:
    return Throughput(
        examples_per_second=training.examples / seconds,
        tokens_per_second=training.tokens / seconds,
        padding_share=1 - training.tokens / training.computed_tokens,
    )
