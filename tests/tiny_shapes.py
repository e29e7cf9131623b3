"""Tiny models of the real architectures, for every test that builds one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tuneoff.tasks.base import Task

HEADS: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def shape(architecture: str, positions: int) -> dict[str, Any]:
    """Configuration keys of a model of width 32 and two layers; token ids and the vocabulary are the test's to choose.

    Args:
        architecture: transformers' name for it.
        positions: tokens it can take; T5 has no limit, BERT its default.
    """
    llama = {**HEADS, "num_key_value_heads": 2, "max_position_embeddings": positions}
    shapes: dict[str, dict[str, Any]] = {
        "bert": HEADS,
        # RoBERTa counts from the position after its padding index on.
        "roberta": {**HEADS, "max_position_embeddings": positions + 2, "pad_token_id": 1},
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": positions},
        "gpt_neo": {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
            "max_position_embeddings": positions,
        },
        "llama": llama,
        "gemma2": {**llama, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8},
        "t5": {"d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 64},
        "bart": {
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": positions,
        },
    }
    return dict(shapes[architecture])


def random_model(config: Any, task: Task, noise: float = 0.05) -> nn.Module:
    """A model for a task, with the same weights every time.

    All of them are moved by so much: biases and norms that start at zero or one would hide mistakes.
    """
    for key, value in task.model_arguments().items():
        setattr(config, key, value)
    torch.manual_seed(0)
    model: nn.Module = task.model_class(config).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model.eval()
