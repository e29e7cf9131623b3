"""Classification by the likelihood of each class's words, against a computation that does it the plain way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from generation_helpers import framed
from tuneoff import registry
from tuneoff.errors import DataError, UnsupportedModel
from tuneoff.interfaces import Attached, Batch, Example, Method, TaskView
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan
from tuneoff.store import TrialStore
from tuneoff.tasks._likelihood import Words
from tuneoff.tasks.classification import Classification
from tuneoff.testing.models import random_model, shape
from tuneoff.trial.inference import predict
from tuneoff.trial.modeling.tokenizer import byte_tokenizer
from tuneoff.trial.run import run

SIZES = {name: shape(name, 128) for name in ("gpt2", "gpt_neo", "llama")}
TEXTS = ("oil up", "a goal in the last minute", "x", "the match is off")
LABELS = ["sport", "spoils", "trade"]
"""Of several tokens each; with bytes as tokens the first two begin alike."""


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(products)


def config_of(architecture: str, **changes: Any) -> Any:
    from transformers import AutoConfig

    sizes = {"vocab_size": 300, "bos_token_id": 299, "eos_token_id": 299, **SIZES[architecture], **changes}
    return AutoConfig.for_model(architecture, **sizes)


def model_of(architecture: str, task: Classification) -> Any:
    return random_model(config_of(architecture), task, noise=0.1)


def short_words(config: Any) -> Any:
    """Bytes, and a token for each of ' a', ' b', ' c'."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merged = [f"Ġ{letter}" for letter in "abc"]
    vocabulary = {token: i for i, token in enumerate([*letters, *merged])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ġ", letter) for letter in "abc"]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="a")


def likely(labels: Sequence[str] = LABELS, **options: Any) -> Classification:
    return Classification({"scoring": "likelihood", "labels": list(labels), **options})


def rows(labels: Sequence[str] = LABELS) -> list[Example]:
    return [Example(text, labels[i % len(labels)], i, f"row {i + 1}") for i, text in enumerate(TEXTS)]


def batch_of(task: Classification, tokenizer: Any, labels: Sequence[str] = LABELS, max_length: int = 60) -> Batch:
    return task.collate(task.encode(rows(labels), tokenizer, max_length), 0)


def naive(model: Any, tokenizer: Any, texts: Sequence[str], words: Sequence[str], end: str) -> torch.Tensor:
    """Each text with each class's words in a pass of its own, all logits computed."""
    table = []
    for text in texts:
        prompt = tokenizer(text + end)["input_ids"]
        row = []
        for word in words:
            ids = torch.tensor([tokenizer(text + end + word)["input_ids"]])
            assert ids[0, : len(prompt)].tolist() == prompt
            logits = model(input_ids=ids).logits[0].log_softmax(-1)
            row.append(sum(logits[i - 1, ids[0, i]] for i in range(len(prompt), ids.shape[1])))
        table.append(torch.stack([torch.as_tensor(value) for value in row]))
    return torch.stack(table)


@pytest.mark.parametrize("architecture", SIZES)
@torch.no_grad()
def test_scores_are_the_sums_of_the_words_log_probabilities(architecture: str) -> None:
    task = likely()
    model = model_of(architecture, task)
    tokenizer = byte_tokenizer(model.config)
    scores = task.forward(Attached(model, model), batch_of(task, tokenizer))
    expected = naive(model, tokenizer, TEXTS, [f" {label}" for label in LABELS], "\n\nLabel:")
    assert scores.shape == (len(TEXTS), len(LABELS))
    torch.testing.assert_close(scores, expected, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_words_of_one_token_each_take_one_pass_per_example() -> None:
    labels = ["a", "b", "c"]
    task = likely(labels, template="{text}:")
    model = model_of("gpt2", task)
    tokenizer = short_words(model.config)
    passes: list[int] = []
    model.transformer.register_forward_hook(lambda _m, _i, out: passes.append(len(out.last_hidden_state)))
    scores = task.forward(Attached(model, model), batch_of(task, tokenizer, labels))
    assert passes == [len(TEXTS)]
    expected = naive(model, tokenizer, TEXTS, [f" {label}" for label in labels], ":")
    torch.testing.assert_close(scores, expected, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_logits_are_computed_only_where_a_word_is_read() -> None:
    task = likely()
    model = model_of("gpt2", task)
    sizes: list[int] = []
    model.lm_head.register_forward_hook(lambda _m, _i, out: sizes.append(out.numel() // out.shape[-1]))
    batch = batch_of(task, byte_tokenizer(model.config))
    task.forward(Attached(model, model), batch)
    # " sport", " spoils" and " trade" are 6, 7 and 6 bytes: as many positions predict them.
    assert sizes == [len(TEXTS) * (6 + 7 + 6)]


@pytest.mark.parametrize("architecture", SIZES)
@torch.no_grad()
def test_neither_padding_nor_its_side_changes_a_score(architecture: str) -> None:
    task = likely()
    model = model_of(architecture, task)
    attached = Attached(model, model)
    features = task.encode(rows(), byte_tokenizer(model.config), 60)
    batch = task.collate(features, 7)
    together = task.forward(attached, batch)
    left = dict(batch)
    for name in ("input_ids", "attention_mask"):
        sizes = batch["attention_mask"].sum(-1).tolist()
        left[name] = torch.stack([row.roll(-size) for row, size in zip(batch[name], sizes, strict=True)])
    torch.testing.assert_close(task.forward(attached, left), together, atol=2e-5, rtol=1e-5)
    for i, feature in enumerate(features):
        alone = task.forward(attached, task.collate([feature], 0))[0]
        torch.testing.assert_close(together[i], alone, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_a_soft_prompt_stands_before_every_branch() -> None:
    task = likely()
    model = model_of("gpt2", task)
    prompt = 0.3 * torch.randn(3, 32)
    tokenizer = byte_tokenizer(model.config)
    attached = Attached(model, model, soft_prompt=lambda size: prompt.expand(size, -1, -1), virtual_tokens=3)
    scores = task.forward(attached, batch_of(task, tokenizer))

    class Prompted:
        def __call__(self, input_ids: torch.Tensor) -> Any:
            words = torch.cat([prompt[None], model.get_input_embeddings()(input_ids)], dim=1)
            out = model(inputs_embeds=words)
            out.logits = out.logits[:, 3:]
            return out

    expected = naive(Prompted(), tokenizer, TEXTS, [f" {label}" for label in LABELS], "\n\nLabel:")
    torch.testing.assert_close(scores, expected, atol=2e-5, rtol=1e-5)


def test_words_share_a_branch_where_they_begin_alike() -> None:
    words = Words.of([(1, 2), (1, 3), (4,), (1, 2, 5, 6)][:3])
    assert words.branches == ((1,),)
    assert sorted(words.places()) == [(0, 0, 1), (0, 1, 2), (1, 0, 1), (1, 1, 3), (2, 0, 4)]
    apart = Words.of([(1, 2, 3), (1, 4, 5), (6,)])
    assert set(apart.branches) == {(1, 2), (1, 4)}
    assert apart.room == 2
    assert Words.of([(1,), (2,)]).branches == ((),)


def test_the_prediction_is_the_likeliest_class_and_the_loss_its_share() -> None:
    task = likely()
    model = model_of("gpt2", task)
    batch = batch_of(task, byte_tokenizer(model.config))
    scores = task.forward(Attached(model, model), batch)
    made = task.outcome(scores, batch, rows())
    assert [p.output for p in made] == [LABELS[i] for i in scores.argmax(-1).tolist()]
    share = scores.softmax(-1)[torch.arange(len(TEXTS)), batch["labels"]]
    torch.testing.assert_close(task.loss(scores, batch), -share.log().sum())
    assert {m.name for m in task.score(made, "test")} == {"accuracy", "macro_f1", "mcc", "loss"}


@pytest.mark.parametrize("method", ["full", "lora", "qlora", "prompt_tuning"])
def test_training_lowers_the_loss(method: str) -> None:
    task = likely()
    model = model_of("gpt2", task)
    chosen = registry.methods()[method].create({})
    assert isinstance(chosen, Method)
    torch.manual_seed(1)
    attached = chosen.attach(model, task.view(model))
    batch = batch_of(task, byte_tokenizer(model.config))
    optimizer = torch.optim.AdamW([p for p in attached.module.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(15):
        loss = task.loss(task.forward(attached, batch), batch)
        losses.append(float(loss.detach()))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.85 * losses[0]


# --- prompts


def test_only_the_text_is_cut_and_all_fits_max_length() -> None:
    task = likely(["up", "off"])
    tokenizer = byte_tokenizer(config_of("gpt2"))
    end, room = len("\n\nLabel:"), len(" off") - 1
    exact = end + len("0123456789") + room
    example = [Example("0123456789", "up", 0, "row 1")]
    whole, cut = (task.encode(example, tokenizer, size)[0] for size in (exact, exact - 1))
    assert tokenizer.decode(whole.input_ids) == "0123456789\n\nLabel:"
    assert not whole.truncated
    assert tokenizer.decode(cut.input_ids) == "012345678\n\nLabel:"
    assert cut.truncated
    assert cut.length == end + 10
    with pytest.raises(DataError, match="no room") as caught:
        task.encode(example, tokenizer, end + room - 1)
    assert str(end + room + 1) in caught.value.hint


def test_words_are_those_given_and_stand_as_the_template_ends() -> None:
    tokenizer = byte_tokenizer(config_of("gpt2"))
    asked: dict[str, Any] = {
        "template": "Q: {text}\nA:\n",
        "words": {"sport": "games", "spoils": "loot", "trade": "wares"},
    }
    task = likely(**asked)
    model = model_of("gpt2", task)
    with torch.no_grad():
        scores = task.forward(Attached(model, model), batch_of(task, tokenizer))
        texts = [f"Q: {text}" for text in TEXTS]
        expected = naive(model, tokenizer, texts, ["\ngames", "\nloot", "\nwares"], "\nA:")
    torch.testing.assert_close(scores, expected, atol=2e-5, rtol=1e-5)


def test_solved_examples_stand_before_the_prompt() -> None:
    task = likely()
    tokenizer = byte_tokenizer(config_of("gpt2"))
    solved = [Example("kick off", "sport", 5, "row 6"), Example("a text that is far too long", "trade", 6, "row 7")]
    feature = task.encode(rows()[:1], tokenizer, 24, solved)[0]
    shown = "kick off\n\nLabel: sport\n\na text t\n\nLabel: trade\n\n"
    assert tokenizer.decode(feature.input_ids) == f"{shown}oil up\n\nLabel:"
    # Each block takes `max_length` at most, as `positions` promises.
    assert len(feature.input_ids) + 6 <= 3 * task.positions(24)


@pytest.mark.parametrize("frame", ["<bos> $A <eos>", "$A <eos>", "$A"])
def test_words_follow_the_prompt_whatever_the_tokenizer_puts_around_a_text(frame: str) -> None:
    task = likely(template="<|im_start|>{text}<|im_end|>\nLabel:")
    tokenizer = framed(byte_tokenizer(config_of("llama", bos_token_id=1, eos_token_id=2)), frame)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    solved = [Example("kick off", "sport", 5, "row 6"), Example("oil", "trade", 6, "row 7")]
    (feature,) = task.encode(rows()[:1], tokenizer, 60, solved)
    blocks = ("kick off<|im_end|>\nLabel: sport\n\n", "oil<|im_end|>\nLabel: trade\n\n", "oil up<|im_end|>\nLabel:")
    begin = "<bos>" if "<bos>" in frame else ""
    assert tokenizer.decode(feature.input_ids) == begin + "".join(f"<|im_start|>{block}" for block in blocks)


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        (["New", "New York"], {}, "begin alike"),
        (LABELS, {"words": {"sport": "x", "spoils": "y", "trde": "z"}}, "did you mean 'trade'"),
        (LABELS, {"words": {"sport": "x", "spoils": "y"}}, "none for the class 'trade'"),
        (LABELS, {"words": ["x", "y"]}, "2 entries for 3 classes"),
    ],
)
def test_words_that_cannot_serve_are_refused(labels: list[str], options: dict[str, Any], said: str) -> None:
    task = likely(labels, **options)
    with pytest.raises(DataError, match=said):
        task.encode(rows(labels), byte_tokenizer(config_of("gpt2")), 60)


def test_words_are_checked_with_the_data() -> None:
    task = Classification({"scoring": "likelihood", "words": ["x"]})
    with pytest.raises(DataError, match="1 entries for 3 classes"):
        task.fit({"train": rows()})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"template": "{text}"}, "scoring: likelihood"),
        ({"words": ["x", "y"]}, "scoring: likelihood"),
        ({"scoring": "likelihood", "template": "Label:"}, "{text} once"),
        ({"scoring": "likelihood", "template": "{text} {title}"}, "{text} once"),
        ({"scoring": "likelihood", "words": ["x", " "]}, "empty"),
        ({"scoring": "odds"}, "head"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Classification(options)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "t5", "bart"])
def test_models_that_cannot_tell_are_refused(architecture: str) -> None:
    from transformers import AutoConfig

    with pytest.raises(UnsupportedModel, match="how likely") as caught:
        likely().model_class(AutoConfig.for_model(architecture))
    assert "scoring: head" in caught.value.hint


def test_there_is_no_head_and_floors_can_do_it() -> None:
    task = likely()
    model: nn.Module = model_of("gpt2", task)
    view = task.view(model)
    assert view == TaskView(head=(), peft_task_type="CAUSAL_LM", output="lm_head")
    for name in ("zero_shot", "few_shot"):
        baseline = registry.methods()[name].create({})
        assert isinstance(baseline, Method)
        attached = baseline.attach(model, view)
        assert not any(p.requires_grad for p in attached.module.parameters())
    head = registry.methods()["head"].create({})
    assert isinstance(head, Method)
    with pytest.raises(UnsupportedModel):
        head.attach(model, view)


# --- a whole trial


def topics(count: int) -> list[tuple[str, str]]:
    names = {"sport": ("goal", "match", "team", "score"), "trade": ("oil", "price", "export", "tariff")}
    return [(f"{names[t][i % 4]} {i}", t) for i in range(count) for t in (("sport", "trade", "sport")[i % 3],)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TrialStore]:
    folder = tmp_path_factory.mktemp("likelihood")
    rows = "\n".join(f"{text},{label}" for text, label in topics(48))
    (folder / "news.csv").write_text(f"text,label\n{rows}\n", encoding="utf-8")
    model = model_of("gpt2", likely())
    model.save_pretrained(str(folder / "model"))
    byte_tokenizer(model.config).save_pretrained(str(folder / "model"))
    done: dict[str, TrialStore] = {}

    def get(method: str) -> TrialStore:
        if method not in done:
            study = parse(
                {
                    "name": "tiny",
                    "model": {"source": str(folder / "model")},
                    "task": {"name": "classification", "data": str(folder / "news.csv"), "scoring": "likelihood"},
                    "protocol": {"seeds": 1, "epochs": 3, "batch_size": 8, "max_length": 30, "precision": "fp32"},
                    "execution": {"latency_examples": 2},
                    "methods": {method: {}},
                }
            )
            (spec,) = plan(study)
            place = TrialStore(tmp_path_factory.mktemp("trial") / spec.id)
            place.write_spec(spec)
            run(place, "cpu", time.perf_counter())
            done[method] = place
        return done[method]

    return get


def figure(place: TrialStore, name: str) -> float:
    record = place.record()
    assert record is not None
    return next(m.value for m in record.metrics if m.name == name and m.split == "test")


def test_trained_trials_beat_the_floor_and_predict(finished: Callable[[str], TrialStore], tmp_path: Path) -> None:
    baseline, trained = finished("zero_shot"), finished("qlora")
    assert figure(trained, "loss") < figure(baseline, "loss")
    record = baseline.record()
    assert record is not None
    assert record.parameters is not None
    assert record.parameters.trainable.total == 0
    assert record.data is not None
    assert record.data.labels == ("sport", "trade")
    fresh = tmp_path / "fresh.csv"
    fresh.write_text("text\na goal\nthe oil price\n", encoding="utf-8")
    answer = predict(trained, str(fresh), "cpu")
    assert len(answer["predictions"]) == 2
    for row in answer["predictions"]:
        assert set(row["scores"]) == {"sport", "trade"}
        assert sum(row["scores"].values()) == pytest.approx(1, abs=1e-4)
