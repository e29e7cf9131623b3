"""What every method promises, on every architecture. Methods are found in the registry, not listed here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CLASSIFIERS, GENERATORS, Setting, attach, step
from torch import nn

from tuneoff import registry
from tuneoff.errors import UnsupportedModel
from tuneoff.measure.parameters import BaseIdentity, count
from tuneoff.methods.base import Attached, Method
from tuneoff.records.record import Parameters
from tuneoff.tasks.classification import Classification

TRAINABLE = [name for name in registry.methods() if registry.methods()[name].trains]
REFUSED: dict[tuple[str, ...], str] = {
    ("bitfit", "llama"): "has none",
    ("bitfit", "t5"): "has none",
    ("prefix_tuning", "bert"): "is an encoder",
    ("prefix_tuning", "roberta"): "is an encoder",
    **{("head", setting.architecture, "text"): "adds no head" for setting in GENERATORS},
}
"""What a method refuses with a reason: Llama and T5 have no biases, encoders no cache, and a task that writes adds no
head."""

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "adapter": [{"placement": "pfeiffer"}, {"placement": "houlsby", "reduction_factor": 4}],
    "last_block": [{}, {"lm_head": False}, {"blocks": 2}],
    "lora": [
        {},
        {"r": 4, "targets": "all-linear"},
        {"targets": "attention", "lora_plus_ratio": 8},
        {"dora": True},
        {"rslora": True, "init": "gaussian"},
        {"init": "pissa"},
        {"init": "pissa_niter_4", "rslora": True, "targets": "attention"},
        {"init": "olora"},
        {"init": "olora", "dora": True},
        {"init": "orthogonal"},
        {"init": "mica"},
    ],
    "p_tuning": [{"tokens": 4}, {"tokens": 4, "type": "lstm", "hidden": 8, "layers": 1}],
    "prefix_tuning": [{"tokens": 4}, {"tokens": 4, "projection": True, "hidden": 8}],
    "qlora": [{}, {"init": "loftq"}],
    "prompt_tuning": [{}, {"init": "uniform", "init_range": 0.2}, {"tokens": 4, "init": "text", "init_text": "Sum up"}],
}
SLOW = (pytest.mark.slow,)
FEW = {Setting("text", "gpt2"): (), Setting("class", "bert"): SLOW, Setting("text", "t5"): SLOW}
"""Where a method's further options are tried; its first ones are tried everywhere."""


def refusal(name: str, setting: Setting) -> str | None:
    """Why a method does not fit."""
    return REFUSED.get((name, setting.architecture), REFUSED.get((name, setting.architecture, setting.kind)))


CASES = [
    pytest.param(method, options, setting, id=f"{method}-{i}-{setting}", marks=FEW[setting] if i else ())
    for method in TRAINABLE
    for i, options in enumerate(OPTIONS.get(method, [{}]))
    for setting in [*CLASSIFIERS, *GENERATORS]
    if (i == 0 or setting in FEW) and refusal(method, setting) is None
]
every_case = pytest.mark.parametrize(("name", "options", "setting"), CASES)
every_mergeable_case = pytest.mark.parametrize(
    ("name", "options", "setting"), [case for case in CASES if registry.methods()[str(case.values[0])].mergeable]
)


def rate(setting: Setting) -> float:
    """Writers start from larger weights."""
    return 0.05 if setting.kind == "class" else 0.2


@every_case
def test_training_changes_only_what_is_declared(name: str, options: dict[str, Any], setting: Setting) -> None:
    method, attached = attach(name, options, setting)
    before = {n: p.detach().clone() for n, p in attached.module.named_parameters()}
    grouped = [id(p) for group in method.parameter_groups(attached, 0.1) for p in group["params"]]
    declared = {n for n, p in attached.module.named_parameters() if p.requires_grad}
    assert sorted(grouped) == sorted({id(p) for p in attached.module.parameters() if p.requires_grad})
    step(setting, method, attached, rate(setting))
    changed = {n for n, p in attached.module.named_parameters() if not torch.equal(p, before[n])}
    assert changed <= declared
    # Keys' biases cannot change attention, and unused vocabulary gets no gradient: nearly all else must move.
    assert len(changed) >= 0.8 * len(declared)
    for head in setting.view(attached.model).head:
        assert any(head in n.split(".") for n in changed)


@every_case
def test_what_is_saved_gives_the_same_logits_in_a_fresh_model(
    name: str, options: dict[str, Any], setting: Setting, tmp_path: Path
) -> None:
    method, attached = attach(name, options, setting)
    untrained = setting.logits(attached)
    step(setting, method, attached, rate(setting))
    expected = setting.logits(attached)
    assert not torch.allclose(expected, untrained, atol=1e-3)
    method.save(attached, tmp_path)
    again, fresh = attach(name, options, setting)
    again.load(fresh, tmp_path)
    assert torch.equal(setting.logits(fresh), expected)
    # A checkpoint goes back into the model that it was taken from, too.
    method.load(attached, tmp_path)
    assert torch.equal(setting.logits(attached), expected)


@every_mergeable_case
def test_merging_keeps_the_logits(name: str, options: dict[str, Any], setting: Setting) -> None:
    method, attached = attach(name, options, setting)
    step(setting, method, attached, rate(setting))
    expected = setting.logits(attached)
    merged = method.merge(attached)
    own = {f"{setting.view(merged).output}.weight"} if attached.extra.get("findings") else set()
    names = {n for n, _ in setting.model().named_parameters()}
    assert {n for n, _ in merged.named_parameters()} == names | own
    torch.testing.assert_close(setting.logits(Attached(merged, merged)), expected, atol=1e-4, rtol=1e-4)


