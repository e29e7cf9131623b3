"""Tokens that a model has no embeddings for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trial_helpers import save_folder, tiny_config
from tuneoff.config.data import ModelSpec
from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import Attached, Example, Features, Task
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.load import Loaded
from tuneoff.trial.modeling.tokenizer import byte_tokenizer
from tuneoff.trial.modeling.vocabulary import check_tokens, check_words, choose_padding

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")


def classes() -> Classification:
    return Classification({"labels": ["a", "b"]})


SIZE = 257
END = {"bos_token_id": SIZE - 1, "eos_token_id": SIZE - 1}


@pytest.fixture(scope="module")
def full_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 whose tokenizer has a token for each embedding."""
    return save_folder(tmp_path_factory.mktemp("models") / "full", "gpt2", ["a", "b"], vocab_size=SIZE, **END)


@pytest.fixture
def changed(full_folder: Path, tmp_path: Path) -> Callable[[Callable[[Any], Any]], Path]:
    """The folder with a changed tokenizer and the model as it was."""

    def make(change: Callable[[Any], Any]) -> Path:
        from transformers import AutoTokenizer

        folder = tmp_path / "model"
        shutil.copytree(full_folder, folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        change(tokenizer)
        tokenizer.save_pretrained(folder)
        return folder

    return make


def load(folder: Path, task: Task) -> Loaded:
    return trial_model.load(ModelSpec(source=str(folder)), task, seed=0, dropout=0.0, attention="eager")


@pytest.mark.parametrize("writes", [False, True])
def test_a_pad_token_beyond_the_embeddings_is_replaced(changed: Any, writes: bool) -> None:
    folder = changed(lambda tokenizer: tokenizer.add_special_tokens({"pad_token": "[PAD]"}))
    task: Task = Generation({"max_target_length": 4}) if writes else classes()
    loaded = load(folder, task)
    end = loaded.tokenizer.eos_token_id
    assert loaded.pad_token_id == loaded.tokenizer.pad_token_id == end
    assert loaded.model.config.pad_token_id == end  # type: ignore[union-attr]
    assert [f.name for f in loaded.findings if f.name == "pad_token_replaced"] == ["pad_token_replaced"]
    attached = Attached(loaded.model, loaded.model)
    examples = [Example("a", "a", 0, "row"), Example("a longer text", "b", 1, "row")]
    features = task.encode(examples, loaded.tokenizer, 32)
    loaded.model.eval()
    with torch.no_grad():
        # Masked, so the shorter text's result is the same alone and beside the longer one.
        alone, beside = (task.forward(attached, task.collate(f, loaded.pad_token_id)) for f in (features[:1], features))
        torch.testing.assert_close(beside[: len(alone)], alone, atol=1e-5, rtol=1e-5)
        if writes:
            assert len(task.generate(attached, features, loaded.tokenizer)) == 2


def test_plain_transformers_reads_the_same_class_with_the_pad_token_that_is_kept(changed: Any) -> None:
    folder = changed(lambda tokenizer: tokenizer.add_special_tokens({"pad_token": "[PAD]"}))
    task = classes()
    loaded = load(folder, task)
    model: Any = loaded.model.eval()
    examples = [Example("a", "a", 0, "row"), Example("a longer text", "b", 1, "row")]
    batch = task.collate(task.encode(examples, loaded.tokenizer, 32), loaded.pad_token_id)
    with torch.no_grad():
        ours = task.forward(Attached(model, model), batch)
        theirs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("without_weights", [False, True])
def test_a_word_beyond_the_embeddings_is_one_error_with_both_sizes(
    changed: Any, writes: bool, without_weights: bool
) -> None:
    folder = changed(lambda tokenizer: tokenizer.add_tokens(["zebra", "gnu"]))
    task: Task = Generation({}) if writes else classes()
    with pytest.raises(UnsupportedModel, match="its tokenizer has 259 tokens, its model 257 embeddings") as caught:
        trial_model.load_tokenizer(ModelSpec(source=str(folder)), task) if without_weights else load(folder, task)
    assert "none for 2 of them, such as 'zebra' (number 257)" in caught.value.message
    assert "resize_token_embeddings" in caught.value.hint


def test_special_tokens_beyond_are_refused_only_where_they_are_read() -> None:
    config = tiny_config("gpt2", vocab_size=SIZE, **END)
    tokenizer = byte_tokenizer(config)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    check_words(tokenizer, config, "model", True)
    beyond = tokenizer.convert_tokens_to_ids("<image>")
    check_tokens([Features([5, 6], 0, 2)], tokenizer, config, "model")
    for feature in (
        Features([beyond], 0, 1),
        Features([5], 0, 1, target_ids=[beyond]),
        Features([5], 0, 1, (), [beyond]),
    ):
        with pytest.raises(UnsupportedModel, match=r"none for '<image>' .* in the data or its template"):
            check_tokens([feature], tokenizer, config, "model")


def test_an_end_beyond_is_refused_for_a_task_that_writes() -> None:
    config = tiny_config("gpt2", vocab_size=SIZE, **END)
    tokenizer = byte_tokenizer(config)
    tokenizer.add_special_tokens({"eos_token": "<end>"})
    check_words(tokenizer, config, "model", False)
    with pytest.raises(UnsupportedModel, match="'<end>'"):
        check_words(tokenizer, config, "model", True)


def test_a_decoders_start_beyond_is_refused() -> None:
    config = tiny_config("t5", decoder_start_token_id=300)
    with pytest.raises(UnsupportedModel, match="number 300, from which its decoder starts"):
        check_words(byte_tokenizer(config), config, "model", True)


@pytest.mark.parametrize("pad", [-1, 300, 10**6])
def test_a_pad_token_of_the_configuration_beyond_is_not_used(gpt_folder: Path, tmp_path: Path, pad: int) -> None:
    import json

    folder = tmp_path / "model"
    shutil.copytree(gpt_folder, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": pad}), encoding="utf-8")
    assert load(folder, classes()).pad_token_id == 299
    assert trial_model.build_empty(ModelSpec(source=str(folder)), classes())[0] is not None


def test_padding_never_makes_a_word_special() -> None:
    config = tiny_config("gpt2", vocab_size=256, eos_token_id=None, bos_token_id=None)
    tokenizer = byte_tokenizer(config)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    pad, _ = choose_padding(tokenizer, config)
    assert pad == 0
    assert tokenizer.pad_token is None
    word = tokenizer.convert_ids_to_tokens(0)
    assert tokenizer.decode([0, 1], skip_special_tokens=True).startswith(word)
