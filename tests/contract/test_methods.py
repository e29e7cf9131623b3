"""What every method promises, on every architecture. Methods are found in the registry, not listed here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ARCHITECTURES, features, logits
from torch import nn

from tuneoff import registry
from tuneoff.errors import UnsupportedModel
from tuneoff.measure.parameters import BaseIdentity, count
from tuneoff.methods.base import Attached, Method
from tuneoff.tasks.classification import Classification

TRAINABLE = [name for name in registry.methods() if registry.methods()[name].trains]
REFUSED = {("bitfit", "llama")}
"""Pairs that a method refuses with a reason: Llama has no biases."""

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "adapter": [{"placement": "pfeiffer"}, {"placement": "houlsby", "reduction_factor": 4}],
    "lora": [{}, {"r": 4, "targets": "all-linear"}],
}
CASES = [
    pytest.param(method, options, architecture, id=f"{method}-{i}-{architecture}")
    for method in TRAINABLE
    for i, options in enumerate(OPTIONS.get(method, [{}]))
    for architecture in ARCHITECTURES
    if (method, architecture) not in REFUSED
]
every_case = pytest.mark.parametrize(("name", "options", "architecture"), CASES)
Tiny = Callable[..., nn.Module]


def attach(name: str, options: dict[str, Any], model: nn.Module, task: Classification) -> tuple[Method[Any], Attached]:
    method = registry.methods()[name].create(options)
    assert isinstance(method, Method)
    torch.manual_seed(1)
    return method, method.attach(model, task.view(model))


def step(task: Classification, method: Method[Any], attached: Attached, rate: float = 0.05) -> None:
    """A few steps of plain gradient descent, so that every trained tensor moves."""
    batch = task.collate(features(), 0)
    for _ in range(3):
        attached.module.train()
        task.loss(task.forward(attached, batch), batch).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for group in method.parameter_groups(attached, 0.0):
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter -= rate * parameter.grad
                    parameter.grad = None


@every_case
def test_training_changes_only_what_is_declared(
    name: str, options: dict[str, Any], architecture: str, tiny: Tiny, task: Classification
) -> None:
    method, attached = attach(name, options, tiny(architecture), task)
    before = {n: p.detach().clone() for n, p in attached.module.named_parameters()}
    grouped = {id(p) for group in method.parameter_groups(attached, 0.1) for p in group["params"]}
    declared = {n for n, p in attached.module.named_parameters() if p.requires_grad}
    assert grouped == {id(p) for p in attached.module.parameters() if p.requires_grad}
    step(task, method, attached)
    changed = {n for n, p in attached.module.named_parameters() if not torch.equal(p, before[n])}
    assert changed <= declared
    # Keys' biases cannot change attention, and unused vocabulary gets no gradient: nearly all else must move.
    assert len(changed) >= 0.8 * len(declared)
    head = task.view(attached.model).head[0]
    assert any(head in n.split(".") for n in changed)


@every_case
def test_what_is_saved_gives_the_same_logits_in_a_fresh_model(
    name: str, options: dict[str, Any], architecture: str, tiny: Tiny, task: Classification, tmp_path: Path
) -> None:
    method, attached = attach(name, options, tiny(architecture), task)
    batch = task.collate(features(), 0)
    untrained = logits(task, attached, batch)
    step(task, method, attached)
    expected = logits(task, attached, batch)
    assert not torch.allclose(expected, untrained, atol=1e-3)
    method.save(attached, tmp_path)
    again, fresh = attach(name, options, tiny(architecture), task)
    again.load(fresh, tmp_path)
    assert torch.equal(logits(task, fresh, batch), expected)


@every_case
def test_merging_keeps_the_logits(
    name: str, options: dict[str, Any], architecture: str, tiny: Tiny, task: Classification
) -> None:
    method, attached = attach(name, options, tiny(architecture), task)
    if not method.mergeable:
        pytest.skip(f"{name} says that it cannot be merged")
    step(task, method, attached)
    batch = task.collate(features(), 0)
    expected = logits(task, attached, batch)
    merged = method.merge(attached)
    assert {n for n, _ in merged.named_parameters()} == {n for n, _ in tiny(architecture).named_parameters()}
    torch.testing.assert_close(logits(task, Attached(merged, merged), batch), expected, atol=1e-4, rtol=1e-4)


@every_case
def test_counts_add_up_and_agree_with_the_meta_device(
    name: str, options: dict[str, Any], architecture: str, tiny: Tiny, task: Classification
) -> None:
    model = tiny(architecture)
    size = sum(p.numel() for p in model.parameters())
    head = sum(p.numel() for p in model.get_submodule(task.view(model).head[0]).parameters())
    before = BaseIdentity.of(model, task.view(model))
    _, attached = attach(name, options, model, task)
    counts = count(attached.module, before)
    assert counts.total.head == counts.trainable.head == head
    assert counts.total.base + counts.total.head == size
    assert counts.trainable.adapter == counts.total.adapter
    trainable = sum(p.numel() for p in attached.module.parameters() if p.requires_grad)
    assert counts.trainable.total == trainable

    empty = tiny(architecture).to("meta")
    before = BaseIdentity.of(empty, task.view(empty))
    method = registry.methods()[name].create(options)
    assert isinstance(method, Method)
    with torch.device("meta"):
        assert count(method.attach(empty, task.view(empty)).module, before) == counts


@every_case
def test_padding_never_moves_the_logits(
    name: str, options: dict[str, Any], architecture: str, tiny: Tiny, task: Classification
) -> None:
    method, attached = attach(name, options, tiny(architecture), task)
    step(task, method, attached)
    rows = features()
    together = logits(task, attached, task.collate(rows, 0))
    for i, row in enumerate(rows):
        alone = logits(task, attached, task.collate([row], 0))[0]
        torch.testing.assert_close(together[i], alone, atol=1e-5, rtol=1e-4)


@every_case
def test_two_attachments_at_one_seed_train_alike(
    name: str, options: dict[str, Any], architecture: str, tiny: Tiny, task: Classification
) -> None:
    batch = task.collate(features(), 0)
    results = []
    for _ in range(2):
        method, attached = attach(name, options, tiny(architecture), task)
        torch.manual_seed(2)
        step(task, method, attached)
        results.append(logits(task, attached, batch))
    assert torch.equal(*results)


@pytest.mark.parametrize(("name", "architecture"), sorted(REFUSED))
def test_refusals_say_why_and_what_to_do(name: str, architecture: str, tiny: Tiny, task: Classification) -> None:
    with pytest.raises(UnsupportedModel, match="bias") as caught:
        attach(name, {}, tiny(architecture), task)
    assert caught.value.hint


def test_bitfit_takes_a_llama_that_has_biases(tiny: Tiny, task: Classification) -> None:
    _, attached = attach("bitfit", {}, tiny("llama", attention_bias=True), task)
    trained = [n for n, p in attached.module.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 4 + 1
    assert all(n.endswith("bias") or "score" in n for n in trained)


@pytest.mark.parametrize(("placement", "expected"), [("pfeiffer", 894_528), ("houlsby", 1_789_056)])
def test_adapters_on_bert_base_shapes_have_the_published_size(
    placement: str, expected: int, task: Classification
) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_labels=2))
        before = BaseIdentity.of(model, task.view(model))
        _, attached = attach("adapter", {"placement": placement, "reduction_factor": 16}, model, task)
    assert count(attached.module, before).trainable.adapter == expected


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [("full", {}, 124_647_170), ("lora", {"r": 16, "targets": ["query", "value"]}, 1_181_954), ("ia3", {}, 656_642)],
)
def test_roberta_base_counts_are_the_published_ones(
    name: str, options: dict[str, Any], expected: int, task: Classification
) -> None:
    from transformers import AutoConfig, RobertaForSequenceClassification

    from tuneoff import architectures

    shipped = architectures.find("roberta-base")
    assert shipped is not None
    config = AutoConfig.for_model(**{**shipped, "num_labels": 2})
    with torch.device("meta"):
        model = RobertaForSequenceClassification(config)
        before = BaseIdentity.of(model, task.view(model))
        _, attached = attach(name, options, model, task)
    assert count(attached.module, before).trainable.total == expected


@pytest.mark.parametrize("name", ["lora", "ia3", "prompt_tuning"])
def test_peft_itself_loads_what_we_save(name: str, tiny: Tiny, task: Classification, tmp_path: Path) -> None:
    from peft import PeftModel

    method, attached = attach(name, {}, tiny("bert"), task)
    step(task, method, attached)
    method.save(attached, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["task_type"] == "SEQ_CLS"
    batch = task.collate(features(), 0)
    theirs = PeftModel.from_pretrained(tiny("bert"), str(tmp_path)).eval()
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        torch.testing.assert_close(theirs(**inputs).logits, logits(task, attached, batch))
