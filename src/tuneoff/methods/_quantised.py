"""Linear layers whose frozen weights are stored in four bits: quantisation and dequantisation.

Imports bitsandbytes, so import this inside functions.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from tuneoff.errors import UnsupportedModel

try:
    import bitsandbytes
except ImportError as error:
    raise UnsupportedModel(
        f"weights in four bits need the package bitsandbytes, which cannot be imported here: {error}",
        hint="Install it with `pip install 'bitsandbytes>=0.46'`, or leave this method out with --methods.",
    ) from error


class QuantisedLinear(bitsandbytes.nn.Linear4bit):  # type: ignore[misc]
    """A frozen linear layer in four bits that computes as `nn.Linear` would under the precision policy.

    bitsandbytes' own forward pass fixes the precision at its first call, narrows the bias for good, and in evaluation
    on some CPUs repacks the weights and computes in bfloat16 whatever the policy. Here the weights are dequantised to
    autocast's type, or to the input's where there is no autocast.

    Attributes:
        transposed: whether it stands for a `Conv1D`, whose weight is (in, out).
    """

    transposed = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        device_type = x.device.type
        dtype = torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else x.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        if self.in_features % self.weight.blocksize:
            return linear(x.to(dtype), self.unpacked().to(dtype), bias)
        packed, state = self.weight.data.view(torch.uint8), self.weight.quant_state
        # Unpacks again for the backward pass, so that no full weight is kept in between.
        out: torch.Tensor = bitsandbytes.matmul_4bit(x.to(dtype), packed.t(), bias=bias, quant_state=state)
        return out

    def unpacked(self) -> torch.Tensor:
        """Returns the dequantised weight in full precision, shape (out, in)."""
        state = copy.copy(self.weight.quant_state)
        # As one long row: where a row is no whole number of blocks, bitsandbytes' CPU kernel takes the wrong scales.
        state.shape = torch.Size((1, state.shape.numel()))
        weight: torch.Tensor = bitsandbytes.functional.dequantize_4bit(self.weight.data.view(torch.uint8), state)
        return weight.reshape(self.out_features, self.in_features)


def quantise(model: nn.Module, kept: Collection[str], *, quant_type: Literal["nf4", "fp4"], double: bool) -> list[str]:
    """Replaces every linear layer in place, except `kept` modules and all inside them; frees the full weights.

    They are quantised on the device where they are, before a move to another one, so that every device gets the same
    values. On the meta device the layers keep their shape and are not quantised.

    Returns:
        The names of the replaced layers, in order.
    """
    replaced = []
    for name, module in list(model.named_modules()):
        if not isinstance(module, (nn.Linear, Conv1D)) or any((f"{name}.").startswith(f"{prefix}.") for prefix in kept):
            continue
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, _packed(module, quant_type, double))
        replaced.append(name)
    return replaced


def _packed(module: nn.Linear | Conv1D, quant_type: str, double: bool) -> QuantisedLinear:
    transposed = isinstance(module, Conv1D)
    full: torch.Tensor = module.weight.detach()
    full = full.t().contiguous() if transposed else full
    outputs, inputs = full.shape
    with torch.device("meta"):
        # Signed bytes: T5 casts its input to its weights' type unless that is int8.
        layer = QuantisedLinear(
            inputs, outputs, bias=False, compress_statistics=double, quant_type=quant_type, quant_storage=torch.int8
        )
    layer.transposed = transposed
    layer.bias = module.bias
    if layer.bias is not None:
        layer.bias.requires_grad_(False)
    weight = bitsandbytes.nn.Params4bit(
        full, requires_grad=False, compress_statistics=double, quant_type=quant_type, quant_storage=torch.int8
    )
    layer.weight = weight.to(full.device) if full.device.type != "meta" else weight
    layer.train(module.training)
    return layer


def dequantised(layer: QuantisedLinear, update: torch.Tensor | None = None) -> nn.Module:
    """Returns the layer in full precision, of the class that it was before quantisation.

    Args:
        layer: a packed layer.
        update: added to the weight, shape (out, in).
    """
    weight = layer.unpacked()
    if update is not None:
        weight = weight + update
    plain: Any
    with torch.device("meta"):
        if layer.transposed:
            plain, weight = Conv1D(layer.out_features, layer.in_features), weight.t().contiguous()
        else:
            plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    plain.bias = layer.bias
    return plain.train(layer.training)  # type: ignore[no-any-return]
