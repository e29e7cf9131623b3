"""Predictions of a whole split, and the speed of making them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

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

    def to_device(self, batch: Batch) -> Batch:
        """A batch's tensors on the trial's device."""
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def logits(self, features: Sequence[Features]) -> torch.Tensor:
        """One forward pass in the precision policy; shape (batch, classes)."""
        batch = self.to_device(self.task.collate(features, self.pad_token_id))
        with self.autocast():
            return self.task.forward(self.attached, batch)

    def synchronise(self) -> None:
        """Waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@torch.inference_mode()
def predict(bench: Bench, features: Sequence[Features], examples: Sequence[Example]) -> list[Prediction]:
    """One prediction per example, in order. Batches are of like length, which spares padding.

    Raises:
        Diverged: if the weights have grown or broken so far that an output is not finite.
    """
    bench.attached.module.eval()
    order = sorted(range(len(features)), key=lambda i: (-len(features[i].input_ids), i))
    predictions: list[Prediction | None] = [None] * len(features)
    for start in range(0, len(order), bench.batch_size):
        chosen = order[start : start + bench.batch_size]
        logits = bench.logits([features[i] for i in chosen])
        if not bool(torch.isfinite(logits).all()):
            raise Diverged("the model's outputs are not finite", hint="Try a lower learning rate, or precision fp32.")
        for i, prediction in zip(chosen, bench.task.outcome(logits, [examples[i] for i in chosen]), strict=True):
            predictions[i] = prediction
    return [prediction for prediction in predictions if prediction is not None]


@torch.inference_mode()
def measure_inference(bench: Bench, features: Sequence[Features], singles: int) -> Inference:
    """Times single examples one by one, then whole batches of the evaluation's size; warm-up not counted.

    Examples are taken evenly from the split as it stands, so that lengths are the split's own.
    """
    bench.attached.module.eval()
    chosen = [features[i] for i in np.linspace(0, len(features) - 1, min(singles, len(features))).astype(int)]
    for feature in chosen[:2]:
        bench.logits([feature])
    seconds = []
    for feature in chosen:
        bench.synchronise()
        started = time.perf_counter()
        bench.logits([feature])
        bench.synchronise()
        seconds.append(time.perf_counter() - started)
    batch = sorted(features[: 2 * bench.batch_size], key=lambda f: len(f.input_ids))
    bench.logits(batch[: bench.batch_size])
    bench.synchronise()
    started = time.perf_counter()
    for start in range(0, len(batch), bench.batch_size):
        bench.logits(batch[start : start + bench.batch_size])
    bench.synchronise()
    elapsed = time.perf_counter() - started
    return Inference(
        latency_seconds_median=float(np.median(seconds)),
        latency_seconds_p95=float(np.quantile(seconds, 0.95)),
        latency_examples=len(seconds),
        batch_size=bench.batch_size,
        batched_examples_per_second=len(batch) / elapsed,
        batched_tokens_per_second=sum(len(f.input_ids) for f in batch) / elapsed,
    )
