"""What a transformer's layers do, found from the model itself: which projections make queries, keys and values, which
end attention and feed-forward parts, and what keys and values a decoder keeps.

Nothing here knows an architecture's name. Layers are told apart by where they stand, by their widths and by the field's
own letters for them (q, k, v); keys and values are measured by one forward pass.
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
"""What else a query's, key's or value's projection may be called: `q_proj`, `query_layer`. Others are no projections of
the tokens themselves: DeBERTa's `pos_key_proj`, Longformer's `query_global`."""


def is_projection(module: nn.Module) -> bool:
    """Whether a module is a linear layer, GPT-2's transposed ones included."""
    from torch.nn import Linear

    return isinstance(module, Linear) or type(module).__name__ == "Conv1D"


def widths(projection: nn.Module) -> tuple[int, int]:
    """Width of what a projection reads and of what it makes."""
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
        name: where it stands.
        attention: the same of the attention module that it is a part of.
        module: the layer.
    """

    name: str
    attention: str
    module: nn.Module

    @property
    def part(self) -> str:
        """`query`, `key` or `value`; empty where its name does not say."""
        first, *others = self.name.rpartition(".")[2].lower().split("_")
        return next((part for part, names in PARTS.items() if first in names and not set(others) - BESIDE), "")


def attention_projections(part: nn.Module) -> list[Projection]:
    """All linear layers below a module that is called attention, in their order.

    Args:
        part: a transformer or one of its blocks; names are those inside it.
    """
    found = []
    for name, module in part.named_modules():
        inside = ATTENTION.search(name)
        if inside and is_projection(module):
            found.append(Projection(name, name[: inside.end()], module))
    return found


def attention_end(block: nn.Module) -> nn.Module:
    """The projection that ends a block's self-attention: the last of the first attention module.

    Raises:
        UnsupportedModel: if attention has no linear layers.
    """
    found = attention_projections(block)
    if not found:
        raise UnsupportedModel(f"{type(block).__name__}: its attention has no linear layers")
    return next(p.module for p in reversed(found) if p.attention == found[0].attention)


def feedforward_end(block: nn.Module, width: int) -> nn.Module:
    """The module that ends a block's feed-forward part: its last linear layer of the hidden width outside attention;
    where experts keep their weights in no linear layers, the module that holds them all.

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
    """Whether a part of a block holds one matrix for each expert, stacked into a parameter of its own name (a
    convolution's three-dimensional one is called weight)."""
    if ATTENTION.search(name):
        return False
    return any(p.ndim == 3 and not n.endswith("weight") for n, p in module.named_parameters())


def attention_inputs(model: nn.Module, parts: Collection[str]) -> list[nn.Module]:
    """The projections that make these parts of attention (`query`, `key`, `value`), everywhere in the transformer.

    Where one layer makes several parts at once, it is that layer; where names do not say, all that are wider than
    what they read, or all there are.

    Raises:
        UnsupportedModel: if attention has no linear layers.
    """
    whole: Any = model
    modules: dict[str, list[Projection]] = {}
    for projection in attention_projections(whole.base_model):
        modules.setdefault(projection.attention, []).append(projection)
    found: list[nn.Module] = []
    for projections in modules.values():
        chosen = [p for p in projections if p.part in parts]
        if not {*parts} <= {p.part for p in chosen}:
            chosen = [p for p in projections if widths(p.module)[1] > widths(p.module)[0]] or projections
        found += [p.module for p in chosen]
    if not found:
        raise UnsupportedModel(
            f"{type(model).__name__}: its attention has no linear layers that make queries, keys and values",
            hint="Name the layers to change by the option targets, or use another method.",
        )
    return found


