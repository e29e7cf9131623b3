"""What is special about a base model in four bits; what it shares with other methods is in test_methods.py."""

from __future__ import annotations

import builtins
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tuneoff import registry
from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import Attached, Method, TaskView
from tuneoff.measure.parameters import BaseIdentity, count, elements
from tuneoff.tasks.classification import Classification
from tuneoff.testing.settings import features, logits

Tiny = Callable[..., nn.Module]
SEQ_2_SEQ: dict[str, dict[str, Any]] = {
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0},
    "bart": {
        **{f"{part}_{what}": value for part in ("encoder", "decoder") for what, value in (("layers", 2),)},
        **{f"{part}_attention_heads": 4 for part in ("encoder", "decoder")},
        **{f"{part}_ffn_dim": 64 for part in ("encoder", "decoder")},
        "d_model": 32,
        "max_position_embeddings": 64,
    },
}
NF4_STEP = 0.1520
"""Half the widest gap between two of NF4's values: a rounded weight is off by no more of its block's largest."""


def qlora(**options: Any) -> Method[Any]:
    method = registry.methods()["qlora"].create(options)
    assert isinstance(method, Method)
    return method


def attach(model: nn.Module, view: TaskView, **options: Any) -> tuple[Method[Any], Attached]:
    method = qlora(**options)
    torch.manual_seed(1)
    return method, method.attach(model, view)


