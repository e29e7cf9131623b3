"""Inputs of a transformer from token ids, trained virtual tokens included, and logits at chosen positions only."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import TaskView

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tuneoff.interfaces import Attached


def takes_segments(model: nn.Module) -> bool:
    """Tells whether a model is told which text a token belongs to: whether it takes `token_type_ids` of 1.

    A causal one is not: it looks them up among the embeddings of its words (GPT-2, GPT-J, CTRL), or they mean something
    else (Gemma 3). XLNet, which is listed among them and reads both ways, has its own for them.
    """
    config: Any = model.config
    if is_causal(config) and getattr(config, "attn_type", "uni") != "bi":
        return False
    return "token_type_ids" in inspect.signature(model.forward).parameters and getattr(config, "type_vocab_size", 2) > 1


def model_inputs(
    attached: Attached, ids: torch.Tensor, mask: torch.Tensor, segments: torch.Tensor | None = None
) -> dict[str, Any]:
    """Builds the arguments of the model's `forward` for right-padded token ids.

    A soft prompt stands before the embedded ids (before the encoder's, in an encoder-decoder). A prefix goes in as
    a cache of keys and values (of the decoder's self-attention, in an encoder-decoder). Either way a row's real
    positions follow one another, so that position numbers and local attention see no gap.

    Args:
        attached: the model and its virtual tokens.
        ids: shape (batch, length).
        mask: 1 on every token that is no padding, shape (batch, length).
        segments: number of the text that a token belongs to, shape (batch, length); None: one text. A soft prompt is
            of the first.

    Returns:
        `input_ids` or `inputs_embeds`, `attention_mask` over all positions of the keys, `token_type_ids` where there
        are any and the model takes them, and `past_key_values` where the method has a prefix.
    """
    import torch

    model: Any = attached.model
    batch = len(ids)
    inputs: dict[str, Any] = {"input_ids": ids}
    if segments is not None and takes_segments(model):
        inputs["token_type_ids"] = segments
    before = 0
    if attached.soft_prompt is not None:
        embeddings = model.get_input_embeddings()(ids)
        prompt = attached.soft_prompt(batch).to(embeddings.dtype)
        del inputs["input_ids"]
        inputs["inputs_embeds"] = torch.cat([prompt, embeddings], dim=1)
        before += prompt.shape[1]
        if "token_type_ids" in inputs:
            inputs["token_type_ids"] = torch.cat([ids.new_zeros(batch, before), inputs["token_type_ids"]], dim=1)
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
    """Returns the same keys and values in a cache in which every layer keeps all positions.

    Layers of sliding attention would drop the oldest positions, which in a padded batch are not the same for all
    rows; the attention mask hides them just as well. Keys and values of cross-attention are left to the model.
    """
    from transformers import DynamicCache, EncoderDecoderCache

    if isinstance(cache, EncoderDecoderCache):
        return EncoderDecoderCache(whole_cache(cache.self_attention_cache), DynamicCache())
    full_cache = DynamicCache()
    for number, layer in enumerate(cache.layers):
        if layer.get_seq_length():
            full_cache.update(layer.keys, layer.values, number)
    return full_cache


@contextmanager
def logits_at(model: nn.Module, places: torch.Tensor, length: int) -> Iterator[None]:
    """Makes the model, while open, compute logits at these places alone, shape (1, places, vocabulary).

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
    """Returns the names of the modules that a task's model has besides the pretrained transformer.

    These are a classifier, and a pooler or other layers before it.

    Raises:
        UnsupportedModel: if there is none.
    """
    any_model: Any = model
    parts = [
        name
        for name, part in model.named_children()
        if name != any_model.base_model_prefix and next(part.parameters(), None) is not None
    ]
    if any_model.base_model is model or not parts:
        raise UnsupportedModel(f"{type(model).__name__} has no classification head that tuneoff knows")
    return tuple(parts)


def shifted(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Returns the decoder's input for classification by an encoder-decoder: the text shifted to the right.

    It is shifted as the architecture itself does it.

    Args:
        model: the encoder-decoder.
        ids: right-padded token ids, shape (batch, length).
        mask: 1 on every token that is no padding, shape (batch, length).

    Raises:
        UnsupportedModel: if the configuration does not say what the decoder starts from.
    """
    any_model: Any = model
    start = getattr(any_model.config, "decoder_start_token_id", None)
    token_ids = {"pad_token_id": any_model.config.pad_token_id, "decoder_start_token_id": start}
    # mBART moves a text's last token to its front, and finds it by the padding after it.
    ids = ids.masked_fill(mask == 0, any_model.config.pad_token_id)
    shift = getattr(sys.modules[type(model).__module__], "shift_tokens_right", None)
    parameters = inspect.signature(shift).parameters if shift is not None else token_ids
    if start is None and "decoder_start_token_id" in parameters:
        raise UnsupportedModel(
            f"{type(model).__name__}: its configuration names no decoder_start_token_id, which its decoder starts from",
            hint="Set it in the model's config.json; T5's is its pad token.",
        )
    result: torch.Tensor
    if shift is not None:
        result = shift(ids, **{name: token_ids[name] for name in parameters if name in token_ids})
    else:
        result = any_model._shift_right(ids)
    return result


def padded_left(inputs: dict[str, Any]) -> dict[str, Any]:
    """Returns the same inputs with each row's padding moved before its first position."""
    order = inputs["attention_mask"].argsort(dim=-1, stable=True)
    names = ("input_ids", "attention_mask", "token_type_ids")
    padded = {name: tensor.gather(1, order) for name, tensor in inputs.items() if name in names}
    if "inputs_embeds" in inputs:
        embeddings = inputs["inputs_embeds"]
        padded["inputs_embeds"] = embeddings.gather(1, order[..., None].expand(embeddings.shape))
    return padded


def output_layer(model: nn.Module) -> str:
    """Returns the name of the module that turns hidden states into logits over the vocabulary.

    Raises:
        UnsupportedModel: if there is none.
    """
    any_model: Any = model
    output = any_model.get_output_embeddings()
    names: list[str] = [name for name, module in model.named_modules() if module is output and output is not None]
    if names:
        return names[0]
    raise UnsupportedModel(f"{type(model).__name__} has no output layer over its vocabulary")


def view_without_head(model: nn.Module) -> TaskView:
    """Returns a view of a causal language model whose own output layer gives the scores."""
    return TaskView(head=(), peft_task_type="CAUSAL_LM", output=output_layer(model))


def causal_class(config: Any, cannot: str, hint: str) -> Any:
    """Returns the auto class of causal language models.

    Args:
        config: of the base model.
        cannot: what other models cannot do, for the error.
        hint: what to do then.

    Raises:
        UnsupportedModel: for an encoder or an encoder-decoder.
    """
    from transformers import AutoModelForCausalLM

    if not is_causal(config):
        raise UnsupportedModel(f"a {config.model_type} model cannot {cannot}", hint=hint)
    return AutoModelForCausalLM


def is_causal(config: Any) -> bool:
    """Tells whether a configuration is a causal language model's: no encoder-decoder and no bidirectional model."""
    import transformers as hf

    reads_both_ways = type(config) in hf.MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    return not config.is_encoder_decoder and not reads_both_ways and type(config) in hf.MODEL_FOR_CAUSAL_LM_MAPPING
