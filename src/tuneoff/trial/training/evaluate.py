"""Predictions of a whole split, and the speed of making them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tuneoff.errors import Diverged
from tuneoff.methods.base import Attached
from tuneoff.records.record import Event, Inference, Prediction
from tuneoff.tasks.base import Batch, Example, Features, Task
from tuneoff.trial.distributed.context import ALONE, Ranks
from tuneoff.trial.distributed.fsdp import outer_gathered
from tuneoff.trial.modeling.frozen_bf16 import turned_once
from tuneoff.trial.modeling.load import attending

EVENT_INTERVAL_SECONDS = 0.5
"""Least seconds between two events of progress."""

WARM_UP = 2
"""Single examples that are run before any is timed; one, where that writes a text."""
LATENCY_SHARE = 0.05
"""Single examples are timed for at most this share of what the trial took before, or `LATENCY_SECONDS` where that is
more, and one in any case: writing one text after another may else take longer than the training."""
LATENCY_SECONDS = 0.5


@dataclass(frozen=True)
class Bench:
    """What every forward pass of a trial needs."""

    task: Task
    attached: Attached
    device: torch.device
    autocast: Callable[[], AbstractContextManager[object]]
    pad_token_id: int
    batch_size: int
    tokenizer: Any = None
    ranks: Ranks = ALONE
    attention: str = ""
    """The implementation of attention in evaluations; empty: the model's own."""

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """While open, dropout is off, nothing is kept for gradients, and the model attends as is faster without them.

        Weights, which stand still, are turned into autocast's type once in all. It is left in evaluation mode: who
        trains, says so.
        """
        self.attached.module.eval()
        with ExitStack() as stack:
            if self.attention:
                stack.enter_context(attending(self.attached.model, self.attention))
            # Sharded weights are gathered anew for every batch.
            stack.enter_context(torch.no_grad() if self.ranks.sharded else turned_once(self.attached.module))
            yield

    def to_device(self, batch: Batch) -> Batch:
        """A batch's tensors on the trial's device."""
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    @property
    def writes(self) -> bool:
        """Whether the task's answers are generated text."""
        return self.task.produces == "text"

    def batch(self, features: Sequence[Features]) -> Batch:
        """Examples as one padded batch on the device."""
        return self.to_device(self.task.collate(features, self.pad_token_id))

    def logits(self, features: Sequence[Features]) -> torch.Tensor:
        """One forward pass in the precision policy; shape (units, classes or vocabulary)."""
        batch = self.batch(features)
        with self.autocast():
            return self.task.forward(self.attached, batch)

    def generate(self, features: Sequence[Features], limit: int | None = None) -> list[list[int]]:
        """What the model writes for a batch, in the precision policy, of so many tokens at most."""
        with self.autocast(), outer_gathered(self.attached, self.ranks.sharded):
            return self.task.generate(self.attached, features, self.tokenizer, limit=limit)

    def use(self, features: Sequence[Features]) -> None:
        """What a user of the model does with a batch."""
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


def predict(bench: Bench, features: Sequence[Features], examples: Sequence[Example]) -> list[Prediction]:
    """One prediction per example, in order. Batches are of like length, which spares padding.

    Of several ranks each predicts its batches; all get the whole.

    Raises:
        Diverged: if the weights have grown or broken so far that an output is not finite.
    """
    own: dict[int, Prediction] = {}
    batches = like_batches([len(f.input_ids) + len(f.target_ids) for f in features], bench.batch_size)
    with bench.evaluating():
        for chosen, counts in bench.ranks.deal(batches):
            batch = bench.batch([features[i] for i in chosen])
            with bench.autocast():
                logits = bench.task.forward(bench.attached, batch)
            if not bool(torch.isfinite(logits).all()):
                raise Diverged(
                    "the model's outputs are not finite", hint="Try a lower learning rate, or precision fp32."
                )
            if counts:
                own.update(zip(chosen, bench.task.outcome(logits, batch, [examples[i] for i in chosen]), strict=True))
    return _whole_split(bench.ranks, own)


