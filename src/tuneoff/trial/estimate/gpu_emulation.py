"""Emulates what a GPU's kernels keep of a step, to count it where there is no GPU.

Some operations keep other tensors on a GPU than on a CPU: dropout a mask of one byte an element, fused attention its
sums alone even with dropout, and autocast there computes norms in float32. `AsOnGpu` replaces them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class AsOnGpu(TorchFunctionMode):
    """While entered, functions of PyTorch that differ on a GPU keep the tensors that they keep there; none is moved."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return REPLACED.get(func, func)(*args, **(kwargs or {}))


def _dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:  # noqa: A002
    return torch.native_dropout(input, p, True)[0] if training and p > 0 else input


def _layer_norm(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: A002
    if torch.is_autocast_enabled("cpu"):
        input = input.float()  # noqa: A001
    return functional.layer_norm(input, *args, **kwargs)


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (tensor.to(torch.get_autocast_dtype("cpu")) for tensor in (query, key, value))
    if enable_gqa:
        repeats = query.shape[1] // key.shape[1]
        key, value = (tensor.repeat_interleave(repeats, dim=1) for tensor in (key, value))
    bias = None
    if attn_mask is not None:
        bias = attn_mask.to(query.dtype)
        bias = bias.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    output: torch.Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, True, dropout_p, is_causal, scale=scale
    )[0]
    return output


REPLACED: dict[Any, Callable[..., torch.Tensor]] = {
    functional.dropout: _dropout,
    functional.layer_norm: _layer_norm,
    functional.scaled_dot_product_attention: _attention,
}
"""Function of PyTorch -> its replacement."""
