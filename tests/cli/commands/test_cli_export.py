"""`tuneoff export` and `tuneoff predict`, with answers made up."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tuneoff.cli.main import main
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

FakeExecutor = Any  # the class is in cli_fixtures.py, which pytest imports as a plug-in
pytest_plugins = ("cli_fixtures",)

PREDICTIONS = [
    {"index": 0, "output": "good, very", "probability": 0.75, "scores": {"good, very": 0.75, "bad": 0.25}},
    {"index": 1, "output": "bad", "probability": 1.0, "scores": {"good, very": 0.0, "bad": 1.0}},
]


@pytest.fixture
def ran(small_study: Path, fake_executor: FakeExecutor) -> str:
    """A folder of results; the executor answers `export` and `predict`."""
    study = Study(small_study).run("results")
    for record in study.records():
        if record.spec.learning_rate is not None:
            StudyStore.open("results").trial(record.spec.id).weights.mkdir()
    Path("x").mkdir()
    (Path("x") / "README.md").write_text("# A card\n")
    (Path("x") / "tuneoff-trial.json").write_text(study.records()[0].spec.model_dump_json())
    fake_executor.answers = {
        "export": {"files": ["adapter_model.safetensors", "README.md"], "folder": "x", "kind": "a PEFT adapter"},
        "predict": {"predictions": PREDICTIONS, "columns": {"text": "text"}},
    }
    return "results"


def test_export_asks_for_one_trial_and_lists_the_files(
    ran: str, fake_executor: FakeExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", ran, "lora-s1", "out", "--merged"]) == 0
    verb, payload = fake_executor.calls[0]
    assert verb == "export"
    assert (payload["out"], payload["merged"]) == (str(tmp_path / "out"), True)
    assert Path(payload["folder"]).name.startswith("lora-s1-")
    assert "adapter_model.safetensors" in capsys.readouterr().out
    assert (Path("x") / "README.md").read_text().startswith("# A card\n\n## Comparison\n\n")


def test_export_writes_over_nothing(ran: str, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    (Path("out") / "mine").touch()
    assert main(["export", ran, "lora-s1", "out"]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert fake_executor.calls == []


def test_unknown_trial_names_those_there_are(ran: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", ran, "nosuch", "out"]) == 2
    assert "lora-s0-" in capsys.readouterr().err


def test_predict_prints_a_line_for_each_row(
    ran: str, fake_executor: FakeExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", ran, "lora-s0", "rows.csv", "--device", "cpu"]) == 0
    rows = list(csv.reader(capsys.readouterr().out.splitlines()))
    assert rows == [["index", "output", "probability"], ["0", "good, very", "0.75"], ["1", "bad", "1"]]
    assert fake_executor.calls[0][1]["file"] == str(tmp_path / "rows.csv")
    assert fake_executor.calls[0][1]["device"] == "cpu"


def test_predict_json_is_the_whole_answer(
    ran: str, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", ran, "lora-s0", "rows.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == fake_executor.answers["predict"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_predict_writes_a_file_with_every_class(suffix: str, ran: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", ran, "lora-s0", "rows.csv", "--out", f"predicted{suffix}"]) == 0
    assert capsys.readouterr().out == ""
    text = Path(f"predicted{suffix}").read_text(encoding="utf-8")
    if suffix == ".jsonl":
        assert [json.loads(line) for line in text.splitlines()] == PREDICTIONS
    else:
        rows = list(csv.DictReader(text.splitlines(), delimiter="," if suffix == ".csv" else "\t"))
        assert [row["output"] for row in rows] == ["good, very", "bad"]
        assert [row["probability of bad"] for row in rows] == ["0.25", "1"]


def test_predict_of_numbers(ran: str, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = [{"index": 0, "output": "2.5"}, {"index": 1, "output": "-3"}]
    fake_executor.answers["predict"] = {"predictions": numbers, "columns": {"text": "text"}}
    assert main(["predict", ran, "lora-s0", "rows.csv"]) == 0
    assert capsys.readouterr().out.splitlines() == ["index,output", "0,2.5", "1,-3"]


def test_predict_of_tags_has_their_words(
    ran: str, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    tags = [{"index": 0, "output": "B-per O", "words": ["Ann", "met"], "entities": []}]
    fake_executor.answers["predict"] = {"predictions": tags, "columns": {"text": "text"}}
    assert main(["predict", ran, "lora-s0", "rows.csv"]) == 0
    assert capsys.readouterr().out.splitlines() == ["index,output,words", "0,B-per O,Ann met"]


def test_predict_of_written_texts(ran: str, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [
        {"index": 0, "output": 'A line, "quoted"\nand a second', "generated_tokens": 9},
        {"index": 1, "output": "", "generated_tokens": 0},
    ]
    fake_executor.answers["predict"] = {"predictions": texts, "columns": {"source": "body"}}
    assert main(["predict", ran, "lora-s0", "rows.csv"]) == 0
    rows = list(csv.reader(capsys.readouterr().out.splitlines(keepends=True)))
    assert rows[0] == ["index", "output", "generated_tokens"]
    assert rows[1:] == [["0", texts[0]["output"], "9"], ["1", "", "0"]]
    for suffix in (".tsv", ".jsonl"):
        assert main(["predict", ran, "lora-s0", "rows.csv", "--out", f"texts{suffix}"]) == 0
    assert Path("texts.tsv").read_text(encoding="utf-8").startswith("index\toutput\tgenerated_tokens\n0\t")
    lines = Path("texts.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == texts


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["predict", "lora-s0", "renamed.csv"], "renamed.csv has no column 'text', the text that trial lora-s0-"),
        (["predict", "lora-s0", "gap.csv"], "1 of 2 rows of"),
        (["predict", "lora-s0", "empty.csv"], "is empty"),
        (["predict", "lora-s0", "rows.xlsx"], "files ending in '.xlsx' cannot be read"),
        (["predict", "majority-s0", "rows.csv"], "majority uses no model"),
        (["predict", "full-s1", "rows.csv"], "kept no weights"),
        (["export", "majority-s0", "out"], "there is nothing to export"),
        (["export", "full-s1", "out"], "kept no weights"),
        (["export", "virtual-s0", "out", "--merged"], "cannot be merged"),
    ],
)
def test_what_needs_no_model_to_be_known_is_told_without_a_process(
    arguments: list[str], hint: str, ran: str, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    Study("small.yaml", methods=["prompt_tuning"]).run("results")
    (trial,) = StudyStore.open("results").root.glob("trials/prompt_tuning-s0-*")
    (full,) = StudyStore.open("results").root.glob("trials/full-s1-*")
    (full / "weights").rmdir()
    Path("renamed.csv").write_text("body,kind\na text,one\n", encoding="utf-8")
    Path("gap.csv").write_text("text,kind\na text,one\n,two\n", encoding="utf-8")
    Path("empty.csv").touch()
    Path("rows.xlsx").touch()
    command, name, *rest = (trial.name if word == "virtual-s0" else word for word in arguments)
    capsys.readouterr()
    assert main([command, ran, name, *rest]) == 2
    assert hint in capsys.readouterr().err
    assert fake_executor.calls == []


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [(["nosuch.csv"], "no file"), (["rows.csv", "--out", "x.xlsx"], "cannot write .xlsx")],
)
def test_predict_with_bad_files(
    arguments: list[str], hint: str, ran: str, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", ran, "lora-s0", *arguments]) == 2
    assert hint in capsys.readouterr().err
    assert fake_executor.calls == []
