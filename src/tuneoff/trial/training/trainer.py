"""The one training loop: every method, every task, no branches between them.

A step is one effective batch: its micro-batches' losses are divided by the number of units (examples, or target
tokens) in the effective batch, so accumulation changes memory and time, never the gradient.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from tuneoff.config.spec import Protocol
from tuneoff.errors import Diverged
from tuneoff.measure.energy import EnergyMeter
from tuneoff.methods.base import Method, MethodOptions
from tuneoff.records.record import CurvePoint, Event
from tuneoff.tasks.base import Batch, Features, attention_masks, computed_tokens
from tuneoff.trial.distributed import fsdp
from tuneoff.trial.distributed.gradient_sync import GradientSync
from tuneoff.trial.training.evaluate import EVENT_INTERVAL_SECONDS, ModelRunner
from tuneoff.trial.training.optim import adamw, rate_factor
from tuneoff.trial.training.phases import Phases

FIRST_STEPS = 3
"""Steps reported apart: they hold allocation, autotuning and compilation."""

Row = TypeVar("Row")


@dataclass
class Training:
    """What the training loop measured."""

    steps: int = 0
    gradient_norms: list[float] = field(default_factory=list)
    curve: list[CurvePoint] = field(default_factory=list)
    examples: int = 0
    tokens: int = 0
    computed_tokens: int = 0
    first_steps_seconds: float = 0.0
    step_seconds: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0
    order: hashlib._Hash = field(default_factory=hashlib.sha256)

    @property
    def step_seconds_median(self) -> float | None:
        """Returns the median seconds of a step and its data wait after the first steps; None without later steps."""
        steady = self.step_seconds[FIRST_STEPS:]
        return statistics.median(steady) if steady else None


def batches(size: int, protocol: Protocol, seed: int) -> Iterator[list[int]]:
    """Yields the positions of each effective batch, epoch after epoch; a function of the rows and the seed alone."""
    for epoch in range(protocol.epochs):
        order = np.random.default_rng([seed, epoch]).permutation(size)
        for start in range(0, size, protocol.batch_size):
            yield [int(i) for i in order[start : start + protocol.batch_size]]


def micro_batches(batch: Sequence[Row], parts: int) -> list[Sequence[Row]]:
    """Cuts an effective batch into at most `parts` micro-batches of one size; the last may be smaller, not empty."""
    size = math.ceil(len(batch) / parts)
    return [batch[start : start + size] for start in range(0, len(batch), size)]


def total_steps(size: int, protocol: Protocol) -> int:
    """Counts the optimizer steps of a trial; the last batch of an epoch may be smaller."""
    steps = protocol.epochs * math.ceil(size / protocol.batch_size)
    return min(steps, protocol.max_steps or steps)


def evaluation_steps(size: int, protocol: Protocol) -> set[int]:
    """Returns the steps after which validation is scored: evenly within each epoch, and after the last."""
    per_epoch, last = math.ceil(size / protocol.batch_size), total_steps(size, protocol)
    parts = protocol.evaluations_per_epoch
    points = {
        epoch * per_epoch + max(1, round(part * per_epoch / parts))
        for epoch in range(protocol.epochs)
        for part in range(1, parts + 1)
    }
    return {step for step in points if step <= last} | {last}


def train(
    runner: ModelRunner,
    method: Method[MethodOptions],
    features: Sequence[Features],
    protocol: Protocol,
    learning_rate: float,
    seed: int,
    phases: Phases,
    validate: Callable[[int], dict[str, float]],
    emit: Callable[[Event], None],
    joules: EnergyMeter,
) -> Training:
    """Trains, scoring validation on the way.

    Args:
        runner: model, device and precision.
        method: the method attached to `runner.attached`.
        features: training examples.
        protocol: what is held equal.
        learning_rate: the peak of the schedule.
        seed: decides the order of examples and dropout.
        phases: clocks and peaks.
        validate: called with the step; scores validation and keeps the checkpoint. Not timed as training.
        emit: takes progress events.
        joules: runs while training does.

    Raises:
        Diverged: when a loss or a gradient norm stops being finite; names the step.
    """
    steps = total_steps(len(features), protocol)
    validation_steps = evaluation_steps(len(features), protocol)
    module = runner.attached.module
    groups = method.parameter_groups(runner.attached, protocol.weight_decay)
    trained = [parameter for group in groups for parameter in group["params"]]
    optimizer = adamw(groups, protocol, learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, protocol, steps))
    ranks = runner.ranks
    ranks.check_equal(trained, "before training")
    reducer = None if ranks.alone or ranks.sharded else GradientSync(_order_by_model(module, trained), ranks)
    training = Training()
    losses: list[tuple[float, int]] = []  # mean and units of each step since the last validation
    last_event = started = time.perf_counter()
    effective_batches = batches(len(features), protocol, seed)
    step = 0
    while step < steps:
        module.train()
        with phases.memory("train"), joules, _count_processor_seconds(training):
            while step < steps:
                seconds_before = phases.train_seconds
                with phases.clock("data_wait"):
                    indices = next(effective_batches)
                    batch = [features[i] for i in indices]
                    size = runner.task.units(batch)
                    micro = _collate(runner, batch, protocol.gradient_accumulation_steps, training)
                with phases.clock("train_step"):
                    rate = learning_rate * rate_factor(step, protocol, steps)
                    loss = accumulate(runner, micro, size, reducer)
                    norm = clip(runner, trained, protocol.clip_norm)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad(set_to_none=True)
                    step += 1
                    method.after_step(runner.attached, step, steps)
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    raise Diverged(
                        f"the loss is {loss} and the gradient norm {norm} at step {step} of {steps}",
                        hint=f"Try a lower learning rate than {learning_rate:g}, or precision fp32.",
                    )
                ranks.stepped()
                training.steps = step
                training.examples += len(indices)
                training.order.update(np.asarray(indices, dtype=np.int64).tobytes())
                training.gradient_norms.append(norm)
                losses.append((loss, size))
                training.step_seconds.append(phases.train_seconds - seconds_before)
                if step <= FIRST_STEPS:
                    training.first_steps_seconds = phases.train_seconds
                now = time.perf_counter()
                if now - last_event >= EVENT_INTERVAL_SECONDS or step in validation_steps:
                    last_event = now
                    progress = _describe_progress(
                        step, steps, training, protocol, len(features), loss, rate, now - started, phases
                    )
                    emit({**progress, "validations": len(validation_steps)})
                if step in validation_steps:
                    break
        ranks.rest()
        scores = validate(step)
        training.curve.append(
            CurvePoint(
                step=step,
                epoch=training.examples / len(features),
                train_seconds=phases.train_seconds,
                learning_rate=rate,
                train_loss=sum(value * size for value, size in losses) / sum(size for _, size in losses),
                validation=scores,
            )
        )
        losses.clear()
    if reducer is not None:
        reducer.close()
    ranks.check_equal(trained, "after training")
    training.tokens, training.computed_tokens = (int(n) for n in ranks.sum([training.tokens, training.computed_tokens]))
    return training


def _order_by_model(module: nn.Module, trained: list[nn.Parameter]) -> list[nn.Parameter]:
    """Returns the trained parameters in the order of the model; parameter groups have another."""
    trained_ids = {id(parameter) for parameter in trained}
    return [parameter for parameter in module.parameters() if id(parameter) in trained_ids]


@contextmanager
def _count_processor_seconds(training: Training) -> Iterator[None]:
    """Counts this process's processor seconds while open."""
    start = time.process_time()
    yield
    training.cpu_seconds += time.process_time() - start


