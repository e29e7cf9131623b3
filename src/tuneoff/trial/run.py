"""A trial from its specification to its record, in one sequence of phases.

load data -> load model -> attach -> preflight -> train -> select -> evaluate -> retention -> measure -> record

Every phase is handed the trial's context and returns what it found out. A trial of a search ends after training: it
scores validation and leaves the test split alone. A baseline loads no model, and a model that others run is asked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuneoff import registry
from tuneoff.config.spec import TrialSpec
from tuneoff.interfaces import AnyMethod, Baseline, Method, ServedModel
from tuneoff.measure import environment
from tuneoff.measure.utilisation import Sampler
from tuneoff.records.record import Finding, Inference, TrialRecord
from tuneoff.store import TRIALS, TrialStore
from tuneoff.trial.asking import ask
from tuneoff.trial.assembly import Assembled, assemble, load_data
from tuneoff.trial.context import TrialContext
from tuneoff.trial.data import commits
from tuneoff.trial.data.groups import with_groups
from tuneoff.trial.distributed.aggregation import OnlookerTrialStore, combine
from tuneoff.trial.distributed.context import ALONE, RankContext
from tuneoff.trial.modeling import allocator
from tuneoff.trial.modeling.precision import choose_device
from tuneoff.trial.phases import Measured
from tuneoff.trial.randomness import seed_all
from tuneoff.trial.recording import Provenance, build_record, without_costs
from tuneoff.trial.results import Evaluated, Retained, TrialResults, UsedModel
from tuneoff.trial.retention.measure import measure_retention
from tuneoff.trial.training import preflight
from tuneoff.trial.training.checkpoint import Checkpoint
from tuneoff.trial.training.evaluate import latency_budget, measure_inference, predict, write
from tuneoff.trial.training.findings import result_findings
from tuneoff.trial.training.progress import Trained
from tuneoff.trial.training.resume import Continuation, TrialCheckpointer
from tuneoff.trial.training.selection import Selected, Selection
from tuneoff.trial.training.trainer import train


@dataclass(frozen=True)
class Begun:
    """A trial that has begun.

    Attributes:
        context: what its phases are handed.
        place: the trial's folder.
        method: what is tried.
        spec: what was asked for, as planned.
        started: `time.perf_counter()` at the start of its process.
        commit: of the source tree, if the caller knows it.
        released: whether freed memory goes back to the system at once.
        findings: of the process.
    """

    context: TrialContext
    place: TrialStore
    method: AnyMethod[Any]
    spec: TrialSpec
    started: float
    commit: str | None
    released: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class ReadyTrial:
    """A trial whose model is ready: what the method trains, and what scores it on validation."""

    trial: Assembled
    selection: Selection
    checkpoint: Checkpoint | None
    findings: tuple[Finding, ...]


def run(
    place: TrialStore,
    wanted_device: str,
    started: float,
    commit: str | None = None,
    ranks: RankContext = ALONE,
    scratch: Path | None = None,
    shared: bool = False,
    apart: str = "",
    trials_at_once: int = 1,
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
        apart: why it was not trained together with others, where that was tried; empty: it was not.
        trials_at_once: how many trials have the processor at once, each on cores of its own.

    Raises:
        TuneoffError: whatever ended the trial early; no record is written then.
    """
    with begin(place, wanted_device, started, commit, ranks, scratch, apart) as begun:
        if isinstance(begun.method, Baseline):
            results = _run_baseline(begun.context, begun.method, begun.place)
        elif isinstance(begun.method, ServedModel):
            results = ask(begun.context, begun.method, begun.place)
        else:
            prepared = prepare(begun)
            results = conclude(begun, prepared, *_train(begun, prepared))
        measured = _measure(begun.context, results)
    return seal(begun, results, measured, without_costs if shared else None, trials_at_once)


