"""Summing gradients over the ranks while they are still being computed.

As in PyTorch DDP (Li et al. 2020, https://arxiv.org/abs/2006.15704) gradients are sent in buckets, in the reverse
order of the parameters, as soon as a bucket is complete, while the backward pass goes on. Unlike DDP, the model is not
wrapped, gradients are summed and not averaged, and no graph is searched for parameters without a gradient: those that
have none at the end of the pass are sent as zeros, and those that had none on any rank have none afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from tuneoff.trial.distributed.context import RankContext

if TYPE_CHECKING:
    import torch.distributed as dist

BUCKET_BYTES = 8 * 2**20
"""Gradients are sent together up to this size; a greater one is sent by itself, without a copy."""


@dataclass
class _Bucket:
    """Parameters whose gradients are summed together; of one type, on one device."""

    parameters: list[nn.Parameter]
    missing: int = 0
    flat: torch.Tensor | None = None
    work: dist.Work | None = None
    bytes: int = field(default=0)


class GradientSync:
    """Sums the gradients of a trial's trained parameters.

    Args:
        parameters: trained ones, in the model's order and the same on every rank.
        ranks: over which to sum.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], ranks: RankContext) -> None:
        self._ranks = ranks
        self._parameters = list(parameters)
        self._buckets = _buckets(self._parameters)
        self._armed = False
        self._next = 0
        bucket_of = {parameter: bucket for bucket in self._buckets for parameter in bucket.parameters}

        def arrived(parameter: torch.Tensor) -> None:
            if self._armed:
                bucket_of[parameter].missing -= 1  # type: ignore[index]
                while self._next < len(self._buckets) and not self._buckets[self._next].missing:
                    self._send()

        self._hooks = [p.register_post_accumulate_grad_hook(arrived) for p in self._parameters]  # type: ignore[no-untyped-call]

    def arm(self) -> None:
        """Marks that this rank's last backward pass of the step comes now: gradients are complete when they arrive."""
        self._armed = True

    def finish(self, loss: float) -> float:
        """Completes the sums and returns the sum of the losses; gradients and loss are then equal on all ranks."""
        has_gradient = [float(parameter.grad is not None) for parameter in self._parameters]
        while self._next < len(self._buckets):
            self._send()
        with self._ranks.inside("all_reduce of gradients", sum(bucket.bytes for bucket in self._buckets)):
            for bucket in self._buckets:
                _receive(bucket)
            if self._parameters[0].is_cuda:
                # The loss was read, so the GPU has finished the backward pass: it now waits only for the other ranks.
                torch.cuda.current_stream(self._parameters[0].device).synchronize()
        total, *counts = self._ranks.sum([loss, *has_gradient])
        for parameter, count in zip(self._parameters, counts, strict=True):
            if not count:
                parameter.grad = None
        self._armed, self._next = False, 0
        return total

    def close(self) -> None:
        """Removes the hooks from the parameters."""
        for hook in self._hooks:
            hook.remove()

    def _send(self) -> None:
        bucket = self._buckets[self._next]
        self._next += 1
        for parameter in bucket.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in bucket.parameters if p.grad is not None]
        if len(gradients) == 1 and gradients[0].is_contiguous():
            bucket.work = self._ranks.begin_adding_up(gradients[0])
            return
        bucket.flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        bucket.work = self._ranks.begin_adding_up(bucket.flat)


def _receive(bucket: _Bucket) -> None:
    """Waits for a bucket and puts the sums where the gradients were."""
    assert bucket.work is not None
    bucket.work.wait()
    if bucket.flat is not None:
        parts = torch.split(bucket.flat, [p.numel() for p in bucket.parameters])
        for parameter, part in zip(bucket.parameters, parts, strict=True):
            assert parameter.grad is not None
            parameter.grad.copy_(part.view_as(parameter.grad))
    bucket.work = bucket.flat = None
    bucket.missing = len(bucket.parameters)


def copied_bytes(parameters: Iterable[nn.Parameter]) -> int:
    """Counts the bytes of all copies from which gradients are sent; see `GradientSync`."""
    return sum(bucket.bytes for bucket in _buckets(list(parameters)) if len(bucket.parameters) > 1)


def _buckets(parameters: list[nn.Parameter]) -> list[_Bucket]:
    """Fills buckets in the reverse order of the parameters, about that in which gradients are complete."""
    buckets: list[_Bucket] = []
    open_buckets: dict[tuple[torch.dtype, torch.device], _Bucket] = {}
    for parameter in reversed(parameters):
        size = parameter.numel() * parameter.element_size()
        key = (parameter.dtype, parameter.device)
        bucket = open_buckets.get(key)
        if bucket is None or bucket.bytes + size > BUCKET_BYTES:
            bucket = open_buckets[key] = _Bucket([])
            buckets.append(bucket)
        bucket.parameters.append(parameter)
        bucket.bytes += size
        bucket.missing += 1
    return buckets
