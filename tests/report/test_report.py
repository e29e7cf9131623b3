"""The written report, its data and its words."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from synthetic_records import Level, World, build_store, finding, small_study
from tuneoff import report
from tuneoff.record import Status
from tuneoff.spec import PublishedSpec
from tuneoff.store import StudyStore
from tuneoff.study_file import load

LEVELS = {
    "majority": Level(0.5, head=0, stored=0),
    "full": Level(0.93, 30.0, 900 << 20, base=1_000_000),
    "lora": Level(0.93, 8.0, adapter=147_456),
    "head": Level(0.6, 3.0, 400 << 20, stored=7000),
}


def store(folder: Path, seeds: int = 2, model: Any = "minilm", **world: Any) -> StudyStore:
    study = small_study("majority", "full", "lora", "head", seeds=seeds, model=model)
    return build_store(folder / "study", study, World(**{"levels": LEVELS, **world}))


def method(summary: dict[str, Any], label: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in summary["methods"] if entry["method"] == label)
    return found


def test_everything_is_written_and_the_page_links_to_what_is_there(tmp_path: Path) -> None:
    page = report.write(store(tmp_path))
    names = {path.name for path in page.parent.iterdir()}
    assert {"report.md", "report.json", "results.csv", "methods.csv", "study.yaml"} <= names
    links = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", page.read_text())
    assert {link for _, link in links} == {name for name in names if name.endswith(".png")}
    assert len(links) == 6
    assert all("lora" in alt for alt, _ in links)
    assert all((page.parent / link).read_bytes().startswith(b"\x89PNG") for _, link in links)


def test_equal_records_give_equal_files(tmp_path: Path) -> None:
    study = store(tmp_path)
    folder = report.write(study).parent
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    report.write(study)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_without_plots_old_ones_do_not_stay(tmp_path: Path) -> None:
    study = store(tmp_path)
    report.write(study)
    page = report.write(study, plots=False)
    assert not list(page.parent.glob("*.png"))
    assert "![" not in page.read_text()


def test_data_follow_the_schema(tmp_path: Path) -> None:
    body = report.summary(store(tmp_path))
    json.dumps(body, allow_nan=False)
    assert body["schema_version"] == 1
    lora = method(body, "lora")
    assert lora["seeds"] == [0, 1]
    assert lora["statuses"] == {"completed": 2}
    assert lora["metrics"]["accuracy"].keys() == {
        *("mean", "std", "n", "unit", "direction", "interval_low", "interval_high", "values")
    }
    assert lora["train_seconds"].keys() == {"mean", "std", "n"}
    assert lora["trainable_parameters"] == 148_996
    assert lora["trainable_parameters_by_role"] == {"head": 1540, "adapter": 147_456, "base": 0}
    assert lora["energy_joules"] == {"mean": None, "std": None, "n": 0}
    assert {"figure": "energy_joules", "reason": "this machine does not report energy"} in lora["missing"]


def test_every_key_is_documented(tmp_path: Path) -> None:
    """docs/report-schema.md names every key of a report that has something of everything."""
    study = small_study("majority", "full", "lora", "head")
    published = PublishedSpec(citation="Somebody", figures={"lora": {"accuracy_percent": 93.0}})
    world = World(levels=LEVELS, fail={("full", 1): Status.DIVERGED})
    body = report.summary(build_store(tmp_path / "s", study.model_copy(update={"published": published}), world))
    documented = set(re.findall(r"`([a-z_]+)`", (Path(__file__).parents[2] / "docs/report-schema.md").read_text()))
    keys = {*body, *body["study"], *body["trials"], *body["answer"], *body["methods"][0], *body["failures"][0]}
    keys |= {*body["published"], *body["environments"], *body["data"], *method(body, "lora")["published_comparison"][0]}
    keys |= {*method(body, "lora")["metrics"]["accuracy"], *method(body, "head")["to_best"]}
    assert keys - documented == set()


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    accuracy = method(report.summary(store(tmp_path, seeds=1)), "lora")["metrics"]["accuracy"]
    assert (accuracy["std"], accuracy["interval_low"], accuracy["n"]) == (None, None, 1)


def test_a_row_of_failures_is_shown_with_its_cause_and_log(tmp_path: Path) -> None:
    study = store(tmp_path, fail={("lora", 0): Status.DIVERGED, ("lora", 1): Status.OUT_OF_MEMORY})
    body = report.summary(study)
    lora = method(body, "lora")
    assert lora["metrics"] == {}
    assert lora["statuses"] == {"out_of_memory": 1, "diverged": 1}
    assert [failure["status"] for failure in body["failures"]] == ["diverged", "out_of_memory"]
    text = report.write(study, plots=False).read_text()
    assert "the loss became NaN at step 12" in text
    assert "step 12 loss nan" in text
    assert "no trial of this row has completed" in text
    assert "2 of 8 trials did not complete" in text


def test_a_study_in_progress_says_what_is_missing(tmp_path: Path) -> None:
    text = report.write(store(tmp_path, skip=frozenset({("full", 1)}))).read_text()
    assert "7 of 8 trials so far" in text
    assert "1 of 2 (1 planned)" in text


def test_a_study_without_any_record_has_a_report(tmp_path: Path) -> None:
    everything = frozenset((label, seed) for label in LEVELS for seed in (0, 1))
    page = report.write(store(tmp_path, skip=everything))
    assert "nothing to recommend" in page.read_text()
    assert not list(page.parent.glob("*.png"))


def test_the_answer_names_best_ties_costs_and_floor(tmp_path: Path) -> None:
    body = report.summary(store(tmp_path))
    text = body["answer"]["text"]
    assert f"{body['answer']['best']} has the highest test accuracy" in text
    assert "cannot be told apart from" in text
    assert "ahead of head in this sample; 2 seeds are too few to call it significant (6 needed)" in text
    assert "lora trains fastest" in text
    assert "The floor, majority (no training), is at" in text


def test_with_six_seeds_it_may_be_significant(tmp_path: Path) -> None:
    text = report.summary(store(tmp_path, seeds=6))["answer"]["text"]
    assert "too few" not in text
    assert "It is ahead of head (95% interval of the difference, 6 seeds)" in text


def test_when_nothing_beats_the_floor_nothing_is_recommended(tmp_path: Path) -> None:
    levels = {label: Level(0.5) for label in LEVELS}
    assert "none is recommended" in report.summary(store(tmp_path, levels=levels))["answer"]["text"]


def test_contended_timings_carry_a_dagger_and_are_never_best(tmp_path: Path) -> None:
    text = report.write(store(tmp_path, contended=frozenset({"head"})), plots=False).read_text()
    row = next(line for line in text.splitlines() if line.startswith("| head |"))
    assert " s † |" in row
    assert "† Something else used the machine" in text
    assert not re.search(r"\*\*[\d.]+ ± [\d.]+ s", text)


def test_random_weights_come_first_and_no_quality_is_bold(tmp_path: Path) -> None:
    study = store(tmp_path, model={"source": "gpt2", "random_weights": True})
    body = report.summary(study)
    assert body["study"]["random_weights"]
    assert body["answer"]["text"].startswith("The base model's weights are random: quality means nothing")
    assert body["warnings"][0]["name"] == "random_weights"
    text = report.write(study).read_text()
    assert not re.search(r"\*\*0\.\d{3}", text)


def test_published_figures_stand_beside_ours(tmp_path: Path) -> None:
    published = PublishedSpec(
        citation="Somebody, 2024",
        figures={"lora": {"accuracy_percent": 93.88, "carbon_grams": 3.0}, "qlora": {"train_seconds": 1694.9}},
        notes=("One run each.",),
    )
    study = small_study("lora").model_copy(update={"published": published})
    place = build_store(tmp_path / "s", study, World(levels=LEVELS))
    lora = method(report.summary(place), "lora")
    assert lora["published"] == {"accuracy_percent": 93.88, "carbon_grams": 3.0}
    assert lora["published_comparison"][0]["ours"] == pytest.approx(100 * lora["metrics"]["accuracy"]["mean"])
    text = report.write(place, plots=False).read_text()
    assert "/ 93.88" in text
    assert "– / 3 |" in text
    assert "qlora (published only, no row here): train seconds 1,694.9" in text
    assert "One run each." in text


def test_text_from_elsewhere_cannot_break_the_page(tmp_path: Path) -> None:
    study = small_study("majority", rows={"a|b": {"method": "lora"}})
    world = World(
        levels={"majority": Level(0.5), "a|b": Level(0.9)}, changes={"a|b": {"findings": finding("x", "a\n# b")}}
    )
    text = report.write(build_store(tmp_path / "s", study, world)).read_text()
    assert "| a\\|b |" in text
    assert "\n# b" not in text


def test_tables_are_csv(tmp_path: Path) -> None:
    folder = report.write(store(tmp_path, fail={("full", 1): Status.DIVERGED}), plots=False).parent
    trials = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    assert len(trials) == 8
    assert {row["accuracy"] == "" for row in trials if row["status"] == "diverged"} == {True}
    rows = {row["method"]: row for row in csv.DictReader((folder / "methods.csv").read_text().splitlines())}
    assert rows["full"]["statuses"] == "completed 1; diverged 1"
    assert rows["full"]["accuracy_std"] == ""
    assert float(rows["lora"]["train_seconds_mean"]) > 0
    assert rows["lora"]["trainable_parameters"] == "148996"


def test_the_study_file_repeats_the_study(tmp_path: Path) -> None:
    study = store(tmp_path)
    folder = report.write(study, plots=False).parent
    assert load(folder / "study.yaml") == study.study()


def test_no_place_of_this_machine_is_in_the_report(tmp_path: Path) -> None:
    folder = report.write(store(tmp_path)).parent
    assert not [p.name for p in folder.iterdir() if p.suffix != ".png" and str(tmp_path) in p.read_text()]
