from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from generation_helpers import (
    ARCHITECTURES,
    KINDS,
    VIRTUAL,
    WAYS,
    attached_to,
    framed,
    some_features,
    tiny_config,
    tiny_writer,
)
from tuneoff.errors import DataError, UnsupportedModel
from tuneoff.interfaces import Example, Features, Rows
from tuneoff.records.record import Prediction
from tuneoff.tasks._prompts import separator
from tuneoff.tasks._text_writer import SOURCES_KEPT
from tuneoff.tasks.generation import Generation
from tuneoff.trial.modeling.tokenizer import byte_tokenizer

END = 299

WRITTEN = ("rouge_l", "rouge_1", "rouge_2", "rouge_lsum", "exact_match", "token_f1")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def table(**columns: list[Any]) -> Rows:
    return Rows(columns, "train.csv", lines=tuple(range(2, 2 + len(next(iter(columns.values()))))))


def examples(task: Generation, rows: Rows) -> list[Example]:
    return task.examples(rows, task.columns(rows), "train")


def pair(source: str, target: str, **fields: str) -> Example:
    return Example(source, target, 0, "train.csv line 2", fields)


def of(architecture: str, **options: Any) -> tuple[Generation, Any]:
    """The task on a model of this architecture, and a tokenizer of bytes: one token per letter."""
    task = Generation(options)
    config = tiny_config(architecture)
    task.model_class(config)
    return task, byte_tokenizer(config)


def one(architecture: str, example: Example, max_length: int, **options: Any) -> tuple[Features, Any]:
    task, tokenizer = of(architecture, **options)
    (feature,) = task.encode([example], tokenizer, max_length)
    return feature, tokenizer


# --- columns and template


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("id", "article", "highlights"), {"source": "article", "target": "highlights"}),
        (("Summary", "Document"), {"source": "Document", "target": "Summary"}),
        # An article's title is what is written only where there is no summary.
        (("title", "text", "summary"), {"source": "text", "target": "summary"}),
        (("title", "text"), {"source": "text", "target": "title"}),
        (("question", "answer"), {"source": "question", "target": "answer"}),
    ],
)
def test_obvious_columns_are_guessed(names: tuple[str, ...], expected: dict[str, str]) -> None:
    assert Generation({}).columns(table(**{name: ["x"] for name in names})) == expected


def test_columns_that_cannot_be_guessed_are_asked_for_by_name() -> None:
    with pytest.raises(DataError, match=r"which column of train.csv holds the target") as caught:
        Generation({}).columns(table(article=["x"], other=["y"]))
    assert "task.target" in caught.value.hint
    with pytest.raises(DataError, match=r"no column 'boddy' \(did you mean 'body'\?\)"):
        Generation({"source": "boddy"}).columns(table(body=["x"], summary=["y"]))
    with pytest.raises(DataError, match="the same column, 'body'"):
        Generation({"target": "body"}).columns(table(body=["x"], summary=["y"]))


def test_a_template_takes_other_columns_by_name() -> None:
    task = Generation({"template": "{{{topic}}} {source}|{n}:  ", "target": "short"})
    rows = table(text=[" a b "], short=[" s\n"], topic=["news"], n=[3])
    assert task.columns(rows) == {"source": "text", "target": "short", "topic": "topic", "n": "n"}
    (example,) = examples(task, rows)
    assert (example.text, example.target, example.fields) == (" a b ", "s", {"topic": "news", "n": "3"})
    assert task.template.around(example.fields) == ("{news} ", "|3:")
    assert task.template.spaces == "  "


def test_a_template_may_name_the_source_by_its_column() -> None:
    rows = table(article=["text"], summary=["s"])
    task = Generation({"template": "<{article}>"})
    (example,) = examples(task, rows)
    assert example.fields == {}
    assert task.template.around(example.fields) == ("<", ">")


