"""`tuneoff recommend`, `tuneoff compare` and `tuneoff import`, as a user types them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peft_helpers import usual, write
from record_helpers import Level, World, build_store, small_study
from tuneoff.cli.main import main

LEVELS = {
    "majority": Level(0.5, head=0, stored=0),
    "full": Level(0.9, 30.0, 900 << 20, base=1_000_000, stored=90 << 20),
    "lora": Level(0.9, 8.0, 600 << 20, adapter=147_456),
}
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    study = small_study("majority", "full", "lora", seeds=6)
    return str(build_store(tmp_path / "study", study, World(levels=LEVELS)).root)


def keys(value: Any) -> set[str]:
    """Every key of nested data, arms' own labels aside."""
    if isinstance(value, list):
        return set().union(*map(keys, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    return {key for key in value if not key.startswith(tuple(LEVELS))} | set().union(*map(keys, value.values()), set())


def test_recommend_says_answer_rule_certainty_and_front(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", folder, "--max-memory", "4GB", "--max-train-time", "15m"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("Use lora with peak memory at most 4GB and train time at most 15m: accuracy 0.")
    assert "Rule: of the arms that train and keep the limits, those within one standard error of the best" in said
    assert re.search(r"It is the answer in \d+ % of the draws", said)
    assert "Pareto front of quality and time:" in said


def test_recommend_prints_json_whose_keys_are_documented(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", folder, "--max-memory", "700MiB", "--min", "accuracy=0.5", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["answer"] == "lora"
    assert body["limits"][0] == {"figure": "peak_memory_bytes", "at_most": 700 * 2**20, "text": "700MiB"}
    assert body["pareto"][0]["axes"] == ["quality", "time"]
    documented = set(re.findall(r"`([a-z_]+)`", (DOCS / "recommend.md").read_text(encoding="utf-8")))
    assert keys(body) - documented == set()


@pytest.mark.parametrize(("accuracy", "choice"), [(0.505, "lora"), (0.4, "full")], ids=["above", "below"])
def test_report_and_recommendation_agree_that_training_is_not_shown_to_help(
    accuracy: float, choice: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the mean of the best arm is just above the baseline, which is no claim, or below it."""
    levels = {**LEVELS, **{label: replace(LEVELS[label], accuracy=accuracy) for label in ("full", "lora")}}
    study = small_study("majority", "full", "lora", seeds=6)
    folder = str(build_store(tmp_path / "study", study, World(levels=levels)).root)
    report, recommendation = _answers(folder, capsys)
    doubt = "It is not shown that training helps: no method is clearly better than majority, which does not train."
    for told in (report, recommendation):
        assert told["text"].count(f"{doubt} If you train all the same, use {choice}") == 1
        assert f"Use {choice}" not in told["text"]
        assert "not clearly better" not in told["text"].lower()  # said once
        assert (told["baseline"], told["if_trained"]) == ("majority", choice)
        assert sorted(told["not_above_baseline"]) == ["full", "lora"]
    assert f"use {choice} (`tuneoff recommend` says why). " in report["text"]
    assert recommendation["text"].startswith(doubt if accuracy > 0.5 else "Do without training: majority")


def test_report_and_recommendation_are_silent_where_training_helps(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for told in _answers(folder, capsys):
        assert "not shown" not in told["text"]
        assert (told["not_above_baseline"], told["if_trained"]) == ([], None)


def _answers(folder: str, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the report answers, and what is recommended."""
    assert main(["report", folder, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["answer"]
    assert main(["recommend", folder, "--json"]) == 0
    return report, json.loads(capsys.readouterr().out)


def test_several_fronts_may_be_asked_for(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", folder, "--pareto", "quality,stored,memory", "--pareto", "quality,latency"]) == 0
    said = capsys.readouterr().out
    assert "Pareto front of quality, stored and memory:" in said
    assert "Pareto front of quality and latency:" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-memory", "4gb"], "did you mean 'GB'"),
        (["--max-train-time", "15"], "'15' has no unit"),
        (["--metric", "acuracy"], "did you mean 'accuracy'"),
        (["--min", "accuracy=90"], "For 90 % write 0.9."),
        (["--pareto", "quality"], "does not name two or three different axes"),
        (["--pareto", "quality,quality"], "does not name two or three different axes"),
        (["--pareto", "quality,speed"], "no axis 'speed'"),
        (["--prefer", "luck"], "Invalid value for '--prefer'"),
    ],
)
def test_bad_input_is_refused_with_what_to_write(
    folder: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", folder, *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_where_nothing_fits_the_exit_code_says_so(
    form: list[str], folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", folder, "--max-memory", "1MB", *form]) == 3
    said = capsys.readouterr().out
    assert json.loads(said)["answer"] is None if form else said.startswith("None fits")


def test_recommend_needs_a_completed_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = small_study("lora", seeds=1)
    folder = build_store(tmp_path / "s", study, World(levels=LEVELS, skip=frozenset({("lora", 0)}))).root
    assert main(["recommend", str(folder)]) == 2
    assert "no trial of" in capsys.readouterr().err


@pytest.mark.parametrize("width", ["60", "80", "120"])
def test_compare_shows_studies_side_by_side(
    width: str, folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    other = build_store(tmp_path / "other", small_study("lora", seeds=6), World(levels=LEVELS)).root
    assert main(["compare", folder, str(other)]) == 0
    lines = capsys.readouterr().out.splitlines()
    arms = [line.split()[:2] for line in lines if re.match(r"lora +\w", line)]
    assert arms == [["lora", "study"], ["lora", "other"]]
    assert all("…" not in line for line in lines)
    assert re.search(r"lora\s\[study\]", "\n".join(lines))
    assert main(["compare", folder, str(other), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert {entry["study"] for entry in body["methods"]} == {"study", "other"}
    assert body["notes"] == []


def test_compare_refuses_another_question(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = small_study("lora", seeds=6)
    study = study.model_copy(update={"protocol": study.protocol.model_copy(update={"batch_size": 64})})
    other = build_store(tmp_path / "other", study, World(levels=LEVELS)).root
    assert main(["compare", folder, str(other)]) == 2
    said = capsys.readouterr()
    assert "protocol.batch_size: 16 there, 64 here" in said.err
    assert said.out == ""


def test_import_then_report_recommend_and_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = usual(tmp_path / "results"), tmp_path / "runs" / "imported"
    assert main(["import", "peft-benchmark", str(source), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"Imported 3 results to {out}." in said
    assert "over test examples alone" in said
    assert main(["report", str(out)]) == 0
    assert "over test examples alone" in " ".join(capsys.readouterr().out.split())
    assert main(["recommend", str(out), "--max-memory", "21GiB"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("Use lora/rank8 with peak memory at most 21GiB")
    assert "How sure this is cannot be said: one seed does not tell how much seeds differ." in said
    again = tmp_path / "again"
    assert main(["import", "peft-benchmark", str(source), "--out", str(again)]) == 0
    capsys.readouterr()
    assert main(["compare", str(out), str(again)]) == 0
    assert "Which rows were read is not recorded" in capsys.readouterr().out


def test_import_of_a_wrong_file_fails_as_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "in", broken="{")
    assert main(["import", "peft-benchmark", str(source), "--out", str(tmp_path / "out")]) == 2
    assert "broken.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
