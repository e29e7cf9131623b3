"""Predictions of a whole split, and the speed of making them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tuneoff.errors import Diverged
from tuneoff.methods.base import Attached
from tuneoff.record import Inference, Prediction
from tuneoff.tasks.base import Batch, Example, Features, Task


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

    def generate(self, features: Sequence[Features]) -> list[list[int]]:
        """What the model writes for a batch, in the precision policy."""
        with self.autocast():
            return self.task.generate(self.attached, features, self.tokenizer)

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


@torch.inference_mode()
def predict(bench: Bench, features: Sequence[Features], examples: Sequence[Example]) -> list[Prediction]:
    """One prediction per example, in order. Batches are of like length, which spares padding.

    Raises:
        Diverged: if the weights have grown or broken so far that an output is not finite.
    """
    bench.attached.module.eval()
    predictions: list[Prediction | None] = [None] * len(features)
    for chosen in _like_batches([len(f.input_ids) + len(f.target_ids) for f in features], bench.batch_size):
        batch = bench.batch([features[i] for i in chosen])
        with bench.autocast():
            logits = bench.task.forward(bench.attached, batch)
        if not bool(torch.isfinite(logits).all()):
            raise Diverged("the model's outputs are not finite", hint="Try a lower learning rate, or precision fp32.")
        made = bench.task.outcome(logits, batch, [examples[i] for i in chosen])
        for i, prediction in zip(chosen, made, strict=True):
            predictions[i] = prediction
    return [prediction for prediction in predictions if prediction is not None]


@torch.inference_mode()
def write(
    bench: Bench, features: Sequence[Features], examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[list[Prediction], Writing]:
    """Generates every example's text and adds it, with its scores, to the predictions."""
    bench.attached.module.eval()
    written: list[list[int]] = [[]] * len(features)
    bench.synchronise()
    started = time.perf_counter()
    for chosen in _like_batches([len(f.prompt_ids or f.input_ids) for f in features], bench.batch_size):
        for i, tokens in zip(chosen, bench.generate([features[i] for i in chosen]), strict=True):
            written[i] = tokens
    bench.synchronise()
    seconds = time.perf_counter() - started
    texts = bench.tokenizer.batch_decode(written, skip_special_tokens=True)
    answers = [
        bench.task.answer(prediction, example, text, len(tokens))
        for prediction, example, text, tokens in zip(predictions, examples, texts, written, strict=True)
    ]
    return answers, Writing(seconds, sum(map(len, written)), len(features))


def _like_batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Positions in batches of like length, the longest first, which shows early what does not fit."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for start in range(0, len(order), size):
        yield order[start : start + size]


@torch.inference_mode()
def measure_inference(
    bench: Bench, features: Sequence[Features], singles: int, writing: Writing | None = None
) -> Inference:
    """Times single examples one by one, then whole batches of the evaluation's size; warm-up not counted.

    Examples are taken evenly from the split as it stands, so that lengths are the split's own. Where text is
    generated, an example's latency is that of its whole text, and the batched speed is that of `writing`.
    """
    bench.attached.module.eval()
    chosen = [features[i] for i in np.linspace(0, len(features) - 1, min(singles, len(features))).astype(int)]
    for feature in chosen[: 1 if bench.writes else 2]:
        bench.logits([feature])
    seconds = []
    for feature in chosen:
        bench.synchronise()
        started = time.perf_counter()
        bench.use([feature])
        bench.synchronise()
        seconds.append(time.perf_counter() - started)
    single = Inference(
        latency_seconds_median=float(np.median(seconds)),
        latency_seconds_p95=float(np.quantile(seconds, 0.95)),
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