def test_a_name_that_no_column_has_is_refused_with_the_nearest() -> None:
    rows = table(article=["x"], summary=["y"], topic=["z"])
    with pytest.raises(DataError, match=r"names 'topik'.*\(did you mean 'topic'\?\)") as caught:
        Generation({"template": "{source} {topik}"}).columns(rows)
    assert "article, summary, topic" in caught.value.hint
    with pytest.raises(DataError, match=r"did you mean 'source'"):
        Generation({"template": "{sorce}"}).columns(rows)


@pytest.mark.parametrize(
    ("template", "said"), [("{topic}", "no times"), ("{source}{source}", "2 times"), ("{article} {source}", "2 times")]
)
def test_a_template_holds_the_source_once(template: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Generation({"template": template}).columns(table(article=["x"], summary=["y"], topic=["z"]))


@pytest.mark.parametrize("name", ["target", "summary"])
def test_a_template_does_not_give_the_answer_away(name: str) -> None:
    with pytest.raises(DataError, match=f"shows '{name}', the text that is to be written"):
        Generation({"template": f"{{source}} {{{name}}}"}).columns(table(article=["x"], summary=["y"]))


@pytest.mark.parametrize("template", ["no braces", "{source", "source}", "{}", "{source!r}", "{source:>9}", ""])
def test_a_template_that_cannot_be_read_is_refused_at_once(template: str) -> None:
    with pytest.raises(ValidationError):
        Generation({"template": template})


@pytest.mark.parametrize("column", ["article", "summary", "topic"])
@pytest.mark.parametrize("bad", [None, "  ", float("nan")])
def test_an_empty_cell_is_named(column: str, bad: Any) -> None:
    columns: dict[str, list[Any]] = {"article": ["a", "b"], "summary": ["c", "d"], "topic": ["e", "f"]}
    columns[column][1] = bad
    role = {"article": "source", "summary": "target"}.get(column, column)
    with pytest.raises(DataError, match=f"1 of 2 rows .* have no {role}; the first is train.csv line 3"):
        examples(Generation({"template": "{topic}: {source}"}), table(**columns))


@pytest.mark.parametrize("column", ["article", "summary"])
@pytest.mark.parametrize(
    ("bad", "said"), [(["x"], "holds no text"), ("\ud800", "holds text that is not valid Unicode")]
)
def test_a_cell_that_is_no_text_is_named(column: str, bad: Any, said: str) -> None:
    columns: dict[str, list[Any]] = {"article": ["a", "b"], "summary": ["c", "d"], column: ["a", bad]}
    with pytest.raises(DataError, match=f"train.csv line 3: column '{column}' {said}"):
        examples(Generation({}), table(**columns))


# --- tokens: what is cut, and what is not


def test_a_prompt_of_exactly_the_room_stays_whole_and_one_more_loses_the_sources_last() -> None:
    example = pair("abcdef", "xy")
    for room, kept in ((11, "abcdef"), (10, "abcdef"), (9, "abcde"), (5, "a"), (4, "")):
        feature, tokenizer = one("gpt2", example, room, template="<{source}> =")
        assert tokenizer.decode(feature.input_ids) == f"<{kept}> ="
        assert feature.length == 10
        assert feature.truncated == (room < 10)
        assert feature.prompt_ids == ()


def test_the_instruction_must_fit() -> None:
    with pytest.raises(DataError, match=r"train.csv line 2: the prompt takes 4 tokens without any of the source") as e:
        one("gpt2", pair("abc", "xy"), 3, template="<{source}> =")
    assert "protocol.max_length to 5" in e.value.hint


def test_a_prompt_is_never_cut_to_nothing() -> None:
    """The first token written is predicted from the last of the prompt."""
    with pytest.raises(DataError, match="the target's 9 tokens and the 1 of the prompt"):
        one("gpt2", pair("abc", "12345678"), 4, template="{source}", max_target_length=5)


def test_other_columns_belong_to_the_instruction() -> None:
    feature, tokenizer = one("gpt2", pair("abcdef", "x", topic="news"), 12, template="{topic}:{source}|{topic}")
    assert tokenizer.decode(feature.input_ids) == "news:ab|news"
    with pytest.raises(DataError, match="takes 10 tokens without any"):
        one("gpt2", pair("abcdef", "x", topic="news"), 9, template="{topic}:{source}|{topic}")


def test_a_target_takes_no_room_of_the_prompt_until_it_is_longer_than_its_own() -> None:
    options = {"template": "<{source}>", "max_target_length": 4}
    source = "abcdefghij"
    # 8 tokens of prompt and 4 of target, the end of the text included.
    fits, tokenizer = one("gpt2", pair(source, "123"), 8, **options)
    assert tokenizer.decode(fits.input_ids) == "<abcdef>"
    assert (list(fits.target_ids)[-1], len(fits.target_ids), fits.prompt_ids) == (END, 4, ())
    longer, _ = one("gpt2", pair(source, "1234"), 8, **options)
    assert tokenizer.decode(longer.input_ids) == "<abcde>"
    assert tokenizer.decode(longer.target_ids[:-1]) == "1234"
    # It is written from the prompt that has all of its room.
    assert tokenizer.decode(longer.prompt_ids) == "<abcdef>"
    # Instruction and target fill prompt and target room together, and not one token more.
    whole, _ = one("gpt2", pair(source, "123456789"), 8, **options)
    assert tokenizer.decode(whole.input_ids) == "<>"
    assert tokenizer.decode(whole.prompt_ids) == "<abcdef>"
    with pytest.raises(DataError, match=r"line 2: the target's 11 tokens and the 2 of the prompt .* more than the 12"):
        one("gpt2", pair(source, "1234567890"), 8, **options)


def test_a_short_source_leaves_its_room_to_a_long_target() -> None:
    feature, tokenizer = one("gpt2", pair("ab", "1234567"), 8, template="<{source}>", max_target_length=4)
    assert tokenizer.decode(feature.input_ids) == "<ab>"
    assert tokenizer.decode(feature.target_ids[:-1]) == "1234567"
    assert (feature.truncated, feature.prompt_ids) == (False, ())


@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
def test_long_targets_are_cut_only_on_request(architecture: str) -> None:
    options = {"template": "<{source}>", "max_target_length": 4}
    row = pair("abcd", "123456789")
    kept, _ = one(architecture, row, 9, **options)
    assert (len(kept.target_ids), kept.target_length) == (10, 10)
    cut, tokenizer = one(architecture, row, 9, long_targets="cut", **options)
    assert tokenizer.decode(cut.target_ids) == "1234"
    assert (cut.target_length, cut.prompt_ids, cut.truncated) == (10, (), False)
    # The text that scores compare with is whole either way; what fits is not touched.
    fits, _ = one(architecture, pair("abcd", "123"), 9, long_targets="cut", **options)
    assert (len(fits.target_ids), fits.target_length, list(fits.target_ids)[-1]) == (4, 4, tokenizer.eos_token_id)


def test_a_token_of_both_source_and_instruction_stays() -> None:
    """Truncation goes by the tokens of the whole prompt, so none is split."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["a", "b", "c", ">", "<", "c>", "!", "</s>"]
    core = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, [("c", ">")]))
    core.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")
    task = Generation({"template": "<{source}>!"})
    (feature,) = task.encode([pair("abc", "a")], tokenizer, 4)
    assert tokenizer.convert_ids_to_tokens(feature.input_ids) == ["<", "a", "c>", "!"]


def test_spaces_at_the_templates_end_go_to_the_target() -> None:
    feature, tokenizer = one("gpt2", pair("ab", "yes"), 20, template="{source}\nSo: ")
    assert tokenizer.decode(feature.input_ids) == "ab\nSo:"
    assert tokenizer.decode(feature.target_ids[:-1]) == " yes"


def test_a_tokenizer_that_puts_a_space_itself_gets_none() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = ["▁a", "▁", "▁yes", "</s>"]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="▁"))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="▁")
    (feature,) = Generation({"template": "{source} "}).encode([pair("a", "yes")], tokenizer, 9)
    assert tokenizer.convert_ids_to_tokens(feature.target_ids) == ["▁yes", "</s>"]


def test_encoder_decoders_get_their_pretrained_frames() -> None:
    t5, tokenizer = one("t5", pair("abcdef", "yes"), 6, template="<{source}> ")
    assert tokenizer.decode(t5.input_ids) == "<abc><eos>"
    assert tokenizer.decode(t5.target_ids) == "yes<eos>"
    bart, tokenizer = one("bart", pair("abcdef", "yes"), 7, template="<{source}> ")
    assert tokenizer.decode(bart.input_ids) == "<bos><abc><eos>"
    assert tokenizer.decode(bart.target_ids) == "<bos>yes<eos>"


def test_an_encoder_decoders_target_takes_nothing_from_its_source() -> None:
    feature, tokenizer = one("t5", pair("abcdef", "123456789"), 5, template="{source}", max_target_length=2)
    assert tokenizer.decode(feature.input_ids) == "abcd<eos>"
    assert len(feature.target_ids) == 10
    bart, _ = one("bart", pair("ab", "1" * 126), 5, template="{source}")
    assert len(bart.target_ids) == 128
    with pytest.raises(DataError, match="line 2: the target's 129 tokens are more than the 128 positions"):
        one("bart", pair("ab", "1" * 127), 5, template="{source}")


@pytest.mark.parametrize(("architecture", "kind"), [("bart", "prefix"), ("bart", "soft_prompt"), ("t5", "prefix")])
def test_a_target_behind_a_prefix_must_fit_a_decoder_that_numbers_its_positions(architecture: str, kind: str) -> None:
    """A soft prompt stands before the encoder's input, and T5 numbers no positions."""
    task = Generation({"template": "{source}"})
    model, tokenizer = tiny_writer(architecture, task)
    attached = attached_to(model, kind)
    frame = 2 if architecture == "bart" else 1
    fits, longer = (pair("ab", "1" * (size - VIRTUAL - frame)) for size in (128, 129))
    features = task.encode([fits], tokenizer, 9)
    task.check_features(attached, [fits], features)
    assert len(task.forward(attached, task.collate(features, 0))) == 128 - VIRTUAL
    rows = [longer, pair("c", "2")]
    features = task.encode(rows, tokenizer, 9)
    assert len(features[0].target_ids) == 129 - VIRTUAL
    # Features that another trial of the run encoded are checked as well as one's own.
    reading = Generation({"template": "{source}"})
    reading.model_class(model.config)
    if (architecture, kind) != ("bart", "prefix"):
        reading.check_features(attached, rows, features)
        return
    with pytest.raises(DataError, match=r"line 2: the target's 124 tokens and the prefix's 5 are more than the 128"):
        reading.check_features(attached, rows, features)


def test_positions_are_those_of_the_longest_sequence() -> None:
    assert of("gpt2", max_target_length=30)[0].positions(100) == 130
    assert of("t5", max_target_length=30)[0].positions(100) == 100
    assert of("bart", max_target_length=200)[0].positions(100) == 200


def test_solved_examples_stand_before_each_prompt() -> None:
    task, tokenizer = of("gpt2", template="Q:{source}\nA: ")
    shown = [pair("one", "1"), pair("two", "2")]
    first, second = task.encode([pair("three", "3"), pair("x" * 99, "4")], tokenizer, 20, shown)
    text = tokenizer.decode(first.input_ids)
    assert text == "Q:one\nA: 1\n\nQ:two\nA: 2\n\nQ:three\nA:"
    assert not first.truncated
    assert tokenizer.decode(second.input_ids).endswith("\n\nQ:" + "x" * 15 + "\nA:")
    assert second.length == len(text) - len("three") + 99
    assert tokenizer.decode(first.target_ids[:-1]) == " 3"


def test_a_solved_example_fits_the_room_of_one_example() -> None:
    task, tokenizer = of("gpt2", template="{source}=", max_target_length=6)
    (feature,) = task.encode([pair("q", "a")], tokenizer, 10, [pair("x" * 50, "123456")])
    block = tokenizer.decode(feature.input_ids).removesuffix("q=")
    assert block == "x" * 7 + "=123456\n\n"
    assert len(block) == task.positions(10)


def test_solved_examples_stand_inside_the_encoders_frame() -> None:
    task, tokenizer = of("bart", template="{source}=")
    (feature,) = task.encode([pair("q", "a")], tokenizer, 20, [pair("x", "1")])
    assert tokenizer.decode(feature.input_ids) == "<bos>x=1\n\nq=<eos>"
    assert tokenizer.decode(feature.target_ids) == "<bos>a<eos>"


@pytest.mark.parametrize(
    "template",
    ["<|im_start|>user\n{source}<|im_end|>\n<|im_start|>assistant\n", "{source}<|im_end|>", "<|im_start|>{source}\n"],
)
@pytest.mark.parametrize(
    ("architecture", "frame"), [("llama", "<bos> $A <eos>"), ("llama", "$A"), ("bart", "$A <eos>")]
)
def test_special_tokens_of_a_template_stand_in_every_block(architecture: str, frame: str, template: str) -> None:
    task, tokenizer = of(architecture, template=template)
    framed(tokenizer, frame).add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    (feature,) = task.encode([pair("q", "a")], tokenizer, 60, [pair("x", "1"), pair("y", "2<|im_end|>")])
    one, two, asked = (template.replace("{source}", source) for source in "xyq")
    before, after = ("<bos>" if "<bos>" in frame else "", "<eos>" if architecture == "bart" else "")
    assert tokenizer.decode(feature.input_ids) == f"{before}{one}1\n\n{two}2<|im_end|>\n\n{asked}{after}"


def test_shown_examples_are_cut_like_others() -> None:
    options = {"template": "{source}=", "max_target_length": 3}
    shown = [pair("x", "1" * 50)]
    task, tokenizer = of("gpt2", long_targets="cut", **options)
    (feature,) = task.encode([pair("q", "a")], tokenizer, 4, shown)
    assert tokenizer.decode(feature.input_ids) == "x=111\n\nq="
    # Even then the block may be too long; the hint does not name what is set already.
    with pytest.raises(DataError, match="the target's 5 tokens and the 3 of the prompt") as caught:
        of("gpt2", long_targets="cut", **{**options, "template": "{source}==="})[0].encode(
            [pair("q", "a")], tokenizer, 4, shown
        )
    assert "cut" not in caught.value.hint
    with pytest.raises(DataError, match="the target's 52 tokens") as caught:
        of("gpt2", **options)[0].encode([pair("q", "a")], tokenizer, 4, shown)
    assert "task.long_targets to cut" in caught.value.hint


@pytest.mark.parametrize(
    ("template", "block"), [("{source}\n", "▁x </s> ▁y </s>"), ("{source} so: ", "▁x ▁so: ▁y </s>")]
)
def test_where_the_tokenizer_drops_line_ends_the_end_of_text_parts_examples(template: str, block: str) -> None:
    from transformers import T5Tokenizer

    pieces = ["<pad>", "</s>", "<unk>", "▁", "▁x", "▁y", "▁so:"]
    tokenizer = T5Tokenizer(vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)], extra_ids=0)
    assert tokenizer("x\n\ny").input_ids == tokenizer("x y").input_ids
    task, _ = of("t5", template=template)
    (feature,) = task.encode([pair("x", "y")], tokenizer, 20, [pair("x", "y")] * 2)
    asked = block.removesuffix(" ▁y </s>").removesuffix(" </s>")
    assert " ".join(tokenizer.convert_ids_to_tokens(feature.input_ids)) == f"{block} {block} {asked} </s>"
    tokenizer.eos_token = None
    with pytest.raises(UnsupportedModel, match="solved examples would run together"):
        separator(tokenizer)


