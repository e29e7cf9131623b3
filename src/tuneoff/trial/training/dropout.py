"""Dropout whose masks are drawn fast on a CPU.

PyTorch draws a CPU's masks in one thread, number by number: a fifth to two fifths of a training step. Here a mask takes
one random byte an element, from a generator that is seeded anew for every micro-batch. Rate, independence and scaling
are those of PyTorch's dropout; the numbers drawn are others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.nn import functional

from tuneoff.config.spec import TrialSpec

STREAM = 0x6D61736B
"""Keeps these random numbers apart from others that are seeded by a trial's seed."""


def choose_masks(spec: TrialSpec, device: torch.device, rank: int = 0) -> DropoutMasks | None:
    """Returns what draws a trial's masks; None where PyTorch does: on GPUs, which draw fast, and where asked for."""
    return DropoutMasks(spec.seed, rank) if spec.execution.engine == "fast" and device.type == "cpu" else None


def name_generator(spec: TrialSpec, masks: DropoutMasks | None) -> str:
    """Names what draws a trial's masks, for its record; empty where nothing is trained."""
    if spec.learning_rate is None:
        return ""
    return "torch" if masks is None else "sfc64"


class DropoutMasks:
    """The masks of one rank's training.

    The masks of a micro-batch are a function of seed, rank, step and its place in the step alone.

    Args:
        seed: the trial's.
        rank: of this process, among those that share the trial.
    """

    def __init__(self, seed: int, rank: int = 0) -> None:
        self._key = (STREAM, seed, rank)
        self._generator = self._make_generator(0, 0)

    def _make_generator(self, step: int, micro_batch: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([*self._key, step, micro_batch]))

    @contextmanager
    def drawing(self, step: int, micro_batch: int) -> Iterator[None]:
        """Makes PyTorch's dropout of elements, also inside its attention, use these masks while open.

        Open it around the forward and the backward pass of a micro-batch.

        Args:
            step: optimizer steps before this one.
            micro_batch: place of the micro-batch in the step.
        """
        self.begin(step, micro_batch)
        with dropping(self._apply, self._mix):
            yield

    def begin(self, step: int, micro_batch: int) -> None:
        """Goes to the first mask of a micro-batch; see `drawing`."""
        self._generator = self._make_generator(step, micro_batch)

    def replay(self) -> AbstractContextManager[None]:
        """Returns a context in which the masks are drawn that would be drawn now, for activation checkpointing."""
        state = self._generator.bit_generator.state

        @contextmanager
        def replaying() -> Iterator[None]:
            bits = self._generator.bit_generator
            state_after = bits.state
            bits.state = state
            try:
                yield
            finally:
                bits.state = state_after

        return replaying()

    def draw(self, shape: torch.Size, p: float) -> torch.Tensor:
        """Draws a mask: 0 with probability `p`, else 1, every element independently; uint8.

        A byte decides by a multiple of 1/256. What is missing to `p` is dropped by single places: their number follows
        a Poisson distribution, so that each element is hit independently of all others, by the probability that is
        missing.
        """
        size = shape.numel()
        threshold = int(256 * p)
        missing = 1 - (1 - p) / (1 - threshold / 256)
        bits: Any = self._generator.bit_generator
        mask: np.ndarray[Any, Any] = bits.random_raw(-(-size // 8)).view(np.uint8)[:size]
        np.greater_equal(mask, threshold, out=mask.view(np.bool_))
        hits = self._generator.poisson(-math.log1p(-missing) * size)
        mask[self._generator.integers(size, size=hits)] = 0
        return torch.from_numpy(mask).view(shape)

    def _apply(self, input: torch.Tensor, p: float) -> torch.Tensor:  # noqa: A002 - as in PyTorch
        return drop(input, self.draw(input.shape, p), p)

    def _mix(self, scores: torch.Tensor, values: torch.Tensor, p: float) -> torch.Tensor:
        mask = self.draw(scores.shape, p)
        mixed: torch.Tensor = _MixedValues.apply(scores, values, mask, 1 / (1 - p))  # type: ignore[no-untyped-call]
        return mixed


@contextmanager
def dropping(
    apply: Callable[[torch.Tensor, float], torch.Tensor],
    mix: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor] | None = None,
) -> Iterator[None]:
    """Replaces PyTorch's dropout of elements, also inside its attention, while open.

    Args:
        apply: takes a tensor and the rate; drops elements.
        mix: takes attention's scores, values and the rate; drops elements of the scores' softmax and weights the values
            by it. Where unset, `apply` drops them.
    """

    def mix_by_apply(scores: torch.Tensor, values: torch.Tensor, p: float) -> torch.Tensor:
        probabilities = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        return apply(probabilities, p).to(values.dtype) @ values

    replacements = {
        "dropout": _dropout(functional.dropout, apply),
        "scaled_dot_product_attention": _attention(functional.scaled_dot_product_attention, mix or mix_by_apply),
    }
    with ExitStack() as patches:
        for name, replacement in replacements.items():
            patches.enter_context(mock.patch.object(functional, name, replacement))
        yield


def drop(values: torch.Tensor, mask: torch.Tensor, p: float) -> torch.Tensor:
    """Keeps values where the mask is 1, scaled by what dropping the others at rate `p` takes away."""
    output: torch.Tensor = _Dropout.apply(values, mask, 1 / (1 - p))  # type: ignore[no-untyped-call]
    return output


def _dropout(
    original: Callable[..., torch.Tensor], apply: Callable[[torch.Tensor, float], torch.Tensor]
) -> Callable[..., torch.Tensor]:
    def dropout(
        input: torch.Tensor,  # noqa: A002 - as in PyTorch
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> torch.Tensor:
        if training and 0 < p < 1 and not inplace and input.numel():
            return apply(input, p)
        return original(input, p, training, inplace)

    return dropout


def _attention(
    original: Callable[..., torch.Tensor], mix: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
) -> Callable[..., torch.Tensor]:
    def attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        if not 0 < dropout_p < 1:
            return original(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        if enable_gqa:
            repeats = query.shape[-3] // key.shape[-3]
            key, value = (tensor.repeat_interleave(repeats, dim=-3) for tensor in (key, value))
        if is_causal:
            attn_mask = query.new_ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
        scores = (query * (scale or query.shape[-1] ** -0.5)) @ key.transpose(-2, -1)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        if torch.is_autocast_enabled(value.device.type):
            value = value.to(torch.get_autocast_dtype(value.device.type))
        return mix(scores, value.expand(*scores.shape[:-2], *value.shape[-2:]), dropout_p)

    return attention


class _Dropout(torch.autograd.Function):
    """Keeps elements where the mask is 1, scaled; saves one byte an element for the backward pass."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:  # noqa: A002
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return _scale_kept(input, mask, scale)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return _scale_kept(gradient, mask, ctx.scale), None, None


class _MixedValues(torch.autograd.Function):
    """Values weighted by the softmax of scores, of which some are dropped.

    For the backward pass it saves probabilities in the values' type alone, those that were dropped with their sign
    turned: neither the mask nor what was computed on the way in float32.
    """

    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:
        probabilities = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        signed = torch.where(mask.bool(), probabilities, -probabilities).to(values.dtype)
        ctx.save_for_backward(signed, values)
        ctx.scale, ctx.scores_dtype = scale, scores.dtype
        return _scale_kept(probabilities, mask, scale).to(values.dtype) @ values

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        signed, values = ctx.saved_tensors
        # A probability that is zero has a sign, too.
        mask, probabilities = ~signed.signbit(), signed.abs()
        of_values = _scale_kept(probabilities, mask, ctx.scale).transpose(-2, -1) @ gradient
        of_probabilities = _scale_kept(gradient @ values.transpose(-2, -1), mask, ctx.scale)
        of_scores = torch._softmax_backward_data(of_probabilities, probabilities, -1, probabilities.dtype)
        return of_scores.to(ctx.scores_dtype), of_values, None, None


def _scale_kept(values: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:
    # In one pass, with the scale in full precision.
    return torch.addcmul(values.new_zeros(()), values, mask.to(values.dtype), value=scale)
