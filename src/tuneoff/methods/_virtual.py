"""What methods with virtual tokens share: soft prompts, trained prefixes, and how both are saved.

A reparametrisation (an MLP or an LSTM that the virtual tokens pass through) is used in training alone. What is saved,
as in PEFT's own layout, is its output.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tuneoff.interfaces import Attached, MethodOptions, PlainCode, TaskView
from tuneoff.methods._layers import key_shape
from tuneoff.methods._peft import PeftMethod, read_adapter

if TYPE_CHECKING:
    import torch
    from torch import nn

O = TypeVar("O", bound=MethodOptions)  # noqa: E741 - as in base

REPARAMETRISATIONS = ("transform", "mlp_head", "lstm_head")

WITH_PROMPT = (
    "",
    "",
    "def with_prompt(module, arguments, given):",
    '    """Puts the trained embeddings before what the encoder reads."""',
    "    ids, mask = arguments[0], given['attention_mask']",
    "    start = torch.full_like(ids[:, :1], module.config.decoder_start_token_id)",
    "    given['decoder_input_ids'] = torch.cat([start, ids[:, :-1]], dim=1)",
    "    given['inputs_embeds'] = torch.cat([prompt[None], module.get_input_embeddings()(ids)], dim=1)",
    "    given['attention_mask'] = torch.cat([mask.new_ones(1, len(prompt)), mask], dim=1)",
    "    return (None,), given",
    "",
    "",
    "model.base_model.register_forward_pre_hook(with_prompt, with_kwargs=True)",
)
READ_WITH_PREFIX = (
    "",
    "from transformers import DynamicCache, EncoderDecoderCache",
    "",
    "",
    "def with_prefix(module, arguments, given):",
    '    """Puts the trained keys and values before what the decoder reads."""',
    "    kept = DynamicCache()",
    "    for layer, (keys, values) in enumerate(prefix):",
    "        kept.update(keys, values, layer)",
    "    return arguments, {**given, 'past_key_values': EncoderDecoderCache(kept, DynamicCache())}",
    "",
    "",
    "model.base_model.register_forward_pre_hook(with_prefix, with_kwargs=True)",
)
WRITE_WITH_PREFIX = (
    "plain_generate = model.generate",
    "",
    "",
    "def generate(past_key_values, generation_config, **given):",
    '    """Writes with the trained keys and values in the cache, which is given empty."""',
    "    for layer, (keys, values) in enumerate(prefix):",
    "        past_key_values.self_attention_cache.update(keys, values, layer)",
    "    past_key_values.batch_repeat_interleave(generation_config.num_beams)",
    "    return plain_generate(past_key_values=past_key_values, generation_config=generation_config, **given)",
    "",
    "",
    "model.generate = generate",
)
"""How an encoder-decoder is used with virtual tokens without PEFT, one text at a time; see `Method.plain_code`."""


class VirtualTokens(PeftMethod[O]):
    """A PEFT method whose trained part is virtual tokens before the input."""

    def save(self, attached: Attached, folder: Path) -> None:
        import torch

        # As in evaluation: an LSTM rounds otherwise where gradients are wanted.
        with torch.no_grad():
            super().save(attached, folder)

    def plain_code(self, attached: Attached, task: TaskView) -> PlainCode:
        classifies = task.peft_task_type == "SEQ_CLS"
        if not cast(Any, attached.model).config.is_encoder_decoder or (attached.prefix is None and not classifies):
            return super().plain_code(attached, task)
        # PEFT gives a prefix to encoder-decoders in another way (of some layers it drops what was trained), and
        # transformers' classifiers of this kind take no embeddings.
        config = cast(Any, attached.module).peft_config["default"]
        lines = ['kept = load_file(f"{FOLDER}/adapter_model.safetensors")']
        if task.head:
            head = "{name.removeprefix('base_model.'): kept[name] for name in kept if name != 'prompt_embeddings'}"
            lines += [f"odd = model.load_state_dict({head}, strict=False).unexpected_keys", "assert not odd, odd"]
        if attached.prefix is None:
            lines += ['prompt = kept["prompt_embeddings"]', *WITH_PROMPT]
        else:
            shape = f"{attached.virtual_tokens}, {config.num_layers}, 2, {config.num_attention_heads}, -1"
            lines.append(f'prefix = kept["prompt_embeddings"].view({shape}).permute(1, 2, 3, 0, 4)[:, :, None]')
            lines += READ_WITH_PREFIX if classifies else WRITE_WITH_PREFIX
        return PlainCode(imports=("from safetensors.torch import load_file",), lines=tuple(lines))

    def load(self, attached: Attached, folder: Path) -> None:
        from torch.nn import Embedding

        peft_model: Any = attached.module
        encoder = peft_model.prompt_encoder["default"]
        networks = [name for name in REPARAMETRISATIONS if hasattr(encoder, name)]
        if networks:
            device = encoder.embedding.weight.device
            embeddings = read_adapter(folder, str(device))["prompt_embeddings"]
            encoder.embedding = Embedding(len(embeddings), embeddings.shape[1], _weight=embeddings.clone())
            for name in networks:
                delattr(encoder, name)
            # Makes PEFT return the rows of the embedding as they are.
            peft_model.peft_config["default"].inference_mode = True
        super().load(attached, folder)


def input_width(model: nn.Module) -> int:
    """Returns the width of the input embeddings (ALBERT's and ELECTRA's is not the hidden size)."""
    any_model: Any = model
    return int(any_model.get_input_embeddings().weight.shape[1])


def soft_prompt_shape(model: nn.Module) -> dict[str, int]:
    """Returns PEFT's settings for trained input embeddings.

    These are `token_dim`, and two numbers that PEFT requires but does not use.
    """
    any_model: Any = model
    heads = getattr(any_model.config, "num_attention_heads", None) or 1
    return {
        "token_dim": input_width(model),
        "num_layers": any_model.config.num_hidden_layers,
        "num_attention_heads": heads,
    }


def prefix_shape(model: nn.Module) -> dict[str, int]:
    """Returns PEFT's settings for keys and values of every decoder layer.

    These are `num_layers`, `num_attention_heads` (those of keys and values) and `token_dim` (heads x width of a head).

    Raises:
        UnsupportedModel: for a model that caches none, such as an encoder, or not the same shape in every layer.
    """
    shape = key_shape(model)
    return {
        "num_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "token_dim": shape.heads * shape.width,
    }


def rows(peft_model: Any) -> torch.Tensor:
    """Returns the virtual tokens' values, shape (tokens, width); in training, what their reparametrisation gives."""
    encoder = peft_model.prompt_encoder["default"]
    if peft_model.peft_config["default"].inference_mode:
        embeddings: torch.Tensor = encoder.embedding.weight
        return embeddings
    indices = peft_model.prompt_tokens["default"].to(encoder.embedding.weight.device)
    output: torch.Tensor = encoder(indices[None])[0]
    return output


