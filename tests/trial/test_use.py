from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trial_tools import news, write_csv

from tuneoff.errors import DataError, SourceNotFound, StoreError
from tuneoff.store import TrialStore
from tuneoff.tasks.base import Batch
from tuneoff.trial.use import export, predict
from tuneoff.trial.worker import restore, run

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

MakePlace = Callable[..., TrialStore]
Trained = Callable[[str, str], TrialStore]
FRESH = [text for text, _ in news(7, 500)]


@pytest.fixture(scope="module")
def trained(make_place: MakePlace, bert_folder: Path, gpt_folder: Path) -> Trained:
    """A finished trial of a method on a model; each runs once."""
    done: dict[tuple[str, str], TrialStore] = {}

    def get(method: str, architecture: str = "bert") -> TrialStore:
        if (method, architecture) not in done:
            folder = bert_folder if architecture == "bert" else gpt_folder
            # Fast enough learning for the head and what is attached to leave their start.
            options = {"learning_rate": 0.02, "epochs": 1}
            place = make_place(method, folder=folder, protocol=options)
            run(place, "cpu", time.perf_counter())
            done[method, architecture] = place
        return done[method, architecture]

    return get


def batch_of(tokenizer: Any, texts: list[str]) -> Batch:
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return dict(tokenizer(texts, truncation=True, max_length=24, padding=True, return_tensors="pt"))


@torch.no_grad()
def our_logits(place: TrialStore, texts: list[str]) -> torch.Tensor:
    task, attached, tokenizer, _ = restore(place, torch.device("cpu"))
    return task.forward(attached, batch_of(tokenizer, texts))


