"""Special tokens that both the tokenizer and a template or a target put at one place stand there once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from generation_helpers import framed, tiny_config, tiny_writer
from tuneoff.interfaces import Attached, Example
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation
from tuneoff.trial.modeling.tokenizer import byte_tokenizer

TEMPLATE = "<bos>User: {source}\nAnswer: "
WHOLE = "<bos>User: q\nAnswer:"


def pair(source: str, target: str) -> Example:
    return Example(source, target, 0, "row 1")


def of(architecture: str, frame: str, **options: Any) -> tuple[Generation, Any]:
    task = Generation(options)
    config = tiny_config(architecture, bos_token_id=1, eos_token_id=2)
    task.model_class(config)
    return task, framed(byte_tokenizer(config), frame)


@pytest.mark.parametrize("frame", ["<bos> $A", "<bos> $A <eos>", "$A <eos>", "$A"])
def test_a_prompt_begins_once_whoever_puts_the_token_there(frame: str) -> None:
    task, tokenizer = of("llama", frame, template=TEMPLATE)
    (feature,) = task.encode([pair("q", "a")], tokenizer, 60)
    assert tokenizer.decode(feature.input_ids) == WHOLE
    assert tokenizer.decode(feature.target_ids) == " a<eos>"
    assert feature.length == len(feature.input_ids)


@pytest.mark.parametrize("begin", ["", "<two>", "<one><two>"])
def test_a_frame_of_several_tokens_stands_once_even_where_a_text_has_a_part_of_it(begin: str) -> None:
    for architecture, frame, close in (
        ("llama", "<one> <two> $A", ""),
        ("bart", "<one> <two> $A <two> <one>", "<two>"),
    ):
        task = Generation({"template": f"{begin}{{source}}:{close}"})
        config = tiny_config(architecture, bos_token_id=1, eos_token_id=2)
        task.model_class(config)
        tokenizer = byte_tokenizer(config)
        tokenizer.add_special_tokens({"additional_special_tokens": ["<one>", "<two>"]})
        (feature,) = task.encode([pair("q", "a")], framed(tokenizer, frame), 60)
        end = "<two><one>" if architecture == "bart" else ""
        assert tokenizer.decode(feature.input_ids) == f"<one><two>q:{end}"


def test_the_loss_is_the_models_own_on_that_sequence() -> None:
    task, tokenizer = of("llama", "<bos> $A", template=TEMPLATE)
    model, _ = tiny_writer("llama", task, bos_token_id=1, eos_token_id=2)
    features = task.encode([pair("a source", "an answer")], tokenizer, 60)
    batch = task.collate(features, 0)
    with torch.no_grad():
        ours = task.loss(task.forward(Attached(model, model), batch), batch)
        ids = tokenizer("<bos>User: a source\nAnswer: an answer<eos>", add_special_tokens=False, return_tensors="pt")
        labels = ids["input_ids"].clone()
        labels[0, : len(features[0].input_ids)] = -100
        theirs = model(input_ids=ids["input_ids"], labels=labels).loss
    assert ours.item() / len(features[0].target_ids) == pytest.approx(theirs.item(), rel=1e-5)


def test_a_cut_prompt_keeps_its_begin_and_its_instruction() -> None:
    task, tokenizer = of("llama", "<bos> $A", template=TEMPLATE)
    room = len("<bos>") - 4 + len("User: abc\nAnswer:")
    (feature,) = task.encode([pair("abcdef", "x")], tokenizer, room)
    assert tokenizer.decode(feature.input_ids) == "<bos>User: abc\nAnswer:"


def test_a_source_that_begins_with_the_token_is_not_begun_twice() -> None:
    task, tokenizer = of("llama", "<bos> $A")
    (feature,) = task.encode([pair("<bos>abc", "x")], tokenizer, 60)
    assert tokenizer.decode(feature.input_ids) == "<bos>abc\n"


def test_solved_examples_stand_after_the_one_begin() -> None:
    task, tokenizer = of("llama", "<bos> $A", template=TEMPLATE)
    (feature,) = task.encode([pair("q", "a")], tokenizer, 60, [pair("x", "1"), pair("y", "2")])
    read = tokenizer.decode(feature.input_ids)
    assert read == "<bos>User: x\nAnswer: 1\n\nUser: y\nAnswer: 2\n\nUser: q\nAnswer:"


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "t5", "bart"])
@pytest.mark.parametrize("end", ["", "<eos>"])
def test_a_target_that_holds_its_end_ends_once(architecture: str, end: str) -> None:
    task = Generation({})
    config = tiny_config(architecture)
    task.model_class(config)
    tokenizer = byte_tokenizer(config)
    (feature,) = task.encode([pair("q", "a" + (tokenizer.eos_token if end else ""))], tokenizer, 60)
    assert list(feature.target_ids).count(tokenizer.eos_token_id) == 1
    assert feature.target_ids[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("template", ["{source}", "<bos>{source}", "<bos>{source}<eos>", "{source}<eos>"])
def test_an_encoder_reads_one_frame_and_a_decoder_writes_one(template: str) -> None:
    task, tokenizer = of("bart", "<bos> $A <eos>", template=template)
    (feature,) = task.encode([pair("q", "<bos>a<eos>")], tokenizer, 60)
    assert tokenizer.decode(feature.input_ids) == "<bos>q<eos>"
    assert tokenizer.decode(feature.target_ids) == "<bos>a<eos>"


def test_what_a_decoder_starts_from_is_not_written_again() -> None:
    task = Generation({})
    config = tiny_config("bart", bos_token_id=1, eos_token_id=2, decoder_start_token_id=1)
    task.model_class(config)
    tokenizer = framed(byte_tokenizer(config), "<bos> $A <eos>")
    features = task.encode([pair("q", "a")], tokenizer, 60)
    assert tokenizer.decode(features[0].target_ids) == "a<eos>"
    assert tokenizer.decode(task.collate(features, 0)["decoder_input_ids"][0]) == "<bos>a"


def test_scoring_by_words_begins_once() -> None:
    options = {"labels": ["sport", "trade"], "scoring": "likelihood", "template": "<bos>{text}\nLabel:"}
    task, tokenizer = Classification(options), of("llama", "<bos> $A")[1]
    for shown, begun in (([], ""), ([Example("x", "sport", 0, "row")], "x\nLabel: sport\n\n")):
        (feature,) = task.encode([Example("q", "trade", 0, "row")], tokenizer, 60, shown)
        assert tokenizer.decode(feature.input_ids) == f"<bos>{begun}q\nLabel:"


@pytest.mark.parametrize(
    ("architecture", "frame"), [("llama", "<bos> $A <eos>"), ("bart", "<bos> $A <eos>"), ("llama", "$A")]
)
@pytest.mark.parametrize("source", ["q", "<bos>q<eos>", "a long text that is cut"])
@pytest.mark.parametrize("template", ["{source}\n", "<bos>{source}:<eos>"])
def test_exported_code_puts_in_the_same(architecture: str, frame: str, source: str, template: str) -> None:
    from tuneoff.tasks._prompts import plain_prompt, prompts

    task, tokenizer = of(architecture, frame, template=template)
    closed = architecture == "bart"
    names: dict[str, Any] = {"tokenizer": tokenizer}
    exec("\n".join(plain_prompt(task.template, "source", (), tokenizer, 12, closed=closed)), names)
    before, after = task.template.around({})
    (prompt,) = prompts([(before, source, after)], tokenizer, closed=closed)
    assert names["prompt"](source) == prompt.cut(12)
