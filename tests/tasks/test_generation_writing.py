"""What is written depends on the example alone: not on padding, neighbours, the cache or the model's own settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from generation_helpers import ARCHITECTURES, KINDS, WAYS, attached_to, some_features, tiny_writer
from tuneoff.interfaces import Attached, Example, Features
from tuneoff.records.record import Prediction
from tuneoff.tasks.generation import Generation

LONGEST = 8


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def writer(
    architecture: str, kind: str = "plain", attention: str = "eager", **options: Any
) -> tuple[Generation, Attached, Any]:
    task = Generation({"max_target_length": LONGEST, **options})
    model, tokenizer = tiny_writer(architecture, task, attention)
    assert {part.config._attn_implementation for part in model.modules() if hasattr(part, "config")} == {attention}
    return task, attached_to(model, kind), tokenizer


@torch.no_grad()
def step_by_step(task: Generation, attached: Attached, prompt: Features, end: int) -> list[int]:
    """The most likely token, again and again, each from a forward pass over everything, as in training."""
    written: list[int] = []
    for _ in range(LONGEST):
        asked = Features(prompt.input_ids, 0, prompt.length, [*written, end])
        best = int(task.forward(attached, task.collate([asked], 0))[-1].argmax())
        if best == end:
            break
        written.append(best)
    return written


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("architecture", "attention"), WAYS)
def test_a_batch_writes_what_each_example_writes_alone(architecture: str, attention: str, kind: str) -> None:
    task, attached, tokenizer = writer(architecture, kind, attention)
    prompts = some_features()
    together = task.generate(attached, prompts, tokenizer)
    assert together == [task.generate(attached, [prompt], tokenizer)[0] for prompt in prompts]
    assert together == [step_by_step(task, attached, prompt, tokenizer.eos_token_id) for prompt in prompts]
    assert len({tuple(written) for written in together}) > 1
    assert max(len(set(written)) for written in together) > 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("architecture", "attention"), WAYS)
def test_beams_of_a_batch_are_those_of_each_example_alone(architecture: str, attention: str, kind: str) -> None:
    task, attached, tokenizer = writer(architecture, kind, attention, num_beams=3)
    prompts = some_features()
    together = task.generate(attached, prompts, tokenizer)
    assert together == [task.generate(attached, [prompt], tokenizer)[0] for prompt in prompts]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("architecture", "attention"), WAYS)
@torch.no_grad()
def test_in_bf16_a_batch_writes_the_likeliest_token_of_each_example_but_for_rounding(
    architecture: str, attention: str, kind: str
) -> None:
    task, attached, tokenizer = writer(architecture, kind, attention)
    prompts = some_features()
    with torch.autocast("cpu", torch.bfloat16):
        together = task.generate(attached, prompts, tokenizer)
        for prompt, written in zip(prompts, together, strict=True):
            made = [*written, tokenizer.eos_token_id][:LONGEST]
            asked = Features(prompt.input_ids, 0, prompt.length, made)
            alone = task.forward(attached, task.collate([asked], 0)).float()
            lost = alone.amax(-1) - alone[torch.arange(len(made)), torch.tensor(made)]
            # bfloat16 has eight bits: a product of a few layers is right to some hundredths of the scores' size.
            assert float(lost.max()) <= 0.03 * float(alone.abs().max())


def test_beams_find_another_text_than_greed() -> None:
    prompts = some_features()
    made = []
    for beams in (1, 3):
        task, attached, tokenizer = writer("gpt2", num_beams=beams)
        made.append(task.generate(attached, prompts, tokenizer))
    assert made[0] != made[1]


@pytest.mark.parametrize("kind", ["soft_prompt", "prefix"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_virtual_tokens_change_what_is_written(architecture: str, kind: str) -> None:
    task, attached, tokenizer = writer(architecture, kind)
    prompts = some_features()
    plain = attached_to(attached.model, "plain")
    assert task.generate(attached, prompts, tokenizer) != task.generate(plain, prompts, tokenizer)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "t5", "bart"])
def test_greedy_writing_is_that_of_transformers(architecture: str) -> None:
    task, attached, tokenizer = writer(architecture)
    model: Any = attached.model
    for prompt in some_features():
        from transformers import GenerationConfig

        ids = torch.tensor([prompt.input_ids])
        # Transformers' own defaults for these token ids: nothing else is set.
        model.generation_config = GenerationConfig(
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None) or 0,
        )
        whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=LONGEST, do_sample=False)
        theirs = whole[0, 1 if model.config.is_encoder_decoder else len(prompt.input_ids) :].tolist()
        assert task.generate(attached, [prompt], tokenizer)[0] == [t for t in theirs if t != tokenizer.eos_token_id]


@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
def test_a_text_does_not_end_before_its_least_length(architecture: str) -> None:
    def end_at_once(task: Generation, attached: Attached, tokenizer: Any) -> list[int]:
        model: Any = attached.model
        first = task.generate(attached, some_features(), tokenizer)[0][0]
        model.config.eos_token_id = first
        return [len(written) for written in task.generate(attached, some_features()[:1], tokenizer)]

    assert end_at_once(*writer(architecture)) == [0]
    (length,) = end_at_once(*writer(architecture, min_target_length=3))
    assert length >= 3


def test_a_least_length_beyond_the_room_is_refused() -> None:
    with pytest.raises(ValueError, match="min_target_length 8 is not below max_target_length 8"):
        Generation({"max_target_length": 8, "min_target_length": 8})


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "t5"])
def test_nothing_is_written_after_the_end_of_the_text(architecture: str) -> None:
    task, attached, tokenizer = writer(architecture)
    prompts = some_features()
    before = task.generate(attached, prompts, tokenizer)
    known = set(tokenizer.get_vocab().values())
    chosen, ending = next(
        (row, i)
        for row, written in enumerate(before)
        for i in range(2, len(written))
        if written[i] in known and written[i] not in written[:i]
    )
    # From now on, that token is the end of the text, and padding another one.
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(before[chosen][ending])
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(3)
    after = task.generate(attached, prompts, tokenizer)
    assert after[chosen] == before[chosen][:ending]
    assert tokenizer.eos_token_id not in [token for written in after for token in written]
    # Rows that go on are no shorter for it, and rows that ended carry no padding.
    assert after == [task.generate(attached, [prompt], tokenizer)[0] for prompt in prompts]
    assert max(len(written) for written in after) > ending


def test_every_end_that_the_configuration_names_ends_a_text() -> None:
    task, attached, tokenizer = writer("llama")
    prompt = some_features()[1]
    (written,) = task.generate(attached, [prompt], tokenizer)
    model: Any = attached.model
    model.config.eos_token_id = [tokenizer.eos_token_id, written[2]]
    assert task.generate(attached, [prompt], tokenizer) == [written[: written.index(written[2])]]


@pytest.mark.parametrize("architecture", ["gpt2", "bart"])
def test_the_models_own_settings_change_nothing(architecture: str) -> None:
    task, attached, tokenizer = writer(architecture)
    prompts = some_features()
    model: Any = attached.model
    plain = task.generate(attached, prompts, tokenizer)
    own = model.generation_config
    own.update(
        num_beams=4,
        min_new_tokens=8,
        no_repeat_ngram_size=1,
        repetition_penalty=5.0,
        forced_eos_token_id=7,
        forced_bos_token_id=8,
        suppress_tokens=list(range(10, 100)),
        encoder_no_repeat_ngram_size=1,
        max_length=4,
    )
    assert task.generate(attached, prompts, tokenizer) == plain
    assert model.generation_config is own


def test_no_sequence_is_written_twice_where_that_is_asked_for() -> None:
    task, attached, tokenizer = writer("gpt2", no_repeat_ngram_size=1)
    for written in task.generate(attached, some_features(), tokenizer):
        assert len(set(written)) == len(written)
    task, attached, tokenizer = writer("gpt2")
    assert any(len(set(w)) < len(w) for w in task.generate(attached, some_features(), tokenizer))


def test_length_penalty_reaches_the_beams() -> None:
    written = []
    for penalty in (-8.0, 8.0):
        task, attached, tokenizer = writer("gpt2", num_beams=4, length_penalty=penalty)
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(17)
        model: Any = attached.model
        with torch.no_grad():
            # The end of the text is never far, so that short and long texts compete.
            direction = torch.eye(model.config.hidden_size)[0]
            model.transformer.ln_f.bias += 6 * direction
            model.lm_head.weight[17] = direction
        written.append(sum(map(len, task.generate(attached, some_features(), tokenizer))))
    assert written[0] < written[1]


def test_a_prompt_longer_than_its_training_input_is_written_from() -> None:
    task, attached, tokenizer = writer("gpt2")
    short, long = some_features((4, 9), (2, 2))
    both = Features(short.input_ids, 0, 9, short.target_ids, prompt_ids=long.input_ids)
    assert task.generate(attached, [both], tokenizer) == task.generate(attached, [long], tokenizer)
    assert task.generate(attached, [both], tokenizer) != task.generate(attached, [short], tokenizer)


def test_after_solved_examples_a_text_ends_at_the_blank_line_as_they_do() -> None:
    task, attached, tokenizer = writer("gpt2")
    line, letter = tokenizer("\n")["input_ids"][0], tokenizer("x")["input_ids"][0]
    model: Any = attached.model
    with torch.no_grad():
        # Whatever the prompt, it writes line ends.
        model.lm_head.weight.zero_()
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.fill_(1.0)
        model.lm_head.weight[line] = 1.0
    prompt, other = Example("p", "t", 0, "row"), Example("q", "u", 1, "row")
    features = task.encode([prompt], tokenizer, 20)
    assert task.generate(attached, features, tokenizer) == [[line] * LONGEST]
    features = task.encode([prompt], tokenizer, 20, [other])
    # Blank lines before anything is written end nothing.
    assert task.generate(attached, features, tokenizer) == [[line] * LONGEST]
    calls = iter([letter, line, line, letter, letter, letter])
    hook = model.lm_head.register_forward_hook(
        lambda module, inputs, made: torch.nn.functional.one_hot(torch.full(made.shape[:2], next(calls)), 300).float()
    )
    assert task.generate(attached, features, tokenizer) == [[letter, line, line]]
    hook.remove()
    written = task.answer(Prediction(index=0, target="t", output=""), prompt, " one\n\ntwo", 3)
    assert written.output == "one"
