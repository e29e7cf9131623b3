from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trial_tools import news, write_csv

from tuneoff.errors import CorruptRecord, DataError, SourceNotFound, StoreError
from tuneoff.spec import ModelSpec, TaskSpec
from tuneoff.store import TrialStore
from tuneoff.tasks.base import Batch
from tuneoff.trial.use import _loading, export, go_to_origin, predict, restore
from tuneoff.trial.worker import run

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

MakePlace = Callable[..., TrialStore]
Trained = Callable[[str, str], TrialStore]
Written = Callable[[str], TrialStore]
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


# --- where relative paths are meant from


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two folders, and back to where it was afterwards; the first is the current one."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    return here, there


@pytest.mark.parametrize(
    ("lies", "ends"),
    [((), "there"), (("there",), "there"), (("here", "there"), "there"), (("here",), "here")],
    ids=["found nowhere", "there", "in both", "here alone"],
)
def test_paths_are_meant_from_where_the_study_ran_unless_they_are_here_alone(
    lies: tuple[str, ...], ends: str, folders: tuple[Path, Path], make_place: MakePlace
) -> None:
    for name in lies:
        (folders[0].parent / name / "model").mkdir()
    spec = make_place("full").spec()
    data = TaskSpec.model_validate({"data": {"train": "file:train.csv", "test": "test.csv"}})
    spec = spec.model_copy(update={"model": ModelSpec(source="model"), "task": data})
    go_to_origin(spec, None)
    assert Path.cwd() == folders[0]
    go_to_origin(spec, str(folders[1]))
    assert Path.cwd().name == ends


def test_rows_count_too_and_a_folder_that_is_gone_is_no_error(
    folders: tuple[Path, Path], make_place: MakePlace
) -> None:
    here, there = folders
    spec = make_place("full").spec()
    data = TaskSpec.model_validate({"data": {"train": "file:train.csv"}})
    spec = spec.model_copy(update={"model": ModelSpec(source="minilm"), "task": data})
    go_to_origin(spec, str(there / "gone"))
    (here / "train.csv").touch()
    go_to_origin(spec, str(there))
    assert Path.cwd() == here
    (there / "train.csv").touch()
    go_to_origin(spec, str(there))
    assert Path.cwd() == there


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
    with pytest.raises(StoreError, match="majority trains nothing, so there is nothing to export"):
        export(trained("majority", "bert"), tmp_path / "out", merged=False, device="cpu")
    (tmp_path / "rows.csv").write_text("text\nfine\n", encoding="utf-8")
    with pytest.raises(StoreError, match="majority uses no model"):
        predict(trained("majority", "bert"), str(tmp_path / "rows.csv"), "cpu")
    with pytest.raises(StoreError, match="is not completed") as caught:
        export(make_place("lora"), tmp_path / "out", merged=False, device="cpu")
    assert "Run the study again" in caught.value.hint
    assert not (tmp_path / "out").exists()


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
    with pytest.raises(DataError, match=r"1 of 2 rows of .*gap.csv \(to predict\) have no text; .* line 3"):
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


# --- written texts

PAIRS = [(text, " ".join(text.split()[:2])) for text, _ in news(24)]


