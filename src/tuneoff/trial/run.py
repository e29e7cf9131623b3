"""A trial from its specification to its record, in one sequence of phases.

load data -> load model -> attach -> preflight -> train -> select -> evaluate -> measure -> record

Every phase is handed the trial's context and returns what it found out. A trial of a search ends after training: it
scores validation and leaves the test split alone. A baseline loads no model.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from tuneoff import registry
from tuneoff.interfaces import Baseline, Method
from tuneoff.measure import environment
from tuneoff.measure.utilisation import Sampler
from tuneoff.records.record import Finding, Inference, TrialRecord
from tuneoff.store import TrialStore
from tuneoff.trial.assembly import Assembled, assemble, load_data
from tuneoff.trial.context import TrialContext
from tuneoff.trial.data import commits
from tuneoff.trial.distributed.aggregation import RankTrialStore, combine
from tuneoff.trial.distributed.context import ALONE, RankContext
from tuneoff.trial.modeling import allocator
from tuneoff.trial.modeling.precision import choose_device
from tuneoff.trial.phases import Measured
from tuneoff.trial.randomness import seed_all
from tuneoff.trial.recording import Provenance, build_record, without_costs
from tuneoff.trial.results import Evaluated, TrialResults, UsedModel
from tuneoff.trial.training import preflight
from tuneoff.trial.training.checkpoint import Checkpoint
from tuneoff.trial.training.evaluate import latency_budget, measure_inference, predict, write
from tuneoff.trial.training.findings import result_findings
from tuneoff.trial.training.resume import Continuation, TrialCheckpointer
from tuneoff.trial.training.selection import Selected, Selection
from tuneoff.trial.training.trainer import train


def run(
    place: TrialStore,
    wanted_device: str,
    started: float,
    commit: str | None = None,
    ranks: RankContext = ALONE,
    scratch: Path | None = None,
    shared: bool = False,
) -> TrialRecord:
    """Runs the trial whose specification is in `place` and writes its record there.

    Args:
        place: the trial's folder, holding `trial.json`.
        wanted_device: auto, cpu or cuda; of a rank its own, e.g. cuda:1.
        started: `time.perf_counter()` at the start of the trial's process.
        commit: of the source tree, if the caller knows it.
        ranks: the processes that share the trial; the first of them writes the record.
        scratch: a folder that the trials of a run share; None: nothing is shared.
        shared: whether other trials may use its device at the same time, so that its costs tell nothing.

    Raises:
        TuneoffError: whatever ended the trial early; no record is written then.
    """
    spec, device = place.spec(), choose_device(wanted_device)
    seed_all(spec.seed)
    place = place if ranks.is_main else RankTrialStore(place.folder)
    released, allocator_findings = allocator.configure(spec.execution, device, place.append_event)
    with Sampler(device=device, emit=place.append_event, others=ranks.others) as sampler:
        context = TrialContext.of(commits.as_seen(spec), device, sampler, place.append_event, ranks, scratch)
        method = registry.methods()[spec.method].create(spec.options)
        if isinstance(method, Baseline):
            results = _run_baseline(context, method, place)
        else:
            assert isinstance(method, Method)
            results = _run_method(context, method, place, started)
        measured = _measure(context, results)
    provenance = Provenance(
        spec,
        environment.describe(str(device), torch.get_num_threads(), commit=commit, release_memory=released),
        total_seconds=results.continuation.seconds + time.perf_counter() - started,
        findings=(*allocator_findings, *place.tracker_findings()),
        kept_files=place.weight_checksums() if ranks.is_main else {},
    )
    record = build_record(context, results, measured, provenance)
    if shared:
        record = without_costs(record)
    place.write_record(record)
    return record


def _run_method(context: TrialContext, method: Method[Any], place: TrialStore, started: float) -> TrialResults:
    """Runs a method that needs the model: it is trained, or the base model is used as it is."""
    spec = context.spec
    trial = assemble(context, method)
    checkpoint = Checkpoint(place.weights, method, trial.runner.attached, context.ranks) if method.trains else None
    selection = Selection(
        context, trial.runner, trial.features["validation"], trial.data.splits["validation"], checkpoint
    )
    findings, training, evaluated, continuation = trial.findings, None, None, Continuation()
    if method.trains:
        findings += _preflight(context, trial)
        checkpointer = _make_checkpointer(context, trial, place, selection, started)
        training = train(context, trial.runner, method, trial.features["train"], selection.validate, checkpointer)
        if checkpointer is not None:
            continuation = checkpointer.continuation
    else:
        selection.validate(0)
    selected = selection.selected()
    if spec.purpose == "final":
        selection.restore()
        evaluated = _evaluate(context, trial, selected, place)
    if checkpoint is not None and context.ranks.is_main and not (evaluated and spec.execution.keep_weights):
        checkpoint.discard()
    precision = environment.precision(trial.policy, context.device)
    return TrialResults(
        data=trial.data.info,
        findings=findings,
        selected=selected,
        model=UsedModel(trial.model, trial.counts, precision),
        training=training,
        evaluated=evaluated,
        continuation=continuation,
    )


def _make_checkpointer(
    context: TrialContext, trial: Assembled, place: TrialStore, selection: Selection, started: float
) -> TrialCheckpointer | None:
    """Makes what keeps the training's checkpoints; None where none are asked for, or the method cannot continue."""
    spec = context.spec
    if spec.execution.checkpoint_minutes is None or not trial.method.resumable:
        return None
    here = environment.describe(str(context.device), torch.get_num_threads(), commit=None)
    identity = {
        "trial": spec.id,
        **{f"{split} rows": info.fingerprint[:16] for split, info in trial.data.info.splits.items()},
        "base model": str(trial.model.checksum or trial.model.commit),
        "precision": trial.policy,
        "attention": f"{trial.model.attention}, {trial.model.evaluation_attention} in evaluations",
        "dropout": trial.model.dropout_generator,
        "processes": str(context.ranks.world_size),
        "threads": str(here.threads),
        "device": context.device.type,
        "machine": f"{here.processor}, {here.device_name}",
        "Python": here.python,
        **here.versions,
    }
    return TrialCheckpointer(context, place, selection, identity, started)


