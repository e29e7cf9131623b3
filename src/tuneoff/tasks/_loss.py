"""Cross-entropy over a large vocabulary in little memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

CPU_CHUNK = 2**20
"""Logits that are turned into float32 at a time, in whole rows: on a CPU few enough to stay in its cache."""
GPU_CHUNK = 2**23
"""The same elsewhere, where every call costs more."""


class _TokenLoss(torch.autograd.Function):
    """Cross-entropy whose forward pass saves the logits and one number per row, and whose backward pass overwrites the
    logits with their gradient."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        losses, totals = [], []
        for part, target in _chunks(logits, targets):
            exact = part.float()
            total = exact.logsumexp(-1)
            losses.append((total - exact.gather(-1, target[:, None])[:, 0]).sum())
            totals.append(total)
        ctx.save_for_backward(logits, targets, torch.cat(totals))
        return torch.stack(losses).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        logits, targets, totals = ctx.saved_tensors
        for part, target, total in _chunks(logits, targets, totals):
            logit_gradient = part.float().sub_(total[:, None]).exp_()
            logit_gradient[torch.arange(len(target), device=target.device), target] -= 1
            part.copy_(logit_gradient.mul_(gradient))
        return logits, None


def _chunks(logits: torch.Tensor, *others: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yields the same few rows of logits and of tensors with as many rows."""
    rows = max(1, (CPU_CHUNK if logits.device.type == "cpu" else GPU_CHUNK) // logits.shape[-1])
    return zip(*(torch.split(tensor, rows) for tensor in (logits, *others)), strict=True)


def summed_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sums the rows' cross-entropies in nats, computed in float32.

    The usual way holds the logits three times: as they are, as log-probabilities, and their gradient. Here the
    gradient overwrites the logits, so they must be used for nothing else after the loss was computed.

    Args:
        logits: shape (rows, vocabulary), of any floating type; overwritten in the backward pass.
        targets: numbers of the right columns, shape (rows,).
    """
    loss: torch.Tensor = _TokenLoss.apply(logits, targets)  # type: ignore[no-untyped-call]
    return loss