@every_case
def test_counts_add_up_and_agree_with_the_meta_device(name: str, options: dict[str, Any], setting: Setting) -> None:
    method = registry.methods()[name].create(options)
    assert isinstance(method, Method)
    model = setting.model()
    view = setting.view(model)
    size = sum(p.numel() for p in model.parameters())
    head = sum(p.numel() for module in view.head for p in model.get_submodule(module).parameters())
    before = BaseIdentity.of(model, view)
    torch.manual_seed(1)
    attached = method.attach(model, view)
    counts = count(attached.module, before)
    untied = dict(attached.extra.get("findings", ())).get("untied_head")
    own = model.get_submodule(view.output or "").weight.numel() if untied else 0  # type: ignore[operator]
    assert counts.total.head == counts.trainable.head == head + own
    assert counts.total.base == size - head
    if options.get("init") != "mica":  # MiCA freezes one of its two matrices.
        assert counts.trainable.adapter == counts.total.adapter
    trainable = sum(p.numel() for p in attached.module.parameters() if p.requires_grad)
    assert counts.trainable.total == trainable

    empty = setting.model("meta")
    before = BaseIdentity.of(empty, setting.task.view(empty))
    with torch.device("meta"):
        assert count(method.attach(empty, setting.task.view(empty)).module, before) == counts


@every_case
def test_padding_never_moves_the_logits(name: str, options: dict[str, Any], setting: Setting) -> None:
    method, attached = attach(name, options, setting)
    step(setting, method, attached, rate(setting))
    together = setting.logits(attached)
    alone = torch.cat([setting.logits(attached, [row]) for row in setting.rows])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-4)


@every_case
def test_two_attachments_at_one_seed_train_alike(name: str, options: dict[str, Any], setting: Setting) -> None:
    results = []
    for _ in range(2):
        method, attached = attach(name, options, setting)
        torch.manual_seed(2)
        step(setting, method, attached, rate(setting))
        results.append(setting.logits(attached))
    assert torch.equal(*results)


@pytest.mark.parametrize("name", sorted({key[0] for key in REFUSED}))
@pytest.mark.parametrize("setting", [*CLASSIFIERS, *GENERATORS], ids=str)
def test_refusals_say_why_and_what_to_do(name: str, setting: Setting) -> None:
    reason = refusal(name, setting)
    if reason is None:
        attach(name, {}, setting)
        return
    with pytest.raises(UnsupportedModel, match=reason) as caught:
        attach(name, {}, setting)
    assert caught.value.hint


def test_bitfit_takes_a_llama_that_has_biases() -> None:
    _, attached = attach("bitfit", {}, Setting("class", "llama"), attention_bias=True)
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
    options = {"placement": placement, "reduction_factor": 16}
    assert on_meta("adapter", options, model, task).trainable.adapter == expected


def on_meta(name: str, options: dict[str, Any], model: nn.Module, task: Classification) -> Parameters:
    """A method's parameters on a model without weights."""
    method = registry.methods()[name].create(options)
    assert isinstance(method, Method)
    with torch.device("meta"):
        before = BaseIdentity.of(model, task.view(model))
        return count(method.attach(model, task.view(model)).module, before)


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
    assert on_meta(name, options, model, task).trainable.total == expected


PEFT_LOADS = [
    *[(name, {}, Setting("class", "bert")) for name in ("lora", "ia3", "prompt_tuning", "p_tuning")],
    *[(name, {}, Setting("text", "gpt2")) for name in ("lora", "prompt_tuning", "p_tuning", "prefix_tuning")],
    ("prefix_tuning", {"projection": True}, Setting("text", "llama")),
    ("lora", {"init": "pissa"}, Setting("text", "gpt2")),
    ("lora", {"init": "olora", "rslora": True}, Setting("text", "gpt2")),
    ("prompt_tuning", {}, Setting("text", "t5")),
]


@pytest.mark.parametrize(("name", "options", "setting"), PEFT_LOADS, ids=lambda value: str(value))
def test_peft_itself_loads_what_we_save(name: str, options: dict[str, Any], setting: Setting, tmp_path: Path) -> None:
    from peft import PeftModel

    method, attached = attach(name, options, setting)
    step(setting, method, attached, rate(setting))
    method.save(attached, tmp_path)
    kind = json.loads((tmp_path / "adapter_config.json").read_text())["task_type"]
    assert kind == setting.view(attached.model).peft_task_type
    base: Any = setting.model()
    theirs = PeftModel.from_pretrained(base, str(tmp_path)).eval()
    inputs = {key: setting.batch[key] for key in ("input_ids", "attention_mask")}
    if base.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = setting.batch["decoder_input_ids"]
    with torch.no_grad():
        found = theirs(**inputs).logits
    if setting.kind == "text":
        rows, columns = setting.batch["predicts"].unbind(-1)
        read = setting.batch["decoder_input_ids" if base.config.is_encoder_decoder else "input_ids"]
        found = found[rows, columns + found.shape[1] - read.shape[1]]
    torch.testing.assert_close(found, setting.logits(attached), atol=1e-5, rtol=1e-4)