def names_of(model: nn.Module, modules: Iterable[nn.Module]) -> list[str]:
    """The shortest endings of names that hold for exactly these modules of a model, in alphabetical order."""
    every = dict(model.named_modules(remove_duplicate=False))
    kept = {id(module) for module in modules}
    wanted = {name for name, module in every.items() if id(module) in kept}
    chosen: set[str] = set()
    for name in sorted(wanted):
        steps = name.split(".")
        endings = [".".join(steps[at:]) for at in range(len(steps) - 1, -1, -1)]
        if not chosen & {*endings}:
            chosen.add(next(e for e in endings if {n for n in every if n == e or n.endswith(f".{e}")} <= wanted))
    return sorted(chosen)


def require_names(model: nn.Module, names: Iterable[str]) -> None:
    """Makes sure that a model has layers of these names, or of names that end with them.

    Raises:
        UnsupportedModel: for one that it has not; says what there is.
    """
    every = [name for name, _ in model.named_modules() if name]
    for name in names:
        if any(one == name or one.endswith(f".{name}") for one in every):
            continue
        layers = sorted({n.rpartition(".")[2] for n, module in model.named_modules() if is_projection(module)})
        raise UnsupportedModel(
            f"{type(model).__name__} has no layer named {name!r}{did_you_mean(name, layers)}",
            hint=f"Its linear layers: {', '.join(layers)}.",
        )


@dataclass(frozen=True)
class KeyShape:
    """The keys and values that a decoder keeps.

    Attributes:
        layers: how many layers keep some.
        heads: of each layer.
        width: of a head.
    """

    layers: int
    heads: int
    width: int


def key_shape(model: nn.Module) -> KeyShape:
    """Measures the keys and values that a model's decoder keeps between calls, by reading one token.

    Works on the meta device.

    Raises:
        UnsupportedModel: for a model that keeps none, or not the same in every layer; says why.
    """
    import torch
    from transformers import DynamicCache, EncoderDecoderCache

    whole: Any = model
    name = type(model).__name__
    hint = "Use prompt_tuning or p_tuning, or another model."
    if is_encoder(model):
        raise UnsupportedModel(
            f"{name} is an encoder: it takes no keys and values from outside, which a prefix is",
            hint="Use prompt_tuning or p_tuning, or a decoder.",
        )
    if getattr(whole, "_is_stateful", False):
        raise UnsupportedModel(f"{name} keeps a running state, and a prefix is keys and values", hint=hint)
    ids = torch.zeros((1, 1), dtype=torch.long, device=next(model.parameters()).device)
    cache: Any = DynamicCache()
    own = cache
    if whole.config.is_encoder_decoder:
        given = {"input_ids": ids, "decoder_input_ids": ids}
        cache = EncoderDecoderCache(own, DynamicCache())
    else:
        # Without a mask, GPT-2 looks for padding among the tokens, of which the meta device has none.
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    training = model.training
    try:
        with torch.no_grad(), ids.device, _without_branches(model):
            whole.eval().base_model(**given, past_key_values=cache, use_cache=True)
    finally:
        model.train(training)
    sizes = {tuple(t.shape[1::2]) for layer in own.layers for t in (layer.keys, layer.values)}
    if not sizes:
        raise UnsupportedModel(f"{name} keeps no keys and values between calls, which a prefix is", hint=hint)
    if len(sizes) > 1:
        told = ", ".join(f"{heads} × {width}" for heads, width in sorted(sizes))
        raise UnsupportedModel(f"{name} keeps keys and values of several shapes ({told}); a prefix has one", hint=hint)
    ((heads, width),) = sizes
    return KeyShape(len(own.layers), heads, width)


@contextmanager
def _without_branches(model: nn.Module) -> Iterator[None]:
    """While open, a model computes in ways that ask no tensor for its values, which the meta device has not."""
    ways = {"_attn_implementation": "eager", "_experts_implementation": "batched_mm"}
    configs = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}
    before = [(c, key, getattr(c, key)) for c in configs.values() for key in ways if getattr(c, key, None) is not None]
    try:
        for config, key, _ in before:
            setattr(config, key, ways[key])
        yield
    finally:
        for config, key, way in before:
            setattr(config, key, way)
