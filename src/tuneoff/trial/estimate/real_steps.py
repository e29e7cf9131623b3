"""A few real steps of a trial, timed: training, evaluation, single examples, writing, keeping weights.

Small shapes come first, and none is run that would not fit into the free memory. What is too slow to run within the
budget is extrapolated.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuneoff.interfaces import Features
from tuneoff.measure.memory import resident_bytes
from tuneoff.trial.assembly import Assembled
from tuneoff.trial.estimate.memory import free_bytes
from tuneoff.trial.estimate.schedule import MicroBatch
from tuneoff.trial.estimate.step_cost import StepCost
from tuneoff.trial.estimate.time_model import TimeModel
from tuneoff.trial.phases import Phases
from tuneoff.trial.training.checkpoint import Checkpoint
from tuneoff.trial.training.evaluate import predict
from tuneoff.trial.training.optim import adamw
from tuneoff.trial.training.trainer import accumulate, clip

STEP_SECONDS = 3.0
"""Budget of real training steps."""
LARGEST_SECONDS = 8.0
"""Seconds that the largest shape may take beyond that: its first two steps show its memory better than any count."""
MORE_SECONDS = 2.0
"""Budget of further shapes, which show how the process grows with the number of shapes."""
OTHER_SECONDS = 1.0
"""Budget of one real batch of an evaluation, and of the reading of one batch to write from."""
MOST_REPEATS = 5
WRITTEN = 8
"""Tokens that are written to measure the time of one."""
MARGIN = 1.2
"""A shape is run only where this many times its counted memory is free."""


@dataclass(frozen=True)
class ShapeProfile:
    """Real optimizer steps at one shape.

    Attributes:
        micro: what went through the model.
        cost: what it costs by counting.
        steps: how many were timed, without the first.
        seconds: median of one micro-batch, collating included.
        first_seconds: additional seconds of the first micro-batch of this shape.
        update_seconds: median of clipping and optimizer.
        peak_bytes: peak of the process (CPU) or of the allocator (CUDA) while these ran.
    """

    micro: MicroBatch
    cost: StepCost
    steps: int
    seconds: float
    first_seconds: float
    update_seconds: float
    peak_bytes: int | None


class StepProfiler:
    """Real training steps of an assembled trial, from small shapes to large.

    Args:
        trial: ready to train.
        phases: measures its seconds and peaks of memory.
        count: counts a micro-batch.
        times: learns from every shape.
        states_bytes: gradients and optimizer states, which the first step makes.
    """

    def __init__(
        self,
        trial: Assembled,
        phases: Phases,
        count: Callable[[MicroBatch], StepCost],
        times: TimeModel,
        states_bytes: int,
    ) -> None:
        protocol = trial.spec.protocol
        self._trial, self._phases, self._count, self._times = trial, phases, count, times
        self._states_bytes = states_bytes
        groups = trial.method.parameter_groups(trial.runner.attached, protocol.weight_decay)
        self._trained = [parameter for group in groups for parameter in group["params"]]
        # With learning rate 0 an optimizer does the same work and changes nothing.
        self._optimizer = adamw(groups, protocol, 0.0)
        self._passes = 2 if protocol.gradient_accumulation_steps > 1 else 1
        self._frozen_rate = 0.0
        self.profiles: list[ShapeProfile] = []
        self.unfit: str | None = None

    def run(self, shapes: Sequence[MicroBatch], budget: float, for_last: float = LARGEST_SECONDS) -> None:
        """Runs as many of these growing shapes as the budget allows; of a shape that takes too long, fewer of its
        examples.

        The last shape is the most important: time for it is reserved where the budget is large enough, and it may take
        `for_last` seconds whatever remains. One shape is run in any case.
        """
        remaining = budget
        for number, shape in enumerate(shapes):
            is_last = number == len(shapes) - 1
            reserved = 0.0 if is_last else self._step_price(shapes[-1])
            reserved = reserved if reserved < remaining / 2 else 0.0
            if is_last:
                remaining = max(remaining, for_last)
            affordable = self._affordable(shape, remaining - reserved)
            if affordable is None or any(profile.micro.size == affordable.size for profile in self.profiles):
                continue
            cost = self._count(affordable)
            if not self._fits(cost):
                return
            share = (remaining - reserved) / (len(shapes) - number)
            started = time.perf_counter()
            self._run_shape(affordable, cost, share)
            remaining -= time.perf_counter() - started

    def growth(self, shapes: Sequence[MicroBatch], budget: float) -> float | None:
        """Returns the bytes by which each new shape makes the process grow, beyond what its tensors take; None where no
        new shape is run.

        On a CPU every shape leaves cached kernels and fragmentation of the heap. Shapes are run in this order, one step
        each, while the budget lasts. None is larger than those run before, so that the growth is not due to tensors.
        """
        if self._phases.meter.cuda or not self.profiles:
            return 0.0
        most_tokens, remaining, new_shapes = max(profile.micro.padded_tokens for profile in self.profiles), budget, 0
        tried_sizes = {profile.micro.size for profile in self.profiles}
        bytes_before = resident_bytes()
        for shape in shapes:
            step_seconds = self._times.seconds(self.profiles[-1].cost)
            price = self._passes * step_seconds * shape.padded_tokens / self.profiles[-1].micro.padded_tokens
            price += self._frozen_rate * shape.padded_tokens
            if shape.size in tried_sizes or shape.padded_tokens > most_tokens or price > remaining:
                continue
            tried_sizes.add(shape.size)
            started = time.perf_counter()
            self._step(shape)
            remaining -= time.perf_counter() - started
            new_shapes += 1
        return max(0.0, (resident_bytes() - bytes_before) / new_shapes) if new_shapes else None

    def _step_price(self, shape: MicroBatch) -> float:
        """Returns the seconds of the first step of a shape and of one more, after its frozen blocks."""
        return self._frozen_rate * shape.padded_tokens + 2 * self._passes * self._times.seconds(self._count(shape))

    def _fill_prefix(self, features: Sequence[Features], padded_tokens: int) -> None:
        """Computes what the frozen first blocks give, as a trial does before its steps."""
        started = time.perf_counter()
        self._trial.runner.fill_prefix(features)
        self._frozen_rate = max(self._frozen_rate, (time.perf_counter() - started) / padded_tokens)

    def _affordable(self, shape: MicroBatch, seconds: float) -> MicroBatch | None:
        """Returns the shape with as many of its examples as the seconds allow, or None; with one example where nothing
        was run yet."""
        price, count = self._step_price(shape), len(shape.rows)
        while count > 1 and price * count / len(shape.rows) > seconds:
            count = count // 2
        if price * count / len(shape.rows) > seconds and self.profiles:
            return None
        if count == len(shape.rows):
            return shape
        # The longest of its examples, so that the padded width stays the same.
        features = self._trial.features["train"]
        rows = sorted(shape.rows, key=lambda i: -len(features[i].input_ids) - len(features[i].target_ids))[:count]
        targets = sum(len(features[i].target_ids) for i in rows)
        return MicroBatch(tuple(rows), shape.padded_tokens // len(shape.rows) * count, targets)

    def _fits(self, cost: StepCost) -> bool:
        states_bytes = 0 if self.profiles else self._states_bytes
        needed, free = (
            MARGIN * (cost.activations + states_bytes),
            free_bytes(self._trial.runner.device),
        )
        if needed <= free:
            return True
        self.unfit = (
            f"larger steps were not run: about {needed / 1e9:.1f} GB would be needed, {free / 1e9:.1f} GB are free"
        )
        return False

    def _run_shape(self, shape: MicroBatch, cost: StepCost, share: float) -> None:
        name = f"profile {len(self.profiles)}"
        with self._phases.meter.phase(name):
            first, updates = self._step(shape)
            repeats = max(1, min(MOST_REPEATS, int(share / max(first * self._passes + updates, 1e-9)) - 1))
            timings = [self._step(shape) for _ in range(repeats)]
        seconds = statistics.median(micro for micro, _ in timings)
        peak_memory = self._phases.meter.memory().phases[name]
        self._times.observe(cost, seconds)
        self.profiles.append(
            ShapeProfile(
                micro=shape,
                cost=cost,
                steps=repeats,
                seconds=seconds,
                first_seconds=max(0.0, first - seconds),
                update_seconds=statistics.median(update for _, update in timings),
                peak_bytes=peak_memory.allocated_bytes if self._phases.meter.cuda else peak_memory.resident_bytes,
            )
        )

    def _step(self, shape: MicroBatch) -> tuple[float, float]:
        """Does an optimizer step as `trainer.train` does; returns the seconds of a micro-batch, and of what follows the
        micro-batches."""
        runner, spec = self._trial.runner, self._trial.spec
        features = [self._trial.features["train"][row] for row in shape.rows]
        self._fill_prefix(features, shape.padded_tokens)
        runner.begin_training()
        started = time.perf_counter()
        accumulate(runner, [runner.batch(features) for _ in range(self._passes)], runner.task.loss_terms(features))
        runner.synchronise()
        gradients_ready = time.perf_counter()
        clip(runner, self._trained, spec.protocol.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        runner.synchronise()
        return (gradients_ready - started) / self._passes, time.perf_counter() - gradients_ready


@dataclass(frozen=True)
class EvaluationTiming:
    """A real batch of an evaluation.

    Attributes:
        micro: what went through.
        frozen_seconds: of the frozen first blocks, where what they give is kept; else 0.
        first_seconds: the first time, when kernels are prepared for its shape.
        seconds: the second time.
    """

    micro: MicroBatch
    frozen_seconds: float
    first_seconds: float
    seconds: float


def evaluate(trial: Assembled, split: str, batch: MicroBatch) -> EvaluationTiming:
    """Times the predictions of a batch of a split, after one example as warm-up."""
    features, examples = trial.features[split], trial.data.splits[split]

    def once(rows: Sequence[int]) -> float:
        started = time.perf_counter()
        predict(trial.runner, [features[i] for i in rows], [examples[i] for i in rows])
        return time.perf_counter() - started

    started = time.perf_counter()
    trial.runner.fill_prefix([features[i] for i in batch.rows])
    frozen_seconds = time.perf_counter() - started
    once(batch.rows[-1:])
    return EvaluationTiming(batch, frozen_seconds, once(batch.rows), once(batch.rows))


def single(trial: Assembled, features: Sequence[Features]) -> float:
    """Returns the mean seconds of one example through the model alone, each example in its own shape."""
    with trial.runner.evaluating():
        started = time.perf_counter()
        for feature in features:
            trial.runner.logits([feature])
        trial.runner.synchronise()
        return (time.perf_counter() - started) / len(features)


@dataclass(frozen=True)
class WritingTiming:
    """A real batch that a text was written for.

    Attributes:
        examples: of the batch.
        read_seconds: to read the prompts and write the first token.
        token_seconds: for each further token, of all examples at once.
    """

    examples: int
    read_seconds: float
    token_seconds: float


def write(trial: Assembled, features: Sequence[Features]) -> WritingTiming:
    """Times the writing of a few tokens for a batch."""
    runner = trial.runner

    def once(limit: int) -> tuple[float, int]:
        runner.synchronise()
        started = time.perf_counter()
        token_lists = runner.generate(features, limit)
        runner.synchronise()
        # The end-of-text token is written too, and not returned.
        return time.perf_counter() - started, min(limit, max(map(len, token_lists)) + 1)

    with runner.evaluating():
        once(1)
        read_seconds, _ = once(1)
        total_seconds, steps = once(1 + WRITTEN)
    return WritingTiming(len(features), read_seconds, max(0.0, total_seconds - read_seconds) / max(1, steps - 1))


def keep(trial: Assembled) -> tuple[float, int]:
    """Keeps the trained weights once; returns the seconds and the size in bytes."""
    with tempfile.TemporaryDirectory(prefix="tuneoff-") as folder:
        checkpoint = Checkpoint(Path(folder) / "weights", trial.method, trial.runner.attached)
        started = time.perf_counter()
        checkpoint.save(0)
        return time.perf_counter() - started, checkpoint.stored_bytes()
