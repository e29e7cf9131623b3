"""What one trial of a row will take: memory, seconds and disk, before it is trained.

data -> tokens -> the micro-batches to come -> counts -> a few real steps -> forecast
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tuneoff import registry
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import Cancelled
from tuneoff.measure.utilisation import Sampler
from tuneoff.methods.base import Baseline, Method
from tuneoff.records.forecast import ArmForecast
from tuneoff.trial.assembly import Assembled, assemble
from tuneoff.trial.context import TrialContext
from tuneoff.trial.data import load as trial_data
from tuneoff.trial.estimate import profiler, time_model
from tuneoff.trial.estimate.base import Forecaster, Row, by_rule, parts_of, predictions_bytes
from tuneoff.trial.estimate.common import Common
from tuneoff.trial.estimate.counted import Counting
from tuneoff.trial.estimate.distributed import Sharing
from tuneoff.trial.estimate.evaluations import Evaluations, Material
from tuneoff.trial.estimate.process import CountingProcess
from tuneoff.trial.estimate.schedule import MicroBatch, candidates, representatives
from tuneoff.trial.estimate.step_cost import ModelStateBytes, StepCost
from tuneoff.trial.estimate.time_model import Costs, Curve
from tuneoff.trial.modeling import allocator
from tuneoff.trial.modeling.precision import choose_device
from tuneoff.trial.phases import Phases
from tuneoff.trial.randomness import seed_all
from tuneoff.trial.training import preflight

BASELINE_EXAMPLES = 64
"""Rows of a split that a baseline predicts to measure how long it takes."""
BUDGET_SHARE = 0.02
MOST_BUDGET_SECONDS = 15.0
"""Real steps may take more than `probe.STEP_SECONDS` where training is long: this share of it, up to this."""

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


def forecast_arm(
    verdict: TrialSpec, search: TrialSpec | None, device: str, memory_limit_bytes: int | None
) -> ArmForecast:
    """Forecasts a row by a few real steps of one of its trials; a row on several devices is counted.

    Args:
        verdict: a final trial.
        search: a trial of the search, where the row is searched.
        device: auto, cpu or cuda.
        memory_limit_bytes: memory of a GPU, to know whether the row would fit there.

    Raises:
        TuneoffError: if data or model cannot be loaded, or the method does not fit.
    """
    # Before anything is loaded and any thread is started.
    with CountingProcess() as aside:
        return _forecast(verdict, search, device, memory_limit_bytes, aside, None)


def count_arms(
    pairs: Sequence[tuple[TrialSpec, TrialSpec | None]], device: str, memory_limit_bytes: int | None
) -> Iterator[ArmForecast | Exception]:
    """Forecasts rows by counting: no weights are loaded, nothing is run, and what the rows share is loaded once.

    Args:
        pairs: for every row, its final and search trials, as `forecast_arm` takes them.
        device, memory_limit_bytes: as `forecast_arm`.

    Yields:
        For every row its forecast, or why there is none.

    Raises:
        Cancelled: if the count was asked to stop.
    """
    common = Common()
    with CountingProcess() as aside:
        for verdict, search in pairs:
            try:
                yield _forecast(verdict, search, device, memory_limit_bytes, aside, common)
            except Cancelled:
                raise
            except Exception as error:
                # Code of any method or model may fail; the other rows are still counted.
                yield error


def _forecast(
    verdict: TrialSpec,
    search: TrialSpec | None,
    device: str,
    limit: int | None,
    aside: CountingProcess,
    common: Common | None,
) -> ArmForecast:
    """Returns a row's forecast: counted where `common` is given or the row has several devices, else probed."""
    started = time.perf_counter()
    method = registry.methods()[verdict.method].create(verdict.options)
    if isinstance(method, Baseline):
        row = _forecast_baseline(verdict, method, device)
    else:
        assert isinstance(method, Method)
        arguments = (verdict, search, method, choose_device(device), limit, aside)
        if common is None and verdict.devices == 1:
            row = Probing(*arguments).forecast()
        else:
            forecaster = Sharing if verdict.devices > 1 else Counting
            row = forecaster(*arguments, common=common or Common()).forecast()
    return row.model_copy(update={"forecast_seconds": time.perf_counter() - started})


