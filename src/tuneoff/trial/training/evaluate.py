"""Predictions of a whole split, and the speed of making them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from tuneoff.errors import Diverged
from tuneoff.interfaces import Attached, Batch, Example, Features, Task
from tuneoff.records.record import Event, Inference, Prediction
from tuneoff.trial.data.batching import (
    EVALUATION_TOKENS,
    FILL_TOKENS,
    evaluation_batches,
    pads_targets_apart,
    row_lengths,
)
from tuneoff.trial.distributed.context import ALONE, RankContext
from tuneoff.trial.distributed.fsdp import outer_gathered
from tuneoff.trial.modeling.frozen_bf16 import cached_autocast_weights
from tuneoff.trial.modeling.frozen_prefix import FrozenPrefix
from tuneoff.trial.modeling.load import attending
from tuneoff.trial.training.dropout import DropoutMasks

T = TypeVar("T")
EVENT_INTERVAL_SECONDS = 0.5
"""Least seconds between two events of progress."""

WARM_UP = 2
"""Single examples that are run before any is timed; one, where that writes a text."""
LATENCY_SHARE = 0.05
"""Single examples are timed for at most this share of what the trial took before, or `LATENCY_SECONDS` where that is
more, and one in any case: writing one text after another may else take longer than the training."""
LATENCY_SECONDS = 0.5


@dataclass(frozen=True)
class ModelRunner:
    """What every forward pass of a trial needs."""

    task: Task
    attached: Attached
    device: torch.device
    autocast: Callable[[], AbstractContextManager[object]]
    pad_token_id: int
    batch_size: int
    tokenizer: Any = None
    ranks: RankContext = ALONE
    attention: str = ""
    """The implementation of attention in evaluations; empty: the model's own."""
    masks: DropoutMasks | None = None
    """What draws dropout masks in training; None: PyTorch."""
    prefix: FrozenPrefix | None = None
    """The first blocks, where training leaves them as they are; None: there are none, or they draw dropout."""

    predicting: Callable[[], AbstractContextManager[None]] = nullcontext
    """What is open while classes are predicted."""

    def begin_training(self) -> None:
        """Puts the model in training mode. A frozen prefix draws no dropout."""
        self.attached.module.train()
        if self.prefix is not None:
            self.prefix.quiet()

    def fill_prefix(self, features: Sequence[Features]) -> float:
        """Computes what the frozen prefix gives for examples, where it is not stored yet; returns the seconds that the
        rest took another trial."""
        if self.prefix is None or self.prefix.states is None:
            return 0.0
        lengths = row_lengths(features, pads_targets_apart(self.task, features))
        batches = evaluation_batches(lengths, self.batch_size, FILL_TOKENS[self.device.type])
        forwards = (partial(self.logits, [features[i] for i in indices]) for indices in batches)
        with self.evaluating():
            return self.prefix.fill(forwards, sum(sum(length) for length in lengths))

    def reading_prefix(self) -> AbstractContextManager[None]:
        """Takes the frozen prefix's hidden states from where they are stored while open."""
        return self.prefix.reading() if self.prefix is not None else nullcontext()

    def training(self, step: int, micro_batch: int) -> AbstractContextManager[None]:
        """Trains on a micro-batch while open, forward and backward: dropout masks are this place's."""
        return self.masks.drawing(step, micro_batch) if self.masks is not None else nullcontext()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluates while open: dropout is off, nothing is kept for gradients, and the model uses `attention`.

        Weights do not change, so each is converted to autocast's type only once. The model is left in evaluation mode:
        training must switch it back.
        """
        self.attached.module.eval()
        with ExitStack() as stack:
            if self.attention:
                stack.enter_context(attending(self.attached.model, self.attention))
            # Sharded weights are gathered anew for every batch.
            stack.enter_context(
                torch.no_grad() if self.ranks.sharded else cached_autocast_weights(self.attached.module)
            )
            yield

    def to_device(self, batch: Batch) -> Batch:
        """Moves a batch's tensors to the trial's device."""
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    @property
    def writes(self) -> bool:
        """Returns whether the task's answers are generated text."""
        return self.task.produces == "text"

    def batch(self, features: Sequence[Features]) -> Batch:
        """Collates examples into one padded batch on the device."""
        return self.to_device(self.task.collate(features, self.pad_token_id))

    def logits(self, features: Sequence[Features]) -> torch.Tensor:
        """Runs a forward pass in the precision policy; returns logits of shape (loss terms, classes or vocabulary)."""
        batch = self.batch(features)
        with self.autocast():
            return self.task.forward(self.attached, batch)

    def generate(self, features: Sequence[Features], limit: int | None = None) -> list[list[int]]:
        """Generates at most `limit` tokens per example, in the precision policy; returns their ids."""
        with self.autocast(), outer_gathered(self.attached, self.ranks.sharded):
            return self.task.generate(self.attached, features, self.tokenizer, limit=limit)

    def use(self, features: Sequence[Features]) -> None:
        """Does what a user of the model does with a batch: generates its texts, or computes its logits."""
        if self.writes:
            self.generate(features)
        else:
            self.logits(features)

    def synchronise(self) -> None:
        """Waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Writing:
    """The generation of a whole split: seconds, and tokens written."""

    seconds: float
    tokens: int
    examples: int

    @property
    def speeds(self) -> dict[str, float]:
        """Returns what it says of the model's speed, by the names of `Inference`."""
        return {
            "batched_examples_per_second": self.examples / self.seconds,
            "generated_tokens_per_second": self.tokens / self.seconds,
            "generated_tokens_mean": self.tokens / self.examples,
        }


