"""What every method promises, on every architecture. Methods are found in the registry, not listed here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tuneoff import registry
from tuneoff.measure.parameters import BaseIdentity, count
from tuneoff.records.record import Parameters
from tuneoff.tasks.classification import Classification
from tuneoff.testing.methods import AttachmentContract, Case
from tuneoff.testing.settings import GENERATORS, Setting, attach, create, step

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
        {"init": "corda"},
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


class TestMethods(AttachmentContract):
    @classmethod
    def names(cls) -> Iterable[str]:
        return registry.methods()

    @classmethod
    def refusal(cls, method: str, setting: Setting) -> str | None:
        return refusal(method, setting)

    @classmethod
    def cases(cls) -> Iterable[Any]:
        return [
            pytest.param(Case(name, options, setting), id=f"{name}-{i}-{setting}", marks=FEW[setting] if i else ())
            for name in TRAINABLE
            for i, options in enumerate(OPTIONS.get(name, [{}]))
            for setting in cls.settings
            if (i == 0 or setting in FEW) and refusal(name, setting) is None
        ]

    @classmethod
    def attempts(cls) -> Iterable[tuple[str, Setting]]:
        return [(name, setting) for name in sorted({key[0] for key in REFUSED}) for setting in cls.settings]

    @classmethod
    def adds_frozen(cls, case: Case) -> bool:
        return case.options.get("init") == "mica"  # MiCA freezes one of its two matrices.


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
    with torch.device("meta"):
        before = BaseIdentity.of(model, task.view(model))
        return count(create(name, options).attach(model, task.view(model)).module, before)


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
    step(setting, method, attached, setting.rate)
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
