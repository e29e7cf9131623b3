"""Frozen weights kept in bfloat16 change nothing of what any method learns under bf16 autocast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import CLASSIFIERS, GENERATORS, Setting, attach
from test_methods import TRAINABLE, refusal
from test_peft_types import CASES as PEFT_CASES
from test_peft_types import options_of

from tuneoff.methods.base import Attached
from tuneoff.trial.narrowing import NARROW, narrow

QUICK = {Setting("class", "bert"), Setting("text", "gpt2"), Setting("text", "t5")}
OTHERS: dict[str, list[dict[str, Any]]] = {
    "lora": [{"dora": True}, {"targets": "all-linear"}, {"init": "pissa"}],
    "last_block": [{"lm_head": False}],
}
"""Options under which a method reads or trains other weights."""
CASES = [
    pytest.param(name, options, setting, id=f"{name}-{i}-{setting}", marks=() if setting in QUICK else pytest.mark.slow)
    for name in TRAINABLE
    for setting in [*CLASSIFIERS, *GENERATORS]
    if refusal(name, setting) is None
    for i, options in enumerate([{}, *OTHERS.get(name, [])])
    if not ("lm_head" in options and setting.kind == "class")
]


def nothing(attached: Attached) -> None:
    """Leaves the weights as they are."""


def trained(
    name: str, options: dict[str, Any], setting: Setting, change: Callable[[Attached], None]
) -> tuple[list[float], dict[str, torch.Tensor], torch.Tensor, Attached]:
    """Three steps: their losses, the trained tensors, and logits in evaluation."""
    method, attached = attach(name, options, setting)
    change(attached)
    optimizer = torch.optim.SGD(method.parameter_groups(attached, 0.0), lr=0.05)
    torch.manual_seed(2)
    losses = []
    for _ in range(3):
        attached.module.train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = setting.task.forward(attached, setting.batch)
        loss = setting.task.loss(logits, setting.batch) / setting.task.units(setting.rows)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    weights = {n: p.detach() for n, p in attached.module.named_parameters() if p.requires_grad}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return losses, weights, setting.logits(attached), attached


def same(name: str, options: dict[str, Any], setting: Setting) -> tuple[int, Attached]:
    """Trains with and without narrow weights, compares, and returns how many were narrow and the model."""
    losses, weights, logits, _ = trained(name, options, setting, nothing)
    again, others, read, attached = trained(name, options, setting, narrow)
    assert again == losses
    assert others.keys() == weights.keys()
    for key, weight in weights.items():
        assert weight.dtype == others[key].dtype == torch.float32
        assert torch.equal(others[key], weight), key
    assert torch.equal(read, logits)
    return sum(type(part) in NARROW.values() for part in attached.module.modules()), attached


@pytest.mark.parametrize(("name", "options", "setting"), CASES)
def test_three_steps_are_the_same(name: str, options: dict[str, Any], setting: Setting) -> None:
    narrowed, attached = same(name, options, setting)
    for part in attached.module.modules():
        if type(part) in NARROW.values():
            assert part._parameters["weight"] is not None
            assert part._parameters["weight"].dtype == torch.bfloat16
    # Full fine-tuning freezes nothing; of QLoRA only what it does not pack into four bits is left.
    assert name == "qlora" or bool(narrowed) == (name != "full")


@pytest.mark.parametrize(("variant", "setting"), PEFT_CASES)
def test_so_are_they_with_every_type_of_peft(variant: str, setting: Setting) -> None:
    same(f"peft:{variant}", options_of(variant, setting), setting)


def test_weights_that_a_method_computes_with_stay_as_they_are() -> None:
    counts = {}
    for options in ({}, {"dora": True}):
        _, attached = attach("lora", options, Setting("text", "llama"))
        narrow(attached)
        inside = [m for n, m in attached.module.named_modules() if n.endswith("base_layer")]
        counts[bool(options)] = {type(layer) in NARROW.values() for layer in inside}
    assert counts == {False: {True}, True: {False}}


def test_weights_that_a_method_says_it_reads_stay_as_they_are() -> None:
    _, attached = attach("prompt_tuning", {}, Setting("text", "llama"))
    layers = [part for part in attached.module.modules() if type(part) in NARROW]
    attached.reads = (layers[0],)
    narrow(attached)
    assert [layer._parameters["weight"].dtype for layer in layers[:2]] == [torch.float32, torch.bfloat16]  # type: ignore[union-attr]


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_an_output_layer_that_is_the_embeddings_stays_as_it_is(architecture: str) -> None:
    setting = Setting("text", architecture)
    model: Any = setting.model(tie_word_embeddings=True)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    narrow(Attached(model, model))
    assert model.get_output_embeddings().weight.dtype == torch.float32
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("setting", [Setting("class", "bert"), Setting("text", "gpt2")], ids=str)
def test_without_autocast_a_narrow_layer_computes_in_float32(setting: Setting) -> None:
    _, attached = attach("lora", {}, setting)
    _, exact = attach("lora", {}, setting)
    narrow(attached)
    for own, other in zip(attached.module.parameters(), exact.module.parameters(), strict=True):
        other.data = own.data.float()
    logits = setting.logits(attached)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, setting.logits(exact))
