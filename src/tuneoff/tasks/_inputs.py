"""From token ids to what a transformer takes in, trained virtual tokens included, and logits where they are wanted."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tuneoff.errors import UnsupportedModel

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tuneoff.methods.base import Attached


def model_inputs(attached: Attached, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
    """Arguments of the model's `forward` for right-padded token ids.

    A soft prompt stands before the embedded ids (before the encoder's, in an encoder-decoder). A prefix goes in as
    a cache of keys and values (of the decoder's self-attention, in an encoder-decoder). Either way a row's real
    positions follow one another, so that position numbers and local attention see no gap.

    Args:
        attached: the model and its virtual tokens.
        ids: shape (batch, length).
        mask: 1 on every token that is no padding, shape (batch, length).

    Returns:
        `input_ids` or `inputs_embeds`, `attention_mask` over all positions of the keys, and `past_key_values` where
        the method has a prefix.
    """
    import torch

    model: Any = attached.model
    batch = len(ids)
    inputs: dict[str, Any] = {"input_ids": ids}
    before = 0
    if attached.soft_prompt is not None:
        words = model.get_input_embeddings()(ids)
        prompt = attached.soft_prompt(batch).to(words.dtype)
        inputs = {"inputs_embeds": torch.cat([prompt, words], dim=1)}
        before += prompt.shape[1]
        if (
            "global_attention_mask" in inspect.signature(model.forward).parameters
            and not model.config.is_encoder_decoder
        ):
            # Longformer looks for token ids to make this of: its first position sees all others.
            first = torch.arange(before + ids.shape[1], device=ids.device) == 0
            inputs["global_attention_mask"] = first.long().expand(batch, -1)
    if attached.prefix is not None:
        inputs["past_key_values"] = cache = whole_cache(attached.prefix(batch))
        before += 0 if model.config.is_encoder_decoder else cache.get_seq_length()
    inputs["attention_mask"] = torch.cat([mask.new_ones(batch, before), mask], dim=1) if before else mask
    return inputs


def whole_cache(cache: Any) -> Any:
    """The same keys and values in a cache whose every layer keeps all positions.

    Layers of sliding attention would drop the oldest positions, which in a padded batch are not the same for all
    rows; the attention mask hides them just as well. Keys and values of cross-attention are left to the model.
    """
    from transformers import DynamicCache, EncoderDecoderCache

    if isinstance(cache, EncoderDecoderCache):
        return EncoderDecoderCache(whole_cache(cache.self_attention_cache), DynamicCache())
    whole = DynamicCache()
    for number, layer in enumerate(cache.layers):
        if layer.get_seq_length():
            whole.update(layer.keys, layer.values, number)
    return whole


@contextmanager
def logits_at(model: nn.Module, places: torch.Tensor, length: int) -> Iterator[None]:
    """While open, the model computes logits at these places alone and gives them as (1, places, vocabulary).

    Hidden states are picked before the model's output layer, so that all that a model does to logits besides (a
    bias, a cap) is still done, and logits elsewhere take no memory. Places are numbers and not a mask, whose true
    entries would have to be counted on the device in every step, with the program waiting for it.

    Args:
        model: a causal language model, or an encoder-decoder with a language-modelling head.
        places: row and column of each position where logits are wanted, shape (places, 2); they come in this order.
        length: of the sequence that the columns are counted in. Virtual tokens may stand before it.
    """
    rows, columns = places.unbind(-1)

    def pick(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden: torch.Tensor = inputs[0]
        return (hidden[rows, columns + (hidden.shape[1] - length)][None], *inputs[1:])

    output: Any = model.get_output_embeddings()  # type: ignore[operator]
    handle = output.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()


def added_modules(model: nn.Module) -> tuple[str, ...]:
    """Names of the modules that a task's model has beside the pretrained transformer: a classifier, and a pooler or
    other layers before it.

    Raises:
        UnsupportedModel: if there is none.
    """
    known: Any = model
    parts = [
        name
        for name, part in model.named_children()
        if name != known.base_model_prefix and next(part.parameters(), None) is not None
    ]
    if known.base_model is model or not parts:
        raise UnsupportedModel(f"{type(model).__name__} has no classification head that tuneoff knows")
    return tuple(parts)


def shifted(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What an encoder-decoder's decoder reads of a text that is to be classified: the text shifted to the right, as
    the architecture itself shifts it.

    Args:
        model: the encoder-decoder.
        ids: right-padded token ids, shape (batch, length).
        mask: 1 on every token that is no padding, shape (batch, length).

    Raises:
        UnsupportedModel: if the configuration does not say what the decoder starts from.
    """
    known: Any = model
    start = getattr(known.config, "decoder_start_token_id", None)
    given = {"pad_token_id": known.config.pad_token_id, "decoder_start_token_id": start}
    # mBART moves a text's last token to its front, and finds it by the padding after it.
    ids = ids.masked_fill(mask == 0, known.config.pad_token_id)
    own = getattr(sys.modules[type(model).__module__], "shift_tokens_right", None)
    wants = inspect.signature(own).parameters if own is not None else given
    if start is None and "decoder_start_token_id" in wants:
        raise UnsupportedModel(
            f"{type(model).__name__}: its configuration names no decoder_start_token_id, which its decoder starts from",
            hint="Set it in the model's config.json; T5's is its pad token.",
        )
    moved: torch.Tensor
    if own is not None:
        moved = own(ids, **{name: given[name] for name in wants if name in given})
    else:
        moved = known._shift_right(ids)
    return moved


def padded_left(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same inputs with each row's padding moved before its first position."""
    order = inputs["attention_mask"].argsort(dim=-1, stable=True)
    moved = {name: t.gather(1, order) for name, t in inputs.items() if name in ("input_ids", "attention_mask")}
    if "inputs_embeds" in inputs:
        words = inputs["inputs_embeds"]
        moved["inputs_embeds"] = words.gather(1, order[..., None].expand(words.shape))
    return moved


def output_layer(model: nn.Module) -> str:
    """Name of the module that turns hidden states into logits over the vocabulary.

    Raises:
        UnsupportedModel: if there is none.
    """
    known: Any = model
    output = known.get_output_embeddings()
    names: list[str] = [name for name, module in model.named_modules() if module is output and output is not None]
    if names:
        return names[0]
    raise UnsupportedModel(f"{type(model).__name__} has no output layer over its vocabulary")


def is_causal(config: Any) -> bool:
    """Whether a model of this configuration is a causal language model: no encoder, and none that reads both ways."""
    import transformers as hf

    reads_both_ways = type(config) in hf.MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    return not config.is_encoder_decoder and not reads_both_ways and type(config) in hf.MODEL_FOR_CAUSAL_LM_MAPPING
