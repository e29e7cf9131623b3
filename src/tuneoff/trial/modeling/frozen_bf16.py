"""Frozen weights kept in the type that they are multiplied in.

Under bf16 autocast a linear layer turns its float32 weight into bfloat16 for every product. A trained weight needs its
float32 for the updates. A frozen one never needs it again, so the layer keeps the bfloat16 alone: the same products bit
for bit, half the memory, and nothing to turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from tuneoff.methods.base import Attached


class NarrowLinear(nn.Linear):
    """`nn.Linear` with a narrow weight; in full precision without autocast."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as the base class
        return linear(input, _wide(self.weight, input), self.bias)


class NarrowConv1D(Conv1D):  # type: ignore[misc]
    """GPT-2's transposed linear layer, likewise."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = torch.addmm(self.bias, x.view(-1, x.size(-1)), _wide(self.weight, x))
        return made.view(*x.shape[:-1], self.nf)


NARROW: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: NarrowLinear, Conv1D: NarrowConv1D}


def narrow(attached: Attached) -> None:
    """Makes every frozen float32 weight bfloat16 that a linear layer alone reads, by nothing but its product.

    For training and evaluation under bf16 autocast, once a method is attached. Weights that are trained, shared (an
    output layer tied to the embeddings) or read by the method itself (DoRA's norms) stay as they are.

    Args:
        attached: a model with its method; changed in place.
    """
    parts = list(attached.module.modules())
    uses = Counter(id(p) for part in parts for p in part._parameters.values() if p is not None)
    read = {id(part) for part in attached.reads}
    for part in parts:
        if type(part) not in NARROW or id(part) in read:
            continue
        weight = part._parameters["weight"]
        if weight is None or weight.requires_grad or weight.dtype != torch.float32 or uses[id(weight)] > 1:
            continue
        weight.data = weight.data.to(torch.bfloat16)
        part.__class__ = NARROW[type(part)]


@contextmanager
def turned_once(module: nn.Module) -> Iterator[None]:
    """While open, autocast turns no weight twice; for passes without gradients over weights that stand still.

    It keeps what it turned of leaves that require gradients, until the outermost of its contexts ends: this one, itself
    off. Frozen weights that are in float32 (biases, an output layer tied to the embeddings) are said to require them
    meanwhile, which changes nothing else where none are computed. Inference mode would keep nothing.
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


def _wide(weight: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A weight in the type of a product with `like`."""
    return weight if torch.is_autocast_enabled(like.device.type) else weight.to(like.dtype)
