"""The micro-batches of a trial, known before it is trained: they depend only on rows and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuneoff.config.protocol import Protocol
from tuneoff.interfaces import Features
from tuneoff.trial.data import batching
from tuneoff.trial.data.batching import EVALUATION_TOKENS, micro_batches, training_batches

REPRESENTATIVES = 4
"""Number of micro-batches that represent all, at even quantiles of their size."""


@dataclass(frozen=True)
class MicroBatch:
    """Examples that go through the model together.

    Attributes:
        rows: their positions in the split.
        padded_tokens: all tokens that are computed, padding included.
        targets: tokens of their targets.
    """

    rows: tuple[int, ...]
    padded_tokens: int
    targets: int

    @property
    def size(self) -> tuple[int, int]:
        """Returns what the kernels see of it: examples and padded tokens."""
        return len(self.rows), self.padded_tokens


class Lengths:
    """The tokens of a split's examples.

    Args:
        features: the examples.
        apart: whether targets are padded separately from the inputs, as an encoder-decoder's are.
    """

    def __init__(self, features: Sequence[Features], apart: bool) -> None:
        self.inputs = np.array([f.row_tokens - len(f.target_ids) for f in features], dtype=np.int64)
        self.targets = np.array([len(f.target_ids) for f in features], dtype=np.int64)
        self.apart = apart
        self.rows = batching.row_lengths(features, apart)

    def __len__(self) -> int:
        return len(self.inputs)

    def micro_batch(self, rows: Sequence[int]) -> MicroBatch:
        """Returns these examples as one batch."""
        indices = np.asarray(rows, dtype=np.int64)
        inputs, targets = self.inputs[indices], self.targets[indices]
        width = int(inputs.max() + targets.max()) if self.apart else int((inputs + targets).max())
        return MicroBatch(tuple(int(row) for row in rows), len(rows) * width, int(targets.sum()))


def batch_schedule(lengths: Lengths, protocol: Protocol, seed: int) -> list[list[MicroBatch]]:
    """Returns the micro-batches of every optimizer step."""
    steps: list[list[MicroBatch]] = []
    step_count = protocol.total_steps(len(lengths))
    for batch_rows in training_batches(lengths.rows, protocol, seed):
        if len(steps) == step_count:
            break
        steps.append(
            [lengths.micro_batch(rows) for rows in micro_batches(batch_rows, protocol.gradient_accumulation_steps)]
        )
    return steps


def representatives(steps: Sequence[Sequence[MicroBatch]], count: int = REPRESENTATIVES) -> list[MicroBatch]:
    """Returns micro-batches of the usual number of examples, at even quantiles of their padded tokens, fewest first."""
    all_batches = [micro for step in steps for micro in step]
    usual_size = max(len(micro.rows) for micro in all_batches)
    full_batches = sorted(
        (micro for micro in all_batches if len(micro.rows) == usual_size), key=lambda micro: micro.padded_tokens
    )
    positions = np.linspace(0, len(full_batches) - 1, count).round().astype(int)
    return list({full_batches[position].padded_tokens: full_batches[position] for position in positions}.values())


def candidates(steps: Sequence[Sequence[MicroBatch]]) -> list[MicroBatch]:
    """Returns the micro-batches of which one takes the most memory: the one with the most padded tokens and the one
    with the most targets."""
    all_batches = [micro for step in steps for micro in step]
    largest = [max(all_batches, key=lambda micro: (micro.padded_tokens, micro.targets))]
    largest.append(max(all_batches, key=lambda micro: (micro.targets, micro.padded_tokens)))
    return list(dict.fromkeys(largest))


def evaluation_batches(lengths: Lengths, most_rows: int, device_type: str) -> list[MicroBatch]:
    """Returns the batches of an evaluation on such a device, the longest first.

    Args:
        lengths: of the split.
        most_rows: examples of a batch, at most.
        device_type: cpu or cuda.
    """
    batches = batching.evaluation_batches(lengths.rows, most_rows, EVALUATION_TOKENS[device_type])
    return [lengths.micro_batch(rows) for rows in batches]


def writing_batches(lengths: Lengths, most_rows: int, prompts: Sequence[int]) -> list[MicroBatch]:
    """Returns the batches of prompts that texts are written for, the longest first; their padded tokens are those of
    the prompts.

    Args:
        lengths: of the split.
        most_rows: examples of a batch, at most.
        prompts: tokens of each prompt.
    """
    keys = [(count,) for count in prompts]
    return [
        replace(lengths.micro_batch(rows), padded_tokens=batching.padded_tokens([keys[row] for row in rows]))
        for rows in batching.evaluation_batches(keys, most_rows)
    ]
