"""Tiny models of the real architectures."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tuneoff.interfaces import Task

HEADS: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def shape(architecture: str, positions: int) -> dict[str, Any]:
    """Configuration keys of a model of width 32 and two layers; token ids and the vocabulary are the test's to choose.

    Args:
        architecture: transformers' name for it.
        positions: tokens it can take; T5 has no limit, BERT its default.
    """
    encoder = {**HEADS, "max_position_embeddings": positions, "pad_token_id": 0}
    # RoBERTa counts from the position after its padding index on.
    roberta = {**HEADS, "max_position_embeddings": positions + 2, "pad_token_id": 1}
    llama = {**HEADS, "num_key_value_heads": 2, "max_position_embeddings": positions}
    gemma = {**llama, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8}
    gpt2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": positions}
    bart = {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "max_position_embeddings": positions,
    }
    shapes: dict[str, dict[str, Any]] = {
        "bert": HEADS,
        "roberta": roberta,
        "xlm-roberta": roberta,
        "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": positions},
        "albert": {**encoder, "embedding_size": 16},
        "electra": {**encoder, "embedding_size": 16},
        "mpnet": roberta,
        "deberta-v2": {
            **encoder,
            "relative_attention": True,
            "position_buckets": 16,
            "pos_att_type": ["p2c", "c2p"],
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "type_vocab_size": 0,
            "pooler_hidden_size": 32,
        },
        "modernbert": {
            **encoder,
            "local_attention": 8,
            "global_attn_every_n_layers": 2,
            **{f"{name}_token_id": number for name, number in (("bos", 2), ("cls", 2), ("eos", 3), ("sep", 3))},
        },
        "longformer": {**roberta, "attention_window": [8, 8]},
        "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "pad_token_id": 0},
        "gpt2": gpt2,
        "gpt_bigcode": gpt2,
        "gptj": {**gpt2, "rotary_dim": 4},
        "gpt_neo": {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
            "max_position_embeddings": positions,
        },
        "gpt_neox": {**HEADS, "max_position_embeddings": positions},
        "opt": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "ffn_dim": 64,
            "num_attention_heads": 4,
            "max_position_embeddings": positions,
            "word_embed_proj_dim": 16,
            "do_layer_norm_before": False,
        },
        "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
        "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
        "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": positions},
        "phi": {**HEADS, "max_position_embeddings": positions},
        "phi3": {**llama, "pad_token_id": 0},
        "llama": llama,
        "mistral": {**llama, "sliding_window": 8, "head_dim": 8},
        "mixtral": {**llama, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
        "qwen2": llama,
        "qwen3": {**llama, "head_dim": 8},
        "gemma2": gemma,
        "gemma3_text": gemma,
        "granite": llama,
        "cohere": llama,
        "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
        "t5": {"d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 64},
        "bart": bart,
        "mbart": bart,
        "pegasus": bart,
    }
    return dict(shapes[architecture])


def random_model(config: Any, task: Task, noise: float = 0.05) -> nn.Module:
    """A model for a task, with the same weights every time.

    All of them are moved by so much: biases and norms that start at zero or one would hide mistakes.
    """
    for key, value in task.model_arguments().items():
        setattr(config, key, value)
    return _moved(task.model_class(config), config, noise)


def pretraining_model(config: Any, noise: float = 0.05) -> nn.Module:
    """The same as pretraining leaves it: the transformer with its output layer over the vocabulary, and no head."""
    import transformers as hf

    if config.is_encoder_decoder:
        return _moved(hf.AutoModelForSeq2SeqLM, config, noise)
    masked = type(config) in hf.MODEL_FOR_MASKED_LM_MAPPING
    return _moved(hf.AutoModelForMaskedLM if masked else hf.AutoModelForCausalLM, config, noise)


def _moved(auto: Any, config: Any, noise: float) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = auto.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model.eval()
