"""The one training loop: every method, every task, no branches between them.

A step is one effective batch: its micro-batches' losses are divided by the number of loss terms (examples, or target
tokens) in the effective batch, so accumulation changes memory and time, never the gradient.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from tuneoff.errors import Cancelled, Diverged
from tuneoff.interfaces import Batch, Features, Method, MethodOptions, attention_masks, computed_tokens
from tuneoff.search.stopping import is_stopped
from tuneoff.trial import interruption
from tuneoff.trial.context import TrialContext
from tuneoff.trial.data.batching import micro_batches, pads_targets_apart, row_lengths, training_batches
from tuneoff.trial.distributed import fsdp
from tuneoff.trial.distributed.gradient_sync import GradientSync
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.optim import adamw, rate_factor
from tuneoff.trial.training.progress import OptimizerStep, ProgressState, Tokens, Trained, TrainingProgress


def train(
    context: TrialContext,
    runner: ModelRunner,
    method: Method[MethodOptions],
    features: Sequence[Features],
    validate: Callable[[int], dict[str, float]],
    checkpointer: Checkpointer | None = None,
) -> Trained:
    """Trains, scoring validation on the way.

    Args:
        context: of the trial. Its seed decides the order of examples and dropout.
        runner: model, device and precision.
        method: the method attached to `runner.attached`.
        features: training examples.
        validate: called with the step; scores validation and keeps the checkpoint. Not timed as training.
        checkpointer: keeps checkpoints and continues from the last one of an earlier process; None: nothing is kept.

    Raises:
        Diverged: when a loss or a gradient norm stops being finite; names the step.
    """
    trainer = Trainer(context, runner, method, features)
    trainer.fill_prefix()
    if checkpointer is None:
        while not trainer.is_done:
            trainer.train_until(lambda step: False)
            trainer.progress.note_validation(validate(trainer.step))
        return trainer.finish()
    # A step that has begun is done, so that a checkpoint can be written before the trial ends.
    with interruption.deferred():
        checkpointer.resume(trainer)
        while not trainer.is_done:
            if not trainer.awaits_validation:
                trainer.train_until(checkpointer.is_due)
            if trainer.awaits_validation:
                _validate(trainer, validate, checkpointer)
            if checkpointer.is_due(trainer.step):
                checkpointer.save(trainer)
    return trainer.finish()


def _validate(trainer: Trainer, validate: Callable[[int], dict[str, float]], checkpointer: Checkpointer) -> None:
    """Scores validation, which may end at any moment: the next process scores it again."""
    try:
        with interruption.allowed():
            scores = validate(trainer.step)
    except Cancelled:
        checkpointer.save(trainer)
        raise
    trainer.progress.note_validation(scores)


class Checkpointer(ABC):
    """What keeps the checkpoints of a training."""

    @abstractmethod
    def resume(self, trainer: Trainer) -> None:
        """Continues from the last checkpoint of an earlier process, where there is one that fits."""

    @abstractmethod
    def is_due(self, step: int) -> bool:
        """Tells whether it is time for another checkpoint; every rank asks after each step."""

    @abstractmethod
    def save(self, trainer: Trainer) -> None:
        """Keeps what the training needs to continue from here."""


@dataclass(frozen=True)
class EffectiveBatch:
    """The examples of one optimizer step: their positions, their tokens, and the terms of their mean loss."""

    rows: Sequence[int]
    features: list[Features]
    loss_terms: int


class Trainer:
    """The state of one training: optimizer, schedule, order of examples, and what was measured so far.

    Arguments are those of `train`.
    """

    def __init__(
        self,
        context: TrialContext,
        runner: ModelRunner,
        method: Method[MethodOptions],
        features: Sequence[Features],
    ) -> None:
        protocol, rate = context.spec.protocol, context.spec.learning_rate
        assert rate is not None
        self.runner, self.method, self.features = runner, method, features
        self.protocol, self.phases, self.ranks = protocol, context.phases, runner.ranks
        self.learning_rate, self.stopping = rate, context.spec.stopping
        self.steps = protocol.total_steps(len(features))
        self.validation_steps = protocol.evaluation_steps(len(features))
        groups = method.parameter_groups(runner.attached, protocol.weight_decay)
        self.trained = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = adamw(groups, protocol, rate)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: rate_factor(step, protocol, self.steps)
        )
        self.ranks.check_equal(self.trained, "before training")
        self.gradient_sync = self._make_gradient_sync()
        lengths = row_lengths(features, pads_targets_apart(runner.task, features))
        self.effective_batches = training_batches(lengths, protocol, context.spec.seed)
        self.progress = TrainingProgress(context, len(features), self.steps, len(self.validation_steps))
        self.ranks.seed(context.spec.seed)

    @property
    def step(self) -> int:
        """Returns the optimizer steps done."""
        return self.progress.step

    @property
    def is_done(self) -> bool:
        """Tells whether all steps were done and validated, or the search's rule stops the trial here."""
        ended = self.step == self.steps and not self.awaits_validation
        return ended or is_stopped(self.stopping, self.progress.curve)

    @property
    def awaits_validation(self) -> bool:
        """Tells whether validation is to be scored before the next step."""
        return self.step in self.validation_steps and self.progress.validated_step < self.step

    def _make_gradient_sync(self) -> GradientSync | None:
        """Makes what sums the gradients over the ranks; None where one process trains or weights are sharded."""
        if self.ranks.alone or self.ranks.sharded:
            return None
        # Parameter groups have another order than the model.
        trained_ids = {id(parameter) for parameter in self.trained}
        in_order = [p for p in self.runner.attached.module.parameters() if id(p) in trained_ids]
        return GradientSync(in_order, self.ranks)

    def fill_prefix(self) -> None:
        """Computes what the frozen prefix gives for the training rows. It is part of training whoever did it: a trial
        that finds it stored is told what it took."""
        if self.runner.prefix is None or self.runner.prefix.states is None:
            return
        with self.phases.memory("train"), self.progress.measuring(), self.phases.clock("prefix"):
            earlier_seconds = self.runner.fill_prefix(self.features)
        self.phases.watch.add_found("prefix", earlier_seconds)

    def train_until(self, pauses: Callable[[int], bool]) -> None:
        """Does optimizer steps until validation is due, or until `pauses` says so of a step that was done."""
        self.runner.begin_training()
        with self.phases.memory("train"), self.progress.measuring():
            self._train_step()
            while self.step not in self.validation_steps and not pauses(self.step):
                self._train_step()
        self.ranks.rest()

    def _train_step(self) -> None:
        """Does one optimizer step on one effective batch."""
        with self.phases.clock("data_wait"):
            batch = self.next_batch()
            parts = self.protocol.gradient_accumulation_steps
            micro = collate(self.runner, batch.features, parts, self.progress.tokens)
        with self.phases.clock("train_step"):
            loss = accumulate(self.runner, micro, batch.loss_terms, self.gradient_sync, self.step)
            norm, rate = self.update()
            norm_value = float(norm)
        self.note_step(batch, loss, norm_value, rate)

    def next_batch(self) -> EffectiveBatch:
        """Returns the examples of the next optimizer step."""
        rows = next(self.effective_batches)
        features = [self.features[row] for row in rows]
        return EffectiveBatch(rows, features, self.runner.task.loss_terms(features))

    def update(self) -> tuple[torch.Tensor, float]:
        """Updates the weights by the gradients that they hold; returns the gradients' norm before clipping, for which
        nothing waits here, and the learning rate."""
        rate = self.learning_rate * rate_factor(self.step, self.protocol, self.steps)
        norm = clip(self.runner, self.trained, self.protocol.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step(self.runner.attached, self.step + 1, self.steps)
        return norm, rate

    def note_step(self, batch: EffectiveBatch, loss: float, norm: float, rate: float) -> None:
        """Counts a step that is done.

        Raises:
            Diverged: where the loss or the gradient norm is not finite.
        """
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise Diverged(
                f"the loss is {loss} and the gradient norm {norm} at step {self.step + 1} of {self.steps}",
                hint=f"Try a lower learning rate than {self.learning_rate:g}, or precision fp32.",
            )
        self.ranks.stepped()
        self.progress.note_step(
            OptimizerStep(batch.rows, batch.loss_terms, loss, norm, rate), told=self.step + 1 in self.validation_steps
        )

    def skip(self, steps: int) -> None:
        """Passes over the examples of steps that are not done."""
        deque(islice(self.effective_batches, steps), maxlen=0)

    def continue_from(self, progress: ProgressState) -> None:
        """Continues after the steps of an earlier process."""
        done = islice(self.effective_batches, progress.step)
        self.progress.restore(progress, done)

    def finish(self) -> Trained:
        """Returns what was measured, after the last step."""
        if self.gradient_sync is not None:
            self.gradient_sync.close()
        self.ranks.check_equal(self.trained, "after training")
        return self.progress.finish(self.ranks)


class _Idle(dict[str, torch.Tensor]):
    """A micro-batch that this rank computes because the others do, and that does not count."""


def collate(runner: ModelRunner, features: list[Features], parts: int, tokens: Tokens) -> list[Batch]:
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
        tokens.own += sum(int(mask.sum()) for mask in attention_masks(batch))
        tokens.computed += computed_tokens(batch)
        micro.append(runner.to_device(batch))
    return micro


def accumulate(
    runner: ModelRunner, micro: list[Batch], size: int, reducer: GradientSync | None = None, step: int = 0
) -> float:
    """Adds up the gradients of one effective batch, over all ranks; returns its mean loss per unit."""
    total = 0.0
    for number, batch in enumerate(micro, 1):
        if reducer is not None and number == len(micro):
            reducer.arm()
        with runner.training(step, number):
            with runner.autocast(), runner.reading_prefix():
                logits = runner.task.forward(runner.attached, batch)
            loss = runner.task.loss(logits, batch) / size
            if isinstance(batch, _Idle):
                loss = loss * 0.0
            loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return runner.ranks.sum([total])[0] if reducer is None else reducer.finish(total)


def clip(runner: ModelRunner, trained: list[nn.Parameter], limit: float | None) -> torch.Tensor:
    """Clips the whole model's gradient; returns its norm before."""
    norm = torch.nn.utils.clip_grad_norm_(trained, limit or math.inf)
    return fsdp.whole(norm) if runner.ranks.sharded else norm
