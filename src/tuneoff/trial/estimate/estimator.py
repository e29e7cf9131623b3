"""What one trial of an arm will take, by counting: nothing is run and no weights are loaded.

data -> tokens -> the micro-batches to come -> their costs -> memory, seconds and disk
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from tuneoff import registry
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import Cancelled
from tuneoff.interfaces import Baseline, Example, Features, Method, ServedModel, Task, computed_tokens
from tuneoff.measure.environment import device_name, processor
from tuneoff.measure.memory import resident_bytes
from tuneoff.records.forecast import ArmForecast, EstimatedStep, How, ProfiledStep, Shape
from tuneoff.records.predictions import predictions_size
from tuneoff.trial.data import load as trial_data
from tuneoff.trial.estimate.counts import ForecastCounts, ForecastRequest
from tuneoff.trial.estimate.evaluations import Evaluations
from tuneoff.trial.estimate.material import Material, StudyCache
from tuneoff.trial.estimate.memory import (
    MemoryFigures,
    available_bytes,
    free_bytes,
    judge,
    judge_gpu,
    parts_of,
    unknown_peak,
)
from tuneoff.trial.estimate.phase_seconds import PhaseSeconds, TrainingTime, phase_seconds
from tuneoff.trial.estimate.process import FakeModelProcess
from tuneoff.trial.estimate.real_steps import ShapeProfile
from tuneoff.trial.estimate.schedule import MicroBatch
from tuneoff.trial.estimate.step_cost import ModelStateBytes, Part, StepCost
from tuneoff.trial.estimate.time_model import Curve, TimeModel
from tuneoff.trial.estimate.topology import Topology
from tuneoff.trial.modeling.precision import apply_policy, choose_device
from tuneoff.trial.training import kernels

BASELINE_EXAMPLES = 64
"""Rows of a split that a baseline predicts to measure how long it takes."""
BYTES_PER_SECOND = 5e8
"""Assumed speed of loading and keeping weights, where none are loaded."""
PREFLIGHT_PASSES = 5 / 3
"""Cost of a preflight in training steps: one forward and backward pass, and two forward passes."""
PREFIX_PASSES = 3
"""Cost of checking whether hidden states may be kept, in forward passes of `kernels.EXAMPLES` examples."""
COMPARING_PASSES = 4 / 3
"""Cost of comparing two implementations of attention in training steps: four forward passes, of more examples."""


def estimate_arms(
    pairs: Sequence[tuple[TrialSpec, TrialSpec | None]], device: str, memory_limit_bytes: int | None
) -> Iterator[ArmForecast | Exception]:
    """Estimates arms: no weights are loaded, nothing is run, and what the arms share is loaded once.

    Args:
        pairs: for every arm a final trial, and a trial of the search where the arm is searched.
        device: auto, cpu or cuda.
        memory_limit_bytes: memory of a GPU, to know whether the arms would fit there.

    Yields:
        For every arm its forecast, or why there is none.

    Raises:
        Cancelled: if it was asked to stop.
    """
    cache = StudyCache()
    with FakeModelProcess() as process:
        for final, search in pairs:
            try:
                yield _estimate_arm(final, search, device, memory_limit_bytes, process, cache)
            except Cancelled:
                raise
            except Exception as error:
                # Code of any method or model may fail; the other arms are still estimated.
                yield error


def _estimate_arm(
    final: TrialSpec,
    search: TrialSpec | None,
    device: str,
    limit: int | None,
    process: FakeModelProcess,
    cache: StudyCache,
) -> ArmForecast:
    started = time.perf_counter()
    method = registry.methods()[final.method].create(final.options)
    if isinstance(method, Baseline):
        arm_forecast = forecast_baseline(final, method, device)
    elif isinstance(method, ServedModel):
        arm_forecast = forecast_served(final, method)
    else:
        assert isinstance(method, Method)
        arm_forecast = estimate(ask(final, search, method, device, limit, process), cache)
    return arm_forecast.model_copy(update={"forecast_seconds": time.perf_counter() - started})


def ask(
    final: TrialSpec,
    search: TrialSpec | None,
    method: Method[Any],
    wanted_device: str,
    limit: int | None,
    process: FakeModelProcess,
) -> ForecastRequest:
    """Returns what is forecast, with what this process holds and the machine has free now."""
    device = choose_device(wanted_device)
    resident = resident_bytes()
    # What this process holds now will be free for a trial's process.
    free = free_bytes(device) + (resident if device.type == "cpu" else 0)
    topology = Topology(final.devices, final.shard, device.type)
    is_fast = final.execution.engine == "fast" and final.devices == 1
    keeps_frozen = method.trains and is_fast and not final.protocol.frozen_dropout
    return ForecastRequest(final, search, method, device, topology, limit, resident, free, process, keeps_frozen)


def estimate(request: ForecastRequest, cache: StudyCache) -> ArmForecast:
    """Forecasts a trial without running anything and without weights; of several ranks, the largest. Its times are
    rough.

    Raises:
        TuneoffError: if data or model cannot be loaded, or the method does not fit.
    """
    device, topology = request.device, request.topology
    material, startup_seconds = cache.material(request.spec, request.method)
    process_bytes = max(request.resident_bytes, resident_bytes()) + topology.process_bytes
    policy = apply_policy(request.spec.protocol.precision, device)
    counts = ForecastCounts(request, material, request.setup(policy.name, device))
    step = counts.peak_step()
    if counts.states is None or step is None:
        return _unknown(counts)
    times = PhaseSeconds()
    if not topology.shard:
        time_model = TimeModel(topology.rank_speed(cache.speed(device, policy)))
        times = _seconds(counts, counts.states, time_model, startup_seconds)
    if request.memory_limit_bytes is not None:
        memory = judge_gpu(request, material, request.memory_limit_bytes)
    else:
        parts = parts_of(counts.states, step.activations)
        if device.type == "cpu":
            parts = {"process": process_bytes, **parts}
        memory = judge(counts, sum(parts.values()), parts, step, available_bytes(request))
    return build_forecast(counts, "estimate", times, memory, _stored_bytes(counts))


def _unknown(counts: ForecastCounts) -> ArmForecast:
    """Returns the forecast of a trial of which nothing is known."""
    reason = counts.missing["estimate"]
    counts.missing = {**dict.fromkeys(("train_seconds", "stored_bytes", "largest"), reason), **counts.missing}
    return build_forecast(counts, "estimate", PhaseSeconds(), unknown_peak(counts.request, reason), None)


def _stored_bytes(counts: ForecastCounts) -> int:
    """Returns the bytes of the weights that are kept: they are assumed to be those that are trained."""
    return counts.trained_bytes if counts.request.method.trains else 0


def _seconds(
    counts: ForecastCounts, states: ModelStateBytes, times: TimeModel, startup_seconds: dict[str, float]
) -> PhaseSeconds:
    """Returns the seconds of a trial whose ranks each hold the whole model."""
    topology, material, setup = counts.request.topology, counts.material, counts.setup
    load = startup_seconds["load"] + topology.start_seconds + 4 * states.parameters / BYTES_PER_SECOND
    startup = {**startup_seconds, "load": load}
    forward = _FirstBatch(partial(counts.forward, weights=states.parameters), material.task)
    evaluations = Evaluations(material, topology, times, forward, states, counts.keeps_frozen)
    training: TrainingTime | None = None
    if counts.largest is not None:
        largest, cost = counts.largest
        curve = _line(cost, largest.padded_tokens, counts.steps, times)
        training = TrainingTime(
            curve,
            times.update_seconds(states.gradients),
            topology,
            counts.trained_bytes,
            times.call_seconds(cost.calls),
        )
        features = material.features["train"]
        pair_tokens = 2 * max(f.row_tokens for f in features)
        startup["preflight"] = PREFLIGHT_PASSES * curve(pair_tokens)
        compared_tokens = pair_tokens // 2 * min(kernels.EXAMPLES, len(features))
        if counts.keeps_frozen:
            # A step as counted passes over the frozen blocks, which these checks compute.
            startup["preflight"] += evaluations.forward(2 * pair_tokens + PREFIX_PASSES * compared_tokens)
        if setup.evaluation not in (None, setup.attention):
            startup["preflight"] += COMPARING_PASSES * curve(compared_tokens)
    return phase_seconds(counts, startup, evaluations, training, _stored_bytes(counts) / BYTES_PER_SECOND)


def _line(cost: StepCost, tokens: int, steps: Sequence[Sequence[MicroBatch]], times: TimeModel) -> Curve:
    """Returns seconds by padded tokens, as a line from the cost of one micro-batch of so many. The times are rough:
    more counts would not make them better."""
    fewest = min(micro.padded_tokens for step in steps for micro in step)
    return Curve([(size, times.seconds(cost.scaled(size / tokens))) for size in {fewest, tokens}])


class _FirstBatch:
    """Counts the first batch only; other batches are assumed to cost in proportion to it.

    Args:
        count: counts the forward pass of some examples, or a part of it.
        task: collates them.
    """

    def __init__(self, count: Callable[[Sequence[Features], Part], StepCost], task: Task) -> None:
        self._count, self._task = count, task
        self._first: dict[Part, tuple[int, StepCost]] = {}

    def __call__(self, features: Sequence[Features], part: Part) -> StepCost:
        tokens = computed_tokens(self._task.collate(features, 0))
        if part not in self._first:
            self._first[part] = tokens, self._count(features, part)
        first_tokens, cost = self._first[part]
        return cost.scaled(tokens / first_tokens)


# --- what an estimate and a profile share


def build_forecast(
    counts: ForecastCounts,
    how: How,
    times: PhaseSeconds,
    memory: MemoryFigures,
    stored_bytes: int | None,
    profiles: Sequence[ShapeProfile] = (),
) -> ArmForecast:
    """Builds the forecast from its figures.

    Args:
        counts: of the trial.
        how: how the figures were found.
        times: seconds by phase.
        memory: the figures of memory.
        stored_bytes: the size of the weights that are kept.
        profiles: real steps.
    """
    spec, method = counts.request.spec, counts.request.method
    shape = partial(_shape, counts.material)
    costs = {profile.micro: profile.cost for profile in profiles if counts.states is not None}
    if counts.largest is not None:
        costs[counts.largest[0]] = counts.largest[1]
    missing = {**counts.missing, **memory.missing}
    if not method.trains:
        missing |= dict.fromkeys(("train_seconds", "largest"), "this method does not train")
    return ArmForecast(
        label=spec.label,
        trial=spec.id,
        how=how,
        **_names(counts.request.device),
        peak_memory_bytes=memory.peak_memory_bytes,
        memory=dict(memory.memory),
        available_bytes=memory.available_bytes,
        fits=memory.fits,
        remedies=memory.remedies,
        train_seconds=times.final.get("train"),
        train_parts=times.parts,
        seconds=times.final,
        search_seconds=times.search,
        kept_seconds=times.kept,
        stored_bytes=stored_bytes,
        predictions_bytes=predictions_bytes(counts.material.task, counts.material.examples["test"]),
        test_examples=len(counts.material.examples["test"]),
        largest=shape(counts.largest[0]) if counts.largest is not None else None,
        estimated_steps=tuple(
            EstimatedStep(shape=shape(micro), activations_bytes=cost.activations, operations=cost.operations)
            for micro, cost in costs.items()
        ),
        profiled_steps=tuple(
            ProfiledStep(
                shape=shape(profile.micro),
                steps=profile.steps,
                seconds=profile.seconds + profile.update_seconds,
                peak_bytes=profile.peak_bytes,
            )
            for profile in profiles
        ),
        missing=missing,
    )


def _shape(material: Material, micro: MicroBatch) -> Shape:
    features = material.chosen("train", micro.rows)
    ids = material.task.collate(features, 0)["input_ids"]
    return Shape(examples=len(micro.rows), tokens=int(ids.shape[1]), targets=micro.targets)


def predictions_bytes(task: Task, test: Sequence[Example]) -> int:
    """Returns the bytes of the predictions that a trial keeps of its test split."""
    return predictions_size(
        [example.target for example in test],
        task.labels,
        [example.input_text for example in test[: task.sources_kept]],
        sum(metric.written for metric in task.all_metrics),
    )


def _names(device: torch.device) -> dict[str, str]:
    return {"device": str(device), "device_name": device_name(device), "processor": processor()}


def forecast_baseline(spec: TrialSpec, method: Baseline[Any], device: str) -> ArmForecast:
    """Forecasts a baseline, which uses no model, by predicting a few rows."""
    task = registry.create_task(spec.task)
    started = time.perf_counter()
    data = trial_data.load(task, spec.task, spec.protocol)
    loaded = time.perf_counter()
    seconds = 0.0
    for split in ("validation", "test"):
        rows = data.splits[split]
        before = time.perf_counter()
        task.score(method.predict(task, data.splits["train"], rows[:BASELINE_EXAMPLES]), split)
        seconds += (time.perf_counter() - before) * len(rows) / min(len(rows), BASELINE_EXAMPLES)
    missing_fields = ("peak_memory_bytes", "train_seconds", "largest", "available_bytes", "fits")
    return ArmForecast(
        label=spec.label,
        trial=spec.id,
        how="profile",
        **_names(choose_device(device)),
        seconds={"load": loaded - started, "test": seconds},
        stored_bytes=0,
        predictions_bytes=predictions_bytes(task, data.splits["test"]),
        test_examples=len(data.splits["test"]),
        missing=dict.fromkeys(missing_fields, "this method uses no model"),
    )


def forecast_served(spec: TrialSpec, method: ServedModel[Any]) -> ArmForecast:
    """Forecasts a model that others run, by an assumed time of an answer: nothing is asked, because it costs money."""
    task = registry.create_task(spec.task)
    started = time.perf_counter()
    test = trial_data.load(task, spec.task, spec.protocol).splits["test"]
    reason = "the model runs elsewhere, and is asked over a network"
    missing_fields = ("peak_memory_bytes", "train_seconds", "largest", "available_bytes", "fits")
    return ArmForecast(
        label=spec.label,
        trial=spec.id,
        how="profile",
        device="network",
        seconds={"load": time.perf_counter() - started, "test": method.expected_seconds(task, len(test))},
        stored_bytes=0,
        predictions_bytes=predictions_bytes(task, test),
        test_examples=len(test),
        missing={
            **dict.fromkeys(missing_fields, reason),
            "profile": "nothing is asked for a forecast: the time of an answer is assumed",
        },
    )