@pytest.fixture(scope="module")
def written(make_place: MakePlace, gpt_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A finished trial of a method on a task that writes; each runs once."""
    data = write_csv(tmp_path_factory.mktemp("pairs") / "pairs.csv", PAIRS, header=("article", "summary"))
    done: dict[str, TrialStore] = {}

    def get(method: str) -> TrialStore:
        if method not in done:
            task = {"name": "generation", "template": "{source} => ", "max_target_length": 6, "num_beams": 2}
            protocol = {"learning_rate": 0.02, "epochs": 1}
            options = {"examples": 1} if method == "few_shot" else {}
            place = make_place(method, options, folder=gpt_folder, data=data, task=task, protocol=protocol)
            run(place, "cpu", time.perf_counter())
            done[method] = place
        return done[method]

    return get


def sources_of(path: Path, name: str = "article") -> Path:
    path.write_text("\n".join([name, *(source for source, _ in PAIRS)]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("method", ["lora", "prompt_tuning", "zero_shot", "few_shot"])
def test_texts_for_a_file_are_those_of_the_trial(method: str, written: Written, tmp_path: Path) -> None:
    place = written(method)
    record, tested = place.record(), place.predictions("test")
    assert record is not None
    assert tested
    made = predict(place, str(sources_of(tmp_path / "bare.csv")), "cpu")
    assert made["columns"] == {"source": "article"}
    assert [set(one) for one in made["predictions"]] == [{"index", "output", "generated_tokens"}] * len(PAIRS)
    by_source = {source: one for (source, _), one in zip(PAIRS, made["predictions"], strict=True)}
    # The test's own examples get what the test got, though the file has no targets.
    for prediction in tested:
        assert by_source[prediction.source]["output"] == prediction.output
        assert by_source[prediction.source]["generated_tokens"] == prediction.generated_tokens
    assert len({one["output"] for one in made["predictions"]}) > 1
    other = predict(place, str(sources_of(tmp_path / "other.csv", "whatever")), "cpu")
    assert other == {"columns": {"source": "whatever"}, "predictions": made["predictions"]}


def test_targets_in_the_file_change_nothing(written: Written, tmp_path: Path) -> None:
    made = []
    for name, target in (("empty", ""), ("long", "much more than six tokens of target, for certain")):
        rows = [(source, target) for source, _ in PAIRS]
        path = write_csv(tmp_path / f"{name}.csv", rows, header=("article", "summary"))
        made.append(predict(written("lora"), str(path), "cpu"))
    assert made[0] == made[1] == predict(written("lora"), str(sources_of(tmp_path / "bare.csv")), "cpu")


def test_rows_that_no_text_can_be_written_for(written: Written, tmp_path: Path) -> None:
    place = written("zero_shot")
    path = write_csv(tmp_path / "odd.csv", [("a", "b")], header=("title", "body"))
    with pytest.raises(DataError, match="no column 'article', the source that trial zero_shot-s0") as caught:
        predict(place, str(path), "cpu")
    assert "title, body" in caught.value.hint
    path = write_csv(tmp_path / "gap.csv", [("fine", "x"), (" ", "x")], header=("article", "summary"))
    with pytest.raises(DataError, match=r"1 of 2 rows of .* have no source; the first is .*gap.csv line 3"):
        predict(place, str(path), "cpu")


def test_few_shot_refuses_when_its_examples_have_changed(
    make_place: MakePlace, gpt_folder: Path, tmp_path: Path
) -> None:
    data = write_csv(tmp_path / "pairs.csv", PAIRS, header=("article", "summary"))
    task = {"name": "generation", "max_target_length": 4}
    place = make_place("few_shot", {"examples": 1}, folder=gpt_folder, data=data, task=task)
    run(place, "cpu", time.perf_counter())
    assert predict(place, str(data), "cpu")["predictions"]
    write_csv(data, [(f"new {source}", target) for source, target in PAIRS], header=("article", "summary"))
    with pytest.raises(StoreError, match="took its examples from have changed"):
        predict(place, str(data), "cpu")


def test_the_card_of_a_writer(written: Written, tmp_path: Path) -> None:
    place = written("lora")
    done = export(place, tmp_path / "out", merged=False, device="cpu")
    assert done["kind"] == "PEFT adapter"
    card = (tmp_path / "out" / "README.md").read_text()
    record = place.record()
    assert record is not None
    assert "base_model is an AutoModelForCausalLM" in card
    assert 'template `"{source} => "`' in card
    assert "max_target_length `6`" in card
    assert "At most 24 tokens of prompt; pad on the left." in card
    assert "Method options: r 8" in card
    assert f"| rouge_l | {record.metric('rouge_l'):.4f} | fraction |" in card
    assert f"| perplexity | {record.metric('perplexity'):.4f} |" in card
    assert "Classes" not in card
    assert "labels" not in card
    assert "4 bits" not in card
    with pytest.raises(StoreError, match="zero_shot trains nothing"):
        export(written("zero_shot"), tmp_path / "none", merged=False, device="cpu")


@torch.no_grad()
def test_transformers_and_peft_load_a_writer(written: Written, gpt_folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    place = written("lora")
    _, attached, tokenizer, _ = restore(place, torch.device("cpu"))
    batch = tokenizer(FRESH[0], return_tensors="pt")
    expected = attached.model(**batch).logits
    export(place, tmp_path / "merged", merged=True, device="cpu")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(merged(**batch).logits, expected, atol=1e-4, rtol=1e-4)
    assert "Load with: AutoModelForCausalLM.from_pretrained(FOLDER)" in (tmp_path / "merged" / "README.md").read_text()
    export(place, tmp_path / "adapter", merged=False, device="cpu")
    base = AutoModelForCausalLM.from_pretrained(gpt_folder)
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    torch.testing.assert_close(theirs(**batch).logits, expected, atol=1e-5, rtol=1e-5)


def test_a_model_in_four_bits_is_disclosed() -> None:
    assert "4 bits" not in " ".join(_loading("PEFT adapter", "AutoModelForCausalLM", False, False))
    assert "loaded in 4 bits while this was trained" in _loading("PEFT adapter", "AutoModelForCausalLM", True, False)[1]
    assert "turned back to full precision" in _loading("merged model", "AutoModelForCausalLM", True, False)[1]
