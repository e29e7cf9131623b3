"""Which rows make a batch: a function of their lengths, the protocol and the seed, so that all methods get the same.

A batch is padded to its longest row. Batches of rows of like length therefore compute little padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

from tuneoff.config.protocol import Protocol
from tuneoff.interfaces import Features, Task, attention_masks

WINDOW = 64
"""Batches of a window, about: its rows are drawn at random, then sorted by length. More batches leave less padding,
fewer let rows of different lengths meet more often."""
EVALUATION_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Padded tokens of an evaluation's batch, at most, if it has more than one row. On a CPU larger batches leave its
caches: with MiniLM, batches of 64 rows took 1.2 to 2 times as long for each row (see benchmarks/batching.py)."""
FILL_TOKENS = {"cpu": 512, "cuda": 16384}
"""Padded tokens of a batch whose hidden states are stored before training, at most. On a CPU no more than a small
training batch has, so that the trial that computes them takes little more memory than those that find them."""

RowLength = tuple[int, ...]
"""Tokens of a row: one number for each part that a batch pads by itself."""
Row = TypeVar("Row")


def pads_targets_apart(task: Task, features: Sequence[Features]) -> bool:
    """Tells whether a task's batches pad targets by themselves, as an encoder-decoder's: they have a mask of their own
    then."""
    return len(attention_masks(task.collate(features[:1], 0))) > 1


def row_lengths(features: Sequence[Features], apart: bool) -> list[RowLength]:
    """Returns the lengths of rows: of input and target together, or of each where they are padded apart."""
    if apart:
        return [(len(f.input_ids), len(f.target_ids)) for f in features]
    return [(f.row_tokens,) for f in features]


def padded_tokens(lengths: Sequence[RowLength]) -> int:
    """Counts the tokens that a batch of such rows computes, padding included."""
    parts: Iterable[RowLength] = zip(*lengths, strict=True)
    return len(lengths) * sum(map(max, parts))


def training_batches(lengths: Sequence[RowLength], protocol: Protocol, seed: int) -> Iterator[Sequence[int]]:
    """Yields the positions of each effective batch, epoch after epoch. All but the last of an epoch are whole.

    With `batching: random` they are cut from the epoch's random order. With `length` that order is cut into windows,
    each window is sorted by length and cut into batches, and the batches of all windows come in random order. The last,
    incomplete batch holds the last rows of the random order, so that it favours no length.

    Args:
        lengths: of the rows.
        protocol: what is held equal.
        seed: the trial's.
    """
    for epoch in range(protocol.epochs):
        generator = np.random.default_rng([seed, epoch])
        order = [int(i) for i in generator.permutation(len(lengths))]
        if protocol.batching == "length":
            yield from _batches_of_like_length(order, lengths, protocol.batch_size, generator)
        else:
            yield from _cut(order, protocol.batch_size)


def _batches_of_like_length(
    order: Sequence[int], lengths: Sequence[RowLength], size: int, generator: np.random.Generator
) -> list[Sequence[int]]:
    """Returns the batches of one epoch."""
    whole = len(order) // size
    windows = max(1, round(whole / WINDOW))
    bounds = [size * (whole * number // windows) for number in range(windows + 1)]
    batches: list[Sequence[int]] = []
    for start, end in pairwise(bounds):
        batches += _cut(sorted(order[start:end], key=lambda row: lengths[row]), size)
    rest = sorted(order[whole * size :], key=lambda row: lengths[row])
    return [*(batches[number] for number in generator.permutation(whole)), *_cut(rest, size)]


def _cut(rows: Sequence[Row], size: int) -> list[Sequence[Row]]:
    """Cuts rows into batches of one size; the last may be smaller."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def micro_batches(batch: Sequence[Row], parts: int) -> list[Sequence[Row]]:
    """Cuts an effective batch into at most `parts` micro-batches of one size; the last may be smaller, not empty."""
    return _cut(batch, math.ceil(len(batch) / parts))


def evaluation_batches(
    lengths: Sequence[RowLength], most_rows: int, most_tokens: int | None = None
) -> Iterator[list[int]]:
    """Yields the positions of batches of like length, the longest first: what does not fit fails early.

    Args:
        lengths: of the rows.
        most_rows: rows of a batch, at most.
        most_tokens: padded tokens of a batch of more than one row, at most; None: any number.
    """
    batch: list[int] = []
    widest: RowLength = ()
    for row in sorted(range(len(lengths)), key=lambda i: lengths[i], reverse=True):
        widened = tuple(map(max, widest, lengths[row])) if batch else lengths[row]
        tokens = (len(batch) + 1) * sum(widened)
        if len(batch) == most_rows or (batch and most_tokens is not None and tokens > most_tokens):
            yield batch
            batch, widened = [], lengths[row]
        batch.append(row)
        widest = widened
    if batch:
        yield batch
