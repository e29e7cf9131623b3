"""What one trial of an arm will take, by a few of its real steps, in a process that has done the same as a trial does
before its steps.

data -> tokens -> the micro-batches to come -> their costs -> a few real steps -> memory, seconds and disk
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tuneoff import registry
from tuneoff.config.spec import TrialSpec
from tuneoff.interfaces import Baseline, Method, ServedModel
from tuneoff.measure.utilisation import Sampler
from tuneoff.records.forecast import ArmForecast
from tuneoff.trial.assembly import Assembled, assemble
from tuneoff.trial.context import TrialContext
from tuneoff.trial.estimate import estimator, real_steps, time_model
from tuneoff.trial.estimate.counts import ForecastCounts, ForecastRequest
from tuneoff.trial.estimate.evaluations import Evaluations
from tuneoff.trial.estimate.material import Material, StudyCache
from tuneoff.trial.estimate.memory import MemoryFigures, available_bytes, judge, judge_gpu, parts_of, unknown_peak
from tuneoff.trial.estimate.phase_seconds import TrainingTime, phase_seconds
from tuneoff.trial.estimate.process import FakeModelProcess
from tuneoff.trial.estimate.real_steps import ShapeProfile, StepProfiler
from tuneoff.trial.estimate.schedule import MicroBatch, candidates, representatives
from tuneoff.trial.estimate.step_cost import ModelStateBytes, StepCost, rule_of_thumb
from tuneoff.trial.estimate.time_model import Curve, TimeModel
from tuneoff.trial.modeling import allocator
from tuneoff.trial.phases import Phases
from tuneoff.trial.randomness import seed_all
from tuneoff.trial.retention.held import TokenizedSet, tokenize_held
from tuneoff.trial.training import preflight

BUDGET_SHARE = 0.02
MOST_BUDGET_SECONDS = 15.0
"""Real steps may take more than `real_steps.STEP_SECONDS` where training is long: this share of it, up to this."""

HOLES_SHARE = 0.35
"""What a process's heap takes beyond the tensors in it, as a share: the most that was measured. It is used for shapes
too large to be run, and as the most by which the process grows with new shapes."""
GROWTH_SHARE = 0.014
"""Share of its peak by which a process grows with a new shape, where none could be tried; measured with 135M
parameters."""
EVEN_SHAPES = 12
"""Number of shapes up to which a process grew evenly in measurements."""
KERNEL_BYTES = 4 * 2**20
"""The most that a new shape's kernels are assumed to need: a few measured shapes say little about many."""


def profile_arm(final: TrialSpec, search: TrialSpec | None, device: str, memory_limit_bytes: int | None) -> ArmForecast:
    """Profiles an arm by a few real steps of one of its trials; an arm on several devices is estimated.

    Args:
        final: a final trial.
        search: a trial of the search, where the arm is searched.
        device: auto, cpu or cuda.
        memory_limit_bytes: memory of a GPU, to know whether the arm would fit there.

    Raises:
        TuneoffError: if data or model cannot be loaded, or the method does not fit.
    """
    # Before anything is loaded and any thread is started.
    with FakeModelProcess() as process:
        started = time.perf_counter()
        method = registry.methods()[final.method].create(final.options)
        if isinstance(method, Baseline):
            arm_forecast = estimator.forecast_baseline(final, method, device)
        elif isinstance(method, ServedModel):
            arm_forecast = estimator.forecast_served(final, method)
        else:
            assert isinstance(method, Method)
            request = estimator.ask(final, search, method, device, memory_limit_bytes, process)
            arm_forecast = profile(request) if final.devices == 1 else estimator.estimate(request, StudyCache())
        return arm_forecast.model_copy(update={"forecast_seconds": time.perf_counter() - started})


def profile(request: ForecastRequest) -> ArmForecast:
    """Forecasts a trial on one device by real steps.

    Raises:
        TuneoffError: if data or model cannot be loaded, or the method does not fit.
    """
    seed_all(request.spec.seed)
    with tempfile.TemporaryDirectory(prefix="tuneoff-") as scratch, Sampler(device=request.device) as sampler:
        return _profile(request, TrialContext.of(request.spec, request.device, sampler, scratch=Path(scratch)))


