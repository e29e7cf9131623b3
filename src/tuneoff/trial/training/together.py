"""Several trials of one arm trained at once: one loop over steps, in which each trial keeps its own optimizer, batches,
dropout masks, validation and checkpoint.

Forward and backward alone are done at once (`stacked_model`). A trial that diverges ends as it would alone. Its place
is computed on, with its own batches, so that the others get bit for bit what they would get beside a sound one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch

from tuneoff.errors import CannotTrainTogether, Diverged, first_line
from tuneoff.interfaces import Features, Method
from tuneoff.trial.data.batching import micro_batches
from tuneoff.trial.exhaustion import exhausted
from tuneoff.trial.modeling.precision import full_precision
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.kernels import TOLERANCE
from tuneoff.trial.training.progress import Trained
from tuneoff.trial.training.stacked_model import StackedModel
from tuneoff.trial.training.trainer import Trainer, accumulate

SEVERAL = 2
"""Examples of each trial that the check computes."""

Gradients = dict[str, torch.Tensor]


@dataclass
class Member:
    """One trial of a group.

    Attributes:
        trainer: its training.
        validate: called with the step; scores validation and keeps the checkpoint.
        end: called with the error if it diverges.
        trained: what it measured, once its training is over; None before, and if it diverged.
    """

    trainer: Trainer
    validate: Callable[[int], dict[str, float]]
    end: Callable[[Diverged], None]
    trained: Trained | None = None


def train_together(members: Sequence[Member]) -> None:
    """Trains several trials to their ends; each has what it measured then, or was told that it diverged.

    Args:
        members: of one arm.

    Raises:
        CannotTrainTogether: with the reason, before the first step.
    """
    lead = members[0].trainer
    if any(member.trainer.validation_steps != lead.validation_steps for member in members):
        raise CannotTrainTogether("they have different numbers of steps")
    model = StackedModel([member.trainer.runner for member in members], lead.features)
    sound = list(members)
    for last_step in sorted(lead.validation_steps):
        with _training(model, sound):
            while sound and sound[0].trainer.step < last_step:
                sound = _step_together(model, members, sound)
        sound = [member for member in sound if _goes_on(member, lambda member=member: _validate(member))]  # type: ignore[misc]
    for member in sound:
        member.trained = member.trainer.finish()


@contextmanager
def _training(model: StackedModel, members: Sequence[Member]) -> Iterator[None]:
    """Trains while open, and measures it for each trial."""
    model.begin_training()
    with ExitStack() as stack:
        for member in members:
            stack.enter_context(member.trainer.phases.memory("train"))
            stack.enter_context(member.trainer.progress.measuring())
        yield


@contextmanager
def _clocks(members: Sequence[Member], name: str) -> Iterator[None]:
    """Measures the time of each trial's part of a step."""
    with ExitStack() as stack:
        for member in members:
            stack.enter_context(member.trainer.phases.clock(name))
        yield


def _step_together(model: StackedModel, members: Sequence[Member], sound: Sequence[Member]) -> list[Member]:
    """Does one optimizer step of each trial that has not diverged; returns those that have not after it."""
    step, parts = sound[0].trainer.step, sound[0].trainer.protocol.gradient_accumulation_steps
    with _clocks(sound, "data_wait"):
        batches = [member.trainer.next_batch() for member in members]
    losses = [0.0] * len(members)
    with _clocks(sound, "train_step"):
        micro = [micro_batches(batch.features, parts) for batch in batches]
        sizes = [batch.loss_terms for batch in batches]
        for number, shares in enumerate(zip(*micro, strict=True), 1):
            tokens = [member.trainer.progress.tokens for member in members]
            added = model.compute_gradients(shares, sizes, step, number, tokens)
            losses = [loss + more for loss, more in zip(losses, added, strict=True)]
        updates = {id(member): member.trainer.update() for member in sound}
        model.clear_gradients()
    return [
        member
        for member, batch, loss in zip(members, batches, losses, strict=True)
        if id(member) in updates
        and _goes_on(
            member,
            lambda member=member, batch=batch, loss=loss: member.trainer.note_step(batch, loss, *updates[id(member)]),  # type: ignore[misc]
        )
    ]


def _validate(member: Member) -> None:
    member.trainer.progress.note_validation(member.validate(member.trainer.step))


def _goes_on(member: Member, act: Callable[[], None]) -> bool:
    """Does something of one trial; ends it and returns False where it diverges."""
    try:
        act()
    except Diverged as error:
        member.end(error)
        return False
    return True


def check_together(first: Trainer, second: Trainer) -> None:
    """Checks that losses and gradients of two trials of an arm come out alike at once and each alone.

    In float32, with dropout, on the shortest examples for the one and the longest for the other: padding counts.

    Raises:
        CannotTrainTogether: with the reason, if not.
    """
    if first.protocol.gradient_checkpointing:
        raise CannotTrainTogether("activations are computed again in the backward pass")
    if type(first.method).after_step is not Method.after_step:
        raise CannotTrainTogether("the method changes the model between steps")
    by_length = sorted(first.features, key=lambda f: len(f.input_ids) + len(f.target_ids))
    parts = [by_length[:SEVERAL], by_length[-SEVERAL:]]
    sizes = [first.runner.task.loss_terms(part) for part in parts]
    runners = [replace(trainer.runner, autocast=nullcontext) for trainer in (first, second)]
    try:
        with full_precision():
            alone = [_compute_alone(*each) for each in zip(runners, parts, sizes, strict=True)]
            model = StackedModel(runners, first.features)
            losses = model.compute_gradients(parts, sizes, 0, 1)
    except CannotTrainTogether:
        raise
    except Exception as error:
        if exhausted(error):
            raise
        raise CannotTrainTogether(f"{type(error).__name__}: {first_line(error)}") from error
    for runner, (loss, gradients), loss_together in zip(runners, alone, losses, strict=True):
        _compare(torch.tensor(loss), torch.tensor(loss_together), "the loss")
        together = _take_gradients(runner)
        largest = max((float(gradient.abs().max()) for gradient in gradients.values()), default=0.0)
        if together.keys() != gradients.keys():
            raise CannotTrainTogether("other parameters get a gradient")
        for name, gradient in gradients.items():
            _compare(gradient, together[name], f"the gradient of {name}", TOLERANCE * largest)


def _compute_alone(runner: ModelRunner, part: list[Features], size: int) -> tuple[float, Gradients]:
    runner.begin_training()
    loss = accumulate(runner, [runner.batch(part)], size)
    return loss, _take_gradients(runner)


def _take_gradients(runner: ModelRunner) -> Gradients:
    """Takes the gradients from a model's parameters, which have none afterwards."""
    gradients = {}
    for name, parameter in runner.attached.module.named_parameters():
        if parameter.grad is not None:
            gradients[name], parameter.grad = parameter.grad, None
    return gradients


def _compare(alone: torch.Tensor, together: torch.Tensor, name: str, least: float = 1e-3) -> None:
    """Compares tensors, relative to the size of the first, which counts as `least` where it is smaller.

    Raises:
        CannotTrainTogether: if they differ by more than rounding.
    """
    size = max(float(alone.abs().max()), least)
    difference = float((together - alone).abs().max())
    if not difference <= TOLERANCE * size:
        raise CannotTrainTogether(f"{name} is another by {difference / size:.1%} of its size")
