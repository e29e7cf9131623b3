"""What one trial of a row will take, by counting: nothing is run and no weights are loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tuneoff.records.forecast import ArmForecast
from tuneoff.tasks.base import Features, Task, computed_tokens
from tuneoff.trial.estimate import profiler
from tuneoff.trial.estimate.base import Forecaster, Row, parts_of
from tuneoff.trial.estimate.common import Common
from tuneoff.trial.estimate.evaluations import Evaluations
from tuneoff.trial.estimate.schedule import MicroBatch
from tuneoff.trial.estimate.step_cost import StepCost
from tuneoff.trial.estimate.time_model import Costs, Curve, Speed
from tuneoff.trial.modeling.precision import Policy, apply_policy
from tuneoff.trial.training import kernels

BYTES_PER_SECOND = 5e8
"""Assumed speed of loading and keeping weights, where none are loaded."""
PREFLIGHT_PASSES = 5 / 3
"""Cost of a preflight in training steps: one forward and backward pass, and two forward passes."""
COMPARING_PASSES = 4 / 3
"""Cost of comparing two implementations of attention in training steps: four forward passes, of more examples."""


class Counting(Forecaster):
    """A forecast without running anything and without weights; its times are rough."""

    how = "counted"
    extra_bytes = 0
    """What the trial's process holds more than a process that counts."""

    def __init__(self, *arguments: Any, common: Common) -> None:
        super().__init__(*arguments)
        self.common = common

    def forecast(self) -> ArmForecast:
        protocol = self.spec.protocol
        material, startup_seconds = self.common.material(self.spec, self.method)
        process = max(self.resident, profiler.resident_bytes()) + self.extra_bytes
        policy = apply_policy(protocol.precision, self.device)
        row = self.begin(material, self.setup(policy.name, self.device))
        largest = self.largest(row)
        step = self.peak_step(row)
        if row.states is None or step is None:
            return self._forecast_uncounted(row)
        figures = self.figures(row, largest, policy, startup_seconds)
        if self.limit is not None:
            return self.answer(row, largest, (), **figures, **self.on_gpu(row))
        parts = parts_of(row.states, step.activations)
        if self.device.type == "cpu":
            parts = {"process": process, **parts}
        memory_figures = self.judge(row, sum(parts.values()), parts, step, self.available())
        return self.answer(row, largest, (), **figures, **memory_figures)

    def speed(self, policy: Policy) -> Speed:
        """Returns how fast the trial's process computes."""
        return self.common.speed(self.device, policy)

    def _forecast_uncounted(self, row: Row) -> ArmForecast:
        reason = row.missing["counted"]
        row.missing = {**dict.fromkeys(("train_seconds", "stored_bytes", "largest"), reason), **row.missing}
        return self.answer(row, None, (), **self.unknown(row, reason))

    def figures(
        self, row: Row, largest: tuple[MicroBatch, StepCost] | None, policy: Policy, startup_seconds: dict[str, float]
    ) -> dict[str, Any]:
        """Returns seconds and stored bytes; the weights that are kept are assumed to be those that are trained."""
        assert row.states is not None
        costs = Costs(self.speed(policy))
        states, train = row.states, None
        stored = states.gradients if self.method.trains else 0
        startup_seconds = {
            **startup_seconds,
            "load": startup_seconds["load"] + 4 * states.parameters / BYTES_PER_SECOND,
        }
        if self.method.trains and largest is not None:
            curve = _line(largest[1], largest[0].cells, [micro.cells for step in row.steps for micro in step], costs)
            update = costs.update(states.gradients)
            train = lambda steps: self.train_seconds(steps, curve, update, 0.0)  # noqa: E731
            features: Sequence[Features] = row.material.features["train"]
            pair_cells = 2 * max(len(f.input_ids) + len(f.target_ids) for f in features)
            startup_seconds["preflight"] = PREFLIGHT_PASSES * curve(pair_cells)
            if row.setup.evaluation not in (None, row.setup.attention):
                startup_seconds["preflight"] += COMPARING_PASSES * curve(
                    pair_cells // 2 * min(kernels.EXAMPLES, len(features))
                )
        forward = _counted_once(self.count_forward(row.material.task, states.parameters), row.material.task)
        evaluations = Evaluations(row.material, costs, forward, states)
        seconds, search_seconds = self.by_phase(row, startup_seconds, evaluations, train, stored / BYTES_PER_SECOND)
        return {
            "train_seconds": seconds.get("train"),
            "seconds": seconds,
            "search_seconds": search_seconds,
            "stored_bytes": stored,
        }


def _line(step: StepCost, step_cells: int, cells: Sequence[int], costs: Costs) -> Curve:
    """Returns seconds by cells, as a line from one counted step of so many cells. The times are rough: more counts
    would not make them better."""
    return Curve([(size, costs.seconds(step.scaled(size / step_cells))) for size in {min(cells), step_cells}])


def _counted_once(
    count: Callable[[Sequence[Features]], StepCost], task: Task
) -> Callable[[Sequence[Features]], StepCost]:
    """Returns a function that counts the first batch only; other batches are assumed to cost in proportion to it."""
    first_batch: list[tuple[int, StepCost]] = []

    def scaled(features: Sequence[Features]) -> StepCost:
        batch = task.collate(features, 0)
        cells = computed_tokens(batch)
        if not first_batch:
            first_batch.append((cells, count(features)))
        first_cells, step = first_batch[0]
        return step.scaled(cells / first_cells)

    return scaled