def with_soft_prompt(attached: Attached, tokens: int) -> Attached:
    """Sets the prompt encoder of a PEFT model as the soft prompt."""

    def soft_prompt(batch_size: int) -> torch.Tensor:
        return rows(attached.module).expand(batch_size, -1, -1)

    attached.soft_prompt = soft_prompt
    attached.virtual_tokens = tokens
    return attached


def with_prefix(attached: Attached, tokens: int) -> Attached:
    """Sets the prefix encoder of a PEFT model as the prefix: keys and values before the decoder's input."""
    peft_model: Any = attached.module
    config = peft_model.peft_config["default"]
    heads = config.num_attention_heads

    def prefix(batch_size: int) -> Any:
        from transformers import DynamicCache, EncoderDecoderCache

        model_config: Any = attached.model.config
        # Layer by layer first the keys, then the values: PEFT's order.
        keys_values = rows(peft_model).view(tokens, config.num_layers, 2, heads, config.token_dim // heads)
        # Without the configuration: a layer of sliding attention must not drop any of them here.
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(keys_values.permute(1, 2, 3, 0, 4)):
            cache.update(keys.expand(batch_size, -1, -1, -1), values.expand(batch_size, -1, -1, -1), layer)
        if not getattr(model_config, "is_encoder_decoder", False):
            return cache
        return EncoderDecoderCache(cache, DynamicCache())

    attached.prefix = prefix
    attached.virtual_tokens = tokens
    return attached