def predict(runner: ModelRunner, features: Sequence[Features], examples: Sequence[Example]) -> list[Prediction]:
    """Predicts every example, in order. A batch holds examples of like length and a bounded number of tokens.

    With several ranks each predicts its own batches, and all get the predictions of the whole split.

    Raises:
        Diverged: if the weights have grown or broken so far that an output is not finite.
    """
    outcomes: dict[int, Prediction] = {}
    lengths = row_lengths(features, pads_targets_apart(runner.task, features))
    batches = evaluation_batches(lengths, runner.batch_size, EVALUATION_TOKENS[runner.device.type])
    runner.fill_prefix(features)
    with runner.evaluating(), runner.reading_prefix(), runner.predicting():
        for indices, counts in runner.ranks.deal(batches):
            batch = runner.batch([features[i] for i in indices])
            with runner.autocast():
                logits = runner.task.forward(runner.attached, batch)
            if not bool(torch.isfinite(logits).all()):
                raise Diverged(
                    "the model's outputs are not finite", hint="Try a lower learning rate, or precision fp32."
                )
            if counts:
                outcomes.update(
                    zip(indices, runner.task.outcome(logits, batch, [examples[i] for i in indices]), strict=True)
                )
    return _gather_predictions(runner.ranks, outcomes)


def write(
    runner: ModelRunner,
    features: Sequence[Features],
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    emit: Callable[[Event], None] = lambda event: None,
) -> tuple[list[Prediction], Writing]:
    """Generates every example's text and adds it, with its scores, to the predictions.

    The time is that of the whole split, until the last rank is done. Progress goes to `emit` now and then. A batch is
    bounded by its examples alone: every token that is written reads all weights, for however few of them.
    """
    written: dict[int, list[int]] = {}
    runner.ranks.wait()
    runner.synchronise()
    started = last_event = time.perf_counter()
    batches = evaluation_batches([(len(f.prompt_ids or f.input_ids),) for f in features], runner.batch_size)
    done = 0
    with runner.evaluating():
        for indices, counts in runner.ranks.deal(batches):
            token_lists = runner.generate([features[i] for i in indices])
            if counts:
                written.update(zip(indices, token_lists, strict=True))
            done = min(len(features), done + len(indices) * runner.ranks.world_size)
            if (now := time.perf_counter()) - last_event >= EVENT_INTERVAL_SECONDS:
                last_event = now
                emit({"kind": "writing", "texts": done, "of": len(features), "elapsed_seconds": now - started})
    runner.synchronise()
    runner.ranks.wait()
    seconds = time.perf_counter() - started
    positions = sorted(written)
    # The tokenizer makes one empty text of no tokens at all, where a rank has no share.
    texts = runner.tokenizer.batch_decode([written[i] for i in positions], skip_special_tokens=True)[: len(positions)]
    references = runner.task.references([examples[i] for i in positions], runner.tokenizer) if positions else []
    answers = {
        i: runner.task.answer(predictions[i], replace(examples[i], target=reference), text, len(written[i]))
        for i, text, reference in zip(positions, texts, references, strict=True)
    }
    (tokens,) = runner.ranks.sum([sum(map(len, written.values()))])
    return _gather_predictions(runner.ranks, answers), Writing(seconds, int(tokens), len(features))