@pytest.mark.parametrize("frame", ["<bos> $A <eos>", "$A <eos>", "<bos> $A"])
def test_a_causal_prompt_is_open_at_its_end_and_a_target_ends_once(frame: str) -> None:
    task, tokenizer = of("llama", template="{source}=")
    framed(tokenizer, frame)
    begin = "<bos>" if "<bos>" in frame else ""
    room = len("abc=") + bool(begin)
    for source, shown in (("abcdef", []), ("abcdef", [pair("x", "1")])):
        (feature,) = task.encode([pair(source, "yes")], tokenizer, room, shown)
        assert tokenizer.decode(feature.input_ids) == f"{begin}{'x=1' + chr(10) * 2 if shown else ''}abc="
        assert tokenizer.decode(feature.target_ids) == "yes<eos>"


def test_a_tokenizer_without_an_end_is_refused() -> None:
    task, tokenizer = of("gpt2")
    tokenizer.eos_token = None
    with pytest.raises(UnsupportedModel, match="no end-of-text token"):
        task.encode([pair("a", "b")], tokenizer, 10)


# --- the model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_view_names_the_output_layer(architecture: str) -> None:
    task = Generation({})
    model, _ = tiny_writer(architecture, task)
    view = task.view(model)
    assert view.head == ()
    assert view.output is not None
    assert model.get_submodule(view.output) is model.get_output_embeddings()
    assert view.peft_task_type == ("SEQ_2_SEQ_LM" if architecture in ("t5", "bart") else "CAUSAL_LM")