def _forecast_baseline(spec: TrialSpec, method: Baseline[Any], device: str) -> ArmForecast:
    """Forecasts a baseline, which uses no model, by predicting a few rows."""
    task = registry.tasks()[spec.task.name](spec.task.options)
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
        how="probed",
        device=str(choose_device(device)),
        seconds={"load": loaded - started, "test": seconds},
        stored_bytes=0,
        predictions_bytes=predictions_bytes(task, data.splits["test"]),
        missing=dict.fromkeys(missing_fields, "this method uses no model"),
    )


class Probing(Forecaster):
    """A forecast by real steps, in a process that has done the same as a trial does before its steps."""

    how = "probed"
    growth: float | None = 0.0
    """Bytes that each new shape adds; None where no second shape could be run."""

    def forecast(self) -> ArmForecast:
        seed_all(self.spec.seed)
        with Sampler(device=self.device) as sampler:
            return self._probe(TrialContext.of(self.spec, self.device, sampler))

    def _probe(self, context: TrialContext) -> ArmForecast:
        phases = context.phases
        trial = assemble(context, self.method)
        material = Material(self.spec, trial.task, trial.data.splits, trial.features, self.method.trains)
        row = self.begin(material, self.setup(trial.policy, self.device))
        largest = self.largest(row)
        weights = trial.counts.total.total
        forward = self.count_forward(trial.task, weights)
        if row.states is None:
            row.count = lambda micro: by_rule(3 * weights, micro.cells)
        costs = Costs(time_model.measure(self.device, trial.runner.autocast))
        rungs: list[profiler.Rung] = []
        train: Callable[[list[list[MicroBatch]]], float] | None = None
        checkpoint, stored = 0.0, 0
        if self.method.trains:
            with phases("preflight"):
                preflight.check(trial.runner, trial.features["train"], self.spec.label, trial.before)
            rungs, train = self._climb(trial, phases, row, costs, largest)
        states = row.states or ModelStateBytes(4 * weights, weights, 0, 0)
        evaluations = Evaluations(material, costs, forward, states)
        if not self.method.trains:
            allocator.trim(self.device)
        with phases.meter.phase("test"):
            real_batch = evaluations.probe(trial)
        if self.method.trains:
            figures = self._train_memory(row, largest, rungs)
            checkpoint, stored = profiler.keep(trial)
        else:
            figures = self._test_memory(
                row, phases, evaluations.largest, forward(material.chosen("validation", real_batch.micro.rows))
            )
        startup_phases = ("load", "tokenize", "preflight")
        startup_seconds: dict[str, float] = {
            name: s for name, s in phases.watch.seconds.items() if name in startup_phases
        }
        seconds, search_seconds = self.by_phase(row, startup_seconds, evaluations, train, checkpoint)
        if self.limit is not None:
            figures = self.on_gpu(row)
        return self.answer(
            row,
            largest,
            rungs,
            train_seconds=seconds.get("train"),
            seconds=seconds,
            search_seconds=search_seconds,
            stored_bytes=stored,
            **figures,
        )

    def _climb(
        self, trial: Assembled, phases: Phases, row: Row, costs: Costs, largest: tuple[MicroBatch, StepCost] | None
    ) -> tuple[list[profiler.Rung], Callable[[list[list[MicroBatch]]], float]]:
        """Runs real steps; returns them, and a function from micro-batches to the seconds of training on them."""
        shapes = representatives(row.steps)
        largest_shape = largest[0] if largest is not None else candidates(row.steps)[0]
        shapes = [shape for shape in shapes if shape.size != largest_shape.size]
        curve = self._curve(row, [*shapes, largest_shape], costs)
        expected = self.train_seconds(row.steps, curve, 0.0, 0.0)
        budget = max(profiler.STEP_SECONDS, min(MOST_BUDGET_SECONDS, BUDGET_SHARE * expected))
        states_bytes = row.states.gradients + row.states.optimizer if row.states is not None else 0
        climb = profiler.Climb(trial, phases, row.count, costs, states_bytes)
        allocator.trim(self.device)
        climb.climb([*shapes, largest_shape], budget)
        if climb.unfit is not None:
            row.missing["probed"] = climb.unfit
        micro_batches = [micro for step in row.steps for micro in step]
        self.growth = climb.growth(micro_batches, profiler.MORE_SECONDS)
        curve = self._curve(row, [*shapes, largest_shape], costs)
        rungs = climb.rungs
        # The first shape of all also pays for the warm-up that later shapes do not need.
        first_times = [rung.first_seconds for rung in (rungs[1:] or rungs)]
        first_seconds = statistics.median(first_times) if first_times else 0.0
        gradients = 4 * trial.counts.trainable.total
        update = statistics.median(rung.update_seconds for rung in rungs) if rungs else costs.update(gradients)
        return rungs, lambda steps: self.train_seconds(steps, curve, update, first_seconds)

    def _curve(self, row: Row, shapes: Sequence[MicroBatch], costs: Costs) -> Curve:
        return Curve([(shape.cells, costs.seconds(row.count(shape))) for shape in shapes])

    def _train_memory(
        self, row: Row, largest: tuple[MicroBatch, StepCost] | None, rungs: Sequence[profiler.Rung]
    ) -> dict[str, Any]:
        """Returns the figures of memory in training: the measured peak of the largest shape that was run, plus what was
        counted beyond it."""
        largest_rung = max(rungs, key=lambda rung: (rung.counted.activations, rung.micro.cells), default=None)
        if largest_rung is None or largest_rung.peak_bytes is None:
            return self.unknown(row, row.missing.get("probed", "no peak of memory can be measured here"))
        if largest is None or row.states is None:
            if largest_rung.micro.size != candidates(row.steps)[0].size:
                return self.unknown(row, row.missing["counted"])
            return self.judge(
                row, largest_rung.peak_bytes, {"process": largest_rung.peak_bytes}, None, self.available()
            )
        step = largest[1]
        memory_returned = self.device.type != "cpu" or self.spec.execution.release_memory
        heap_factor = 1.0 if memory_returned else 1 + HOLES_SHARE
        extra_bytes = round(heap_factor * max(0, step.activations - largest_rung.counted.activations))
        peak = (
            largest_rung.peak_bytes + extra_bytes + self._growth_bytes(row, largest_rung, step.activations, len(rungs))
        )
        return self.judge(row, peak, _peak_parts(peak, row.states, step.activations), step, self.available())

    def _growth_bytes(self, row: Row, largest_rung: profiler.Rung, activations: int, run_shapes: int) -> int:
        """Returns the bytes by which the process will have grown at the end of training, with all shapes that are still
        to come."""
        assert largest_rung.peak_bytes is not None
        default_growth = 0.0 if self.spec.execution.release_memory else GROWTH_SHARE * largest_rung.peak_bytes
        growth = default_growth if self.growth is None else self.growth
        shapes = len({micro.size for step in row.steps for micro in step})
        new_shapes = max(0.0, _even_shapes(shapes) - _even_shapes(run_shapes))
        return round(min(growth * new_shapes, HOLES_SHARE * activations + KERNEL_BYTES * new_shapes))

    def _test_memory(self, row: Row, phases: Phases, largest: StepCost, run: StepCost) -> dict[str, Any]:
        """Returns the figures of memory in the test, for a method without training."""
        peaks = phases.meter.memory().phases["test"]
        measured_peak = peaks.allocated_bytes if phases.meter.cuda else peaks.resident_bytes
        if measured_peak is None:
            return self.unknown(row, "no peak of memory can be measured here")
        if row.states is None:
            return self.unknown(row, row.missing["counted"])
        peak = measured_peak + max(0, largest.activations - run.activations)
        return self.judge(row, peak, _peak_parts(peak, row.states, largest.activations), None, self.available())


def _even_shapes(shapes: int) -> float:
    """Returns how many times what one shape adds so many shapes add: later shapes reuse more and more of what the first
    ones left."""
    return shapes if shapes <= EVEN_SHAPES else EVEN_SHAPES * (1 + math.log(shapes / EVEN_SHAPES))


def _peak_parts(peak: int, states: ModelStateBytes, activations: int) -> dict[str, int]:
    """Returns the parts of a peak; what is not counted goes to the process."""
    parts = parts_of(states, activations)
    return {"process": max(0, peak - sum(parts.values())), **parts}
