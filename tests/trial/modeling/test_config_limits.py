"""Configurations of absurd sizes are refused before anything is built from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneoff.config.data import ModelSpec
from tuneoff.errors import UnsupportedModel
from tuneoff.tasks.classification import Classification
from tuneoff.trial.modeling.load import build_empty

BERT = {
    "model_type": "bert",
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


def build(folder: Path, text: str) -> Any:
    (folder / "config.json").write_text(text)
    task = Classification({"labels": ["a", "b"]})
    model, _ = build_empty(ModelSpec(source=str(folder), random_weights=True), task)
    return model


def test_a_plain_configuration_is_built(tmp_path: Path) -> None:
    assert build(tmp_path, json.dumps(BERT)).config.num_hidden_layers == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 100_000}, "says num_hidden_layers: 100,000; at most 512 are taken"),
        ({"text_config": {"n_layer": 9_999}}, "says n_layer: 9,999"),
        ({"num_local_experts": 10**6}, "says num_local_experts: 1,000,000"),
        ({"num_labels": 10**9}, "says num_labels: 1,000,000,000"),
        ({"id2label": {str(number): "x" for number in range(100_001)}}, "says num_labels: 100,001"),
        ({"num_hidden_layers": -1}, "says num_hidden_layers: -1"),
        ({"num_hidden_layers": 0}, "says num_hidden_layers: 0"),
        ({"num_hidden_layers": "two"}, "expected int, got str"),
        ({"hidden_size": None}, "expected int, got NoneType"),
        ({"num_attention_heads": 0}, "no bert model can be built from this configuration: ZeroDivisionError"),
        ({"hidden_act": "nonsense"}, "no bert model can be built from this configuration: KeyError"),
        ({"model_type": 3}, "transformers cannot read its configuration"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_sizes_that_cannot_be_meant(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        build(tmp_path, json.dumps({**BERT, **changes}))
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "is not a JSON object"),
        ("{", "cannot be read"),
        ("[" * 100_000, "nested too deeply"),
        (f'{{"hidden_size": {"9" * 5000}}}', "cannot be read"),
    ],
    ids=["list", "cut", "deep", "digits"],
)
def test_a_configuration_of_another_shape(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        build(tmp_path, text)
    assert message in caught.value.message
