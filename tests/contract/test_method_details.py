"""What single methods promise beyond the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tuneoff import registry
from tuneoff.errors import StoreError, UnsupportedModel
from tuneoff.interfaces import Attached, Method
from tuneoff.testing.settings import GENERATORS, Setting, attach, step

GPT2, T5, BART = Setting("text", "gpt2"), Setting("text", "t5"), Setting("text", "bart")
by_generator = pytest.mark.parametrize("setting", GENERATORS, ids=str)


# --- where soft prompts start


def rows_of(options: dict[str, Any], setting: Setting) -> tuple[torch.Tensor, torch.Tensor]:
    """The virtual tokens' start and the embeddings of the whole vocabulary."""
    _, attached = attach("prompt_tuning", options, setting)
    model: Any = attached.model
    assert attached.soft_prompt is not None
    return attached.soft_prompt(1)[0].detach(), model.get_input_embeddings()(torch.arange(96)).detach()


@by_generator
def test_a_prompt_starts_from_words_that_are_not_special(setting: Setting) -> None:
    rows, words = rows_of({"tokens": 60}, setting)
    ids = torch.cdist(rows, words, compute_mode="donot_use_mm_for_euclid_dist").argmin(-1)
    assert torch.equal(rows, words[ids])
    assert len(set(ids.tolist())) > 20
    special = {getattr(setting.model().config, f"{kind}_token_id", None) for kind in ("bos", "eos", "pad")}
    assert not special & set(ids.tolist())


def test_a_prompt_starts_from_a_text_repeated_or_cut() -> None:
    rows, words = rows_of({"tokens": 5, "init": "text", "init_text": "AB"}, GPT2)
    ids = [ord("A") % 80 + 5, ord("B") % 80 + 5]
    assert torch.equal(rows, words[[*ids, *ids, ids[0]]])
    rows, _ = rows_of({"tokens": 1, "init": "text", "init_text": "AB"}, GPT2)
    assert torch.equal(rows, words[ids[:1]])


def test_a_prompt_starts_as_uniform_noise_in_its_range() -> None:
    rows, _ = rows_of({"init": "uniform", "init_range": 0.2}, GPT2)
    assert 0.19 < rows.abs().max() <= 0.2
    assert abs(float(rows.std()) - 0.2 / 3**0.5) < 0.01


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("prompt_tuning", {"init": "text"}, "needs init_text"),
        ("prompt_tuning", {"init_text": "x"}, "init_text is for init text"),
        ("prefix_tuning", {"hidden": 8}, "set projection: true"),
        ("p_tuning", {"layers": 3}, "type lstm"),
        ("lora", {"init": "loftq"}, "loftq is not offered: .* qlora has it"),
        ("lora", {"init": "olara"}, r"did you mean 'olora'\?"),
        ("lora", {"init": "pissa_niter_0"}, "unknown init"),
    ],
)
def test_options_that_cannot_be_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        registry.methods()[name].create(options)


# --- what was kept


@pytest.mark.parametrize("name", ["lora", "ia3", "prompt_tuning"])
def test_kept_weights_are_never_a_pickle(name: str, tmp_path: Path) -> None:
    method, attached = attach(name, {}, GPT2)
    method.save(attached, tmp_path)
    kept = tmp_path / "adapter_model.safetensors"
    torch.save({"x": torch.zeros(1)}, tmp_path / "adapter_model.bin")
    kept.unlink()
    with pytest.raises(StoreError, match=r"lacks adapter_model\.safetensors"):
        method.load(attached, tmp_path)


# --- reparametrisations and prefixes


