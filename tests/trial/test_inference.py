from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from trial_helpers import PAIRS, MakePlace, Trained, Written, news, our_logits, write_csv
from tuneoff.config.data import ModelSpec, TaskSpec
from tuneoff.errors import DataError, SourceNotFound, StoreError
from tuneoff.trial.inference import go_to_origin, predict
from tuneoff.trial.run import run

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

FRESH = [text for text, _ in news(7, 500)]


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


# --- predict


def test_a_trial_without_a_model_predicts_nothing(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\nfine\n", encoding="utf-8")
    with pytest.raises(StoreError, match="majority uses no model"):
        predict(trained("majority", "bert"), str(tmp_path / "rows.csv"), "cpu")


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