def _profile(request: ForecastRequest, context: TrialContext) -> ArmForecast:
    method, device, phases = request.method, request.device, context.phases
    trial = assemble(context, method)
    prefix = trial.runner.prefix
    request = replace(request, keeps_frozen=prefix is not None and prefix.states is not None)
    spec, held = request.spec, list[TokenizedSet]()
    if spec.retention is not None:
        model: Any = trial.runner.attached.model
        held = tokenize_held(spec.retention, spec.protocol, spec.model, trial.runner.tokenizer, model.config)
    material = Material(spec, trial.task, trial.data.splits, trial.features, method.trains, held)
    counts = ForecastCounts(request, material, request.setup(trial.policy, device))
    if prefix is not None and not counts.keeps_frozen:
        prefix.states = None
    weights = trial.counts.total.total
    forward = partial(counts.forward, weights=weights)
    times = TimeModel(time_model.measure(device, trial.runner.autocast))
    training: _TrainingProfile | None = None
    checkpoint, stored = 0.0, 0
    if method.trains:
        with phases("preflight"):
            preflight.check(trial.runner, trial.features["train"], request.spec.label, trial.before)
        training = _profile_training(trial, phases, counts, times)
    states = counts.states or ModelStateBytes(4 * weights, weights, 0, 0)
    evaluations = Evaluations(material, request.topology, times, forward, states, counts.keeps_frozen)
    if training is None:
        allocator.trim(device)
    with phases.meter.phase("test"):
        batches = evaluations.profile(trial)
    if training is not None:
        memory = _training_memory(counts, training)
        checkpoint, stored = real_steps.keep(trial)
    else:
        costs = [forward(material.chosen("validation", batch.rows), "all") for batch in batches]
        largest_run = max(costs, key=lambda cost: cost.activations)
        memory = _test_memory(counts, phases, evaluations.largest, largest_run)
    startup_phases = ("load", "tokenize", "preflight")
    startup: dict[str, float] = {name: s for name, s in phases.watch.seconds.items() if name in startup_phases}
    seconds = phase_seconds(counts, startup, evaluations, training.time if training is not None else None, checkpoint)
    if request.memory_limit_bytes is not None:
        memory = judge_gpu(request, material, request.memory_limit_bytes)
    profiles = training.profiles if training is not None else ()
    return estimator.build_forecast(counts, "profile", seconds, memory, stored, profiles)


@dataclass(frozen=True)
class _TrainingProfile:
    """What real training steps have shown.

    Attributes:
        profiles: the steps.
        time: adds up the seconds of training.
        growth: bytes that each new shape adds; None where no second shape could be run.
    """

    profiles: Sequence[ShapeProfile]
    time: TrainingTime
    growth: float | None


def _profile_training(trial: Assembled, phases: Phases, counts: ForecastCounts, times: TimeModel) -> _TrainingProfile:
    """Runs real training steps. Where they could not be counted, a rule of thumb stands for the counts."""
    topology, states = counts.request.topology, counts.states
    weights = trial.counts.total.total
    count: Callable[[MicroBatch], StepCost] = counts.step
    if states is None:
        count = lambda micro: rule_of_thumb(3 * weights, micro.padded_tokens)  # noqa: E731
    largest = counts.largest[0] if counts.largest is not None else candidates(counts.steps)[0]
    shapes = [*(shape for shape in representatives(counts.steps) if shape.size != largest.size), largest]
    expected = TrainingTime(_curve(shapes, count, times), 0.0, topology, 0)(counts.steps)
    budget = max(real_steps.STEP_SECONDS, min(MOST_BUDGET_SECONDS, BUDGET_SHARE * expected))
    states_bytes = states.gradients + states.optimizer if states is not None else 0
    profiler = StepProfiler(trial, phases, count, times, states_bytes)
    allocator.trim(counts.request.device)
    profiler.run(shapes, budget)
    if profiler.unfit is not None:
        counts.missing["profile"] = profiler.unfit
    growth = profiler.growth([micro for step in counts.steps for micro in step], real_steps.MORE_SECONDS)
    profiles = profiler.profiles
    # The first shape of all also pays for the warm-up that later shapes do not need.
    first_times = [profile.first_seconds for profile in (profiles[1:] or profiles)]
    first = statistics.median(first_times) if first_times else 0.0
    gradients = 4 * trial.counts.trainable.total
    update_times = [profile.update_seconds for profile in profiles]
    update = statistics.median(update_times) if update_times else times.update_seconds(gradients)
    calls = times.call_seconds(count(largest).calls)
    time = TrainingTime(_curve(shapes, count, times), update, topology, gradients, calls, first)
    return _TrainingProfile(profiles, time, growth)


