"""Exports, read by a process that has transformers and PEFT and not tuneoff."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from trial_helpers import (
    MakePlace,
    Trained,
    Written,
    batch_of,
    news,
    our_logits,
    run_cards,
    save_pretrained,
    save_writer,
    write_csv,
)
from tuneoff import registry
from tuneoff.errors import CorruptRecord, StoreError
from tuneoff.store import TrialStore
from tuneoff.store.files import read_json
from tuneoff.trial.export import NO_HUB_ID, export
from tuneoff.trial.inference import predict, restore
from tuneoff.trial.run import run

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

FRESH = [text for text, _ in news(7, 500)]
LEARNING = {"learning_rate": 0.02, "epochs": 1, "max_steps": 4}


def trainable(*without: str) -> list[str]:
    """Every method that trains."""
    return [name for name in registry.methods() if registry.methods()[name].trains and name not in without]


@pytest.mark.parametrize(
    ("architecture", "scoring", "methods"),
    [
        ("bert", "head", trainable("prefix_tuning")),
        pytest.param("gpt2", "head", trainable(), marks=pytest.mark.slow),
        pytest.param("gpt2", "likelihood", trainable("head"), marks=pytest.mark.slow),
        pytest.param("t5", "head", ["lora", "prompt_tuning", "prefix_tuning"], marks=pytest.mark.slow),
    ],
)
def test_every_method_of_a_classifier_is_loaded_without_tuneoff(
    architecture: str,
    scoring: str,
    methods: list[str],
    make_place: MakePlace,
    bert_folder: Path,
    gpt_folder: Path,
    t5_folder: Path,
    tmp_path: Path,
) -> None:
    folder = {"bert": bert_folder, "gpt2": gpt_folder, "t5": t5_folder}[architecture]
    # The last one is cut.
    texts = [text for text, _ in news(9, 500)] + ["goal oil " * 20]
    rows = write_csv(tmp_path / "rows.csv", [(text, "") for text in texts])
    expected, asked = {}, {}
    for method in methods:
        place = make_place(method, folder=folder, protocol=LEARNING, task={"scoring": scoring})
        run(place, "cpu", time.perf_counter())
        out = tmp_path / method
        export(place, out, merged=False, device="cpu")
        expected[out] = predict(place, str(rows), "cpu")["predictions"]
        asked[out] = [{"text": text} for text in texts]
    for out, found in run_cards(asked).items():
        for (output, scores), ours in zip(found, expected[out], strict=True):
            assert scores == pytest.approx(ours["scores"], abs=1e-4), out.name
            assert output == ours["output"], out.name


@pytest.mark.parametrize(("architecture", "method"), [("deberta-v2", "lora"), ("bert", "ia3"), ("t5", "lora")])
def test_an_adapter_holds_all_that_pretraining_lacks(
    architecture: str, method: str, make_place: MakePlace, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    folder = save_pretrained(tmp_path / "base", architecture)
    place = make_place(method, folder=folder, protocol=LEARNING)
    run(place, "cpu", time.perf_counter())
    export(place, tmp_path / "out", merged=False, device="cpu")
    _, _, tokenizer, _ = restore(place, torch.device("cpu"))
    # Whatever the base model's own fresh tensors are drawn from.
    torch.manual_seed(77)
    base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "out")).eval()
    for text in FRESH:
        batch = batch_of(tokenizer, [text])
        with torch.no_grad():
            logits = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        torch.testing.assert_close(logits, our_logits(place, [text]), atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="session")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_writer(
        tmp_path_factory.mktemp("models") / "t5", "t5", num_decoder_layers=3, decoder_start_token_id=0, pad_token_id=0
    )


@pytest.mark.parametrize(
    ("architecture", "options", "methods"),
    [
        ("gpt2", {"num_beams": 2, "no_repeat_ngram_size": 2}, ["lora", "last_block", "prompt_tuning", "prefix_tuning"]),
        pytest.param("gpt2", {"min_target_length": 3}, trainable("head"), marks=pytest.mark.slow),
        pytest.param("t5", {"num_beams": 2}, trainable("head", "bitfit"), marks=pytest.mark.slow),
    ],
)
def test_every_method_of_a_writer_is_loaded_without_tuneoff(
    architecture: str,
    options: dict[str, Any],
    methods: list[str],
    make_place: MakePlace,
    gpt_folder: Path,
    t5_folder: Path,
    tmp_path: Path,
) -> None:
    folder = gpt_folder if architecture == "gpt2" else t5_folder
    texts = [(text, " ".join(text.split()[:2])) for text, _ in news(24)]
    pairs = tmp_path / "pairs.csv"
    with pairs.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("kind", "article", "summary"), *(("news", article, summary) for article, summary in texts)]
        )
    task = {"name": "generation", "template": "{kind}: {source} => ", "max_target_length": 6, **options}
    expected, asked = {}, {}
    for method in methods:
        place = make_place(method, folder=folder, data=pairs, task=task, protocol=LEARNING)
        run(place, "cpu", time.perf_counter())
        out = tmp_path / method
        export(place, out, merged=False, device="cpu")
        expected[out] = [one["output"] for one in predict(place, str(pairs), "cpu")["predictions"]][:9]
        asked[out] = [{"source": text, "kind": "news"} for text, _ in texts[:9]]
    assert {out: [output for output, _ in found] for out, found in run_cards(asked).items()} == expected
    assert len({output for outputs in expected.values() for output in outputs}) > 5


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
    # No hub has it, so the loader is told by the page.
    assert "base_model:" not in card
    assert "library_name: peft" in card
    assert f"BASE = {str(bert_folder)!r}" in card
    assert hashlib.sha256((bert_folder / "model.safetensors").read_bytes()).hexdigest() in card
    assert read_json(tmp_path / "out" / "adapter_config.json")["base_model_name_or_path"] == NO_HUB_ID
    config = read_json(tmp_path / "out" / "config.json")
    assert config["id2label"] == {"0": "sport", "1": "trade"}
    assert config["label2id"] == {"sport": 0, "trade": 1}
    assert "Classes, in order: sport, trade" in card
    assert f"| accuracy | {record.metric('accuracy'):.4f} | fraction |" in card
    assert place.spec().id in card
    assert "random weights" not in card
    spec = read_json(tmp_path / "out" / "tuneoff-trial.json")
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
    with pytest.raises(StoreError, match="majority trains nothing, so there is nothing to export"):
        export(trained("majority", "bert"), tmp_path / "out", merged=False, device="cpu")
    with pytest.raises(StoreError, match="is not completed") as caught:
        export(make_place("lora"), tmp_path / "out", merged=False, device="cpu")
    assert "Run the study again" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_the_card_of_a_writer(written: Written, tmp_path: Path) -> None:
    place = written("lora")
    done = export(place, tmp_path / "out", merged=False, device="cpu")
    assert done["kind"] == "PEFT adapter"
    card = (tmp_path / "out" / "README.md").read_text()
    record = place.record()
    assert record is not None
    assert "AutoModelForCausalLM.from_pretrained(BASE" in card
    assert 'template `"{source} => "`' in card
    assert "max_target_length `6`" in card
    assert "At most 24 tokens of prompt" in card
    settings = read_json(tmp_path / "out" / "generation_config.json")
    assert (settings["max_new_tokens"], settings["num_beams"], settings["do_sample"]) == (6, 2, False)
    assert "Method options: r 8" in card
    assert f"| rouge_l | {record.metric('rouge_l'):.4f} | fraction |" in card
    assert f"| perplexity | {record.metric('perplexity'):.4f} |" in card
    assert "Classes" not in card
    assert "4 bits" not in card
    with pytest.raises(StoreError, match="zero_shot trains nothing"):
        export(written("zero_shot"), tmp_path / "none", merged=False, device="cpu")


def test_what_trains_the_models_own_weights_is_a_plain_model(trained: Trained, tmp_path: Path) -> None:
    for method in ("bitfit", "head"):
        done = export(trained(method), tmp_path / method, merged=False, device="cpu")
        assert done["kind"] == "plain model"
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(done["files"])
        assert "from_pretrained(FOLDER" in (tmp_path / method / "README.md").read_text()


def test_files_have_the_modes_and_the_order_that_any_have(trained: Trained, tmp_path: Path) -> None:
    place = trained("lora")
    usual = tmp_path / "usual"
    usual.touch()
    for name in ("one", "two"):
        export(place, tmp_path / name, merged=False, device="cpu")
    for file in [*(tmp_path / "one").iterdir(), *place.weights.iterdir()]:
        assert file.stat().st_mode == usual.stat().st_mode, file.name
        if file.parent != place.weights:
            assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    targets = read_json(tmp_path / "one" / "adapter_config.json")["target_modules"]
    assert targets == sorted(targets)


def test_a_failure_leaves_nothing(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(done: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tuneoff.trial.export.render", fail)
    with pytest.raises(OSError, match="No space left"):
        export(trained("lora"), tmp_path / "out", merged=False, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_base_of_the_hub_is_named_and_found_by_its_loaders(
    make_place: MakePlace, bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub's cache, filled beforehand, stands for the hub."""
    from peft import AutoPeftModelForSequenceClassification

    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub" / "models--org--bert"
    shutil.copytree(bert_folder, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    place = make_place("lora", model={"source": "org/bert"}, protocol=LEARNING)
    for module in ("constants", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    run(place, "cpu", time.perf_counter())
    export(place, tmp_path / "out", merged=False, device="cpu")
    config = read_json(tmp_path / "out" / "adapter_config.json")
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/bert", commit)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model: org/bert" in card
    assert "BASE = 'org/bert'" in card
    assert f"revision='{commit}'" in card
    model = AutoPeftModelForSequenceClassification.from_pretrained(
        str(tmp_path / "out"), num_labels=2, ignore_mismatched_sizes=True
    ).eval()
    _, _, tokenizer, _ = restore(place, torch.device("cpu"))
    with torch.no_grad():
        logits = model(**batch_of(tokenizer, FRESH[:1])).logits
    torch.testing.assert_close(logits, our_logits(place, FRESH[:1]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("hurt", ["trial.json", "weights/adapter_model.safetensors", "record.json"])
def test_what_was_damaged_is_neither_exported_nor_asked(hurt: str, trained: Trained, tmp_path: Path) -> None:
    place = TrialStore(tmp_path / trained("lora", "bert").folder.name)
    shutil.copytree(trained("lora", "bert").folder, place.folder)
    path = place.folder / hurt
    whole = path.read_bytes()
    if hurt == "trial.json":
        body = json.loads(whole)
        body["options"]["alpha"] *= 8
        path.write_text(json.dumps(body))
    else:
        path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    with pytest.raises(CorruptRecord, match=Path(hurt).name) as caught:
        export(place, tmp_path / "out", merged=False, device="cpu")
    assert "run the study again" in caught.value.hint
    with pytest.raises(CorruptRecord, match=Path(hurt).name):
        predict(place, "rows.csv", "cpu")
    assert not (tmp_path / "out").exists()