@pytest.mark.parametrize("encoder", ["bert", "roberta", "distilbert", "electra"])
def test_encoders_are_refused_with_what_works(encoder: str) -> None:
    from transformers import AutoConfig

    with pytest.raises(UnsupportedModel, match=f"a {encoder} model cannot write text") as caught:
        Generation({}).model_class(AutoConfig.for_model(encoder))
    assert "causal language model" in caught.value.hint


def test_a_model_with_a_running_state_is_refused() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("mamba", vocab_size=300, hidden_size=16, num_hidden_layers=1, state_size=4)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(UnsupportedModel, match="running state"):
        Generation({}).view(model)


# --- loss


def their_loss(model: Any, rows: list[Features]) -> torch.Tensor:
    """Transformers' own mean loss over the same labels, -100 elsewhere, in a batch padded by hand."""
    seq2seq = model.config.is_encoder_decoder
    ids = [[*f.input_ids] if seq2seq else [*f.input_ids, *f.target_ids] for f in rows]
    labels = [[*f.target_ids] if seq2seq else [-100] * len(f.input_ids) + [*f.target_ids] for f in rows]

    def padded(lists: list[list[int]], filler: int) -> torch.Tensor:
        longest = max(map(len, lists))
        return torch.tensor([row + [filler] * (longest - len(row)) for row in lists])

    loss: torch.Tensor = model(
        input_ids=padded(ids, 0), attention_mask=(padded(ids, -1) != -1).long(), labels=padded(labels, -100)
    ).loss
    return loss


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradient_are_those_of_transformers(architecture: str) -> None:
    task = Generation({})
    model, _ = tiny_writer(architecture, task)
    if architecture == "t5":
        model.config.decoder_start_token_id = 0
    rows = some_features()
    watched = next(
        p
        for n, p in model.named_parameters()
        if n.endswith(("c_fc.weight", "down_proj.weight", "wo.weight", "fc1.weight"))
    )
    watched.requires_grad_(True)
    theirs = their_loss(model, rows)
    theirs.backward()  # type: ignore[no-untyped-call]
    expected, watched.grad = watched.grad, None
    loss_terms = task.loss_terms(rows)
    total = 0.0
    for micro in (rows[:1], rows[1:]):
        batch = task.collate(micro, 0)
        part = task.loss(task.forward(attached_to(model, "plain"), batch), batch) / loss_terms
        part.backward()  # type: ignore[no-untyped-call]
        total += float(part.detach())
    assert total == pytest.approx(float(theirs.detach()), abs=1e-5)
    torch.testing.assert_close(watched.grad, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("architecture", "attention"), WAYS)
