"""Conversations: what is read, what is learned, how they are cut and packed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from tuneoff import registry
from tuneoff.config.data import SourceSpec
from tuneoff.errors import DataError
from tuneoff.interfaces import Attached, Example, Features, Rows
from tuneoff.sources import read_rows
from tuneoff.tasks._packing import packed, refuse_crossing, unpacked
from tuneoff.tasks._turns import PLAIN, TurnEncoder
from tuneoff.tasks._turns_code import turns_code
from tuneoff.tasks.chat import Chat
from tuneoff.tasks.instruction import Instruction
from tuneoff.testing.models import random_model
from tuneoff.trial.modeling.tokenizer import byte_tokenizer

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SIZES = {"vocab_size": 400, "n_positions": 512, "n_embd": 16, "n_layer": 2, "n_head": 2}


def config(kind: str = "gpt2") -> Any:
    sizes = (
        SIZES
        if kind == "gpt2"
        else {
            "vocab_size": 400,
            "max_position_embeddings": 512,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 32,
            "head_dim": 8,
        }
    )
    made = AutoConfig.for_model(kind, **sizes)
    made.bos_token_id = made.pad_token_id = None
    made.eos_token_id = 299
    return made


@pytest.fixture
def tokenizer() -> Any:
    made = byte_tokenizer(config())
    made.add_special_tokens({"additional_special_tokens": ["<end>"]})
    return made


def rows(*chats: Any, **columns: list[Any]) -> Rows:
    return Rows({"messages": list(chats), **columns} if chats else columns, "chats.jsonl")


def turns(*words: str, system: str = "") -> list[dict[str, str]]:
    said = [{"role": "user" if i % 2 == 0 else "assistant", "content": text} for i, text in enumerate(words)]
    return [*([{"role": "system", "content": system}] if system else []), *said]


def examples(task: Any, table: Rows) -> list[Example]:
    return list(task.examples(table, task.columns(table), "train"))


def shown(features: Features, tokenizer: Any) -> tuple[str, str]:
    """The text of a conversation, and what of it is learned."""
    unlearned = set(features.unlearned)
    learned = [token for at, token in enumerate(features.target_ids) if at not in unlearned]
    return tokenizer.decode([*features.input_ids, *features.target_ids]), tokenizer.decode(learned)


def test_answers_alone_are_learned_with_the_end_of_their_turn(tokenizer: Any) -> None:
    task = Chat({"chat_template": CHATML, "max_target_length": 20})
    chat = turns("hi", "ho", "and you?", "fine", system="be kind")
    (features,) = task.encode(examples(task, rows(chat)), tokenizer, 200)
    text, learned = shown(features, tokenizer)
    system, first, second = (
        "<|system|>be kind<end>\n",
        "<|user|>hi<end>\n<|assistant|>ho<end>\n",
        "<|user|>and you?<end>\n",
    )
    assert text == f"{system}{first}{second}<|assistant|>fine<end>"
    assert learned == "ho<end>fine<end>"
    assert tokenizer.decode(features.prompt_ids) == text.removesuffix("fine<end>")
    assert task.loss_terms([features]) == len(tokenizer(learned)["input_ids"])
    assert features.target_bytes == len("hofine")
    assert not features.truncated


def test_the_plain_template_ends_answers_with_the_end_of_text(tokenizer: Any) -> None:
    task = Instruction({"max_target_length": 20})
    table = rows(instruction=["say hi", "add"], input=["", "1 and 2"], output=["hi", "3"])
    assert task.columns(table) == {"instruction": "instruction", "input": "input", "output": "output"}
    features = task.encode(examples(task, table), tokenizer, 200)
    end = tokenizer.eos_token
    assert shown(features[1], tokenizer) == (f"User: add\n\n1 and 2\n\nAssistant: 3{end}", f" 3{end}")
    assert shown(features[0], tokenizer)[0].startswith("User: say hi\n\nAssistant:")
    own = tokenizer.apply_chat_template(turns("a", "b"), chat_template=PLAIN, tokenize=False)
    assert own == f"User: a\n\nAssistant: b{end}\n\n"


def test_a_tokenizers_own_template_is_taken_unless_another_is_named(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="no chat template"):
        Chat({"chat_template": "model"}).encode(examples(Chat({}), rows(turns("a", "b"))), tokenizer, 100)
    tokenizer.chat_template = CHATML
    texts = {
        name: shown(
            Chat({"chat_template": name}).encode(examples(Chat({}), rows(turns("a", "b"))), tokenizer, 100)[0],
            tokenizer,
        )[0]
        for name in ("auto", "model", "plain")
    }
    assert texts["auto"] == texts["model"] == "<|user|>a<end>\n<|assistant|>b<end>"
    assert texts["plain"].startswith("User: a")


def test_what_is_too_long_loses_its_oldest_turns_then_the_end_of_the_question(tokenizer: Any) -> None:
    task = Chat({"chat_template": CHATML, "max_target_length": 10})
    chat = turns("a" * 30, "b", "c" * 9, "d", system="s")
    whole = task.encode(examples(task, rows(chat)), tokenizer, 200)[0]
    (cut,) = task.encode(examples(task, rows(chat)), tokenizer, 60)
    assert shown(cut, tokenizer)[0] == f"<|system|>s<end>\n<|user|>{'c' * 9}<end>\n<|assistant|>d<end>"
    assert cut.truncated
    assert not whole.truncated
    assert (whole.target_bytes, cut.target_bytes) == (2, 1), "bits per byte are of what is learned"
    (short,) = task.encode(examples(task, rows(chat)), tokenizer, 42)
    text = shown(short, tokenizer)[0]
    assert "<|user|>cccc" in text
    assert text.count("c") < 9
    assert len(short.prompt_ids or short.input_ids) <= 42
    with pytest.raises(DataError, match="there is room for 20"):
        task.encode(examples(task, rows(chat)), tokenizer, 20)


@pytest.mark.parametrize(("room", "kept"), [(27, 0), (120, 2), (1_000, 29), (1_900, 56)])
def test_a_long_conversation_keeps_the_most_that_fits_and_is_rendered_a_few_times(
    room: int, kept: int, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[bool] = []
    render = TurnEncoder._render

    def counted(self: TurnEncoder, *args: Any, prompt: bool) -> str:
        rendered.append(prompt)
        return render(self, *args, prompt=prompt)

    monkeypatch.setattr(TurnEncoder, "_render", counted)
    exchanges = 60
    table = rows(turns(*["word"] * 2 * exchanges))
    encoder = TurnEncoder(tokenizer, CHATML, room, room + 10, 10, cut_targets=False)
    (features,) = encoder.features(examples(Chat({}), table), ())
    # An exchange takes 33 tokens, and the last question 27.
    assert len(features.prompt_ids or features.input_ids) == 27 + 33 * kept <= room < 60 + 33 * kept
    assert len(rendered) < 10 * 2 * exchanges, "two for each answer, not for each turn that is dropped"


def test_an_answer_beyond_its_room_takes_that_of_the_question_or_is_cut(tokenizer: Any) -> None:
    chat = turns("q" * 20, "a" * 30)
    options = {"chat_template": CHATML, "max_target_length": 10}
    (kept,) = Chat(options).encode(examples(Chat({}), rows(chat)), tokenizer, 50)
    assert shown(kept, tokenizer)[1] == "a" * 30 + "<end>"
    assert len(kept.input_ids) + len(kept.target_ids) <= 60
    assert tokenizer.decode(kept.prompt_ids).count("q") == 20, "text is written from the whole question"
    (cut,) = Chat({**options, "long_targets": "cut"}).encode(examples(Chat({}), rows(chat)), tokenizer, 50)
    assert shown(cut, tokenizer)[1] == "a" * 10
    assert (kept.target_bytes, cut.target_bytes) == (30, 10)
    with pytest.raises(DataError, match=r"the answer's 31 tokens .* more than the 40") as caught:
        Chat(options).encode(examples(Chat({}), rows(chat)), tokenizer, 30)
    assert "long_targets to cut" in caught.value.hint


def test_solved_examples_are_earlier_turns_that_are_not_learned(tokenizer: Any) -> None:
    task = Chat({"chat_template": CHATML, "max_target_length": 10})
    first, second = examples(task, rows(turns("q", "a", system="s"), turns("p", "b")))
    (features,) = task.encode([first], tokenizer, 100, [second])
    text, learned = shown(features, tokenizer)
    assert text == "<|system|>s<end>\n<|user|>p<end>\n<|assistant|>b<end>\n<|user|>q<end>\n<|assistant|>a<end>"
    assert learned == "a<end>"


@pytest.mark.parametrize(
    ("chat", "says"),
    [
        (None, "not a list of messages"),
        ("hi", "not a list of messages"),
        ([{"role": "user", "content": "a"}], "no message of the assistant"),
        (turns("a", "b")[1:], "follows no message of the user"),
        ([{"role": "user", "content": ""}, {"role": "assistant", "content": "b"}], "empty"),
        ([{"role": "tool", "content": "x"}, {"role": "assistant", "content": "b"}], "a call of a tool"),
        ([{"role": "user", "content": [{"type": "image", "url": "x"}]}, {"role": "assistant", "content": "b"}], "text"),
    ],
)
def test_conversations_that_cannot_be_learned_are_refused_with_their_row(chat: Any, says: str) -> None:
    task = Chat({"messages": "messages"})
    table = rows(turns("a", "b"), chat)
    with pytest.raises(DataError, match=says) as caught:
        task.examples(table, task.columns(table), "train")
    assert "row 2" in caught.value.message


def test_an_instructions_input_that_is_no_unicode_is_refused_with_its_row() -> None:
    table = rows(instruction=["Add.", "Add."], input=["1", "\ud800"], output=["2", "3"])
    with pytest.raises(DataError, match=r"chats.jsonl row 2 holds text that is not valid Unicode"):
        examples(Instruction({}), table)


def test_other_spellings_and_parts_of_text_are_read() -> None:
    sharegpt = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}, {"from": "human", "value": "bye"}]
    parts = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role": "assistant", "content": "ho"}]
    task = Chat({})
    read = examples(task, Rows({"conversations": [sharegpt, parts]}, "x"))
    assert [(e.text, e.target, e.history) for e in read] == [("hi", "ho", ())] * 2
    task.examples(Rows({"conversations": [parts]}, "x"), {"messages": "conversations"}, "test")
    (finding,) = task.findings()
    assert finding.name == "open_conversations"
    assert finding.message.endswith("left out: 1 of train")


def test_a_template_that_refuses_is_one_error_with_the_row(tokenizer: Any) -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + CHATML
    task = Chat({"chat_template": refusing})
    with pytest.raises(DataError, match="no system here") as caught:
        task.encode(examples(task, rows(turns("a", "b"), turns("a", "b", system="s"))), tokenizer, 100)
    assert "row 2" in caught.value.message
    forgetful = "{% for m in messages %}{{ m.content }}{{ messages | length }}|{% endfor %}"
    with pytest.raises(DataError, match="changes earlier turns"):
        Chat({"chat_template": forgetful}).encode(examples(task, rows(turns("a", "b"))), tokenizer, 100)


@pytest.mark.parametrize("refuses", ["", "messages[0].role == 'system'", "messages[0].role != 'system'"])
def test_the_end_of_a_turn_is_known_before_any_row_is_encoded(refuses: str, tokenizer: Any) -> None:
    refusal = f"{{% if {refuses} %}}{{{{ raise_exception('no') }}}}{{% endif %}}" if refuses else ""
    assert Chat({"chat_template": refusal + CHATML}).end_ids(tokenizer) == (tokenizer.convert_tokens_to_ids("<end>"),)
    assert Chat({"chat_template": "plain"}).end_ids(tokenizer) == (tokenizer.eos_token_id,)


def test_a_template_that_refuses_everything_has_no_end_of_a_turn(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="never"):
        Chat({"chat_template": "{{ raise_exception('never') }}"}).end_ids(tokenizer)


# --- packing

WORDS = ["a", "a longer question", "b c", "what", "this one is the longest of all questions here", "no"]


def prepared(kind: str, tokenizer: Any, **options: Any) -> tuple[Any, Any, list[Features]]:
    task = Chat({"chat_template": CHATML, "max_target_length": 40, **options})
    torch.manual_seed(0)
    model = random_model(config(kind), task, 0.3)
    chats = [turns(words, words[::-1], "again", f"{words} {i}") for i, words in enumerate(WORDS)]
    return task, model, task.encode(examples(task, rows(*chats)), tokenizer, 300)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_losses_equal_unpacked_ones(kind: str, attention: str, tokenizer: Any) -> None:
    task, model, features = prepared(kind, tokenizer)
    model.set_attn_implementation(attention)
    attached = Attached(model, model)
    batch = task.collate(features, 0)
    together = packed(batch)
    assert len(together["input_ids"]) < len(batch["input_ids"])
    assert together["attention_mask"].sum() == batch["attention_mask"].sum()
    plain = task.forward(attached, batch)
    torch.testing.assert_close(task.forward(attached, together), plain, atol=2e-5, rtol=1e-4)
    losses = [float(task.loss(task.forward(attached, b), b).detach()) for b in (batch, together)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    back = unpacked(together)
    for name in ("input_ids", "attention_mask", "predicts"):
        assert torch.equal(back[name], batch[name]), name


def test_gradients_of_packed_batches_equal_those_of_unpacked_ones(tokenizer: Any) -> None:
    gradients = []
    for packing in (False, True):
        task, model, features = prepared("llama", tokenizer, packing=packing)
        batch = task.collate(features, 0)
        assert ("places" in batch) == packing
        task.loss(task.forward(Attached(model, model), batch), batch).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_virtual_tokens_stand_before_each_packed_example(tokenizer: Any) -> None:
    task, model, features = prepared("gpt2", tokenizer, packing=True)
    attached = Attached(model, model)
    prompt = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    attached.soft_prompt = lambda batch: prompt.expand(batch, -1, -1)
    attached.virtual_tokens = 3
    together = task.forward(attached, task.collate(features, 0))
    alone = torch.cat([task.forward(attached, task.collate([one], 0)) for one in features])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-4)


def test_a_model_that_lets_examples_cross_is_refused(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, _ = prepared("llama", tokenizer)
    refuse_crossing(model)
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda position_ids=None, **kwargs: forward(**kwargs))
    with pytest.raises(Exception, match="does not keep several examples in one row apart"):
        refuse_crossing(model)


# --- files


def test_files_of_chats_and_instructions_are_read(tmp_path: Path) -> None:
    (tmp_path / "chat.jsonl").write_text("\n".join(json.dumps({"messages": turns("a", "b")}) for _ in range(3)))
    read = read_rows(registry.sources(), SourceSpec(source=str(tmp_path / "chat.jsonl")), "train")
    assert [e.target for e in examples(Chat({}), read)] == ["b"] * 3
    with pytest.raises(DataError, match=r"gone"):
        Chat({"messages": "gone"}).columns(read)


@pytest.mark.parametrize("system", ["", "s" * 80])
def test_the_code_of_a_card_cuts_questions_and_ends_where_nothing_is_left_to_cut(tokenizer: Any, system: str) -> None:
    encoder = TurnEncoder(tokenizer, "plain", prompt_room=40, whole_room=60, target_room=20, cut_targets=False)
    names: dict[str, Any] = {"tokenizer": tokenizer}
    exec("\n".join(turns_code(encoder)), names)
    ids = names["prompt"](turns("q" * 100, "a", "w" * 100, system=system))
    assert (len(ids) > 40) == bool(system)
    assert "aq" not in tokenizer.decode(ids), "the oldest turns go first"