def linears(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of all linear layers, (out, in)."""
    return {
        name: (module.weight.t() if type(module).__name__ == "Conv1D" else module.weight).detach().clone()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }


def writer(architecture: str) -> Any:
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    config = AutoConfig.for_model(architecture, vocab_size=96, **SEQ_2_SEQ[architecture])
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("architecture", ["roberta", "gpt2", "llama"])
@pytest.mark.parametrize(("options", "bits"), [({}, 1), ({"double_quantisation": False}, 4)])
def test_linear_layers_are_packed_and_nothing_else(
    architecture: str, options: dict[str, Any], bits: int, tiny: Tiny, task: Classification
) -> None:
    from tuneoff.methods._quantised import QuantisedLinear, dequantised

    model = tiny(architecture)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    wanted = linears(model)
    head = task.view(model).head[0]
    _, attached = attach(model, task.view(model), **options)
    packed = {
        n.removesuffix(".base_layer"): m for n, m in attached.model.named_modules() if isinstance(m, QuantisedLinear)
    }
    assert set(packed) == {name for name in wanted if name.split(".")[0] != head}
    for name, layer in packed.items():
        full, weight = wanted[name], layer.weight
        assert elements(weight) == full.numel()
        assert weight.numel() * weight.element_size() == full.numel() / 2
        assert weight.quant_state.absmax.element_size() == bits, "the scales are packed to a byte or not at all"
        got: Any = dequantised(layer)
        got = got.weight.t() if layer.transposed else got.weight
        allowed = NF4_STEP * full.reshape(-1, 64).abs().amax(-1, keepdim=True)
        # Rounding the scales to eight bits moves a weight a little more.
        assert ((got - full).reshape(-1, 64).abs() <= allowed * 1.02 + 2e-3).all()
        assert not torch.equal(got, full)
    rest = {n: p for n, p in attached.model.named_parameters() if "lora_" not in n and p.dtype == torch.float32}
    for name, parameter in rest.items():
        own = name.replace(".base_layer", "").replace(".modules_to_save.default", "").replace(".original_module", "")
        assert torch.equal(parameter, before[own]), name


def test_full_weights_are_freed_and_their_identities_are_not_taken_for_others(tiny: Tiny, task: Classification) -> None:
    model = tiny("roberta")
    before = BaseIdentity.of(model, task.view(model))
    query: Any = model.get_submodule("roberta.encoder.layer.0.attention.self.query")
    watched = weakref.ref(query.weight)
    del query
    _, attached = attach(model, task.view(model))
    assert watched() is None
    counts = count(attached.module, before)
    lora = sum(p.numel() for n, p in attached.module.named_parameters() if "lora_" in n)
    assert counts.total.adapter == counts.trainable.adapter == lora
    assert counts.total.base + counts.total.head == sum(p.numel() for p in tiny("roberta").parameters())


@pytest.mark.parametrize("architecture", ["roberta", "gpt2"])
def test_loftq_starts_as_the_best_update_for_what_packing_lost(
    architecture: str, tiny: Tiny, task: Classification
) -> None:
    model = tiny(architecture)
    wanted = linears(model)
    _, attached = attach(model, task.view(model), init="loftq", r=6, alpha=24)
    layers = {n: m for n, m in attached.model.named_modules() if n in wanted and hasattr(m, "lora_A")}
    assert layers
    for name, module in layers.items():
        layer: Any = module
        packed, update = layer.get_base_layer().unpacked(), layer.get_delta_weight("default")
        update = update.T if layer.fan_in_fan_out else update
        sizes = torch.linalg.svdvals(wanted[name] - packed)
        # Eckart and Young: no update of this rank leaves less.
        left = torch.linalg.svdvals(wanted[name] - packed - update)
        torch.testing.assert_close(left.norm(), sizes[6:].norm(), atol=1e-5, rtol=1e-3)
        assert left.norm() < 0.95 * sizes.norm()


def test_loftq_packs_the_same_weights_and_takes_ranks_beyond_a_layers(tiny: Tiny, task: Classification) -> None:
    def packed(**options: Any) -> dict[str, torch.Tensor]:
        model = tiny("roberta")
        _, attached = attach(model, task.view(model), r=48, **options)
        return {n: p for n, p in attached.model.named_parameters() if p.dtype == torch.int8}

    plain, started = packed(), packed(init="loftq")
    assert plain
    assert plain.keys() == started.keys()
    assert all(torch.equal(plain[name], started[name]) for name in plain)


@pytest.mark.parametrize("architecture", sorted(SEQ_2_SEQ))
def test_encoder_decoders_train_load_and_merge(architecture: str, tmp_path: Path) -> None:
    model = writer(architecture)
    view = TaskView(head=(), peft_task_type="SEQ_2_SEQ_LM", output="lm_head")
    names = {n for n, _ in model.named_parameters()}
    ids = torch.randint(5, 80, (3, 9), generator=torch.Generator().manual_seed(0))
    full = model(input_ids=ids, decoder_input_ids=ids[:, :5]).logits.detach()
    method, attached = attach(model, view)

    def run(whole: Any) -> torch.Tensor:
        made: torch.Tensor = whole.eval()(input_ids=ids, decoder_input_ids=ids[:, :5]).logits
        return made

    untrained = run(attached.model)
    # T5 casts the input of a layer to its weights' type, which must not be the packed bytes'.
    assert (untrained - full).abs().mean() < 0.3 * full.abs().mean()
    optimizer = torch.optim.SGD([p for p in attached.module.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        run(attached.model).square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        trained = run(attached.model)
        assert not torch.allclose(trained, untrained, atol=1e-4)
        method.save(attached, tmp_path)
        again, fresh = attach(writer(architecture), view)
        again.load(fresh, tmp_path)
        assert torch.equal(run(fresh.model), trained)
        merged = method.merge(attached)
        torch.testing.assert_close(run(merged), trained, atol=1e-5, rtol=1e-5)
    assert {n for n, _ in merged.named_parameters()} == names


def test_the_merged_model_is_an_ordinary_one(tiny: Tiny, task: Classification, tmp_path: Path) -> None:
    from transformers import GPT2ForSequenceClassification

    method, attached = attach(tiny("gpt2"), task.view(tiny("gpt2")))
    batch = task.collate(features(), 0)
    expected = logits(task, attached, batch)
    merged: Any = method.merge(attached)
    merged.save_pretrained(str(tmp_path))
    again = GPT2ForSequenceClassification.from_pretrained(str(tmp_path))
    assert all(parameter.dtype == torch.float32 for parameter in again.parameters())
    torch.testing.assert_close(logits(task, Attached(again, again), batch), expected, atol=1e-5, rtol=1e-4)


def test_peft_loads_the_update_into_a_model_in_full_precision(tiny: Tiny, task: Classification, tmp_path: Path) -> None:
    """It's LoRA in PEFT's layout; on weights that were not rounded, logits are near, not equal."""
    from peft import PeftModel

    method, attached = attach(tiny("bert"), task.view(tiny("bert")))
    method.save(attached, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    theirs: Any = PeftModel.from_pretrained(tiny("bert"), str(tmp_path)).eval()
    batch = task.collate(features(), 0)
    with torch.no_grad():
        made = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(made, logits(task, attached, batch), atol=0.05, rtol=0.1)


def test_computation_follows_the_precision_policy(tiny: Tiny, task: Classification) -> None:
    """bitsandbytes alone would keep the first call's type, narrow biases for good, and leave fp32 in evaluation."""
    _, attached = attach(tiny("bert"), task.view(tiny("bert")))
    batch = task.collate(features(), 0)
    layer: Any = attached.model.get_submodule("bert.encoder.layer.0.output.dense")
    seen: list[torch.dtype] = []
    layer.base_layer.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits(task, attached, batch)
    bias = layer.base_layer.bias
    assert bias.dtype == torch.float32
    precise = logits(task, attached, batch)
    assert seen == [torch.bfloat16, torch.float32]
    assert bias is layer.base_layer.bias
    with torch.no_grad():
        merged = qlora().merge(attached)
    torch.testing.assert_close(logits(task, Attached(merged, merged), batch), precise, atol=1e-6, rtol=1e-5)


def test_roberta_base_trains_as_many_parameters_as_published(task: Classification) -> None:
    from transformers import AutoConfig, RobertaForSequenceClassification

    from tuneoff import architectures

    shipped = architectures.find("roberta-base")
    assert shipped is not None
    with torch.device("meta"):
        model = RobertaForSequenceClassification(AutoConfig.for_model(**{**shipped, "num_labels": 2}))
        before = BaseIdentity.of(model, task.view(model))
        _, attached = attach(model, task.view(model), r=16, targets=["query", "value"])
    counts = count(attached.module, before)
    assert counts.trainable.total == 1_181_954
    assert counts.total.base + counts.total.head == 124_647_170


def test_without_bitsandbytes_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tiny: Tiny, task: Classification
) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "bitsandbytes":
            raise ModuleNotFoundError("No module named 'bitsandbytes'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "tuneoff.methods._quantised", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    model = tiny("bert")
    with pytest.raises(UnsupportedModel, match="bitsandbytes") as caught:
        qlora().attach(model, task.view(model))
    assert "pip install" in caught.value.hint
