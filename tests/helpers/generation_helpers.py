"""Tiny models that write text, with hand-made virtual tokens, for the tests of generation."""

from __future__ import annotations

from typing import Any

import torch

from tuneoff.interfaces import Attached, Features
from tuneoff.tasks.generation import Generation
from tuneoff.testing.models import random_model, shape
from tuneoff.trial.modeling.tokenizer import byte_tokenizer

VIRTUAL = 5
ENDS = {"bos_token_id": 299, "eos_token_id": 299}
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {**shape("gpt2", 128), **ENDS},
    "gpt_neo": {**shape("gpt_neo", 128), **ENDS},
    **{name: shape(name, 128) for name in ("llama", "gemma2", "t5", "bart")},
}
ARCHITECTURES = tuple(SIZES)
KINDS = ("plain", "soft_prompt", "prefix")
WAYS = (*((name, "eager") for name in SIZES), *((name, "sdpa") for name in ("gpt2", "llama", "t5", "bart")))
"""Architectures with each implementation of attention that they have."""


def tiny_config(architecture: str, attention: str = "eager", **changes: Any) -> Any:
    from transformers import AutoConfig

    # Tied to the embeddings, an output layer of random weights would write the last token again and again.
    sizes = {"vocab_size": 300, "tie_word_embeddings": architecture in ("t5", "bart"), **SIZES[architecture], **changes}
    config = AutoConfig.for_model(architecture, **sizes)
    config._attn_implementation = attention
    return config


def tiny_writer(architecture: str, task: Generation, attention: str = "eager", **changes: Any) -> tuple[Any, Any]:
    """A model with the same weights every time, far enough from zero to write something, and its tokenizer."""
    config = tiny_config(architecture, attention, **changes)
    return random_model(config, task, noise=0.3).requires_grad_(False), byte_tokenizer(config)


def framed(tokenizer: Any, single: str) -> Any:
    """The tokenizer with these special tokens of its own around every text, `$A`."""
    from tokenizers import processors

    tokens = [(name, tokenizer.convert_tokens_to_ids(name)) for name in single.split() if name != "$A"]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=tokens)
    return tokenizer


def attached_to(model: Any, kind: str) -> Attached:
    """The model as it is, or with random virtual tokens as a method would put them there."""
    from transformers import DynamicCache, EncoderDecoderCache

    generator = torch.Generator().manual_seed(1)
    config = model.config
    width = model.get_input_embeddings().weight.shape[1]
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    shape = (config.num_hidden_layers, 2, heads, VIRTUAL, config.hidden_size // config.num_attention_heads)
    prompt = torch.randn(VIRTUAL, width, generator=generator)
    layers = torch.randn(shape, generator=generator)

    def soft_prompt(batch: int) -> torch.Tensor:
        return prompt.expand(batch, -1, -1)

    def prefix(batch: int) -> Any:
        cache = DynamicCache([(k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in layers])
        return EncoderDecoderCache(cache, DynamicCache()) if config.is_encoder_decoder else cache

    if kind == "soft_prompt":
        return Attached(model, model, soft_prompt=soft_prompt, virtual_tokens=VIRTUAL)
    if kind == "prefix":
        return Attached(model, model, prefix=prefix, virtual_tokens=VIRTUAL)
    return Attached(model, model)


def some_features(lengths: tuple[int, ...] = (3, 20, 11, 1), targets: tuple[int, ...] = (4, 2, 7, 1)) -> list[Features]:
    """Random prompts and targets of these lengths; a prompt of one token and one beyond every window among them."""
    generator = torch.Generator().manual_seed(0)

    def draw(size: int) -> list[int]:
        return torch.randint(5, 290, (size,), generator=generator).tolist()

    return [Features(draw(a), 0, a, draw(b)) for a, b in zip(lengths, targets, strict=True)]
