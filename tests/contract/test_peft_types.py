"""Every type of the installed PEFT keeps a method's promises, or is listed here with the reason why it does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tuneoff import registry
from tuneoff.errors import StoreError, UnsupportedModel
from tuneoff.interfaces import Attached, Method
from tuneoff.measure.parameters import BaseIdentity, count
from tuneoff.testing.method_attachment import compare_plain_lora
from tuneoff.testing.settings import Setting, attach, step

FAMILY = registry.methods().families()["peft"]
LLAMA, BERT, T5, GPT2 = (
    Setting("text", "llama"),
    Setting("class", "bert"),
    Setting("text", "t5"),
    Setting("text", "gpt2"),
)
REFUSED = {
    "adalora": "regulariser",
    "adamss": "before a run",
    "cpt": "own forward pass",
    "frod": "before a run",
    "lily": "neighbours",
    "multitask_prompt_tuning": "number of its task",
    "poly": "number of its task",
    "shira": "before a run",
    "xlora": "trained before",
}
"""Types that need more than a model, by a word of the reason that is given."""
OPTIONS: dict[str, dict[str, Any]] = {
    "adaption_prompt": {"adapter_len": 4, "adapter_layers": 1},
    "boft": {"boft_block_size": 4},
    "c3a": {"block_size": 16},
    "fourierft": {"n_frequency": 50},
    "miss": {"r": 8},
    "psoft": {"r": 8},
    "road": {"group_size": 16},
    "trainable_tokens": {"token_indices": sorted(LLAMA.rows[0].input_ids)},
    "vblora": {"vector_length": 16, "num_vectors": 8, "topk": 2},
    "waveft": {"n_frequency": 50},
}
"""What types need to be told, or to be made small enough for tiny models."""
UNFIT = {
    ("adaption_prompt", "bert"): "Unsupported model type",
    ("adaption_prompt", "t5"): "Unsupported model type",
    ("cartridge", "bert"): "is an encoder",
    ("prefix_tuning", "bert"): "is an encoder",
    ("shadow", "bert"): "ModuleList",
    ("shadow", "t5"): "ModuleList",
    ("trainable_tokens", "bert"): "does not train the head",
}
"""What a type refuses of the models tried here, by a word of the reason that is given."""
QUICK = {"boft", "fourierft", "ln_tuning", "vera"}
CASES = [
    pytest.param(variant, setting, id=f"{variant}-{setting}", marks=() if variant in QUICK else pytest.mark.slow)
    for variant in FAMILY.variants()
    if variant not in REFUSED
    for setting in (LLAMA, BERT, T5)
]


def options_of(variant: str, setting: Setting) -> dict[str, Any]:
    """What a type is told on a model; skips the test where it does not take it."""
    if (variant, setting.architecture) in UNFIT:
        pytest.skip("the type does not take this model")
    if (variant, setting.architecture) == ("ln_tuning", "bert"):
        return {"target_modules": ["LayerNorm"]}
    return OPTIONS.get(variant, {})


def keeps_its_promises(variant: str, setting: Setting, folder: Path) -> None:
    name, options = f"peft:{variant}", options_of(variant, setting)
    method, attached = attach(name, options, setting)
    untrained = setting.logits(attached)
    before = {n: p.detach().clone() for n, p in attached.module.named_parameters()}
    step(setting, method, attached, 0.5)
    expected = setting.logits(attached)
    assert not torch.equal(expected, untrained)
    changed = {n for n, p in attached.module.named_parameters() if not torch.equal(p, before[n])}
    assert changed <= {n for n, p in attached.module.named_parameters() if p.requires_grad}
    alone = torch.cat([setting.logits(attached, [row]) for row in setting.rows])
    torch.testing.assert_close(expected, alone, atol=5e-5, rtol=1e-3)

    method.save(attached, folder)
    again, fresh = attach(name, options, setting)
    torch.manual_seed(2)
    again.load(fresh, folder)
    assert torch.equal(setting.logits(fresh), expected)
    if method.mergeable:
        merged = again.merge(fresh)
        torch.testing.assert_close(setting.logits(Attached(merged, merged)), expected, atol=5e-4, rtol=1e-3)

    (folder / "lora").mkdir()
    compare_plain_lora(method, attached, setting, folder / "lora")

    counts = []
    for device in ("cpu", "meta"):
        model = setting.model(device)
        identity = BaseIdentity.of(model, setting.task.view(model))
        created = registry.methods()[name].create(options)
        assert isinstance(created, Method)
        with torch.device(device):
            counts.append(count(created.attach(model, setting.task.view(model)).module, identity))
    assert counts[0] == counts[1]
    assert counts[0].trainable.total == sum(p.numel() for p in attached.module.parameters() if p.requires_grad)


@pytest.mark.parametrize(("variant", "setting"), CASES)
def test_a_type_keeps_a_methods_promises(variant: str, setting: Setting, tmp_path: Path) -> None:
    reason = UNFIT.get((variant, setting.architecture))
    if reason is None:
        keeps_its_promises(variant, setting, tmp_path)
        return
    with pytest.raises(UnsupportedModel, match=reason):
        attach(f"peft:{variant}", OPTIONS.get(variant, {}), setting)


@pytest.mark.parametrize(
    ("variant", "options", "setting", "converted"),
    [
        ("vera", {"r": 4}, BERT, True),
        ("vera", {"r": 4}, GPT2, True),
        ("loha", {"r": 2}, BERT, True),
        ("lokr", {"r": 2, "decompose_factor": 2}, LLAMA, True),
        ("fourierft", {"n_frequency": 50}, BERT, False),
        ("oft", {}, BERT, False),
    ],
    ids=str,
)
def test_what_adds_a_matrix_of_low_rank_is_a_plain_lora(
    variant: str, options: dict[str, Any], setting: Setting, converted: bool, tmp_path: Path
) -> None:
    method, attached = attach(f"peft:{variant}", options, setting)
    step(setting, method, attached, 0.5)
    assert compare_plain_lora(method, attached, setting, tmp_path) == converted


@pytest.mark.parametrize("variant", sorted(REFUSED))
def test_a_type_that_does_not_fit_says_why(variant: str) -> None:
    with pytest.raises(UnsupportedModel, match=REFUSED[variant]):
        attach(f"peft:{variant}", OPTIONS.get(variant, {}), LLAMA)


@pytest.mark.slow
def test_types_that_are_not_mergeable_really_are_not() -> None:
    for variant in FAMILY.variants():
        if variant in REFUSED or FAMILY.get(variant).mergeable:
            continue
        method, attached = attach(f"peft:{variant}", OPTIONS.get(variant, {}), LLAMA)
        with pytest.raises(StoreError, match=f"PEFT cannot merge {variant}"):
            method.merge(attached)


def test_the_types_are_those_of_the_installed_peft() -> None:
    from peft.utils import PeftType

    assert FAMILY.variants() == sorted(kind.lower() for kind in PeftType.__members__)
    assert not {*REFUSED, *OPTIONS} - set(FAMILY.variants())


def test_an_unknown_option_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnsupportedModel, match=r"unknown option 'dropout' of peft:vera") as caught:
        attach("peft:vera", {"dropout": 0.1}, LLAMA)
    assert "vera_dropout" in caught.value.hint
    with pytest.raises(UnsupportedModel, match=r"did you mean 'target_modules'\?"):
        attach("peft:VERA", {"targt_modules": ["q_proj"]}, LLAMA)
    # What tuneoff sets itself is no option.
    with pytest.raises(UnsupportedModel, match="unknown option 'task_type'"):
        attach("peft:vera", {"task_type": "SEQ_CLS"}, LLAMA)


def test_a_wrong_value_is_refused_in_pefts_words() -> None:
    with pytest.raises(UnsupportedModel, match="vector_length"):
        attach("peft:vblora", {"vector_length": 7}, LLAMA)
    with pytest.raises(UnsupportedModel, match="No layers types compatible with VeRA"):
        attach("peft:vera", {"target_modules": ["nowhere"]}, LLAMA)


def test_options_reach_peft_and_a_soft_prompt_counts_against_positions() -> None:
    method, attached = attach("peft:prompt_tuning", {"num_virtual_tokens": 7}, GPT2)
    assert method.virtual_tokens == attached.virtual_tokens == 7
    assert attached.soft_prompt is not None
    assert attached.soft_prompt(3).shape == (3, 7, 32)
    _, wide = attach("peft:lora", {"r": 5, "target_modules": ["mlp.c_fc"]}, GPT2)
    assert {tuple(p.shape) for p in wide.module.parameters() if p.requires_grad} == {(5, 32), (128, 5)}


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="finds nothing to train"):
        attach("peft:osf", {}, GPT2)


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("pissa", "pissa is not offered here"),
        ("eva", "eva is not offered here"),
        ("lora_ga", "lora_ga is not offered here"),
        ("loftq", "lora packs none; qlora has it as its own option init"),
    ],
)
def test_starts_that_change_frozen_weights_or_need_data_are_refused(start: str, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason) as caught:
        attach("peft:lora", {"init_lora_weights": start}, LLAMA)
    assert "lora's option init, which has default, gaussian, orthogonal, pissa," in caught.value.hint