# --- export


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
@pytest.mark.parametrize("method", ["lora", "ia3", "prompt_tuning"])
def test_peft_loads_what_is_exported(
    method: str, architecture: str, trained: Trained, bert_folder: Path, gpt_folder: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    place = trained(method, architecture)
    done = export(place, tmp_path / "out", merged=False, device="cpu")
    assert done["kind"] == "PEFT adapter"
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md", "tuneoff-trial.json"} == set(done["files"])
    folder = bert_folder if architecture == "bert" else gpt_folder
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(folder)
    # Whatever head the base model comes with, the trained one is in the export.
    torch.manual_seed(9)
    base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, ignore_mismatched_sizes=True)
    base.config.pad_token_id = base.config.pad_token_id or 0
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "out")).eval()
    _, _, tokenizer, _ = restore(place, torch.device("cpu"))
    # One at a time: where transformers pads, it finds a decoder's last token in a way of its own.
    for text in FRESH:
        batch = batch_of(tokenizer, [text])
        with torch.no_grad():
            logits = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        torch.testing.assert_close(logits, our_logits(place, [text]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
@pytest.mark.parametrize("method", ["full", "lora", "ia3", "head"])
def test_transformers_loads_what_is_merged(method: str, architecture: str, trained: Trained, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    place = trained(method, architecture)
    done = export(place, tmp_path / "out", merged=True, device="cpu")
    assert done["kind"] == "merged model"
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(done["files"])
    assert not any("adapter" in name for name in done["files"])
    model, loading = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert model.config.id2label == {0: "sport", 1: "trade"}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    expected = our_logits(place, FRESH)
    batch = batch_of(tokenizer, FRESH)
    with torch.no_grad():
        logits = model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_a_method_of_our_own_is_exported_as_its_weights(trained: Trained, tmp_path: Path) -> None:
    done = export(trained("adapter", "bert"), tmp_path / "out", merged=False, device="cpu")
    assert done["kind"] == "trained weights"
    assert "trained.safetensors" in done["files"]


def test_the_card_says_what_it_is(trained: Trained, bert_folder: Path, tmp_path: Path) -> None:
    place = trained("lora", "bert")
    export(place, tmp_path / "out", merged=False, device="cpu")
    card = (tmp_path / "out" / "README.md").read_text()
    record = place.record()
    assert record is not None
    assert f"base_model: {bert_folder}" in card
    assert "Classes, in order: sport, trade" in card
    assert f"| accuracy | {record.metric('accuracy'):.4f} | fraction |" in card
    assert place.spec().id in card
    assert "random weights" not in card
    spec = json.loads((tmp_path / "out" / "tuneoff-trial.json").read_text())
    assert spec["id"] == place.spec().id


def test_the_card_of_random_weights_warns(make_place: MakePlace, tmp_path: Path) -> None:
    place = make_place("head", model={"random_weights": True})
    run(place, "cpu", time.perf_counter())
    export(place, tmp_path / "out", merged=False, device="cpu")
    assert "random weights: these predictions mean nothing" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("method", ["adapter", "prompt_tuning"])
def test_what_cannot_be_merged_is_refused(method: str, trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"{method} cannot be merged") as caught:
        export(trained(method, "bert"), tmp_path / "out", merged=True, device="cpu")
    assert "Mergeable methods: " in caught.value.hint
    assert "lora" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_taken_is_refused(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    for name in ("full", "file"):
        with pytest.raises(StoreError, match=f"{name} is there already and not an empty folder"):
            export(trained("lora", "bert"), tmp_path / name, merged=False, device="cpu")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert export(trained("lora", "bert"), tmp_path / "empty", merged=False, device="cpu")["files"]


def test_a_trial_without_a_model_is_refused(trained: Trained, make_place: MakePlace, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="majority trains nothing"):
        export(trained("majority", "bert"), tmp_path / "out", merged=False, device="cpu")
    with pytest.raises(StoreError, match="is not completed") as caught:
        export(make_place("lora"), tmp_path / "out", merged=False, device="cpu")
    assert "Run the study again" in caught.value.hint
    assert not (tmp_path / "out").exists()


# --- predict


@pytest.mark.parametrize(("method", "architecture"), [("lora", "bert"), ("prompt_tuning", "gpt2")])
def test_predictions_of_a_file(method: str, architecture: str, trained: Trained, tmp_path: Path) -> None:
    place = trained(method, architecture)
    labelled = write_csv(tmp_path / "labelled.csv", [(text, "whatever") for text in FRESH])
    bare = tmp_path / "bare.csv"
    bare.write_text("\n".join(["text", *FRESH]), encoding="utf-8")
    # A single column is the text, whatever it is called.
    other = tmp_path / "other.csv"
    other.write_text("\n".join(["headline", *FRESH]), encoding="utf-8")
    made = [predict(place, str(path), "cpu") for path in (labelled, bare, other)]
    assert made[0]["predictions"] == made[1]["predictions"] == made[2]["predictions"]
    assert [one["columns"]["text"] for one in made] == ["text", "text", "headline"]
    expected = our_logits(place, FRESH).softmax(-1)
    for i, prediction in enumerate(made[0]["predictions"]):
        assert prediction["index"] == i
        assert list(prediction["scores"]) == ["sport", "trade"]
        assert list(prediction["scores"].values()) == pytest.approx(expected[i].tolist(), abs=1e-5)
        assert prediction["output"] == ("sport", "trade")[int(expected[i].argmax())]
        assert prediction["probability"] == max(prediction["scores"].values())
        assert math.fsum(prediction["scores"].values()) == pytest.approx(1, abs=1e-5)


def test_a_file_without_the_text_column(trained: Trained, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "odd.csv", news(3), header=("headline", "label"))
    with pytest.raises(DataError, match="no column 'text', the text that trial lora-s0") as caught:
        predict(trained("lora", "bert"), str(path), "cpu")
    assert "headline, label" in caught.value.hint


def test_rows_that_hold_no_text(trained: Trained, tmp_path: Path) -> None:
    place = trained("lora", "bert")
    path = write_csv(tmp_path / "gap.csv", [("fine", "a"), ("", "b")])
    with pytest.raises(DataError, match=r"gap.csv line 3 has no text"):
        predict(place, str(path), "cpu")
    path = write_csv(tmp_path / "none.csv", [])
    with pytest.raises(DataError, match="but no rows"):
        predict(place, str(path), "cpu")
    path = tmp_path / "odd.jsonl"
    path.write_text('{"text": "fine"}\n{"text": "half \\ud83d"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"odd.jsonl line 2: .* not valid Unicode"):
        predict(place, str(path), "cpu")
    with pytest.raises(SourceNotFound, match=r"did you mean 'none.csv'"):
        predict(place, str(tmp_path / "nine.csv"), "cpu")