@contextmanager
def begin(
    place: TrialStore,
    wanted_device: str,
    started: float,
    commit: str | None,
    ranks: RankContext,
    scratch: Path | None,
    apart: str = "",
    sampler: Sampler | None = None,
) -> Iterator[Begun]:
    """Begins a trial; the machine is sampled while open. The arguments are those of `run`; `sampler`: of another trial
    of the process, which samples for both."""
    spec, device = place.spec(), choose_device(wanted_device)
    seed_all(spec.seed)
    place = place if ranks.is_main else OnlookerTrialStore(place.folder)
    released, findings = allocator.configure(spec.execution, device, place.append_event)
    if apart:
        findings += (Finding(name="trained_apart", message=f"not trained together with others: {apart}"),)
    if spec.halved_batches:
        findings += (_tell_halved(spec, place),)
    sampling: AbstractContextManager[Sampler] = (
        Sampler(device=device, emit=place.append_event, others=ranks.others)
        if sampler is None
        else nullcontext(sampler)
    )
    with sampling as running:
        context = TrialContext.of(commits.as_seen(spec).as_run(), device, running, place.append_event, ranks, scratch)
        method: Any = registry.methods()[spec.method].create(spec.options)
        yield Begun(context, place, method, spec, started, commit, released, findings)


def _tell_halved(spec: TrialSpec, place: TrialStore) -> Finding:
    """Tells that a trial is run with halved batches; returns the finding."""
    planned, run_with = spec.protocol, spec.as_run().protocol
    parts = [f"evaluation batches of {run_with.evaluation_batch_size} instead of {planned.evaluation_batch_size}"]
    if spec.learning_rate is not None:
        sizes = [math.ceil(one.batch_size / one.gradient_accumulation_steps) for one in (run_with, planned)]
        same = f"{planned.batch_size} examples a step as before"
        parts.insert(0, f"micro-batches of {sizes[0]} instead of {sizes[1]}, {same},")
    message = f"ran out of memory and is run again with {' and '.join(parts)}; its times and memory are of these"
    finding = Finding(name="halved_batches", message=message)
    place.append_event({"kind": "finding", **finding.model_dump()})
    return finding


def seal(
    begun: Begun,
    results: TrialResults,
    measured: Measured,
    strip: Callable[[TrialRecord], TrialRecord] | None = None,
    trials_at_once: int = 1,
) -> TrialRecord:
    """Writes a trial's record and returns it.

    Args:
        begun: the trial.
        results: what its phases returned.
        measured: what it took.
        strip: takes the figures away that tell nothing of this trial.
        trials_at_once: as for `run`.
    """
    place, context = begun.place, begun.context
    provenance = Provenance(
        begun.spec,
        environment.describe(
            str(context.device),
            torch.get_num_threads(),
            commit=begun.commit,
            release_memory=begun.released,
            trials_at_once=trials_at_once,
        ),
        total_seconds=results.continuation.seconds
        + time.perf_counter()
        - begun.started
        + context.phases.watch.added_seconds,
        findings=(*begun.findings, *place.tracker_findings()),
        kept_files=place.weight_checksums() if context.ranks.is_main else {},
    )
    record = build_record(context, results, measured, provenance)
    if strip is not None:
        record = strip(record)
    place.write_record(record)
    return record


def prepare(begun: Begun) -> ReadyTrial:
    """Makes a trial that needs the model ready to be trained, or to be used as it is."""
    context, place, method = begun.context, begun.place, begun.method
    assert isinstance(method, Method)
    trial = assemble(context, method)
    checkpoint = Checkpoint(place.weights, method, trial.runner.attached, context.ranks) if method.trains else None
    selection = Selection(
        context, trial.runner, trial.features["validation"], trial.data.splits["validation"], checkpoint
    )
    findings = trial.findings
    if method.trains:
        findings += _preflight(context, trial)
    return ReadyTrial(trial, selection, checkpoint, findings)


