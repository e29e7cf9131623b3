"""Several trials of one arm trained at once: one loop over steps, in which each trial keeps its own optimizer, batches,
dropout masks, validation and checkpoint.

Forward and backward alone are done at once (`stacked_model`). A trial that diverges ends as it would alone. Its place
is computed on, with its own batches, so that the others get bit for bit what they would get beside a sound one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch

from tuneoff.errors import Cancelled, CannotTrainTogether, Diverged, first_line
from tuneoff.interfaces import Features, Method
from tuneoff.trial import interruption
from tuneoff.trial.data.batching import micro_batches
from tuneoff.trial.exhaustion import exhausted
from tuneoff.trial.modeling.precision import full_precision
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.kernels import TOLERANCE
from tuneoff.trial.training.progress import Trained
from tuneoff.trial.training.resume import TrialCheckpointer
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
        checkpointer: keeps its checkpoints; None: nothing is kept.
        has_ended: whether it is only computed on, for the sake of the others, because it ended in an earlier process.
        trained: what it measured, once its training is over; None before, and if it diverged.
    """

    trainer: Trainer
    validate: Callable[[int], dict[str, float]]
    end: Callable[[Diverged], None]
    checkpointer: TrialCheckpointer | None = None
    has_ended: bool = False
    trained: Trained | None = None


def train_together(members: Sequence[Member]) -> None:
    """Trains several trials to their ends; each has what it measured then, or was told that it diverged.

    Args:
        members: of one arm. Those that keep checkpoints go on from the last step of which all have one.

    Raises:
        CannotTrainTogether: with the reason, before the first step.
    """
    lead = members[0].trainer
    if any(member.trainer.validation_steps != lead.validation_steps for member in members):
        raise CannotTrainTogether("they have different numbers of steps")
    model = StackedModel([member.trainer.runner for member in members], lead.features)
    sound = [member for member in members if not member.has_ended]
    # A step that has begun is done, so that checkpoints can be written before the trials end.
    with interruption.deferred() if _keepers(sound) else nullcontext():
        _resume(members, sound)
        sound = _validate(sound)
        while sound and not sound[0].trainer.is_done:
            with _training(model, sound):
                sound = _step_together(model, members, sound)
                while sound and not sound[0].trainer.awaits_validation and not _is_due(sound):
                    sound = _step_together(model, members, sound)
            sound = _validate(sound)
            if sound and _is_due(sound):
                _save(sound)
    for member in sound:
        member.trained = member.trainer.finish()


def _resume(members: Sequence[Member], sound: Sequence[Member]) -> None:
    """Continues from the last step of which all trials that are to be trained have a checkpoint; without one all begin
    anew."""
    keepers = _keepers(sound)
    if not keepers:
        return
    found = [checkpointer.steps(trainer) for trainer, checkpointer in keepers]
    step = max(set.intersection(*map(set, found)), default=0)
    for (trainer, checkpointer), checkpoints in zip(keepers, found, strict=True):
        if step in checkpoints:
            checkpointer.resume_from(trainer, checkpoints[step])
        elif checkpoints:
            checkpointer.report_refused(
                f"the checkpoint of step {max(checkpoints)} is not used: the trials beside it have none of that step"
            )
        checkpointer.wait()
    for member in members:
        if member.has_ended:
            member.trainer.skip(step)


def _keepers(sound: Sequence[Member]) -> list[tuple[Trainer, TrialCheckpointer]]:
    """Returns the trainings that keep checkpoints: all of them, or none."""
    return [(member.trainer, member.checkpointer) for member in sound if member.checkpointer is not None]


def _is_due(sound: Sequence[Member]) -> bool:
    """Tells whether it is time for checkpoints, which all trials write after the same step."""
    lead = sound[0]
    return lead.checkpointer is not None and lead.checkpointer.is_due(lead.trainer.step)


def _save(sound: Sequence[Member]) -> None:
    """Writes a checkpoint of each trial, or keeps none: they go on from a step of which all have one.

    Raises:
        Cancelled: after they were written, where the trials were asked to stop.
    """
    began = time.monotonic()
    keepers = _keepers(sound)
    written = [(trainer, checkpointer) for trainer, checkpointer in keepers if checkpointer.write(trainer)]
    for trainer, checkpointer in written:
        if len(written) == len(keepers):
            # Not before all have written, so that a step of all is there whenever the process is killed.
            checkpointer.prune(trainer)
        else:
            checkpointer.take_back()
    for _, checkpointer in keepers:
        checkpointer.wait(time.monotonic() - began)
    interruption.check()


def _validate(sound: Sequence[Member]) -> list[Member]:
    """Scores validation of each trial that awaits it; returns those that have not diverged. It may end at any moment:
    the next process scores the others."""

    def score(member: Member) -> None:
        with interruption.allowed() if member.checkpointer is not None else nullcontext():
            scores = member.validate(member.trainer.step)
        member.trainer.progress.note_validation(scores)

    done, left = list[Member](), list(sound)
    try:
        while left:
            if not left[0].trainer.awaits_validation or _goes_on(left[0], lambda: score(left[0])):
                done.append(left[0])
            left.pop(0)
    except Cancelled:
        _save([*done, *left])
        raise
    return done


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
def _clock(members: Sequence[Member], name: str) -> Iterator[None]:
    """Measures the time of a part of a step, by one clock for all: each waits for the device."""
    lead, *others = (member.trainer.phases.watch for member in members)
    before = lead.seconds.get(name, 0.0)
    with lead.phase(name):
        yield
    seconds = lead.seconds[name] - before
    for watch in others:
        watch.add(name, seconds)


def _step_together(model: StackedModel, members: Sequence[Member], sound: Sequence[Member]) -> list[Member]:
    """Does one optimizer step of each trial that has not diverged; returns those that have not after it."""
    step, parts = sound[0].trainer.step, sound[0].trainer.protocol.gradient_accumulation_steps
    with _clock(sound, "data_wait"):
        batches = [member.trainer.next_batch() for member in members]
    losses = [0.0] * len(members)
    with _clock(sound, "train_step"):
        micro = [micro_batches(batch.features, parts) for batch in batches]
        sizes = [batch.loss_terms for batch in batches]
        for number, shares in enumerate(zip(*micro, strict=True), 1):
            tokens = [member.trainer.progress.tokens for member in members]
            added = model.compute_gradients(shares, sizes, step, number, tokens)
            losses = [loss + more for loss, more in zip(losses, added, strict=True)]
        updates = [member.trainer.update() for member in sound]
        model.clear_gradients()
        # In one wait for the device.
        norms = torch.stack([norm for norm, _ in updates]).tolist()
    taken = {id(member): (norm, rate) for member, norm, (_, rate) in zip(sound, norms, updates, strict=True)}
    return [
        member
        for member, batch, loss in zip(members, batches, losses, strict=True)
        if id(member) in taken
        and _goes_on(
            member,
            lambda member=member, batch=batch, loss=loss: member.trainer.note_step(batch, loss, *taken[id(member)]),  # type: ignore[misc]
        )
    ]


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
