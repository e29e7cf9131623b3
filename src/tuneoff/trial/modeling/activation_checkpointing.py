"""Gradient checkpointing: what a transformer block computes is not kept for the backward pass but computed again in it.

Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, https://arxiv.org/abs/1604.06174

Blocks are wrapped here and not by transformers' own switch, which takes the cache away from a block (a trained prefix
would be lost without a word) and makes gradients flow through frozen blocks that need none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.checkpoint import checkpoint

from tuneoff.errors import UnsupportedModel
from tuneoff.methods._modules import blocks


def checkpoint_activations(model: nn.Module, again: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
    """Makes every transformer block of a model, a method's modules inside it included, keep its inputs alone while it
    trains. Call it once, after the method is attached.

    Random numbers and autocast are the same in both passes, so that gradients are those of a model that keeps all. A
    block that no gradient goes through keeps nothing anyway and is not computed again; evaluation is as ever.

    Args:
        model: its blocks are changed in place.
        again: makes the context that is entered while a block is computed again.

    Raises:
        UnsupportedModel: if the blocks cannot be found.
    """
    try:
        modules = blocks(model)
    except UnsupportedModel as error:
        raise UnsupportedModel(
            f"protocol.gradient_checkpointing: {error.message}",
            hint="Leave it out; protocol.gradient_accumulation_steps saves memory on any model.",
        ) from None
    # A model may use one block several times.
    for block in dict.fromkeys(modules):
        # In the place of `forward`, below the hooks: those of sharding must not run again in the backward pass.
        block.forward = partial(_forward, block, block.forward, again)


def _forward(
    block: nn.Module, forward: Any, again: Callable[[], AbstractContextManager[object]], /, *args: Any, **kwargs: Any
) -> Any:
    if not (block.training and torch.is_grad_enabled()):
        return forward(*args, **kwargs)
    leaves, structure = tree_flatten((args, kwargs))

    def run(*leaves: Any) -> Any:
        args, kwargs = tree_unflatten([_copy_cache(leaf) for leaf in leaves], structure)
        return forward(*args, **kwargs)

    # All tensors are passed one by one: from them PyTorch knows the devices, and sees if one is overwritten in between.
    return checkpoint(run, *leaves, use_reentrant=False, context_fn=lambda: (nullcontext(), again()))


def _copy_cache(value: Any) -> Any:
    """Copies a cache of keys and values as it is now, for one run of a block: what the block adds to it must not be
    there when the block runs again. Returns anything else as it is."""
    from transformers import Cache, EncoderDecoderCache

    if not isinstance(value, Cache):
        return value
    copied_cache: Any = copy.copy(value)
    if isinstance(value, EncoderDecoderCache):
        copied_cache.self_attention_cache = _copy_cache(value.self_attention_cache)
        copied_cache.cross_attention_cache = _copy_cache(value.cross_attention_cache)
        copied_cache.is_updated = dict(value.is_updated)
    else:
        # A layer grows by new tensors in the place of old ones.
        copied_cache.layers = [copy.copy(layer) for layer in value.layers]
    return copied_cache