def _curve(shapes: Sequence[MicroBatch], count: Callable[[MicroBatch], StepCost], times: TimeModel) -> Curve:
    return Curve([(shape.padded_tokens, times.seconds(count(shape))) for shape in shapes])


def _training_memory(counts: ForecastCounts, training: _TrainingProfile) -> MemoryFigures:
    """Returns the figures of memory in training: the measured peak of the largest shape that was run, plus what was
    counted beyond it."""
    request = counts.request
    run = max(training.profiles, key=lambda p: (p.cost.activations, p.micro.padded_tokens), default=None)
    if run is None or run.peak_bytes is None:
        return unknown_peak(request, counts.missing.get("profile", "no peak of memory can be measured here"))
    cost = counts.peak_step()
    if cost is None or counts.states is None:
        if run.micro.size != candidates(counts.steps)[0].size:
            return unknown_peak(request, counts.missing["estimate"])
        return judge(counts, run.peak_bytes, {"process": run.peak_bytes}, None, available_bytes(request))
    memory_returned = request.device.type != "cpu" or request.spec.execution.release_memory
    heap_factor = 1.0 if memory_returned else 1 + HOLES_SHARE
    extra_bytes = round(heap_factor * max(0, cost.activations - run.cost.activations))
    peak = run.peak_bytes + extra_bytes + _growth_bytes(counts, training, run.peak_bytes, cost.activations)
    return judge(counts, peak, _peak_parts(peak, counts.states, cost.activations), cost, available_bytes(request))


def _growth_bytes(counts: ForecastCounts, training: _TrainingProfile, peak_bytes: int, activations: int) -> int:
    """Returns the bytes by which the process will have grown at the end of training, with all shapes that are still to
    come.

    Args:
        counts: of the trial.
        training: its real steps.
        peak_bytes: the peak of the largest of them.
        activations: of the largest shape of all.
    """
    default_growth = 0.0 if counts.request.spec.execution.release_memory else GROWTH_SHARE * peak_bytes
    growth = default_growth if training.growth is None else training.growth
    shapes = len({micro.size for step in counts.steps for micro in step})
    new_shapes = max(0.0, _even_shapes(shapes) - _even_shapes(len(training.profiles)))
    return round(min(growth * new_shapes, HOLES_SHARE * activations + KERNEL_BYTES * new_shapes))


def _test_memory(counts: ForecastCounts, phases: Phases, largest: StepCost, run: StepCost) -> MemoryFigures:
    """Returns the figures of memory in the test, for a method without training.

    Args:
        counts: of the trial.
        phases: have measured the test.
        largest: cost of the largest batch.
        run: cost of the batch that was run.
    """
    request = counts.request
    peaks = phases.meter.memory().phases["test"]
    measured_peak = peaks.allocated_bytes if phases.meter.cuda else peaks.resident_bytes
    if measured_peak is None:
        return unknown_peak(request, "no peak of memory can be measured here")
    if counts.states is None:
        return unknown_peak(request, counts.missing["estimate"])
    peak = measured_peak + max(0, largest.activations - run.activations)
    return judge(counts, peak, _peak_parts(peak, counts.states, largest.activations), None, available_bytes(request))


def _even_shapes(shapes: int) -> float:
    """Returns how many times what one shape adds so many shapes add: later shapes reuse more and more of what the first
    ones left."""
    return shapes if shapes <= EVEN_SHAPES else EVEN_SHAPES * (1 + math.log(shapes / EVEN_SHAPES))


def _peak_parts(peak: int, states: ModelStateBytes, activations: int) -> dict[str, int]:
    """Returns the parts of a peak; what is not counted goes to the process."""
    parts = parts_of(states, activations)
    return {"process": max(0, peak - sum(parts.values())), **parts}