@pytest.mark.parametrize(
    ("name", "options"), [("prefix_tuning", {"projection": True}), ("p_tuning", {}), ("p_tuning", {"type": "lstm"})]
)
def test_only_the_result_of_a_reparametrisation_is_kept(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    method, attached = attach(name, {"tokens": 4, **options}, GPT2)
    step(GPT2, method, attached)
    method.save(attached, tmp_path)
    kept = load_file(tmp_path / "adapter_model.safetensors")
    width = 2 * 2 * 32 if name == "prefix_tuning" else 32
    assert {key: tuple(tensor.shape) for key, tensor in kept.items()} == {"prompt_embeddings": (4, width)}
    method.load(attached, tmp_path)
    assert sum(p.numel() for p in attached.module.parameters() if p.requires_grad) == 4 * width


@by_generator
def test_a_prefix_is_a_fresh_cache_of_every_decoder_layer(setting: Setting) -> None:
    method, attached = attach("prefix_tuning", {"tokens": 4}, setting)
    assert method.virtual_tokens == attached.virtual_tokens == 4
    assert attached.prefix is not None
    cache = attached.prefix(3)
    assert cache.get_seq_length() == 4
    own = cache.self_attention_cache if setting in (T5, BART) else cache
    heads = 2 if setting.architecture == "llama" else 4
    shapes = [tuple(layer.keys.shape) for layer in own.layers]
    assert shapes == [(3, heads, 4, 8)] * (3 if setting in (T5, BART) else 2)
    assert attached.prefix(3) is not cache


@by_generator
def test_a_prefix_trains_under_bf16_autocast(setting: Setting) -> None:
    method, attached = attach("prefix_tuning", {"tokens": 4}, setting)
    with torch.autocast("cpu", torch.bfloat16):
        step(setting, method, attached)
    assert torch.isfinite(setting.logits(attached)).all()


# --- LoRA


@pytest.mark.parametrize("options", [{"init": "pissa"}, {"init": "olora"}, {"init": "olora", "dora": True}], ids=str)
@by_generator
def test_starts_taken_from_the_base_do_not_change_its_function(options: dict[str, Any], setting: Setting) -> None:
    model = setting.model()
    plain = setting.logits(Attached(model, model))
    method, attached = attach("lora", options, setting)
    torch.testing.assert_close(setting.logits(attached), plain, atol=2e-5, rtol=1e-4)
    step(setting, method, attached)
    assert not torch.allclose(setting.logits(attached), plain, atol=1e-2)


@pytest.mark.parametrize("options", [{"init": "pissa"}, {"init": "pissa_niter_4", "dora": True}, {"init": "olora"}])
def test_another_start_of_the_decomposition_is_put_right_when_loading(options: dict[str, Any], tmp_path: Path) -> None:
    """On another machine the decomposition may come out otherwise; here it is made to."""
    method, attached = attach("lora", options, GPT2)
    step(GPT2, method, attached)
    expected = GPT2.logits(attached)
    method.save(attached, tmp_path)
    again, fresh = attach("lora", options, GPT2)
    for name, layer in [(n, m) for n, m in fresh.model.named_modules() if n in fresh.extra["starts"]]:
        first, second = fresh.extra["starts"][name]
        first, second = 0.5 * first, -3.0 * second
        base: Any = layer.get_base_layer().weight
        wrong = layer.scaling["default"] * (second @ first)
        ours = layer.scaling["default"] * (fresh.extra["starts"][name][1] @ fresh.extra["starts"][name][0])
        base.data += (ours - wrong).T
        fresh.extra["starts"][name] = (first, second)
    again.load(fresh, tmp_path)
    torch.testing.assert_close(GPT2.logits(fresh), expected, atol=1e-4, rtol=1e-4)


def test_lora_plus_gives_the_second_matrix_its_own_rate() -> None:
    method, attached = attach("lora", {"lora_plus_ratio": 16}, GPT2)
    names = {id(p): n for n, p in attached.module.named_parameters()}
    rates = {
        names[id(p)].split(".")[-3]: group.get("learning_rate_ratio", 1)
        for group in method.parameter_groups(attached, 0.1)
        for p in group["params"]
    }
    assert rates == {"lora_A": 1, "lora_B": 16}


ATTENTION = {
    "bert": ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
    "gpt2": ("attn.c_attn", "attn.c_proj"),
    "gpt_neo": tuple(f"attn.attention.{part}_proj" for part in ("q", "k", "v", "out")),
    "llama": tuple(f"self_attn.{part}_proj" for part in "qkvo"),
    "t5": tuple(f"{kind}Attention.{part}" for kind in ("Self", "EncDec") for part in "qkvo"),
    "bart": tuple(f"{kind}_attn.{part}_proj" for kind in ("self", "encoder") for part in ("q", "k", "v", "out")),
}


@pytest.mark.parametrize("architecture", sorted(ATTENTION))
def test_targets_attention_are_all_projections_of_attention(architecture: str) -> None:
    setting = Setting("class" if architecture == "bert" else "text", architecture)
    _, attached = attach("lora", {"targets": "attention"}, setting)
    changed = {n.rpartition(".lora_A")[0] for n, _ in attached.model.named_parameters() if ".lora_A" in n}
    suffixes = tuple(f".{name}" for name in ATTENTION[architecture])
    assert changed == {n for n, m in setting.model().named_modules() if n.endswith(suffixes)}


def test_a_layer_that_is_not_there_is_named_with_the_nearest_and_those_that_are() -> None:
    for name, options in (("lora", {"targets": ["c_atn"]}), ("ia3", {"targets": ["c_atn"], "feedforward": []})):
        with pytest.raises(UnsupportedModel, match=r"has no layer named 'c_atn' \(did you mean 'c_attn'\?\)") as caught:
            attach(name, options, GPT2)
        assert "Its linear layers: c_attn, c_fc, c_proj, lm_head." in caught.value.hint


def test_a_start_taken_from_tied_embeddings_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="which are the embeddings too"):
        attach("lora", {"init": "pissa", "targets": ["lm_head"]}, GPT2)


