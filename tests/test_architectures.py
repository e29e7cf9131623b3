"""The configurations that ship build the published models, parameter for parameter."""

from __future__ import annotations

from typing import Any

import pytest

from tuneoff import architectures


def _parameters(name: str, build: str, **changes: Any) -> int:
    """Counts a model's parameters without giving them memory."""
    import torch
    import transformers

    shipped = architectures.find(name)
    assert shipped is not None
    config = transformers.AutoConfig.for_model(**shipped, **changes)
    with torch.device("meta"):
        model = getattr(transformers, build).from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "build", "changes", "count"),
    [
        ("gpt2", "AutoModel", {}, 124_439_808),
        ("roberta-base", "AutoModelForSequenceClassification", {"num_labels": 2}, 124_647_170),
        ("gpt-neo-125m", "AutoModel", {}, 125_198_592),
        ("minilm", "AutoModel", {}, 22_713_216),
        ("smollm2-135m", "AutoModelForCausalLM", {}, 134_515_008),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, build: str, changes: dict[str, Any], count: int) -> None:
    assert _parameters(name, build, **changes) == count


def test_every_name_has_a_file_and_every_hub_id_finds_it() -> None:
    for name in architectures.names():
        shipped = architectures.find(name)
        assert shipped is not None
        assert shipped["model_type"]
        for hub_id in architectures.KNOWN_AS[name]:
            assert architectures.find(hub_id) == shipped
            assert architectures.find(f"hub:{hub_id.upper()}") == shipped
    assert architectures.find("package:minilm") == architectures.find("minilm")
    assert architectures.find("no/such-model") is None


def test_dropout_and_special_tokens_are_those_of_the_published_models() -> None:
    roberta, gpt2, neo = (architectures.find(name) or {} for name in ("roberta-base", "gpt2", "gpt-neo-125m"))
    assert (roberta["bos_token_id"], roberta["pad_token_id"], roberta["eos_token_id"]) == (0, 1, 2)
    assert (roberta["hidden_dropout_prob"], roberta["attention_probs_dropout_prob"]) == (0.1, 0.1)
    assert (roberta["layer_norm_eps"], roberta["max_position_embeddings"]) == (1e-5, 514)
    assert [gpt2[f"{part}_pdrop"] for part in ("resid", "embd", "attn")] == [0.1, 0.1, 0.1]
    assert gpt2["eos_token_id"] == neo["eos_token_id"] == 50256
    assert (neo["attention_types"], neo["window_size"]) == ([[["global", "local"], 6]], 256)


def test_smollm2_is_read_in_its_own_shapes() -> None:
    import transformers

    config: Any = transformers.AutoConfig.for_model(**(architectures.find("smollm2-135m") or {}))
    assert config.rope_parameters["rope_theta"] == 100_000
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (9, 3, 64)
    assert config.tie_word_embeddings
