"""Rows of different length as tensors of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneoff.interfaces import Batch

if TYPE_CHECKING:
    import torch


def padded(rows: Sequence[Sequence[int]], pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pads token ids on the right; returns ids and mask, both of shape (rows, longest)."""
    import torch

    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad_token_id, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[i, : len(row)] = 1
    return ids, mask


def stacked(batches: Sequence[Batch], pad_token_id: int, *, places: str, numbers: str, real: str) -> Batch:
    """Stacks batches whose losses are of some places of their rows; ids and places are padded to the most of any.

    Args:
        batches: each with `input_ids` and `attention_mask`, shape (rows, longest), and the two below.
        pad_token_id: what ids are padded with.
        places: names the places, shape (loss terms, numbers of a place).
        numbers: names what is to be predicted there, shape (loss terms,).
        real: names the tensor to add that tells which terms are none of padding, shape (loss terms,).
    """
    import torch
    from torch.nn.functional import pad

    width = max(batch["input_ids"].shape[1] for batch in batches)
    terms = max(len(batch[numbers]) for batch in batches)
    wide = []
    for batch in batches:
        missing, count = width - batch["input_ids"].shape[1], len(batch[numbers])
        wide.append(
            {
                **batch,
                "input_ids": pad(batch["input_ids"], (0, missing), value=pad_token_id),
                "attention_mask": pad(batch["attention_mask"], (0, missing)),
                numbers: pad(batch[numbers], (0, terms - count)),
                places: pad(batch[places], (0, 0, 0, terms - count)),
                real: torch.arange(terms) < count,
            }
        )
    return {name: torch.stack([batch[name] for batch in wide]) for name in wide[0]}
