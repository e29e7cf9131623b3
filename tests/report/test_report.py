"""The written report, its data and its words."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from record_helpers import (
    WRITERS,
    Level,
    World,
    build_store,
    finding,
    small_study,
    writing_study,
    written_predictions,
)
from tuneoff import report
from tuneoff.analysis.figures import metric_name
from tuneoff.config.data import DataSpec
from tuneoff.config.spec import PublishedSpec
from tuneoff.planning.loading import load
from tuneoff.records.record import Inference, Memory, ModelInfo, Status
from tuneoff.report import terminal
from tuneoff.report.builder import other_model
from tuneoff.store import StudyStore

HOSTILE = "a | b\n# *bold* _it_ <script>alert(1)</script> [x](http://y) `code` $m$ ~~s~~ \x1b[31m __init__"
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
    assert len(links) == 10
    assert all("lora" in alt for alt, link in links if link != "hardest_examples.png")
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
    body = report.build(store(tmp_path)).as_data()
    json.dumps(body, allow_nan=False)
    assert body["schema_version"] == 4
    lora = method(body, "lora")
    assert lora["seeds"] == [0, 1]
    assert lora["statuses"] == {"completed": 2}
    estimate = {"mean", "std", "n", "interval_low", "interval_high", "interval_reason"}
    assert lora["metrics"]["accuracy"].keys() == {
        *(
            *estimate,
            "interval_over",
            "examples",
            "groups",
            "ranked_mean",
            "ties",
            "note",
            "unit",
            "direction",
            "values",
        ),
        *("diverged_seeds", "counted_as", "without_diverged", "exploratory", "caution"),
    }
    assert lora["train_seconds"].keys() == estimate
    assert lora["trainable_parameters"] == 148_996
    assert lora["trainable_parameters_by_role"] == {"head": 1540, "adapter": 147_456, "base": 0}
    assert (lora["energy_joules"]["mean"], lora["energy_joules"]["n"]) == (None, 0)
    assert {"figure": "energy_joules", "reason": "this machine does not report energy"} in lora["missing"]


def test_every_key_is_documented(tmp_path: Path) -> None:
    """docs/report-schema.md names every key of a report that has something of everything."""
    study = small_study("majority", "full", "lora", "head")
    published = PublishedSpec(citation="Somebody", figures={"lora": {"accuracy_percent": 93.0}})
    world = World(levels=LEVELS, fail={("full", 1): Status.DIVERGED})
    body = report.build(build_store(tmp_path / "s", study.model_copy(update={"published": published}), world)).as_data()
    documented = set(re.findall(r"`([a-z_]+)`", (Path(__file__).parents[2] / "docs/report-schema.md").read_text()))
    keys = {*body, *body["study"], *body["trials"], *body["answer"], *body["methods"][0], *body["failures"][0]}
    keys |= {*body["published"], *body["environments"], *body["data"], *method(body, "lora")["published_comparison"][0]}
    keys |= {*method(body, "lora")["metrics"]["accuracy"], *method(body, "head")["to_best"]}
    keys |= {*body["verdict"], *body["verdict"]["pairs"][0], *body["answer"]["to_settle"][0]}
    written = report.build(
        build_store(tmp_path / "w", writing_study("lora"), World(levels=WRITERS, test_rows=30))
    ).as_data()
    keys |= {*written["examples"][0], *written["examples"][0]["outputs"][0]}
    assert keys - documented == set()


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    accuracy = method(report.build(store(tmp_path, seeds=1)).as_data(), "lora")["metrics"]["accuracy"]
    # Its examples tell an interval, which speaks of this one model.
    assert (accuracy["std"], accuracy["interval_over"], accuracy["n"]) == (None, "examples", 1)
    seconds = method(report.build(store(tmp_path, seeds=1)).as_data(), "lora")["train_seconds"]
    assert (seconds["std"], seconds["interval_low"], seconds["interval_reason"]) == (None, None, "one seed")


def test_a_row_of_failures_is_shown_with_its_cause_and_log(tmp_path: Path) -> None:
    study = store(tmp_path, fail={("lora", 0): Status.DIVERGED, ("lora", 1): Status.OUT_OF_MEMORY})
    body = report.build(study).as_data()
    lora = method(body, "lora")
    # The seed that diverged counts as doing without training, and that is all that is known of the arm.
    majority, accuracy = (method(body, label)["metrics"]["accuracy"] for label in ("majority", "lora"))
    assert accuracy["mean"] == majority["values"][0]
    assert (accuracy["values"], accuracy["diverged_seeds"], accuracy["counted_as"]) == ([], [0], "majority")
    assert (accuracy["without_diverged"], accuracy["ranked_mean"]) == (None, None)
    assert accuracy["note"] == "training diverged at every seed"
    assert lora["statuses"] == {"out_of_memory": 1, "diverged": 1}
    assert [failure["status"] for failure in body["failures"]] == ["diverged", "out_of_memory"]
    text = report.write(study, plots=False).read_text()
    assert "the loss became NaN at step 12" in text
    assert "step 12 loss nan" in text
    assert "no trial of this arm has completed" in text
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
    body = report.build(store(tmp_path)).as_data()
    text = body["answer"]["text"]
    assert f"{body['answer']['best']} has the highest test accuracy" in text
    assert re.search(r"Whether it is better than \w+ and \w+ is open: 2 seeds are too few to tell \(6 needed\)\.", text)
    assert "told apart from" not in text
    assert re.search(r"Telling it apart takes \d+ (to \d+ seeds|seeds or more|seeds) from .* \(80% ranges\)\.", text)
    assert re.search(r"It trains in .* s, needs .* of memory and stores", text)
    assert "The baseline, majority (no training), is at" in text


def test_with_six_seeds_it_may_be_significant(tmp_path: Path) -> None:
    text = report.build(store(tmp_path, seeds=6)).as_data()["answer"]["text"]
    assert "too few" not in text
    assert (
        "It is significantly ahead of head (p below 5%, Shaffer-corrected over all 6 pairs by accuracy; 6 seeds)"
        in text
    )


def test_between_two_and_six_seeds_a_plain_difference_is_said_to_want_seeds(tmp_path: Path) -> None:
    body = report.build(store(tmp_path, seeds=5)).as_data()
    text = body["answer"]["text"]
    assert "5 seeds are too few to tell (6 needed)" in text
    assert "takes 6 seeds from head" in text
    assert body["answer"]["to_settle"][-1] == {"method": "head", "seeds": 6, "least": 6, "most": 6, "reason": ""}
    assert (body["answer"]["behind"], body["answer"]["winner"]) == ([], None)


def test_one_seed_tells_nothing_of_the_seeds_it_would_take(tmp_path: Path) -> None:
    text = report.build(store(tmp_path, seeds=1)).as_data()["answer"]["text"]
    assert "1 seed is too few to tell (6 needed)" in text
    assert "cannot be said: one seed does not tell how much seeds differ" in text


def test_a_winner_is_ahead_of_everyone(tmp_path: Path) -> None:
    body = report.build(store(tmp_path, seeds=6, levels={**LEVELS, "lora": Level(0.8)})).as_data()
    assert body["answer"]["winner"] == "full"
    assert "significantly ahead of every other arm that trains (p below 5%" in body["answer"]["text"]


def test_ties_stand_in_every_table_and_chart(tmp_path: Path) -> None:
    text = report.write(store(tmp_path, seeds=6), plots=False).read_text()
    for heading in ("## Results", "## Speed and gradients"):
        ties = {row: cells(text, heading, row)["ties"] for row in LEVELS}
        assert ties == {"majority": "c", "full": "a", "lora": "a", "head": "b"}
    assert re.search(r"a: (lora, full|full, lora); b: head; c: majority\.", text)
    accuracy = cells(text, "### Metrics", "head")["accuracy"]
    assert re.fullmatch(r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] b", accuracy)
    assert re.fullmatch(r"[\d.]+ s \[[\d.]+ s, [\d.]+ s\]", cells(text, "### Costs", "head")["train time"])


def test_without_two_groups_no_letters_are_shown(tmp_path: Path) -> None:
    text = report.write(store(tmp_path), plots=False).read_text()
    assert "ties" not in cells(text, "## Results", "lora")
    assert "All is open by accuracy: it takes 6 seeds to tell arms apart." in text
    equal = dict.fromkeys(LEVELS, LEVELS["lora"])
    text = report.write(store(tmp_path / "six", seeds=6, levels=equal), plots=False).read_text()
    assert "ties" not in cells(text, "## Results", "lora")
    assert "No two arms can be told apart by accuracy." in text


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_under_six_seeds_the_word_is_open_everywhere(seeds: int, tmp_path: Path) -> None:
    """However large a difference is, and however small: 0.5 is not tied with 0.98."""
    found = store(tmp_path, seeds=seeds)
    body = report.build(found).as_data()
    assert {pair["relation"] for pair in body["verdict"]["pairs"]} == {"open"}
    assert (body["verdict"]["groups"], {m["ties"] for m in body["methods"]}) == ([], {""})
    page = report.write(found, plots=False).read_text(encoding="utf-8")
    tables = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    assert "tied" not in tables
    assert " a |" not in tables
    assert cells(page, "## Results", "head")["vs. best"].endswith("(open)")
    assert "open" in cells(page, "## Pairs", "head – majority")["relation"]
    console = Console(width=100, record=True, file=io.StringIO())
    terminal.render(found, console)
    said = console.export_text()
    assert "tied" not in said
    assert "told apart from" not in said
    assert len(re.findall(r"\bopen\b", said)) >= 3


def test_macro_f1_goes_through_the_same_rules(tmp_path: Path) -> None:
    columns_of = method(report.build(store(tmp_path, seeds=2)).as_data(), "lora")["metrics"]
    assert {metric["ties"] for metric in columns_of.values()} == {""}


def test_the_best_below_a_floor_is_the_best_of_the_rows_that_train(tmp_path: Path) -> None:
    levels = {**LEVELS, "majority": Level(0.93, head=0)}
    body = report.build(store(tmp_path, seeds=6, levels=levels | {"full": Level(0.8), "lora": Level(0.7)})).as_data()
    assert "full has the highest test accuracy of the arms that train: 0." in body["answer"]["text"]
    above = report.build(store(tmp_path / "above", seeds=6)).as_data()
    assert "of the arms that train:" not in above["answer"]["text"]


def test_that_nothing_was_learned_comes_first_with_what_to_do(tmp_path: Path) -> None:
    levels = {"majority": Level(0.6, head=0), "full": Level(0.5), "lora": Level(0.5), "head": Level(0.5)}
    found = store(tmp_path, levels=levels, contended=frozenset({"head"}))
    body = report.build(found).as_data()
    assert body["answer"]["caveats"]
    doubt = body["answer"]["doubt"]
    assert body["answer"]["text"].startswith(doubt)
    assert "nothing was learned" in doubt
    assert "labels and texts belong together" in doubt
    page = report.write(found, plots=False).read_text(encoding="utf-8")
    assert page.index("nothing was learned") < page.index("**Caution:**")
    assert page.count("nothing was learned") == 1
    console = Console(width=100, record=True, file=io.StringIO())
    terminal.render(found, console)
    said = " ".join(console.export_text().split())
    assert said.index("nothing was learned") < said.index("Caution:")
    assert said.count("nothing was learned") == 1
    assert report.build(store(tmp_path / "good")).as_data()["answer"]["doubt"] == ""
    lost = {(label, seed): Status.DIVERGED for label in ("full", "lora", "head") for seed in (0, 1)}
    gone = report.build(store(tmp_path / "gone", fail=lost)).as_data()["answer"]
    assert gone["text"].startswith("Nothing was learned: training diverged at every seed of every method. Lower the")
    assert gone["text"].endswith(
        "No method that trains has a score that can be weighed, so there is nothing to recommend."
    )
    doubtful = report.build(store(tmp_path / "near", levels=levels | {"full": Level(0.61)})).as_data()["answer"][
        "doubt"
    ]
    assert "nothing was learned" not in doubtful
    assert "More test rows or seeds" in doubtful


def test_every_pair_is_in_the_page_and_in_csv(tmp_path: Path) -> None:
    page = report.write(store(tmp_path, seeds=6), plots=False)
    pairs = list(csv.DictReader((page.parent / "pairs.csv").read_text().splitlines()))
    assert len(pairs) == 6
    by_name = {frozenset((pair["first"], pair["second"])): pair for pair in pairs}
    plain = by_name[frozenset(("head", "majority"))]
    assert (plain["relation"], plain["first"], plain["test"]) == ("ahead", "head", "seeds and examples")
    assert float(plain["p_corrected"]) >= float(plain["p"])
    arm = cells(page.read_text(), "## Pairs", "head – majority")
    assert arm.keys() == {
        *("pair", "difference", "second worse by at most", "p", "p, Shaffer"),
        *("Hedges' g", "P(better)", "relation", "seeds to settle"),
    }
    assert (arm["P(better)"], arm["relation"], arm["seeds to settle"]) == ("1.00", "ahead", "–")
    assert "not corrected" in page.read_text()


def test_one_seed_tells_no_share_of_seeds(tmp_path: Path) -> None:
    page = report.write(store(tmp_path, seeds=1), plots=False)
    assert cells(page.read_text(), "## Pairs", "full – majority")["P(better)"] == "–"
    assert 0 < float(cells(page.read_text(), "## Pairs", "full – majority")["difference"].split()[0]) < 1


def test_metrics_have_the_names_of_their_field(tmp_path: Path) -> None:
    page = report.write(store(tmp_path), plots=False)
    assert {"macro-F1 ↑", "MCC ↑"} <= cells(page.read_text(), "## Results", "lora").keys()
    assert "macro_f1_mean" in (page.parent / "methods.csv").read_text()
    assert "macro_f1" in method(json.loads((page.parent / "report.json").read_text()), "lora")["metrics"]
    assert [metric_name(key) for key in ("rouge_lsum", "exact_match", "token_f1", "my_own")] == [
        *("ROUGE-Lsum", "exact match", "token F1", "my own")
    ]


def test_of_very_many_pairs_those_with_the_best_are_shown(tmp_path: Path) -> None:
    arms = {f"lora_{at}": {"method": "lora", "r": at + 1} for at in range(12)}
    levels = {label: Level(0.9 - 0.01 * at) for at, label in enumerate(arms)}
    study = build_store(tmp_path / "s", small_study(arms=arms), World(levels=levels, test_rows=60))
    page = report.write(study, plots=False)
    best = report.build(study).as_data()["answer"]["best"]
    section = page.read_text().partition("## Pairs")[2].partition("\n## ")[0]
    shown = [line for line in section.splitlines() if line.startswith("| lora")]
    assert len(shown) == 11
    assert all(f"{best} " in line for line in shown)
    assert "pairs.csv" in section
    assert len((page.parent / "pairs.csv").read_text().splitlines()) == 1 + 66


def test_when_nothing_beats_the_floor_training_is_not_shown_to_help(tmp_path: Path) -> None:
    levels = {label: Level(0.5) for label in LEVELS}
    answer = report.build(store(tmp_path, levels=levels)).as_data()["answer"]
    assert answer["text"].startswith("It is not shown that training helps: no method is clearly better than majority")
    assert f"If you train all the same, use {answer['if_trained']} " in answer["text"]


def test_contended_timings_carry_a_dagger_and_are_never_best(tmp_path: Path) -> None:
    text = report.write(store(tmp_path, contended=frozenset({"head"})), plots=False).read_text()
    arm = next(line for line in text.splitlines() if line.startswith("| head |"))
    assert " s † |" in arm
    assert "† Something else used the machine" in text
    assert not re.search(r"\*\*[\d.]+ ± [\d.]+ s", text)


def test_random_weights_come_first_and_no_quality_is_bold(tmp_path: Path) -> None:
    study = store(tmp_path, model={"source": "gpt2", "random_weights": True})
    body = report.build(study).as_data()
    assert body["study"]["random_weights"]
    assert body["answer"]["text"].startswith("The base model's weights are random: quality means nothing")
    assert body["warnings"][0]["name"] == "random_weights"
    text = report.write(study).read_text()
    assert not re.search(r"\*\*0\.\d{3}", text)


def test_published_figures_stand_beside_ours(tmp_path: Path) -> None:
    published = PublishedSpec(
        citation="Somebody, 2024",
        figures={"lora": {"accuracy_percent": 93.88, "carbon_grams": 3.0}, "qlora": {"train_seconds": 1694.9}},
        model="org/theirs",
        notes=("One run each.",),
    )
    study = small_study("lora").model_copy(update={"published": published})
    place = build_store(tmp_path / "s", study, World(levels=LEVELS))
    lora = method(report.build(place).as_data(), "lora")
    assert lora["published"] == {"accuracy_percent": 93.88, "carbon_grams": 3.0}
    assert lora["published_comparison"][0]["ours"] == pytest.approx(100 * lora["metrics"]["accuracy"]["mean"])
    text = report.write(place, plots=False).read_text()
    assert "/ 93.88" in text
    assert "†" not in text
    assert "not measured / 3 |" in text
    assert "qlora (published only, no arm here): train seconds 1,694.9" in text
    assert "One run each." in text
    assert f"theirs are of org/theirs and ours of {study.model.source}" in text


@pytest.mark.parametrize(
    ("theirs", "ours", "other"),
    [
        ("meta-llama/Llama-3.2-3B", "meta-llama/Llama-3.2-3B", None),
        ("meta-llama/Llama-3.2-3B", "somebody/llama-3.2-3b", None),
        ("openai-community/gpt2", "../models/gpt2", None),
        ("openai-community/gpt2", "distilbert/distilgpt2", "openai-community/gpt2"),
        (None, "gpt2", None),
    ],
)
def test_published_figures_are_of_another_model_where_its_name_is(
    theirs: str | None, ours: str, other: str | None
) -> None:
    assert other_model(theirs, ours) == other


def test_published_figures_keep_the_dagger_and_the_kind_of_memory(tmp_path: Path) -> None:
    figures = {"accuracy_percent": 93.88, "train_seconds": 99.0, "peak_memory_megabytes": 3577}
    published = PublishedSpec(citation="Somebody, 2024", figures={"lora": figures})
    study = small_study("lora").model_copy(update={"published": published})
    place = build_store(tmp_path / "s", study, World(levels=LEVELS, contended=frozenset({"lora"})))
    text = report.write(place, plots=False).read_text().partition("## Published")[2].partition("\n## ")[0]
    arm = cells(text, "_Somebody, 2024_", "lora")
    assert arm["train seconds"].endswith("† / 99")
    assert "†" not in arm["accuracy percent"] + arm["peak memory megabytes"]
    assert "† Something else used the machine" in text
    assert "the process's resident memory in training; a published figure of a GPU's memory is another quantity" in text


def test_text_from_elsewhere_cannot_break_the_page(tmp_path: Path) -> None:
    study = small_study("majority", arms={"a|b": {"method": "lora"}})
    world = World(
        levels={"majority": Level(0.5), "a|b": Level(0.9)}, changes={"a|b": {"findings": finding("x", "a\n# b")}}
    )
    text = report.write(build_store(tmp_path / "s", study, world)).read_text()
    assert "| a\\|b |" in text
    assert "\n# b" not in text


def test_diverged_seeds_are_marked_and_the_figure_without_them_is_told(tmp_path: Path) -> None:
    asked = small_study("majority", "full", "lora", "head", seeds=3)
    others = PublishedSpec(citation="Somebody", figures={"lora": {"accuracy_percent": 93.0}})
    world = World(levels=LEVELS, fail={("lora", 1): Status.DIVERGED})
    study = build_store(tmp_path / "study", asked.model_copy(update={"published": others}), world)
    lora = method(report.build(study).as_data(), "lora")
    accuracy = lora["metrics"]["accuracy"]
    alone = accuracy["without_diverged"]
    assert (accuracy["n"], alone["n"], accuracy["diverged_seeds"]) == (3, 2, [1])
    assert alone["mean"] == pytest.approx(sum(accuracy["values"]) / 2)
    assert accuracy["mean"] < alone["mean"] - 0.1
    page = report.write(study, plots=False).read_text(encoding="utf-8")
    assert "‡ Training diverged at some seeds, which count as doing without training: lora (seed 1; without: 0." in page
    assert "of 2; counts as: majority)." in page
    assert next(line for line in page.splitlines() if line.startswith("| lora |")).count("‡") >= 1
    published = lora["published_comparison"][0]
    assert (published["n"], published["ours"]) == (2, pytest.approx(100 * alone["mean"]))


def test_tables_are_csv(tmp_path: Path) -> None:
    folder = report.write(store(tmp_path, fail={("full", 1): Status.DIVERGED}), plots=False).parent
    trials = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    assert len(trials) == 8
    assert {arm["accuracy"] == "" for arm in trials if arm["status"] == "diverged"} == {True}
    arms = {arm["method"]: arm for arm in csv.DictReader((folder / "methods.csv").read_text().splitlines())}
    assert arms["full"]["statuses"] == "completed 1; diverged 1"
    assert float(arms["full"]["accuracy_std"]) > 0.2
    assert float(arms["lora"]["train_seconds_mean"]) > 0
    assert arms["lora"]["trainable_parameters"] == "148996"


def test_the_study_file_repeats_the_study(tmp_path: Path) -> None:
    study = store(tmp_path)
    folder = report.write(study, plots=False).parent
    assert load(folder / "study.yaml") == study.study()


def test_no_place_of_this_machine_is_in_the_report(tmp_path: Path) -> None:
    folder = report.write(store(tmp_path)).parent
    assert not [p.name for p in folder.iterdir() if p.suffix != ".png" and str(tmp_path) in p.read_text()]


def of_data(folder: Path, data: Any) -> StudyStore:
    study = small_study("lora", "full")
    task = study.task.model_copy(update={"data": DataSpec.model_validate(data)})
    return build_store(folder / "study", study.model_copy(update={"task": task}))


def test_the_data_are_named_with_their_version(tmp_path: Path) -> None:
    train = {"source": "somebody/news", "config": "3.0.0", "revision": "1a2b3c"}
    data = {"train": train, "test": {"source": "somebody/news", "split": "validation"}}
    study = of_data(tmp_path, data)
    body = report.build(study).as_data()
    unset: dict[str, Any] = {"more": [], "rename": {}}
    assert body["study"]["sources"] == {
        "train": {**train, "split": None, **unset},
        "validation": None,
        "test": {"source": "somebody/news", "split": "validation", "config": None, "revision": None, **unset},
    }
    text = report.write(study, plots=False).read_text()
    assert "data somebody/news, config 3.0.0, revision 1a2b3c." in text.partition("## Answer")[0]
    arms = {split: cells(text, "## Data", split) for split in ("train", "validation", "test")}
    assert arms["train"]["source"] == "somebody/news, config 3.0.0, revision 1a2b3c"
    assert arms["validation"]["source"] == "cut from train"
    assert arms["test"]["source"] == "somebody/news, split validation"
    assert {split: arm["fingerprint"] for split, arm in arms.items()} == {
        split: body["data"]["splits"][split]["fingerprint"][:12] for split in arms
    }


@pytest.mark.parametrize("path", ["/home/me/secret/rows.csv", "file:secret/rows.csv", "C:\\secret\\rows.csv"])
def test_a_local_file_is_told_by_its_name(path: str, tmp_path: Path) -> None:
    study = of_data(tmp_path, {"train": path})
    page = report.write(study, plots=False)
    assert report.build(study).as_data()["study"]["sources"]["train"]["source"] == "rows.csv"
    assert cells(page.read_text(), "## Data", "train")["source"] == "rows.csv"
    assert "secret" not in page.read_text() + (page.parent / "report.json").read_text()


@pytest.mark.parametrize(
    ("protocol", "shown"),
    [
        ({}, "best by validation accuracy"),
        ({"select_metric": "macro_f1"}, "best by validation macro-F1"),
        ({"select": "last"}, "last"),
    ],
)
def test_what_selects_is_named(protocol: dict[str, Any], shown: str, tmp_path: Path) -> None:
    study = small_study("lora", "full")
    changed = study.protocol.model_copy(update=protocol)
    page = report.write(build_store(tmp_path / "s", study.model_copy(update={"protocol": changed})), plots=False)
    assert cells(page.read_text(), "## Protocol", "select")["value"] == shown
    assert "select metric" not in page.read_text()


def test_settings_left_to_the_machine_or_the_model_are_told_as_they_were(tmp_path: Path) -> None:
    model = ModelInfo(source="minilm", attention="eager", evaluation_attention="sdpa")
    study = build_store(tmp_path / "s", small_study("lora"), World(changes={"lora": {"model": model}}))
    text = report.write(study, plots=False).read_text()
    told = {arm: cells(text, "## Protocol", arm)["value"] for arm in ("attention", "precision", "dropout")}
    assert told == {
        "attention": "auto: eager in training, sdpa in evaluations",
        "precision": "auto: fp32-medium",
        "dropout": "as pretrained",
    }


def test_the_kind_of_memory_is_told_of_each_row_where_kinds_differ(tmp_path: Path) -> None:
    assert (
        "Peak memory is the process's resident memory in training."
        in report.write(store(tmp_path), plots=False).read_text()
    )
    changes = {"full": {"memory": Memory(peak_memory_bytes=1 << 30, kind="cuda_allocated")}}
    text = report.write(store(tmp_path / "mixed", changes=changes), plots=False).read_text()
    assert "what CUDA's allocator gave out in training (full)" in text
    assert "the process's resident memory in training (lora and head)" in text


def test_a_cost_of_fewer_seeds_than_the_rest_says_of_how_many(tmp_path: Path) -> None:
    study = store(tmp_path, seeds=5)
    latency = method(report.build(study).as_data(), "lora")["latency_seconds"]
    assert (latency["n"], latency["mean"]) == (3, pytest.approx(0.012))
    text = report.write(study, plots=False).read_text()
    assert "Measured at some seeds alone: latency, one (3), inference examples/s (3)." in text
    assert "at some seeds alone" not in report.write(store(tmp_path / "few", seeds=3), plots=False).read_text()


@pytest.mark.parametrize(("timed", "fastest"), [(1, False), (4, False), (5, True)])
def test_a_latency_of_few_examples_is_never_the_best(timed: int, fastest: bool, tmp_path: Path) -> None:
    seconds = {"full": 0.02, "lora": 0.03}
    changes = {
        label: {"inference": Inference(latency_seconds_median=value, latency_examples=timed)}
        for label, value in seconds.items()
    }
    study = build_store(tmp_path / "s", small_study("full", "lora"), World(changes=changes))
    assert method(report.build(study).as_data(), "full")["latency_examples"] == timed
    text = report.write(study, plots=False).read_text()
    assert cells(text, "## Speed and gradients", "full")["latency, one ↓"].startswith("**") is fastest
    assert ("too few to call an arm the fastest" in text) is not fastest
    assert f"({timed} timed" in text


def repeat_command(page: Path) -> list[str]:
    return shlex.split(page.read_text().partition("## How to repeat")[2].partition("```sh\n")[2].splitlines()[0])


def test_the_page_says_how_to_repeat_from_where_it_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    page = report.write(store(place / "my runs"), plots=False)
    command = repeat_command(page)
    assert command == ["tuneoff", "run", "my runs/study/report/study.yaml", "--out", "repeated", "--device", "cpu"]
    assert load(command[2]) == StudyStore.open(page.parents[1]).study()
    # What lies elsewhere is not led to, for the way would tell of this machine.
    page = report.write(store(tmp_path / "elsewhere"), plots=False)
    assert repeat_command(page)[2] == "STUDY/report/study.yaml"
    assert "`STUDY` stands for this study's folder" in page.read_text()


# --- studies of generation


def writing(folder: Path, *labels: str, seeds: int = 2, **world: Any) -> StudyStore:
    study = writing_study(*(labels or WRITERS), seeds=seeds)
    return build_store(folder / "study", study, World(**{"levels": WRITERS, "test_rows": 60, **world}))


def cells(text: str, heading: str, row: str) -> dict[str, str]:
    """A row of the first table under a heading, by column."""
    lines = text.partition(f"{heading}\n")[2].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    return dict(zip(table[0], next(line for line in table if line[0] == row), strict=True))


def test_metrics_of_a_text_task_stand_in_the_tables_in_their_own_units(tmp_path: Path) -> None:
    text = report.write(writing(tmp_path), plots=False).read_text()
    lora = cells(text, "## Results", "lora")
    assert list(lora)[1:5] == ["ROUGE-L ↑", "loss ↓", "ROUGE-1 ↑", "perplexity ↓"]
    assert re.fullmatch(r"0\.\d{3} ± 0\.\d{3}", lora["ROUGE-L ↑"])
    assert re.fullmatch(r"\d,\d{3} ± \d+", lora["perplexity ↓"])
    # The lowest loss and the highest ROUGE are the best of their columns.
    full = cells(text, "## Results", "full")
    assert full["ROUGE-L ↑"].startswith("**")
    assert full["loss ↓"].startswith("**")
    speed = cells(text, "## Speed and gradients", "lora")
    assert (speed["written tokens/s ↑"], speed["tokens written"]) == ("55.00 ± 0.00", "15.00 ± 0.00")
    assert "of its whole text" in text
    assert "classes" not in text
    assert cells(text, "## Protocol", "select")["value"] == "best by validation loss"


def test_a_floor_without_a_loss_says_why_and_one_with_a_model_has_its_figures(tmp_path: Path) -> None:
    study = writing(tmp_path)
    body = report.build(study).as_data()
    lead, zero = method(body, "lead"), method(body, "zero_shot")
    assert not lead["trains"]
    assert not zero["trains"]
    assert {"figure": "loss", "reason": "this method uses no model"} in lead["missing"]
    assert zero["metrics"]["perplexity"]["mean"] > 0
    assert zero["peak_memory_bytes"]["mean"] == 500 << 20
    assert zero["train_seconds"]["mean"] is None
    text = report.write(study, plots=False).read_text()
    assert cells(text, "## Results", "lead")["loss ↓"] == "– [1]"
    assert "[1] this method uses no model." in text
    assert "of an arm that does not train, that of the test" in text


def test_the_answer_of_a_text_study_names_its_best_floor(tmp_path: Path) -> None:
    body = report.build(writing(tmp_path)).as_data()
    text = body["answer"]["text"]
    assert (body["answer"]["baseline"], body["answer"]["not_above_baseline"]) == ("lead", [])
    assert "full has the highest test ROUGE-L: 0." in text
    assert "Whether it is better than lora and prompt_tuning is open: 2 seeds are too few to tell" in text
    assert "The baseline, lead (the best of 2 arms without training), is at 0." in text
    assert method(body, "prompt_tuning")["to_best"]["examples"] == 60


def test_more_metrics_than_fit_get_a_table_of_their_own(tmp_path: Path) -> None:
    names = [f"metric_{i}" for i in range(6)]

    def values(spec: Any, level: Level, rows: int) -> list[Any]:
        made = written_predictions(spec, level, rows)
        return [p.model_copy(update={"values": {**p.values, **dict.fromkeys(names, 0.25)}}) for p in made]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("record_helpers.written_predictions", values)
        study = writing(tmp_path, "zero_shot", "lora")
    text = report.write(study, plots=False).read_text()
    assert "metric 5 ↑" not in cells(text, "## Results", "lora")
    every = cells(text, "### Every metric", "lora")
    assert every["metric 5 ↑"] == "0.250 ± 0.000"
    assert {"ROUGE-L ↑", "loss ↓", "perplexity ↓"} <= every.keys()


def test_lower_may_be_better(tmp_path: Path) -> None:
    labels = ("zero_shot", "lora", "prompt_tuning")
    study = writing(tmp_path, *labels, seeds=6, changes={label: {"primary_metric": "perplexity"} for label in labels})
    body = report.build(study).as_data()
    text = body["answer"]["text"]
    assert "lora has the lowest test perplexity: 8,0" in text
    assert "(6 seeds; lower is better)" in text
    assert body["answer"]["behind"] == ["prompt_tuning"]
    assert method(body, "prompt_tuning")["to_best"]["relation"] == "behind"
    assert method(body, "prompt_tuning")["to_best"]["difference"] > 0
    assert method(body, "prompt_tuning")["to_best"]["examples"] == 60
    assert re.search(r"lora is [\d,]+ below it", text)


def test_examples_are_spread_over_those_whose_source_was_kept(tmp_path: Path) -> None:
    study = writing(tmp_path, skip=frozenset({("lora", 0)}))
    found = report.build(study).as_data()["examples"]
    assert [example["index"] for example in found] == [0, 6, 12, 19]
    assert found[1]["source"] == "Article 6 tells of many things."
    assert found[1]["reference"] == "Reference 6."
    outputs = {one["method"]: one for one in found[1]["outputs"]}
    assert list(outputs) == list(WRITERS)
    assert outputs["full"]["output"] == "full of seed 0 writes text 6."
    assert (outputs["lora"]["seed"], outputs["lora"]["output"]) == (1, "lora of seed 1 writes text 6.")
    assert 0 < outputs["lead"]["value"] < 1
    assert "lora of seed 1 writes text 6." in report.write(study, plots=False).read_text()


@pytest.mark.parametrize(("rows", "indices"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (5, [0, 1, 2, 4])])
def test_few_test_rows_give_few_examples(rows: int, indices: list[int], tmp_path: Path) -> None:
    found = report.build(writing(tmp_path, "lora", "full", test_rows=rows)).as_data()["examples"]
    assert [example["index"] for example in found] == indices


def test_classification_has_no_examples(tmp_path: Path) -> None:
    study = store(tmp_path)
    assert report.build(study).as_data()["examples"] == []
    assert "## Examples" not in report.write(study, plots=False).read_text()


def test_written_text_is_shown_as_it_stands_cut_and_empty_ones_named(tmp_path: Path) -> None:
    def odd(spec: Any, level: Level, rows: int) -> list[Any]:
        texts = {"lora": HOSTILE, "full": "", "prompt_tuning": "word " * 300}
        made = written_predictions(spec, level, rows)
        return [p.model_copy(update={"output": texts.get(spec.label, p.output)}) for p in made]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("record_helpers.written_predictions", odd)
        study = writing(tmp_path)
    text = report.write(study, plots=False).read_text()
    shown = cells(text, "### Test example 6", "lora")["text"]
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert shown.startswith("a \\| b \\# \\*bold\\* \\_it\\_ \\<script\\>alert(1)")
    assert "\x1b" not in text
    # Without its backslashes it is what the model wrote, on one line.
    assert re.sub(r"\\(.)", r"\1", shown) == " ".join(HOSTILE.replace("\x1b", "\\x1b").split())
    assert cells(text, "### Test example 6", "full")["text"] == "*(empty)*"
    long = cells(text, "### Test example 6", "prompt_tuning")["text"]
    assert long.endswith("word …")
    assert 550 < len(long) <= 602


def test_an_example_of_other_data_is_not_set_beside(tmp_path: Path) -> None:
    def other(spec: Any, level: Level, rows: int) -> list[Any]:
        made = written_predictions(spec, level, rows)
        return [p.model_copy(update={"target": "elsewhere"}) if spec.label == "full" else p for p in made]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("record_helpers.written_predictions", other)
        study = writing(tmp_path, "lora", "full")
    outputs = report.build(study).as_data()["examples"][0]["outputs"]
    assert [one["method"] for one in outputs] == ["lora"]