def _gather_predictions(ranks: RankContext, predictions: dict[int, Prediction]) -> list[Prediction]:
    """Gathers all ranks' predictions in the order of the examples."""
    merged = {i: prediction for part in ranks.gather(predictions) for i, prediction in part.items()}
    return [merged[i] for i in sorted(merged)]


def latency_budget(spent: float) -> float:
    """Returns the seconds that timing single examples may take in a trial that took `spent` seconds before."""
    return max(LATENCY_SECONDS, LATENCY_SHARE * spent)


def latency_examples(features: Sequence[Features], count: int) -> list[Features]:
    """Picks `count` evenly spaced examples to time one by one, in random order: the first ones represent all if the
    time does not suffice for every one."""
    examples = evenly(features, count)
    return [examples[i] for i in np.random.default_rng(0).permutation(len(examples))]


def evenly(rows: Sequence[T], count: int) -> list[T]:
    """Picks `count` evenly spaced examples of a split, or all where there are fewer."""
    return [rows[i] for i in np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]


def measure_inference(
    runner: ModelRunner,
    features: Sequence[Features],
    singles: int,
    writing: Writing | None = None,
    budget: float = math.inf,
) -> Inference:
    """Times single examples one by one, then a batch of the evaluation's size; warm-up not counted.

    Single examples end when the `budget` in seconds is used up, and the record says how many were timed; without any
    there is no latency. Examples are taken evenly from the split as it stands, so that lengths are the split's own.
    Where text is generated, an example's latency is that of its whole text, and the batched speed is that of `writing`.

    With several ranks only the first is timed while the others wait; sharded weights need them all.
    """
    inference = Inference()
    if runner.ranks.is_main or runner.ranks.sharded:
        with runner.evaluating():
            inference = _time_inference(runner, features, singles, writing, budget)
    runner.ranks.wait()
    return inference


def _time_singles(runner: ModelRunner, features: Sequence[Features], singles: int, budget: float) -> list[float]:
    """Measures the seconds of single examples: one, and as many more as are expected to fit in the budget."""
    examples = latency_examples(features, singles)
    for example in examples[: 1 if runner.writes else WARM_UP]:
        runner.logits([example])
    seconds: list[float] = []
    for example in examples:
        runner.synchronise()
        started = time.perf_counter()
        runner.use([example])
        runner.synchronise()
        seconds.append(time.perf_counter() - started)
        spent = sum(seconds)
        if runner.ranks.sharded:
            # All ranks must end together: the slowest decides.
            spent = max(runner.ranks.gather(spent))
        if spent + spent / len(seconds) > budget:
            break
    return seconds


def _time_inference(
    runner: ModelRunner, features: Sequence[Features], singles: int, writing: Writing | None, budget: float
) -> Inference:
    seconds = _time_singles(runner, features, singles, budget) if singles else []
    inference = Inference(
        latency_seconds_median=float(np.median(seconds)) if seconds else None,
        latency_seconds_p95=float(np.quantile(seconds, 0.95)) if seconds else None,
        latency_examples=len(seconds),
        batch_size=runner.batch_size,
    )
    if writing is not None:
        return inference.model_copy(update=writing.speeds)
    batch = evenly(features, runner.batch_size)
    runner.logits(batch)
    runner.synchronise()
    started = time.perf_counter()
    runner.logits(batch)
    runner.synchronise()
    elapsed = time.perf_counter() - started
    return inference.model_copy(
        update={
            "batched_examples_per_second": len(batch) / elapsed,
            "batched_tokens_per_second": sum(f.row_tokens for f in batch) / elapsed,
        }
    )
