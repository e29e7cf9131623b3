"""Frozen weights kept in the type that they are multiplied in.

Under bf16 autocast a linear layer converts its float32 weight to bfloat16 for every product. A trained weight needs its
float32 for the updates. A frozen one never needs it again, so the layer keeps the bfloat16 alone: the same products bit
for bit, half the memory, and nothing to convert.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from tuneoff.interfaces import Attached


class FrozenBf16Linear(nn.Linear):
    """`nn.Linear` with a narrow weight; in full precision without autocast."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as the base class
        return linear(input, _widen(self.weight, input), self.bias)


class FrozenBf16Conv1D(Conv1D):  # type: ignore[misc]
    """GPT-2's transposed linear layer, likewise."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = torch.addmm(self.bias, x.view(-1, x.size(-1)), _widen(self.weight, x))
        return output.view(*x.shape[:-1], self.nf)


NARROW: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: FrozenBf16Linear, Conv1D: FrozenBf16Conv1D}


def keep_frozen_in_bf16(attached: Attached) -> None:
    """Makes every frozen float32 weight bfloat16 that a linear layer alone reads, by nothing but its product.

    For training and evaluation under bf16 autocast, once a method is attached. Weights that are trained, shared (an
    output layer tied to the embeddings) or read by the method itself (DoRA's norms) stay as they are.

    Args:
        attached: a model with its method; changed in place.
    """
    modules = list(attached.module.modules())
    uses = Counter(id(p) for module in modules for p in module._parameters.values() if p is not None)
    read_ids = {id(module) for module in attached.reads}
    for module in modules:
        if type(module) not in NARROW or id(module) in read_ids:
            continue
        weight = module._parameters["weight"]
        if weight is None or weight.requires_grad or weight.dtype != torch.float32 or uses[id(weight)] > 1:
            continue
        weight.data = weight.data.to(torch.bfloat16)
        module.__class__ = NARROW[type(module)]


@contextmanager
def cached_autocast_weights(module: nn.Module) -> Iterator[None]:
    """Makes autocast convert no weight twice while open; for passes without gradients, in which weights do not change.

    Autocast caches the converted copies of leaves that require gradients until its outermost context ends: this one,
    itself off. Frozen weights in float32 (biases, an output layer tied to the embeddings) are therefore marked as
    requiring gradients meanwhile, which changes nothing else where none are computed. Inference mode would cache
    nothing.
    """
    frozen = [p for p in module.parameters() if p.dtype == torch.float32 and not p.requires_grad]
    device = next(module.parameters()).device.type
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        with torch.no_grad(), torch.autocast(device, enabled=False):
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _widen(weight: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Converts a weight to the type of a product with `like`."""
    return weight if torch.is_autocast_enabled(like.device.type) else weight.to(like.dtype)
