"""The loss of running text in bits per byte."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from generation_helpers import attached_to, tiny_config, tiny_writer
from tuneoff.errors import DataError, UnsupportedModel
from tuneoff.interfaces import Example, Rows
from tuneoff.tasks._running_text import BITS_PER_BYTE, RunningText
from tuneoff.tasks.generation import Generation
from tuneoff.testing.models import shape
from tuneoff.trial.training.evaluate import ModelRunner, predict

TEXTS = ("a plain text", "a longer one, which is cut: naïve café", "ü")


def examples(*texts: str) -> list[Example]:
    return [Example(text=text, target="", index=i, place=f"row {i}") for i, text in enumerate(texts)]


def scored(model: Any, tokenizer: Any, kind: str, length: int = 24) -> tuple[list[Any], list[Any], ModelRunner]:
    task = RunningText({})
    task.model_class(model.config)
    rows = examples(*TEXTS)
    features = task.encode(rows, tokenizer, length)
    runner = ModelRunner(task, attached_to(model, kind), torch.device("cpu"), torch.no_grad, 0, 2, tokenizer)
    return predict(runner, features, rows), features, runner


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_loss_is_that_of_every_token_after_the_one_that_begins_a_text(architecture: str) -> None:
    model, tokenizer = tiny_writer(architecture, Generation({}))
    predictions, features, runner = scored(model, tokenizer, "plain")
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    total, size = 0.0, 0
    for text, feature, prediction in zip(TEXTS, features, predictions, strict=True):
        ids = [begin, *tokenizer(text, add_special_tokens=False)["input_ids"]][:24]
        logits = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        loss = -logits[torch.arange(len(ids) - 1), ids[1:]].sum().item()
        assert prediction.loss == pytest.approx(loss, rel=1e-4)
        assert len(feature.input_ids) + len(feature.target_ids) == len(ids)
        total, size = total + loss, size + (prediction.target_bytes or 0)
    (metric,) = runner.task.score(predictions, "test")
    assert metric.name == BITS_PER_BYTE.name
    assert metric.value == pytest.approx(total / math.log(2) / size, rel=1e-4)


def test_the_bytes_are_those_of_what_is_kept() -> None:
    _, tokenizer = tiny_writer("gpt2", Generation({}))
    text = TEXTS[1]
    (whole,) = RunningText({}).encode(examples(text), tokenizer, 100)
    assert (whole.target_bytes, len(whole.target_ids)) == (len(text.encode()), whole.target_length)
    (cut,) = RunningText({}).encode(examples(text), tokenizer, 11)
    assert (cut.target_bytes, len(cut.target_ids)) == (10, 10)
    assert cut.target_length > len(cut.target_ids)


@pytest.mark.parametrize("kind", ["soft_prompt", "prefix"])
def test_virtual_tokens_are_read_before_the_text(kind: str) -> None:
    model, tokenizer = tiny_writer("gpt2", Generation({}))
    plain, _, _ = scored(model, tokenizer, "plain")
    with_prompt, _, _ = scored(model, tokenizer, kind)
    assert all(math.isfinite(p.loss) and p.loss != q.loss for p, q in zip(with_prompt, plain, strict=True))


def test_without_a_token_that_begins_a_text_the_first_is_read_and_not_scored() -> None:
    _, tokenizer = tiny_writer("gpt2", Generation({}))
    tokenizer.bos_token = tokenizer.eos_token = None
    (feature,) = RunningText({}).encode(examples("abc"), tokenizer, 24)
    assert [len(feature.input_ids), len(feature.target_ids), feature.target_bytes] == [1, 2, 2]
    with pytest.raises(DataError, match="row 0: the text is too short"):
        RunningText({}).encode(examples("a"), tokenizer, 24)


@pytest.mark.parametrize(("architecture", "way_out"), [("bert", "leave the text out"), ("t5", "hold a task")])
def test_a_model_that_does_not_go_on_with_a_text_is_refused(architecture: str, way_out: str) -> None:
    from transformers import AutoConfig

    config = tiny_config("t5") if architecture == "t5" else AutoConfig.for_model("bert", **shape("bert", 64))
    with pytest.raises(UnsupportedModel, match="has no loss to measure") as caught:
        RunningText({}).model_class(config)
    assert way_out in caught.value.hint


def test_the_column_is_guessed_or_named() -> None:
    rows = Rows({"body": ["a", "b"], "note": ["c", "d"]}, "table")
    assert RunningText({}).columns(rows) == {"text": "body"}
    named = RunningText({"text": "note"})
    assert [e.text for e in named.examples(rows, named.columns(rows), "prose")] == ["c", "d"]
