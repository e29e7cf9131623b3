"""Pairs of texts: which columns are taken, how two texts become tokens, and what a model is told of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoConfig

from tuneoff.errors import DataError
from tuneoff.interfaces import Attached, Example, Rows
from tuneoff.tasks._inputs import model_inputs
from tuneoff.tasks._two_texts import encode_texts, logits_code, separates
from tuneoff.tasks.classification import Classification
from tuneoff.testing.models import random_model, shape
from tuneoff.trial.modeling.tokenizer import byte_tokenizer

ROWS = Rows(
    {
        "premise": ["it rains", "oil is dear", "it rains", "oil is dear"],
        "hypothesis": ["it is wet", "a goal", "a goal", "it costs much"],
        "label": ["yes", "no", "no", "yes"],
    },
    "rows.csv",
)


def pair_tokenizer(kind: str) -> Any:
    """Returns a tokenizer of bytes that puts two texts together as BERT's, Llama's or GPT-2's do."""
    from tokenizers import processors

    tokenizer = byte_tokenizer(AutoConfig.for_model("gpt2", vocab_size=300, bos_token_id=298, eos_token_id=299))
    ends = [("<bos>", 298), ("<eos>", 299)]
    templates = {
        "bert": ("<bos> $A <eos>", "<bos> $A <eos> $B:1 <eos>:1"),
        "llama": ("<bos> $A", "<bos> $A <bos> $B:1"),
    }
    if kind in templates:
        single, pair = templates[kind]
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=ends
        )
    if kind == "bert":
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer


def pair(first: str, second: str) -> Example:
    return Example(first, "yes", 0, "row 1", text_pair=second)


# --- columns


@pytest.mark.parametrize(
    "options",
    [{}, {"text": ["premise", "hypothesis"]}, {"text": "premise", "text_pair": "hypothesis", "label": "label"}],
)
def test_two_columns_are_a_pair_named_in_a_list_in_keys_or_guessed(options: dict[str, Any]) -> None:
    task = Classification(options)
    columns = task.columns(ROWS)
    assert columns == {"text": "premise", "text_pair": "hypothesis", "label": "label"}
    example = task.examples(ROWS, columns, "train")[0]
    assert (example.text, example.text_pair) == ("it rains", "it is wet")
    assert example.input_text == "it rains\nit is wet"


def test_one_text_stays_one_text_where_it_is_named() -> None:
    assert Classification({"text": "premise"}).columns(ROWS) == {"text": "premise", "label": "label"}


@pytest.mark.parametrize(
    "options",
    [{"text": ["premise"]}, {"text": ["a", "b", "c"]}, {"text": ["a", 1]}, {"text": ["a", "b"], "text_pair": "c"}],
)
def test_other_than_two_texts_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="two"):
        Classification(options)


def test_the_same_column_twice_is_refused() -> None:
    with pytest.raises(DataError, match=r"task.text and task.text_pair are the same column, 'premise'"):
        Classification({"text": ["premise", "premise"]}).columns(ROWS)


# --- tokens


@pytest.mark.parametrize(("kind", "apart"), [("bert", True), ("llama", False), ("gpt2", False)])
def test_a_token_of_its_own_stands_between_texts_or_a_line_end(kind: str, apart: bool) -> None:
    tokenizer = pair_tokenizer(kind)
    assert separates(tokenizer) is apart
    (encoded,) = encode_texts([pair("abc", "de")], tokenizer, 20)
    text = tokenizer.decode(encoded.ids)
    assert text == {"bert": "<bos>abc<eos>de<eos>", "llama": "<bos>abc\nde", "gpt2": "abc\nde"}[kind]
    assert encoded.length == len(encoded.ids)
    assert list(encoded.segments) == ([0] * 5 + [1] * 3 if kind == "bert" else [])


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [("x" * 20, "y" * 3, (None, 3)), ("x" * 3, "y" * 20, (3, None)), ("x" * 20, "y" * 20, (None, None))],
)
def test_the_longer_text_loses_its_end_first(kind: str, first: str, second: str, kept: tuple[Any, Any]) -> None:
    tokenizer = pair_tokenizer(kind)
    (encoded,) = encode_texts([pair(first, second)], tokenizer, 16)
    text = tokenizer.decode(encoded.ids)
    assert len(encoded.ids) == 16
    assert encoded.length > 16
    assert min(text.count("x"), text.count("y")) >= 3
    for letter, count in zip("xy", kept, strict=True):
        assert count is None or text.count(letter) == count
    if kept == (None, None):
        assert abs(text.count("x") - text.count("y")) <= 2  # a line end counts


