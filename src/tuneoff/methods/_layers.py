"""What a transformer's layers do, found from the model itself: which projections compute queries, keys and values,
which end attention and feed-forward parts, and the shape of the keys and values that a decoder caches.

Nothing here depends on an architecture's name. Layers are recognised by their place in the model, by their widths and
by the usual letters for them (q, k, v); keys and values are measured by one forward pass.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneoff.errors import UnsupportedModel, did_you_mean
from tuneoff.methods._modules import is_encoder

if TYPE_CHECKING:
    from torch import nn

ATTENTION = re.compile(r"(?:^|\.)(\w*att(?:n|ention)\w*)(?=\.|$)", re.IGNORECASE)
PARTS = {"query": {"q", "query", "wq"}, "key": {"k", "key", "wk"}, "value": {"v", "value", "wv"}}
BESIDE = {"proj", "projection", "lin", "linear", "layer", "dense", "head", "w"}
"""Further words in the name of a query's, key's or value's projection: `q_proj`, `query_layer`. A projection with other
words does not project the tokens themselves: DeBERTa's `pos_key_proj`, Longformer's `query_global`."""


def is_projection(module: nn.Module) -> bool:
    """Tells whether a module is a linear layer, GPT-2's transposed ones included."""
    from torch.nn import Linear

    return isinstance(module, Linear) or type(module).__name__ == "Conv1D"


def widths(projection: nn.Module) -> tuple[int, int]:
    """Returns the input width and the output width of a projection."""
    layer: Any = projection
    # GPT-2's keep (in, out) as their weight's shape; those in four bits keep no shape but these two numbers.
    inputs, outputs = (
        layer.weight.shape if type(layer).__name__ == "Conv1D" else (layer.in_features, layer.out_features)
    )
    return int(inputs), int(outputs)


@dataclass(frozen=True)
class Projection:
    """A linear layer of attention.

    Attributes:
        name: its name in the model.
        attention: the name of the attention module that it is a part of.
        module: the layer.
    """

    name: str
    attention: str
    module: nn.Module

    @property
    def part(self) -> str:
        """Returns `query`, `key` or `value`; empty where the name does not say."""
        first, *others = self.name.rpartition(".")[2].lower().split("_")
        return next((part for part, names in PARTS.items() if first in names and not set(others) - BESIDE), "")


def attention_projections(part: nn.Module) -> list[Projection]:
    """Returns all linear layers inside modules called attention, in their order.

    Args:
        part: a transformer or one of its blocks; names are those inside it.
    """
    projections = []
    for name, module in part.named_modules():
        match = ATTENTION.search(name)
        if match and is_projection(module):
            projections.append(Projection(name, name[: match.end()], module))
    return projections


def attention_end(block: nn.Module) -> nn.Module:
    """Returns the projection that ends a block's self-attention: the last one of the first attention module.

    Raises:
        UnsupportedModel: if attention has no linear layers.
    """
    projections = attention_projections(block)
    if not projections:
        raise UnsupportedModel(f"{type(block).__name__}: its attention has no linear layers")
    return next(p.module for p in reversed(projections) if p.attention == projections[0].attention)


def feedforward_end(block: nn.Module, width: int) -> nn.Module:
    """Finds the module that ends a block's feed-forward part.

    This is its last linear layer of the hidden width outside attention; where experts keep their weights in no linear
    layers, it is the module that holds all experts.

    Args:
        block: a transformer block.
        width: of the hidden states.

    Raises:
        UnsupportedModel: if there is none.
    """
    experts = next((module for name, module in block.named_children() if _holds_experts(name, module)), None)
    if experts is not None:
        return experts
    inside = {projection.name for projection in attention_projections(block)}
    layers: list[tuple[str, nn.Module]] = list(block.named_modules())
    for name, module in reversed(layers):
        if is_projection(module) and name not in inside and widths(module)[1] == width:
            return module
    raise UnsupportedModel(f"{type(block).__name__}: the end of its feed-forward part cannot be found")


def _holds_experts(name: str, module: nn.Module) -> bool:
    """Tells whether a part of a block holds one matrix for each expert, stacked into one parameter.

    Its name does not end in `weight`, unlike a convolution's three-dimensional parameter.
    """
    if ATTENTION.search(name):
        return False
    return any(p.ndim == 3 and not n.endswith("weight") for n, p in module.named_parameters())


def attention_inputs(model: nn.Module, parts: Collection[str]) -> list[nn.Module]:
    """Returns the projections that compute these parts of attention (`query`, `key`, `value`) in all blocks.

    Where one layer computes several parts at once, it is that layer. Where names do not say, these are all projections
    that are wider than their input, or else all projections.

    Raises:
        UnsupportedModel: if attention has no linear layers.
    """
    any_model: Any = model
    modules: dict[str, list[Projection]] = {}
    for projection in attention_projections(any_model.base_model):
        modules.setdefault(projection.attention, []).append(projection)
    layers: list[nn.Module] = []
    for projections in modules.values():
        selected = [p for p in projections if p.part in parts]
        if not {*parts} <= {p.part for p in selected}:
            selected = [p for p in projections if widths(p.module)[1] > widths(p.module)[0]] or projections
        layers += [p.module for p in selected]
    if not layers:
        raise UnsupportedModel(
            f"{type(model).__name__}: its attention has no linear layers that make queries, keys and values",
            hint="Name the layers to change by the option targets, or use another method.",
        )
    return layers