@pytest.mark.parametrize("init", ["pissa", "olora"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_start_taken_from_embeddings_is_refused_and_the_plain_one_is_not(init: str, device: str) -> None:
    model, method = GPT2.model(device), registry.methods()["lora"].create({"init": init, "targets": ["wte"]})
    assert isinstance(method, Method)
    with pytest.raises(UnsupportedModel, match=rf"init {init} .* transformer.wte is none \(Embedding\)") as caught:
        method.attach(model, GPT2.task.view(model))
    assert "init: default" in caught.value.hint
    _, attached = attach("lora", {"targets": ["wte"]}, GPT2)
    assert any(p.requires_grad for p in attached.module.parameters())


# --- what merging and untying write


@pytest.mark.parametrize(("name", "options"), [("last_block", {}), ("lora", {"targets": ["lm_head"]})])
@by_generator
def test_an_untied_output_layer_survives_save_pretrained(
    name: str, options: dict[str, Any], setting: Setting, tmp_path: Path
) -> None:
    method, attached = attach(name, options, setting)
    step(setting, method, attached)
    expected = setting.logits(attached)
    merged: Any = method.merge(attached)
    merged.save_pretrained(tmp_path)
    read = type(merged).from_pretrained(tmp_path)
    torch.testing.assert_close(setting.logits(Attached(read, read)), expected, atol=1e-4, rtol=1e-4)
    assert read.get_output_embeddings().weight is not read.get_input_embeddings().weight
    plain: Any = setting.model()
    torch.testing.assert_close(read.get_input_embeddings().weight, plain.get_input_embeddings().weight)


def test_last_block_tells_that_it_untied_the_output_layer() -> None:
    _, attached = attach("last_block", {}, GPT2)
    ((name, message),) = attached.extra["findings"]
    assert name == "untied_head"
    assert f"{96 * 32:,} more parameters" in message
    _, attached = attach("last_block", {}, Setting("text", "llama"))
    assert "findings" not in attached.extra
    assert any(n == "lm_head.weight" and p.requires_grad for n, p in attached.model.named_parameters())
    _, attached = attach("last_block", {"lm_head": False}, GPT2)
    assert "findings" not in attached.extra


@pytest.mark.parametrize("setting", [T5, BART], ids=str)
def test_the_last_block_of_an_encoder_decoder_is_the_decoders(setting: Setting) -> None:
    _, attached = attach("last_block", {"lm_head": False}, setting)
    trained = {n for n, p in attached.model.named_parameters() if p.requires_grad}
    assert trained
    assert all("decoder.block.2." in n or "decoder.layers.2." in n for n in trained)
    _, whole = attach("last_block", {"lm_head": False, "blocks": 5}, setting)
    assert any(
        "encoder.block.0." in n or "encoder.layers.0." in n
        for n, p in whole.model.named_parameters()
        if p.requires_grad
    )
    with pytest.raises(UnsupportedModel, match="6 blocks asked for"):
        attach("last_block", {"blocks": 6}, setting)


# --- baselines


@pytest.mark.parametrize("name", ["zero_shot", "few_shot"])
def test_floors_with_a_model_leave_it_as_it_is(name: str) -> None:
    method, attached = attach(name, {}, GPT2)
    model = GPT2.model()
    assert not method.trains
    assert not any(p.requires_grad for p in attached.module.parameters())
    assert torch.equal(GPT2.logits(attached), GPT2.logits(Attached(model, model)))
    with pytest.raises(UnsupportedModel, match="fresh head") as caught:
        attach(name, {}, Setting("class", "gpt2"))
    assert "scoring: likelihood" in caught.value.hint


def test_few_shot_shows_as_many_examples_as_asked() -> None:
    assert registry.methods()["few_shot"].create({}).demonstrations == 3
    assert registry.methods()["few_shot"].create({"examples": 5}).demonstrations == 5
    assert registry.methods()["zero_shot"].create({}).demonstrations == 0