def test_no_room_for_two_texts_is_refused() -> None:
    with pytest.raises(DataError, match="leaves no room") as caught:
        list(encode_texts([pair("a", "b")], pair_tokenizer("bert"), 4))
    assert "to 5 or more" in str(caught.value)


# --- what a model is told


def test_segments_reach_the_model_and_a_soft_prompt_is_of_the_first() -> None:
    config = AutoConfig.for_model("bert", **{"vocab_size": 300, **shape("bert", 64)})
    task = Classification({"labels": ["no", "yes"]})
    model = random_model(config, task, 0.15)
    features = task.encode([pair("abc", "de"), pair("a", "b")], pair_tokenizer("bert"), 20)
    batch = task.collate(features, 0)
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0, 0]]
    attached = Attached(model, model)
    with torch.no_grad():
        logits = task.forward(attached, batch)
        expected = model(**{name: tensor for name, tensor in batch.items() if name != "labels"}).logits
        untold = task.forward(attached, {name: t for name, t in batch.items() if name != "token_type_ids"})
    assert torch.equal(logits, expected)
    assert not torch.allclose(logits, untold)
    attached.soft_prompt = lambda count: torch.zeros(count, 2, config.hidden_size)
    inputs = model_inputs(attached, batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    assert inputs["token_type_ids"].tolist()[0] == [0] * 7 + [1] * 3
    assert "input_ids" not in inputs


def test_a_model_of_one_segment_is_told_of_none() -> None:
    config = AutoConfig.for_model("roberta", **{"vocab_size": 300, **shape("roberta", 64), "type_vocab_size": 1})
    task = Classification({"labels": ["no", "yes"]})
    model = random_model(config, task, 0.15)
    batch = task.collate(task.encode([pair("abc", "de")], pair_tokenizer("bert"), 20), 1)
    assert task.forward(Attached(model, model), batch).shape == (1, 2)


# --- likelihood


def test_a_template_that_lacks_a_text_of_the_pair_is_refused() -> None:
    task = Classification({"scoring": "likelihood", "template": "{text}\nLabel:"})
    with pytest.raises(DataError, match="a row has two texts"):
        task.examples(ROWS, task.columns(ROWS), "train")
    alone = Rows({name: ROWS.columns[name] for name in ("premise", "label")}, "rows.csv")
    task = Classification({"scoring": "likelihood", "text": "premise", "template": "{text}{text_pair}:"})
    with pytest.raises(DataError, match="a row has one text"):
        task.examples(alone, task.columns(alone), "train")


@pytest.mark.parametrize(("architecture", "told"), [("bert", True), ("gpt2", False), ("xlnet", True)])
def test_a_decoder_is_not_told_which_text_a_token_belongs_to(architecture: str, told: bool) -> None:
    """It would look the number of the text up among its words, whatever the tokenizer returns."""
    config = AutoConfig.for_model(architecture, **{"vocab_size": 300, **shape(architecture, 64)})
    model: Any = random_model(config, Classification({"labels": ["no", "yes"]}), 0.15)
    ids = torch.tensor([[5, 6, 7]])
    inputs = model_inputs(Attached(model, model), ids, torch.ones_like(ids), torch.tensor([[0, 1, 1]]))
    assert ("token_type_ids" in inputs) == told


# --- exports


@pytest.mark.parametrize(
    ("architecture", "kind"), [("bert", "bert"), ("gpt2", "gpt2"), ("gpt2", "bert"), ("llama", "llama")]
)
@pytest.mark.parametrize("room", [40, 12])
def test_code_of_an_exports_card_gives_the_same_logits(architecture: str, kind: str, room: int) -> None:
    tokenizer = pair_tokenizer(kind)
    config = AutoConfig.for_model(architecture, **{"vocab_size": 300, **shape(architecture, 64)})
    task = Classification({"labels": ["no", "yes"]})
    model: Any = random_model(config, task, 0.15)
    model.config.pad_token_id = None if architecture != "bert" else 0
    example = pair("it rains again", "it is wet")
    lines = ["def logits_of(text, text_pair):", *logits_code(model, tokenizer, True, room), "    return logits"]
    names: dict[str, Any] = {"tokenizer": tokenizer, "model": model, "torch": torch}
    exec("\n".join(lines), names)
    with torch.no_grad():
        expected = task.forward(Attached(model, model), task.collate(task.encode([example], tokenizer, room), 0))[0]
        torch.testing.assert_close(names["logits_of"](example.text, example.text_pair), expected)