def _run_baseline(context: TrialContext, method: Baseline[Any], place: TrialStore) -> TrialResults:
    """Runs a baseline: it predicts from the training rows and loads no model."""
    task, phases = context.task, context.phases
    with phases("load"):
        data = load_data(context)
    context.report(data.findings)
    with phases("test"):
        predictions = {s: method.predict(task, data.splits["train"], data.splits[s]) for s in ("validation", "test")}
    metrics = {split: tuple(task.score(answers, split)) for split, answers in predictions.items()}
    return TrialResults(
        data=data.info,
        findings=data.findings,
        selected=Selected(metrics["validation"]),
        evaluated=Evaluated(metrics["test"], place.write_predictions("test", predictions["test"])),
    )


def _preflight(context: TrialContext, trial: Assembled) -> tuple[Finding, ...]:
    """Checks gradients and padding; returns a finding where parameters of the model take no part."""
    with context.phases("preflight"):
        idle = preflight.check(trial.runner, trial.features["train"], context.spec.label, trial.before)
    if not idle:
        return ()
    message = f"{len(idle)} of the model's tensors take no part in this task and stay as they are, e.g. {idle[0]}"
    findings = (Finding(name="idle_parameters", message=message),)
    context.report(findings)
    return findings


def _evaluate(context: TrialContext, trial: Assembled, selected: Selected, place: TrialStore) -> Evaluated:
    """Scores the test split with the selected weights, and times the model on it."""
    phases = context.phases
    test, examples = trial.features["test"], trial.data.splits["test"]
    with phases("test"):
        predictions, writing = predict(trial.runner, test, examples), None
        if trial.runner.writes:
            predictions, writing = write(trial.runner, test, examples, predictions, context.emit)
    if context.spec.times_inference:
        budget_seconds = latency_budget(sum(phases.watch.seconds.values()))
        with phases("inference"):
            inference = measure_inference(
                trial.runner, test, context.spec.execution.latency_examples, writing, budget_seconds
            )
    else:
        # Writing was timed as the test went on.
        inference = Inference(batch_size=trial.runner.batch_size, **writing.speeds) if writing else Inference()
    metrics = tuple(trial.task.score(predictions, "test"))
    findings = result_findings(trial.task, predictions, trial.data.info)
    return Evaluated(metrics, place.write_predictions("test", predictions), inference, tuple(findings))


def _measure(context: TrialContext, results: TrialResults) -> Measured:
    """Returns what the trial took, of all its ranks together."""
    phases, training, meter, sampler = context.phases, results.training, context.phases.meter, context.phases.sampler
    if results.model is None:
        measured = Measured(phases.watch.timing(), meter.memory("train"), meter.missing)
    else:
        noise = sampler.noise(torch.get_num_threads() * context.ranks.world_size)
        memory = meter.memory("train" if training else "test")
        measured = Measured(
            timing=phases.watch.timing(),
            memory=memory,
            utilisation=sampler.utilisation(),
            noise=noise,
            joules=training.joules if training else None,
            missing={**meter.missing, **sampler.missing},
        )
    return combine(measured, context.ranks, context.device, training.cpu_seconds if training else None)