class _Idle(dict[str, torch.Tensor]):
    """A micro-batch that this rank computes because the others do, and that does not count."""


def _collate(runner: ModelRunner, features: list[Features], parts: int, training: Training) -> list[Batch]:
    """Collates an effective batch into micro-batches on the device, none empty: this rank's share of each.

    Where weights are sharded, a rank without a share computes another rank's example, because all ranks must compute
    equally often.
    """
    micro: list[Batch] = []
    for micro_batch in micro_batches(features, parts):
        share = runner.ranks.share(micro_batch)
        if not share:
            if runner.ranks.sharded:
                micro.append(_Idle(runner.batch(micro_batch[:1])))
            continue
        batch = runner.task.collate(share, runner.pad_token_id)
        training.tokens += sum(int(mask.sum()) for mask in attention_masks(batch))
        training.computed_tokens += computed_tokens(batch)
        micro.append(runner.to_device(batch))
    return micro


def accumulate(runner: ModelRunner, micro: list[Batch], size: int, reducer: GradientSync | None = None) -> float:
    """Adds up the gradients of one effective batch, over all ranks; returns its mean loss per unit."""
    total = 0.0
    for number, batch in enumerate(micro, 1):
        if reducer is not None and number == len(micro):
            reducer.arm()
        with runner.autocast():
            logits = runner.task.forward(runner.attached, batch)
        loss = runner.task.loss(logits, batch) / size
        if isinstance(batch, _Idle):
            loss = loss * 0.0
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return runner.ranks.sum([total])[0] if reducer is None else reducer.finish(total)


def clip(runner: ModelRunner, trained: list[nn.Parameter], limit: float | None) -> float:
    """Clips the whole model's gradient; returns its norm before."""
    norm = torch.nn.utils.clip_grad_norm_(trained, limit or math.inf)
    return fsdp.norm_of(norm) if runner.ranks.sharded else float(norm)


def _describe_progress(
    step: int,
    steps: int,
    training: Training,
    protocol: Protocol,
    rows: int,
    loss: float,
    rate: float,
    elapsed: float,
    phases: Phases,
) -> Event:
    return {
        "kind": "step",
        "step": step,
        "steps": steps,
        "epoch": round(training.examples / rows, 3),
        "epochs": protocol.epochs,
        "loss": loss,
        "gradient_norm": training.gradient_norms[-1],
        "learning_rate": rate,
        "examples_per_second": training.examples / max(phases.train_seconds, 1e-9),
        "elapsed_seconds": elapsed,
    }
