"""Methods work by default on every architecture: what they change is found in the model, not in a list of names."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import torch

from tuneoff import registry
from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import Method
from tuneoff.measure.parameters import BaseIdentity, count
from tuneoff.methods._layers import KeyShape, attention_inputs, key_shape, names_of
from tuneoff.methods._modules import blocks
from tuneoff.testing.models import shape
from tuneoff.testing.settings import END, SIZES, Setting, attach, step

ENCODERS = (
    *("albert", "bert", "deberta-v2", "distilbert", "electra", "longformer", "modernbert", "mpnet", "roberta"),
    "xlm-roberta",
)
DECODERS = (
    *("bloom", "falcon", "gemma2", "gemma3_text", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "llama"),
    *("mistral", "mixtral", "mpt", "opt", "phi", "phi3", "qwen2", "qwen3"),
)
WITHOUT_CLASSIFIER = ("cohere", "granite", "pegasus")
"""transformers has no model of them with a classification head."""
BOTH = ("bart", "mbart", "t5")
ENDS = {"bos_token_id": END, "eos_token_id": END, "pad_token_id": 0}
TOKENS = {
    **dict.fromkeys((*DECODERS, "cohere", "granite", "mamba"), ENDS),
    **{name: {**ENDS, "decoder_start_token_id": 0} for name in ("mbart", "pegasus")},
}
for name in (*ENCODERS, *DECODERS, *WITHOUT_CLASSIFIER, *BOTH, "mamba", "xlnet"):
    SIZES.setdefault(name, {**shape(name, 64), **TOKENS.get(name, {})})
CLASSIFIERS = [Setting("class", name) for name in (*ENCODERS, *DECODERS, *BOTH)]
WRITERS = [Setting("text", name) for name in (*DECODERS, *WITHOUT_CLASSIFIER, *BOTH)]
QUERY_AND_VALUE = [*CLASSIFIERS, *(Setting("text", name) for name in WITHOUT_CLASSIFIER)]
"""One setting for each architecture."""
FEW = ("distilbert", "falcon", "mbart", "mixtral", "modernbert", "mpt", "opt")
"""Where methods other than LoRA and IA3 are tried in the quick suite; elsewhere in the slow one."""

SLOW = pytest.mark.slow
CASES = [
    pytest.param(name, setting, id=f"{name}-{setting}", marks=() if quick else SLOW)
    for name in registry.methods()
    if registry.methods()[name].trains
    for setting in [*CLASSIFIERS, *WRITERS]
    for quick in [setting in QUERY_AND_VALUE if name in ("lora", "ia3") else setting.architecture in FEW]
]


@cache
def has_biases(setting: Setting) -> bool:
    model = setting.model()
    known: Any = model
    return any(name.endswith("bias") for name, _ in known.base_model.named_parameters())


def refusal(name: str, setting: Setting) -> str | None:
    """Why a method does not fit, whatever the architecture is called."""
    if name == "prefix_tuning" and setting.architecture in ENCODERS:
        return "is an encoder"
    if name == "bitfit" and not has_biases(setting):
        return "has none"
    return "adds no head" if name == "head" and setting.kind == "text" else None


@pytest.mark.parametrize(("name", "setting"), CASES)
def test_a_method_attaches_by_default_and_all_that_it_adds_is_trained(name: str, setting: Setting) -> None:
    reason = refusal(name, setting)
    if reason is not None:
        with pytest.raises(UnsupportedModel, match=reason) as caught:
            attach(name, {}, setting)
        assert caught.value.hint
        return
    method, attached = attach(name, {}, setting)
    loss = setting.task.loss(setting.task.forward(attached, setting.batch), setting.batch)
    loss.backward()  # type: ignore[no-untyped-call]
    for parameter_name, parameter in attached.module.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name
        parameter.grad = None
    step(setting, method, attached)
    together = setting.logits(attached)
    alone = torch.cat([setting.logits(attached, [row]) for row in setting.rows])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-3)

    counts = []
    for device in ("cpu", "meta"):
        model = setting.model(device).to(device)
        before = BaseIdentity.of(model, setting.task.view(model))
        created = registry.methods()[name].create({})
        assert isinstance(created, Method)
        with torch.device(device):
            counts.append(count(created.attach(model, setting.task.view(model)).module, before))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("setting", QUERY_AND_VALUE, ids=str)
def test_queries_and_values_are_those_that_peft_lists_where_it_knows_the_architecture(setting: Setting) -> None:
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as LISTED

    listed = LISTED.get(setting.architecture)
    model = setting.model()
    chosen = names_of(model, attention_inputs(model, ("query", "value")))
    assert chosen
    # PEFT's for Phi are layers of the feed-forward part too.
    if listed is not None and setting.architecture != "phi":
        assert chosen == sorted(listed)


def test_the_names_hold_for_no_other_layer() -> None:
    model = Setting("class", "bert").model()
    ends = [block.get_submodule("output.dense") for block in blocks(model)]
    assert names_of(model, ends) == ["0.output.dense", "1.output.dense"]
    assert names_of(model, [*ends, *(block.get_submodule("attention.output.dense") for block in blocks(model))]) == [
        "output.dense"
    ]


@pytest.mark.parametrize(
    ("architecture", "heads", "layers"),
    [("llama", 2, 2), ("falcon", 1, 2), ("gpt_bigcode", 1, 2), ("mpt", 4, 2), ("t5", 4, 3), ("mixtral", 2, 2)],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_keys_and_values_are_measured(architecture: str, heads: int, layers: int, device: str) -> None:
    model = Setting("text", architecture).model(device)
    state = torch.random.get_rng_state()
    model.train()
    assert key_shape(model) == KeyShape(layers, heads, 8)
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_block_that_serves_as_all_layers_is_one_block() -> None:
    model: Any = Setting("class", "albert").model(num_hidden_layers=5)
    assert blocks(model) == [model.albert.encoder.albert_layer_groups[0].albert_layers[0]]


# --- what cannot work says the true reason


@pytest.mark.parametrize(
    ("kind", "architecture", "method", "reason"),
    [
        ("text", "mamba", "lora", "keeps a running state instead of keys and values"),
        ("class", "mamba", "lora", "no mamba model with a classification head"),
        ("class", "granite", "lora", "no granite model with a classification head"),
        ("class", "xlnet", "prefix_tuning", "keeps no keys and values between calls"),
        ("class", "xlnet", "lora", "its attention has no linear layers that make queries, keys and values"),
        ("class", "xlnet", "ia3", "its attention has no linear layers that make queries, keys and values"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(kind: Any, architecture: str, method: str, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        attach(method, {}, Setting(kind, architecture))


@pytest.mark.parametrize(
    ("method", "options", "architecture"),
    [
        ("lora", {"targets": ["classifier"]}, "bert"),
        ("lora", {"targets": ["pooler"]}, "bert"),
        ("lora", {"targets": ["nowhere"]}, "bert"),
        ("ia3", {"targets": ["classifier"], "feedforward": []}, "bert"),
        ("qlora", {"targets": ["classifier"]}, "bert"),
        ("prefix_tuning", {}, "bert"),
        *((name, {}, "xlnet") for name in ("lora", "ia3", "prefix_tuning")),
    ],
)
def test_refusals_never_speak_of_pefts_own_parameters(method: str, options: dict[str, Any], architecture: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        attach(method, options, Setting("class", architecture))
    assert not re.search(r"target_modules|num_attention_heads|modules_to_save|peft_config|_modules", str(caught.value))


def test_a_type_of_peft_without_a_choice_of_layers_says_which_option_names_them() -> None:
    with pytest.raises(UnsupportedModel, match="PEFT has no choice of layers for it") as caught:
        attach("peft:ln_tuning", {}, Setting("class", "distilbert"))
    assert caught.value.hint == "Name the layers by the option target_modules."


@pytest.mark.parametrize("variant", ["vera", "boft"])
def test_other_types_of_peft_go_by_queries_and_values_too(variant: str) -> None:
    setting = Setting("class", "distilbert")
    method, attached = attach(f"peft:{variant}", {"boft_block_size": 4} if variant == "boft" else {}, setting)
    assert set(attached.module.peft_config["default"].target_modules) == {"q_lin", "v_lin"}  # type: ignore[index, union-attr]
    step(setting, method, attached)
