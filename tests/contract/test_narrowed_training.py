"""Frozen weights kept in bfloat16 change nothing of what any method learns under bf16 autocast."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_methods import TRAINABLE, refusal
from test_peft_types import CASES as PEFT_CASES
from test_peft_types import options_of
from torch.utils._python_dispatch import TorchDispatchMode

from tuneoff.interfaces import Attached
from tuneoff.tasks.generation import Generation
from tuneoff.testing.method_training import compare_frozen_bf16
from tuneoff.testing.methods import Case, FrozenBf16Contract
from tuneoff.testing.settings import END, Setting, attach, build, create
from tuneoff.trial.modeling.frozen_bf16 import NARROW, keep_frozen_in_bf16
from tuneoff.trial.modeling.precision import apply_policy
from tuneoff.trial.training.evaluate import ModelRunner

CPU = torch.device("cpu")

QUICK = {Setting("class", "bert"), Setting("text", "gpt2"), Setting("text", "t5")}
OTHERS: dict[str, list[dict[str, Any]]] = {
    "lora": [{"dora": True}, {"targets": "all-linear"}, {"init": "pissa"}],
    "last_block": [{"lm_head": False}],
}
"""Options under which a method reads or trains other weights."""


class TestFrozenBf16(FrozenBf16Contract):
    @classmethod
    def cases(cls) -> Iterable[Any]:
        return [
            pytest.param(
                Case(name, options, setting),
                id=f"{name}-{i}-{setting}",
                marks=() if setting in QUICK else pytest.mark.slow,
            )
            for name in TRAINABLE
            for setting in cls.settings
            if refusal(name, setting) is None
            for i, options in enumerate([{}, *OTHERS.get(name, [])])
            if not ("lm_head" in options and setting.kind == "class")
        ]

    def narrows(self, case: Case, narrowed: int) -> bool:
        # Full fine-tuning freezes nothing; of QLoRA only what it does not pack into four bits is left.
        return case.method == "qlora" or bool(narrowed) == (case.method != "full")


@pytest.mark.parametrize(("variant", "setting"), PEFT_CASES)
def test_so_are_they_with_every_type_of_peft(variant: str, setting: Setting) -> None:
    compare_frozen_bf16(Case(f"peft:{variant}", options_of(variant, setting), setting))


def test_weights_that_a_method_computes_with_stay_as_they_are() -> None:
    counts = {}
    for options in ({}, {"dora": True}):
        _, attached = attach("lora", options, Setting("text", "llama"))
        keep_frozen_in_bf16(attached)
        inside = [m for n, m in attached.module.named_modules() if n.endswith("base_layer")]
        counts[bool(options)] = {type(layer) in NARROW.values() for layer in inside}
    assert counts == {False: {True}, True: {False}}


def test_weights_that_a_method_says_it_reads_stay_as_they_are() -> None:
    _, attached = attach("prompt_tuning", {}, Setting("text", "llama"))
    layers = [part for part in attached.module.modules() if type(part) in NARROW]
    attached.reads = (layers[0],)
    keep_frozen_in_bf16(attached)
    assert [layer._parameters["weight"].dtype for layer in layers[:2]] == [torch.float32, torch.bfloat16]  # type: ignore[union-attr]


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_an_output_layer_that_is_the_embeddings_stays_as_it_is(architecture: str) -> None:
    setting = Setting("text", architecture)
    model: Any = setting.model(tie_word_embeddings=True)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    keep_frozen_in_bf16(Attached(model, model))
    assert model.get_output_embeddings().weight.dtype == torch.float32
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("setting", [Setting("class", "bert"), Setting("text", "gpt2")], ids=str)
def test_without_autocast_a_narrow_layer_computes_in_float32(setting: Setting) -> None:
    _, attached = attach("lora", {}, setting)
    _, exact = attach("lora", {}, setting)
    keep_frozen_in_bf16(attached)
    for own, other in zip(attached.module.parameters(), exact.module.parameters(), strict=True):
        other.data = own.data.float()
    logits = setting.logits(attached)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, setting.logits(exact))


class Turned(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts how often each of some weights is turned into another type."""

    def __init__(self, weights: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.times = {weight.data_ptr(): 0 for weight in weights}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default and args[0].data_ptr() in self.times:
            self.times[args[0].data_ptr()] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["full", "last_block", "lora", "prompt_tuning", "zero_shot"])
@pytest.mark.parametrize("architecture", ["bart", "gpt2", "t5"])
def test_an_evaluation_turns_no_weight_twice(name: str, architecture: str) -> None:
    setting = Setting("text", architecture)
    task = Generation({"max_target_length": 6, "min_target_length": 5})
    model = build(task, architecture, noise=0.15, tie_word_embeddings=True)
    attached = create(name, {}).attach(model, setting.view(model))
    keep_frozen_in_bf16(attached)
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=END)
    runner = ModelRunner(task, attached, CPU, apply_policy("bf16", CPU).autocast, 0, 4, tokenizer)
    trained = [p.requires_grad for p in attached.module.parameters()]
    wide = [p for p in attached.module.parameters() if p.dtype == torch.float32]
    attached.module.eval()
    with Turned(wide) as plain, torch.no_grad():
        expected = [runner.logits([row]) for row in setting.rows], [runner.generate([row]) for row in setting.rows]
    with Turned(wide) as evaluation, runner.evaluating():
        found = [runner.logits([row]) for row in setting.rows], [runner.generate([row]) for row in setting.rows]
    assert all(map(torch.equal, found[0], expected[0]))
    assert found[1] == expected[1]
    assert max(plain.times.values()) >= 8, "for every batch at least"
    assert max(evaluation.times.values()) == 1
    assert [p.requires_grad for p in attached.module.parameters()] == trained