def write(
    bench: Bench,
    features: Sequence[Features],
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    emit: Callable[[Event], None] = lambda event: None,
) -> tuple[list[Prediction], Writing]:
    """Generates every example's text and adds it, with its scores, to the predictions.

    The time is that of the whole split, until the last rank is done. How far it is goes to `emit`, now and then.
    """
    written: dict[int, list[int]] = {}
    bench.ranks.wait()
    bench.synchronise()
    started = last = time.perf_counter()
    batches = like_batches([len(f.prompt_ids or f.input_ids) for f in features], bench.batch_size)
    done = 0
    with bench.evaluating():
        for chosen, counts in bench.ranks.deal(batches):
            texts = bench.generate([features[i] for i in chosen])
            if counts:
                written.update(zip(chosen, texts, strict=True))
            done = min(len(features), done + len(chosen) * bench.ranks.size)
            if (now := time.perf_counter()) - last >= EVENT_INTERVAL_SECONDS:
                last = now
                emit({"kind": "writing", "texts": done, "of": len(features), "elapsed_seconds": now - started})
    bench.synchronise()
    bench.ranks.wait()
    seconds = time.perf_counter() - started
    own = sorted(written)
    # The tokenizer makes one empty text of no tokens at all, where a rank has no share.
    texts_of = bench.tokenizer.batch_decode([written[i] for i in own], skip_special_tokens=True)[: len(own)]
    references = bench.task.references([examples[i] for i in own], bench.tokenizer) if own else []
    answers = {
        i: bench.task.answer(predictions[i], replace(examples[i], target=reference), text, len(written[i]))
        for i, text, reference in zip(own, texts_of, references, strict=True)
    }
    (tokens,) = bench.ranks.sum([sum(map(len, written.values()))])
    return _whole_split(bench.ranks, answers), Writing(seconds, int(tokens), len(features))


def _whole_split(ranks: Ranks, own: dict[int, Prediction]) -> list[Prediction]:
    """All ranks' predictions in the order of the examples."""
    every = {i: prediction for part in ranks.gather(own) for i, prediction in part.items()}
    return [every[i] for i in sorted(every)]


def like_batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Positions in batches of like length, the longest first, which shows early what does not fit."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def latency_budget(spent: float) -> float:
    """Seconds that the timing of single examples may take in a trial that took so many before."""
    return max(LATENCY_SECONDS, LATENCY_SHARE * spent)


def latency_examples(features: Sequence[Features], count: int) -> list[Features]:
    """So many examples to time one by one, taken evenly and in an order in which the first ones stand for all: the time
    may not suffice for every one."""
    chosen = evenly(features, count)
    return [chosen[i] for i in np.random.default_rng(0).permutation(len(chosen))]


def evenly(features: Sequence[Features], count: int) -> list[Features]:
    """So many examples, or all where there are fewer, taken evenly from a split as it stands."""
    return [features[i] for i in np.linspace(0, len(features) - 1, min(count, len(features))).astype(int)]


def measure_inference(
    bench: Bench, features: Sequence[Features], singles: int, writing: Writing | None = None, budget: float = math.inf
) -> Inference:
    """Times single examples one by one, then whole batches of the evaluation's size; warm-up not counted.

    Singles end where the seconds of the `budget` do, and their number says how many were timed; of none, no latency is
    told. Examples are taken evenly from the split as it stands, so that lengths are the split's own. Where text is
    generated, an example's latency is that of its whole text, and the batched speed is that of `writing`.

    Of several ranks the first alone is timed while the others wait; sharded weights need them all.
    """
    found = Inference()
    if bench.ranks.first or bench.ranks.sharded:
        with bench.evaluating():
            found = _time_inference(bench, features, singles, writing, budget)
    bench.ranks.wait()
    return found


def _time_singles(bench: Bench, features: Sequence[Features], singles: int, budget: float) -> list[float]:
    """Seconds of single examples: one, and as many more as the budget is expected to hold."""
    chosen = latency_examples(features, singles)
    for feature in chosen[: 1 if bench.writes else WARM_UP]:
        bench.logits([feature])
    seconds: list[float] = []
    for feature in chosen:
        bench.synchronise()
        started = time.perf_counter()
        bench.use([feature])
        bench.synchronise()
        seconds.append(time.perf_counter() - started)
        spent = sum(seconds)
        if bench.ranks.sharded:
            # All ranks must end together: the slowest decides.
            spent = max(bench.ranks.gather(spent))
        if spent + spent / len(seconds) > budget:
            break
    return seconds


def _time_inference(
    bench: Bench, features: Sequence[Features], singles: int, writing: Writing | None, budget: float
) -> Inference:
    seconds = _time_singles(bench, features, singles, budget) if singles else []
    single = Inference(
        latency_seconds_median=float(np.median(seconds)) if seconds else None,
        latency_seconds_p95=float(np.quantile(seconds, 0.95)) if seconds else None,
        latency_examples=len(seconds),
        batch_size=bench.batch_size,
    )
    if writing is not None:
        return single.model_copy(
            update={
                "batched_examples_per_second": writing.examples / writing.seconds,
                "generated_tokens_per_second": writing.tokens / writing.seconds,
                "generated_tokens_mean": writing.tokens / writing.examples,
            }
        )
    batch = sorted(features[: 2 * bench.batch_size], key=lambda f: len(f.input_ids))
    bench.logits(batch[: bench.batch_size])
    bench.synchronise()
    started = time.perf_counter()
    for start in range(0, len(batch), bench.batch_size):
        bench.logits(batch[start : start + bench.batch_size])
    bench.synchronise()
    elapsed = time.perf_counter() - started
    return single.model_copy(
        update={
            "batched_examples_per_second": len(batch) / elapsed,
            "batched_tokens_per_second": sum(len(f.input_ids) for f in batch) / elapsed,
        }
    )