def test_logits_are_those_of_each_example_alone(architecture: str, attention: str, kind: str) -> None:
    task = Generation({})
    model, _ = tiny_writer(architecture, task, attention)
    attached = attached_to(model, kind)
    rows = some_features()
    batch = task.collate(rows, 0)
    with torch.no_grad():
        together = task.forward(attached, batch)
        alone = torch.cat([task.forward(attached, task.collate([row], 7)) for row in rows])
        plain = task.forward(attached_to(model, "plain"), batch)
    assert together.shape == (task.loss_terms(rows), model.config.vocab_size)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    assert (kind == "plain") == torch.allclose(together, plain, atol=1e-3)


@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
def test_no_logits_are_computed_where_there_is_no_target(architecture: str) -> None:
    task = Generation({})
    model, _ = tiny_writer(architecture, task)
    seen: list[torch.Size] = []
    output = model.get_output_embeddings()
    output.register_forward_hook(lambda module, inputs, made: seen.append(made.shape))
    rows = some_features()
    task.forward(attached_to(model, "plain"), task.collate(rows, 0))
    assert seen == [(1, task.loss_terms(rows), model.config.vocab_size)]
    assert not output._forward_pre_hooks


def test_a_batch_counts_its_real_tokens() -> None:
    task, _ = of("gpt2")
    batch = task.collate([Features([5, 6, 7], 0, 3, [8, 9]), Features([5], 0, 1, [4])], 99)
    # The last token of a target is predicted and read by nothing.
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [5, 99, 99, 99]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    assert batch["predicts"].tolist() == [[0, 2], [0, 3], [1, 0]]
    assert batch["targets"].tolist() == [8, 9, 4]
    assert batch["target_tokens"].tolist() == [2, 1]
    task, _ = of("bart")
    batch = task.collate([Features([5, 6, 7], 0, 3, [8, 9]), Features([5], 0, 1, [4])], 99)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 99, 99]]
    assert batch["decoder_input_ids"].tolist() == [[2, 8], [2, 99]]
    assert batch["decoder_attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["predicts"].tolist() == [[0, 0], [0, 1], [1, 0]]


# --- scores


def test_outcomes_hold_each_examples_own_loss() -> None:
    task, _ = of("gpt2")
    rows = [Features([5, 6], 0, 2, [1, 2, 3]), Features([5], 0, 1, [0])]
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    given = [Example("put in", "b", SOURCES_KEPT - 1, "row"), Example("left out", "c", SOURCES_KEPT, "row")]
    made = task.outcome(logits, task.collate(rows, 0), given)
    nats = -logits.log_softmax(-1)
    assert made[0].loss == pytest.approx(float(nats[0, 1] + nats[1, 2] + nats[2, 3]), abs=1e-5)
    assert made[1].loss == pytest.approx(float(nats[3, 0]), abs=1e-5)
    assert [(p.index, p.target, p.target_tokens, p.output, p.source) for p in made] == [
        (19, "b", 3, "", "put in"),
        (20, "c", 1, "", ""),
    ]


def test_loss_is_the_mean_over_target_tokens_and_perplexity_its_exponential() -> None:
    made = [
        Prediction(index=0, target="", output="", loss=6.0, target_tokens=3),
        Prediction(index=1, target="", output="", loss=1.0, target_tokens=1),
    ]
    metrics = Generation({}).score(made, "validation")
    assert [(m.name, m.value, m.direction, m.split) for m in metrics] == [
        ("loss", 1.75, "lower", "validation"),
        ("perplexity", pytest.approx(math.exp(1.75)), "lower", "validation"),
    ]
    far = [Prediction(index=0, target="", output="", loss=1e6, target_tokens=1)]
    assert math.isfinite({m.name: m.value for m in Generation({}).score(far, "test")}["perplexity"])


def test_what_is_written_is_scored_example_by_example() -> None:
    task = Generation({})
    given = [Example("s", "the cat sat down", 0, "row"), Example("s", "a dog", 1, "row")]
    blank = [Prediction(index=e.index, target=e.target, output="") for e in given]
    made = [
        task.answer(blank[0], given[0], "  The cat sat.\n", 7),
        task.answer(blank[1], given[1], "", 0),
    ]
    assert [(p.output, p.generated_tokens) for p in made] == [("The cat sat.", 7), ("", 0)]
    metrics = task.score(made, "test")
    assert [m.name for m in metrics] == list(WRITTEN)
    assert metrics[0].name == task.primary_metric
    for metric in metrics:
        assert metric.value == pytest.approx(sum(p.values[metric.name] for p in made) / 2)
        assert (metric.unit, metric.direction) == ("fraction", "higher")
    assert made[0].values["rouge_l"] == pytest.approx(6 / 7)
    assert {m.name for m in task.metrics} == {m.name for m in metrics} | {"loss", "perplexity", "bits_per_byte"}
    assert [m.name for m in task.metrics if m.per_token] == ["loss", "perplexity"]
    # Scored with losses where there are any, without where there are none.
    lost = [p.model_copy(update={"loss": 2.0, "target_tokens": 2}) for p in made]
    assert [m.name for m in task.score(lost, "test")] == [*WRITTEN, "loss", "perplexity"]
    counted = [p.model_copy(update={"target_bytes": size}) for p, size in zip(lost, (16, 5), strict=True)]
    bits = task.score(counted, "test")[-1]
    assert (bits.name, bits.unit, bits.direction) == ("bits_per_byte", "bits", "lower")
    assert bits.value == pytest.approx(4.0 / 21 / math.log(2))


# --- whether the scores can judge the targets


def fitted_on(*targets: str) -> Generation:
    task = Generation({})
    task.fit({"train": [pair("source", "never seen")], "test": [pair("source", target) for target in targets]})
    return task


def test_targets_that_rouge_cannot_see_are_told_and_judged_by_what_sees_them() -> None:
    task = fitted_on("😀", "...", ">>=", "a word")
    (finding,) = task.findings()
    assert finding.name == "unseen_targets"
    assert "no word in 3 of 4 targets" in finding.message
    assert "compared by token_f1" in finding.message
    assert task.tested_metric == "token_f1"
    example = pair("source", "😀")
    scored = task.score([task.answer(Prediction(index=0, target="😀", output=""), example, "😀", 1)], "test")
    assert (scored[0].name, scored[0].value) == ("token_f1", 1.0)


def test_a_few_such_targets_are_told_and_the_metric_stays() -> None:
    task = fitted_on("😀", "a word", "two words")
    assert task.tested_metric == "rouge_l"
    assert [finding.name for finding in task.findings()] == ["unseen_targets"]
    assert "compared by" not in task.findings()[0].message
    assert fitted_on("кот спит", "猫猫", "a cat", "a naïve man " + "like any other " * 20).findings() == ()


def test_targets_of_one_word_have_no_pairs_of_words() -> None:
    assert [finding.name for finding in fitted_on("sport", "trade", "a cat").findings()] == ["single_words"]
    assert fitted_on("sport", "a cat").findings() == ()


def test_words_with_other_latin_letters_are_taken_whole_where_there_are_many() -> None:
    task = fitted_on("größere Äpfel fallen", "ein Apfel")
    assert [finding.name for finding in task.findings()] == ["whole_words"]
    example = pair("source", "größer")
    answered = task.answer(Prediction(index=0, target="größer", output=""), example, "grüßer", 1)
    assert answered.values["rouge_1"] == 0.0, "cut at their umlauts, both would end in the same word"


@pytest.mark.parametrize("architecture", ["gpt2", "t5", "bart"])
def test_targets_are_read_back_as_what_is_written_is(architecture: str) -> None:
    task, tokenizer = of(architecture)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<sep>"]})
    example = pair("source", f"first <sep>second{tokenizer.eos_token}third")
    (feature,) = task.encode([example], tokenizer, 64)
    ids = list(feature.target_ids)
    end = ids.index(tokenizer.eos_token_id, 1)
    (written,) = tokenizer.batch_decode([ids[:end]], skip_special_tokens=True)
    (reference,) = task.references([example], tokenizer)
    assert reference == written.strip() == "first second"


def test_a_target_of_special_tokens_alone_is_not_equal_to_nothing() -> None:
    task, tokenizer = of("gpt2")
    assert task.references([pair("source", tokenizer.eos_token * 2)], tokenizer) == [tokenizer.eos_token * 2]