def _train(begun: Begun, prepared: ReadyTrial) -> tuple[Trained | None, Continuation]:
    """Trains, or scores validation where the method does not train; returns what was measured, in earlier processes
    too."""
    trial, selection = prepared.trial, prepared.selection
    if not trial.method.trains:
        selection.validate(0)
        return None, Continuation()
    checkpointer = make_checkpointer(begun, prepared)
    rows = trial.features["train"]
    training = train(begun.context, trial.runner, trial.method, rows, selection.validate, checkpointer)
    return training, checkpointer.continuation if checkpointer is not None else Continuation()


def conclude(begun: Begun, prepared: ReadyTrial, training: Trained | None, continuation: Continuation) -> TrialResults:
    """Scores the test split by what was selected, in a final trial; returns the results."""
    context, spec = begun.context, begun.context.spec
    trial, selection, checkpoint = prepared.trial, prepared.selection, prepared.checkpoint
    evaluated, selected = None, selection.selected()
    retained: Retained | None = None
    if spec.purpose == "final":
        selection.restore()
        evaluated = _evaluate(context, trial, selected, begun.place)
        if spec.retention is not None and checkpoint is not None:
            retained = measure_retention(context, trial, selection, checkpoint.folder)
    if checkpoint is not None and context.ranks.is_main and not (evaluated and spec.execution.keep_weights):
        checkpoint.discard()
    precision = environment.precision(trial.policy, context.device)
    return TrialResults(
        data=trial.data.info,
        findings=prepared.findings,
        selected=selected,
        model=UsedModel(trial.model, trial.counts, precision, trial.start),
        training=training,
        evaluated=evaluated,
        retained=retained,
        continuation=continuation,
    )


def make_checkpointer(begun: Begun, prepared: ReadyTrial, at_once: Sequence[str] = ()) -> TrialCheckpointer | None:
    """Makes what keeps the training's checkpoints; None where none are asked for, or the method cannot continue.

    Args:
        begun, prepared: the trial.
        at_once: ids of the trials that are trained in this process, in order; empty: it alone.
    """
    context, trial = begun.context, prepared.trial
    spec = context.spec
    if spec.execution.checkpoint_minutes is None or not trial.method.resumable:
        return None
    here = environment.describe(str(context.device), torch.get_num_threads(), commit=None)
    identity = {
        "trial": spec.id,
        TRIALS: " ".join(at_once or (spec.id,)),
        "micro-batches of a step": str(spec.protocol.gradient_accumulation_steps),
        **{f"{split} rows": info.fingerprint[:16] for split, info in trial.data.info.splits.items()},
        "base model": str(trial.model.checksum or trial.model.commit),
        "engine": spec.execution.engine,
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
    return TrialCheckpointer(context, begun.place, prepared.selection, identity, begun.started)


def _run_baseline(context: TrialContext, method: Baseline[Any], place: TrialStore) -> TrialResults:
    """Runs a baseline: it predicts from the training rows and loads no model."""
    task, phases = context.task, context.phases
    with phases("load"):
        data = load_data(context)
    context.report(data.findings)
    with phases("test"):
        splits = {split: data.splits[split] for split in ("validation", "test")}
        answers = {split: method.predict(task, data.splits["train"], rows) for split, rows in splits.items()}
        predictions = {split: task.judge(answers[split], rows) for split, rows in splits.items()}
    metrics = {split: tuple(task.score(judged, split)) for split, judged in predictions.items()}
    return TrialResults(
        data=data.info,
        findings=data.findings,
        selected=Selected(metrics["validation"]),
        evaluated=Evaluated(
            metrics["test"], place.write_predictions("test", with_groups(predictions["test"], data.splits["test"]))
        ),
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
        predictions = trial.task.judge(trial.task.decide(predictions, selected.chosen), examples)
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
    return Evaluated(
        metrics, place.write_predictions("test", with_groups(predictions, examples)), inference, tuple(findings)
    )


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