def names_of(model: nn.Module, modules: Iterable[nn.Module]) -> list[str]:
    """Returns the shortest name endings that match exactly these modules of a model, in alphabetical order."""
    all_modules = dict(model.named_modules(remove_duplicate=False))
    ids = {id(module) for module in modules}
    targets = {name for name, module in all_modules.items() if id(module) in ids}
    suffixes: set[str] = set()
    for name in sorted(targets):
        steps = name.split(".")
        candidates = [".".join(steps[at:]) for at in range(len(steps) - 1, -1, -1)]
        if not suffixes & {*candidates}:
            suffixes.add(
                next(s for s in candidates if {n for n in all_modules if n == s or n.endswith(f".{s}")} <= targets)
            )
    return sorted(suffixes)


def require_names(model: nn.Module, names: Iterable[str]) -> None:
    """Checks that a model has layers with these names, or with names that end in them.

    Raises:
        UnsupportedModel: for a name that the model does not have; says which layers there are.
    """
    all_names = [name for name, _ in model.named_modules() if name]
    for name in names:
        if any(other == name or other.endswith(f".{name}") for other in all_names):
            continue
        layers = sorted({n.rpartition(".")[2] for n, module in model.named_modules() if is_projection(module)})
        raise UnsupportedModel(
            f"{type(model).__name__} has no layer named {name!r}{did_you_mean(name, layers)}",
            hint=f"Its linear layers: {', '.join(layers)}.",
        )


@dataclass(frozen=True)
class KeyShape:
    """Shape of the keys and values in a decoder's cache.

    Attributes:
        layers: number of layers with keys and values.
        heads: number of heads of each layer.
        width: width of a head.
    """

    layers: int
    heads: int
    width: int


def key_shape(model: nn.Module) -> KeyShape:
    """Measures the keys and values that a model's decoder caches between calls, by a forward pass of one token.

    Works on the meta device.

    Raises:
        UnsupportedModel: for a model that caches none, or not the same shape in every layer; says why.
    """
    import torch
    from transformers import DynamicCache, EncoderDecoderCache

    any_model: Any = model
    name = type(model).__name__
    hint = "Use prompt_tuning or p_tuning, or another model."
    if is_encoder(model):
        raise UnsupportedModel(
            f"{name} is an encoder: it takes no keys and values from outside, which a prefix is",
            hint="Use prompt_tuning or p_tuning, or a decoder.",
        )
    if getattr(any_model, "_is_stateful", False):
        raise UnsupportedModel(f"{name} keeps a running state, and a prefix is keys and values", hint=hint)
    ids = torch.zeros((1, 1), dtype=torch.long, device=next(model.parameters()).device)
    cache: Any = DynamicCache()
    decoder_cache = cache
    if any_model.config.is_encoder_decoder:
        inputs = {"input_ids": ids, "decoder_input_ids": ids}
        cache = EncoderDecoderCache(decoder_cache, DynamicCache())
    else:
        # Without a mask, GPT-2 looks for padding among the tokens, of which the meta device has none.
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    training = model.training
    try:
        with torch.no_grad(), ids.device, _without_branches(model):
            any_model.eval().base_model(**inputs, past_key_values=cache, use_cache=True)
    finally:
        model.train(training)
    sizes = {tuple(t.shape[1::2]) for layer in decoder_cache.layers for t in (layer.keys, layer.values)}
    if not sizes:
        raise UnsupportedModel(f"{name} keeps no keys and values between calls, which a prefix is", hint=hint)
    if len(sizes) > 1:
        shapes = ", ".join(f"{heads} × {width}" for heads, width in sorted(sizes))
        raise UnsupportedModel(
            f"{name} keeps keys and values of several shapes ({shapes}); a prefix has one", hint=hint
        )
    ((heads, width),) = sizes
    return KeyShape(len(decoder_cache.layers), heads, width)


@contextmanager
def _without_branches(model: nn.Module) -> Iterator[None]:
    """Makes a model, while open, compute without reading tensor values, which the meta device does not have."""
    implementations = {"_attn_implementation": "eager", "_experts_implementation": "batched_mm"}
    configs = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}
    previous = [
        (c, key, getattr(c, key))
        for c in configs.values()
        for key in implementations
        if getattr(c, key, None) is not None
    ]
    try:
        for config, key, _ in previous:
            setattr(config, key, implementations[key])
        yield
    finally:
        for config, key, value in previous:
            setattr(config, key, value)
