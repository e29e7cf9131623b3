"""What the report says of an equal search, and where there was none."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from record_helpers import Level, World, build_search, build_store, small_study
from tuneoff import report
from tuneoff.analysis.results import gather
from tuneoff.analysis.search_data import recorded
from tuneoff.planning.plan import plan
from tuneoff.report import terminal
from tuneoff.report.builder import build_report
from tuneoff.report.charts.chart import Chart
from tuneoff.report.charts.definitions import SENSITIVITY, build_charts
from tuneoff.report.charts.drawing import draw
from tuneoff.store import StudyStore

LEVELS = {"majority": Level(0.5, head=0), "full": Level(0.93, 30.0), "lora": Level(0.93, 8.0), "head": Level(0.6, 3.0)}
TOLD: dict[Path, dict[str, Any]] = {}
"""Study folder -> what the report is to take for what its search found, where a test makes that up."""
ROWS: dict[str, Any] = {"full": {}, "lora": {"r": {"search": [4, 8, 16]}}, "head": {}}


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("tuneoff.analysis.results.recorded", lambda store: TOLD.get(store.root) or recorded(store))
    yield
    TOLD.clear()


def searched(folder: Path, search: Any = 8, arms: Any = None, seeds: int = 2, **found: Any) -> StudyStore:
    study = small_study("majority", arms=arms or ROWS, seeds=seeds, search=search)
    return build_store(folder / "study", study, World(levels=LEVELS), **found)


def arms(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {arm["method"]: arm for arm in body["search"]["arms"]}


def named(body: dict[str, Any]) -> dict[str, str]:
    return {warning["name"]: warning["message"] for warning in body["warnings"]}


def section(text: str) -> str:
    return text.partition("## Search\n")[2].partition("\n## ")[0]


def cells(text: str, arm: str) -> dict[str, str]:
    table = [[c.strip() for c in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("|")]
    return dict(zip(table[0], next(line for line in table if line[0] == arm), strict=True))


def sensitivity(store: StudyStore) -> Chart | None:
    results = gather(store)
    return next((chart for chart in build_charts(build_report(results)) if chart.name == SENSITIVITY), None)


def drop_of(tmp_path: Path, scores: list[float | None], **changes: Any) -> dict[str, Any]:
    """`full`'s arm of the report where its search trials had these scores."""
    store = searched(tmp_path, len(scores), {"full": {}})
    found = recorded(store)
    assert found is not None
    arm = found["arms"]["full"]
    for tried, score in zip(arm["tried"], scores, strict=True):
        tried["score"] = score
    known = [tried for tried in arm["tried"] if tried["score"] is not None]
    best = max(known, key=lambda tried: tried["score"], default=None)
    arm["best"] = best["trial"] if best else None
    found["metric"]["direction"] = changes.get("direction", "higher")
    if changes.get("direction") == "lower" and known:
        arm["best"] = min(known, key=lambda tried: tried["score"])["trial"]
    TOLD[store.root] = found
    return arms(report.build(store).as_data())["full"]


# --- as data


def test_what_was_tried_chosen_and_spent_is_in_the_data(tmp_path: Path) -> None:
    store = searched(tmp_path, {"trials": 8, "train_rows": 500, "max_steps": 40})
    body = report.build(store).as_data()
    json.dumps(body, allow_nan=False)
    search = body["search"]
    assert (search["trials"], search["seed"], search["train_rows"], search["epochs"], search["max_steps"]) == (
        *(8, 1000, 500, 3, 40),
    )
    assert (search["metric"], search["direction"], search["unit"]) == ("accuracy", "higher", "fraction")
    assert (search["complete"], search["equal"], search["not_searched"]) == (True, True, [])
    assert list(arms(body)) == ["full", "lora", "head"]
    assert (search["tried_count"], search["train_seconds"], search["total_seconds"]) == (24, 48.0, 72.0)
    lora = arms(body)["lora"]
    assert (lora["tried_count"], lora["failed"], lora["train_seconds"]) == (8, 0, 16.0)
    assert lora["space"].keys() == {"learning_rate", "r"}
    assert lora["score"] == max(tried["score"] for tried in lora["tried"])
    entry = next(method for method in body["methods"] if method["method"] == "lora")
    assert lora["choice"] == {"learning_rate": entry["learning_rate"], "r": entry["options"]["r"]}
    assert lora["final_train_seconds"] == pytest.approx(2 * entry["train_seconds"]["mean"])


def test_every_key_is_documented(tmp_path: Path) -> None:
    body = report.build(searched(tmp_path)).as_data()
    documented = set(re.findall(r"`([a-z_]+)`", (Path(__file__).parents[2] / "docs/report-schema.md").read_text()))
    assert {*body["search"], *arms(body)["full"], "learning_rate_from"} - documented == set()


@pytest.mark.parametrize(
    ("scores", "drop"),
    [
        ([0.9, 0.8, 0.7, 0.6, 0.5], 0.2),
        ([0.9, 0.8, 0.8, 0.5, 0.1, 0.1], 0.25),
        # A failed trial is the worst: two of five push the median down to the least of the rest.
        ([0.9, None, None, 0.8, 0.5], 0.4),
        ([0.9, 0.9, 0.9, 0.9, 0.9], 0.0),
        # Later trials stand where scores are good: the first six alone are spread over the range.
        ([0.9, 0.5, 0.5, 0.5, 0.5, 0.5, *[0.9] * 8], 0.4),
    ],
)
def test_the_median_drop_is_how_much_worse_the_median_trial_is(
    scores: list[float | None], drop: float, tmp_path: Path
) -> None:
    arm = drop_of(tmp_path, scores)
    assert (arm["median_drop"], arm["median_drop_reason"]) == (pytest.approx(drop), "")


def test_the_median_drop_where_lower_is_better(tmp_path: Path) -> None:
    assert drop_of(tmp_path, [2.0, 2.5, 3.0, 9.0, 9.0], direction="lower")["median_drop"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([0.9, 0.8, 0.7, 0.6], "fewer than 5 trials"),
        ([0.9, 0.8, None, None, None], "half of the trials or more failed"),
        ([None] * 5, "no trial completed"),
    ],
)
def test_a_median_drop_that_would_say_nothing_is_null_with_its_reason(
    scores: list[float | None], reason: str, tmp_path: Path
) -> None:
    arm = drop_of(tmp_path, scores)
    assert (arm["median_drop"], arm["median_drop_reason"]) == (None, reason)


# --- warnings


def test_a_best_value_at_an_edge_is_a_warning(tmp_path: Path) -> None:
    assert "best_at_edge" not in named(
        report.build(searched(tmp_path / "inside", arms={"full": {}, "head": {}})).as_data()
    )
    store = searched(tmp_path, arms={"full": {}, "lora": {"r": {"search": [4, 8, 16]}}}, peaks={"full": 1.0})
    found = recorded(store)
    assert found is not None
    best = found["arms"]["full"]["choice"]["learning_rate"]
    message = named(report.build(store).as_data())["best_at_edge"]
    assert f"full: learning rate {best:g}, upper edge of 2.5e-06 to 0.001" in message
    assert ("lora: r 16, greatest of 4, 8, 16" in message) == ("r" in found["arms"]["lora"]["at_edge"])
    text = report.write(store, plots=False).read_text()
    assert cells(section(text), "full")["chosen"] == f"learning rate {best:g} (upper edge)"
    assert "`best_at_edge`" in text


def test_failed_search_trials_are_named_with_their_ends(tmp_path: Path) -> None:
    store = searched(tmp_path, broken=frozenset({("full", 2), ("full", 4), ("head", 1)}))
    body = report.build(store).as_data()
    message = "3 of 24 search trials did not complete (full: 2 diverged; head: 1 diverged)."
    assert named(body)["failed_search_trials"] == message
    assert cells(section(report.write(store, plots=False).read_text()), "full")["trials"] == "8 (2 failed)"
    assert "failed_search_trials" not in named(report.build(searched(tmp_path / "well")).as_data())


def test_a_search_that_is_not_over_says_so_and_chooses_nothing(tmp_path: Path) -> None:
    store = searched(tmp_path, rounds=3)
    body = report.build(store).as_data()
    assert "full 3, lora 3, head 3" in named(body)["search_unfinished"]
    assert {arm["choice"] for arm in body["search"]["arms"]} == {None}
    assert {method["learning_rate_from"] for method in body["methods"]} == {None, "default"}
    text = section(report.write(store, plots=False).read_text())
    assert "The search is not over: full 3, lora 3, head 3 trials so far." in text
    assert cells(text, "full")["chosen"] == "–"


def test_rows_that_were_searched_unequally_are_told_in_the_answer(tmp_path: Path) -> None:
    store = searched(tmp_path)
    found = recorded(store)
    assert found is not None
    found["arms"]["full"]["tried"].pop()
    del found["arms"]["head"]
    TOLD[store.root] = found
    body = report.build(store).as_data()
    message = "Arms were not searched equally (search trials: full 7, lora 8, head 0), so their ranking is not fair."
    assert message in body["answer"]["caveats"]
    assert body["search"]["not_searched"] == ["head"]
    assert "Arms were not searched equally" in section(report.write(store, plots=False).read_text())


def test_a_row_with_few_configurations_is_tried_completely_and_no_warning(tmp_path: Path) -> None:
    few = {"full": {"learning_rate": {"search": [1e-5, 1e-4]}}, "head": {}}
    store = searched(tmp_path, arms=few)
    assert "unequal_search" not in named(report.build(store).as_data())
    text = section(report.write(store, plots=False).read_text())
    assert "the same 8 search trials before the final trials, or all the configurations there are of it (full)." in text
    assert cells(text, "full")["trials"] == "2 (all there are)"


def test_ranges_that_grew_are_told(tmp_path: Path) -> None:
    store = searched(tmp_path, {"trials": 8, "grow": True}, peaks={"full": 1.0})
    text = section(report.write(store, plots=False).read_text())
    assert "the same 12 search trials (8, then more because ranges were widened) before the final trials." in text
    assert cells(text, "full")["searched"] == "learning rate 2.5e-06 to 0.01 (widened)"
    assert "the median of its first 6 trials" in text


# --- a pruned search

HALVED = {"trials": 8, "max_steps": 80, "prune": "halving"}


def test_what_was_pruned_and_what_it_took_is_said(tmp_path: Path) -> None:
    store = searched(tmp_path, HALVED, {"full": {}, "lora": {}})
    body = report.build(store).as_data()
    search = body["search"]
    assert search["rungs"] == [{"trials": 8 >> at, "steps": 10 << at} for at in range(4)]
    assert (search["prune"], search["tried_count"], search["train_seconds"]) == ("halving", 30, 60.0)
    assert [(arm["tried_count"], arm["configurations"], arm["exhausted"]) for arm in search["arms"]] == [
        (15, 8, False)
    ] * 2
    assert named(body).keys().isdisjoint({"unequal_search", "search_unfinished", "failed_search_trials"})
    page = report.write(store, plots=False).read_text()
    text = section(page)
    assert "Every arm that trains got the same 8 search trials in the first rung before the final trials." in text
    assert (
        "8 trials of an arm got 10 steps, then, anew, the best 4 with 20, the best 2 with 40 and the best 1 with 80"
        in text
    )
    assert "15 trials and 320 steps of an arm, where 8 trials of 80 steps would have taken 640." in text
    assert cells(text, "full")["trials"] == "15 (8 different)"
    assert "sampler gp, pruned by successive halving |" in page
    out = io.StringIO()
    terminal.render(store, Console(file=out, width=100))
    assert "Search: 30 trials of 2 arms by validation accuracy, pruned by successive halving, 1 min 00 s" in " ".join(
        out.getvalue().split()
    )


def test_the_median_drop_of_a_pruned_row_holds_equal_steps_against_one_another(tmp_path: Path) -> None:
    store = searched(tmp_path, HALVED, {"full": {}})
    found = recorded(store)
    assert found is not None
    tried = found["arms"]["full"]["tried"]
    for one, score in zip(tried, [0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, *[0.99] * 7], strict=True):
        one["score"] = score
    TOLD[store.root] = found
    arm = arms(report.build(store).as_data())["full"]
    assert arm["median_drop"] == pytest.approx(0.8 - 0.55)
    assert arm["score"] == 0.99
    text = section(report.write(store, plots=False).read_text())
    assert "the median of its first 6 trials, of 10 steps each, scores than the best of these." in text


def test_pruned_rows_are_unequal_only_where_configurations_are(tmp_path: Path) -> None:
    lost = frozenset({("full", at) for at in range(8)})
    store = searched(tmp_path, HALVED, {"full": {}, "lora": {}}, broken=lost)
    body = report.build(store).as_data()
    assert [arm["tried_count"] for arm in body["search"]["arms"]] == [8, 15]
    assert "unequal_search" not in named(body)
    found = recorded(store)
    assert found is not None
    found["arms"]["full"]["tried"].pop()
    TOLD[store.root] = found
    assert "full 7, lora 8" in named(report.build(store).as_data())["unequal_search"]


def test_the_chart_marks_what_was_pruned(tmp_path: Path) -> None:
    store = searched(tmp_path, HALVED, {"full": {}}, broken=frozenset({("full", 2)}))
    chart, arm = sensitivity(store), arms(report.build(store).as_data())["full"]
    assert chart is not None
    (series,) = chart.series
    assert len(series.x) == 1, "what had the whole share of steps"
    assert series.chosen == 0
    assert len(series.early) == 8 - 1 - 1, "each other configuration once, but for the one that failed"
    assert len(series.failed) == 1
    assert series.x[0] == arm["choice"]["learning_rate"]
    assert series.x[0] not in {rate for rate, _ in series.early}
    assert "Hollow: what was pruned" in chart.caption
    assert draw(chart) != draw(replace(chart, series=(replace(series, early=()),)))
    plain = sensitivity(searched(tmp_path / "plain"))
    assert plain is not None
    assert "Hollow" not in plain.caption
    assert {s.early for s in plain.series} == {()}


def test_the_page_says_what_was_searched_how_equally_and_at_what_cost(tmp_path: Path) -> None:
    page = report.write(searched(tmp_path, {"trials": 8, "train_rows": 500}), plots=False).read_text()
    text = section(page)
    assert "Every arm that trains got the same 8 search trials before the final trials." in text
    assert "seed 1000, which no final trial uses, and 500 training rows, 3 epochs, and was scored by validation" in text
    assert "24 trials of the search trained for 48.0 s (1 min 12 s with loading and validation)" in text
    lora = cells(text, "lora")
    assert lora["searched"] == "learning rate 0.0001 to 0.04; r 4, 8, 16"
    assert re.fullmatch(r"learning rate [\d.e-]+; r \d+( \(\w+ edge\))?", lora["chosen"])
    assert re.fullmatch(r"0\.\d{3}", lora["median drop"])
    assert lora["train time, search"] == "16.0 s"
    assert re.search(r"\| search \| 8 trials per arm, seed 1000, 500 training rows, sampler gp \|", page)
    assert re.search(r"\| full \| full \| [\d.e-]+ \(searched\) \|", page)


def test_the_terminal_has_one_line_of_it(tmp_path: Path) -> None:
    out = io.StringIO()
    terminal.render(searched(tmp_path, peaks={"full": 1.0}), Console(file=out, width=100))
    text = " ".join(out.getvalue().split())
    assert "Search: 24 trials of 3 arms by validation accuracy, 48.0 s of training beside the final trials' " in text
    assert "best_at_edge: The best value lies at an edge of its range (full: learning rate" in text


def test_rates_that_were_not_searched_are_said_to_be_guesses(tmp_path: Path) -> None:
    study = small_study("majority", "full", arms={"lora": {"learning_rate": 0.004}})
    store = build_store(tmp_path / "s", study, World(levels=LEVELS))
    body = report.build(store).as_data()
    assert body["search"] is None
    told = {method["method"]: method["learning_rate_from"] for method in body["methods"]}
    assert told == {"majority": None, "full": "default", "lora": "study"}
    text = section(report.write(store, plots=False).read_text())
    assert "Learning rates were not searched, and a guessed rate can decide a ranking" in text
    assert "(the method's default), lora 0.004 (set in the study)." in text
    out = io.StringIO()
    terminal.render(store, Console(file=out, width=100))
    assert "Learning rates were not searched" in out.getvalue()
    assert sensitivity(store) is None


def test_one_rate_for_all_is_said_to_be_that(tmp_path: Path) -> None:
    study = small_study("full", "lora")
    study = study.model_copy(update={"protocol": study.protocol.model_copy(update={"learning_rate": 0.002})})
    text = report.write(build_store(tmp_path / "s", study, World(levels=LEVELS)), plots=False).read_text()
    assert "full 0.002 (one for all), lora 0.002 (one for all)" in section(text)


def test_floors_alone_have_nothing_to_search(tmp_path: Path) -> None:
    study = build_store(tmp_path / "s", small_study("majority"), World(levels=LEVELS))
    assert "## Search" not in report.write(study, plots=False).read_text()


def test_a_search_that_was_only_asked_for_has_not_begun(tmp_path: Path) -> None:
    study = small_study("majority", arms=ROWS, search=8)
    store = StudyStore.create(tmp_path / "study", study, plan(study))
    assert section(report.write(store, plots=False).read_text()).strip() == "The search has not begun."


# --- the chart


def test_the_chart_shows_what_was_tried_chosen_and_failed_within_its_range(tmp_path: Path) -> None:
    store = searched(tmp_path, broken=frozenset({("full", 2)}))
    chart, body = sensitivity(store), arms(report.build(store).as_data())
    assert chart is not None
    assert (chart.x.scale, chart.y.scale, chart.y.label) == ("log", "linear", "validation accuracy")
    series = {s.label: s for s in chart.series}
    assert list(series) == ["full", "lora", "head"]
    full = series["full"]
    assert (len(full.x), len(full.failed)) == (7, 1)
    assert list(full.x) == sorted(full.x)
    assert full.span == (2.5e-06, 0.001)
    assert full.chosen is not None
    assert full.x[full.chosen] == body["full"]["choice"]["learning_rate"]
    assert full.y[full.chosen] == body["full"]["score"] == max(full.y)
    # Other options differ between an arm's points too: no line joins them.
    assert {label: s.joined for label, s in series.items()} == {"full": True, "lora": False, "head": True}
    assert "No line joins" in chart.caption
    assert "Crosses" in chart.caption
    assert f"full {full.x[full.chosen]:g}" in chart.alt
    page = report.write(store)
    assert (page.parent / chart.file).read_bytes() == draw(chart).png
    assert f"]({chart.file})" in page.read_text()


def test_everything_the_chart_knows_is_drawn(tmp_path: Path) -> None:
    chart = sensitivity(searched(tmp_path))
    assert chart is not None
    first, *others = chart.series
    pictures = [
        draw(replace(chart, series=(changed, *others)))
        for changed in (
            first,
            replace(first, chosen=None),
            replace(first, span=(1e-7, 1.0)),
            replace(first, failed=(1e-5,)),
            replace(first, joined=False),
            replace(first, label="other"),
        )
    ]
    pictures.append(draw(replace(chart, y=replace(chart.y, scale="log"))))
    assert len(set(pictures)) == 7
    assert draw(replace(chart, series=(replace(first, x=(), y=(), low=(), high=(), chosen=None),))) not in pictures


def test_rows_whose_rate_was_not_searched_are_not_in_the_chart(tmp_path: Path) -> None:
    study = small_study(arms={"lora": {"r": {"search": [4, 8, 16]}}, "head": {}}, search=3)
    protocol = study.protocol.model_copy(update={"learning_rate": 0.001})
    store = build_store(tmp_path / "s", study.model_copy(update={"protocol": protocol}), World(levels=LEVELS))
    assert list(arms(report.build(store).as_data())) == ["lora"]
    assert sensitivity(store) is None


def test_a_metric_over_several_magnitudes_has_a_logarithmic_axis(tmp_path: Path) -> None:
    store = searched(tmp_path, arms={"full": {}})
    found = recorded(store)
    assert found is not None
    found["metric"] = {"name": "loss", "direction": "lower", "split": "validation"}
    for at, tried in enumerate(found["arms"]["full"]["tried"]):
        tried["score"] = 2.0 + at**2
    TOLD[store.root] = found
    chart = sensitivity(store)
    assert chart is not None
    assert (chart.y.scale, chart.y.label) == ("log", "validation loss (lower is better)")


def test_the_chart_is_there_before_the_verdict(tmp_path: Path) -> None:
    study = small_study(arms={"full": {}}, search=8)
    everything = frozenset({("full", 0), ("full", 1)})
    store = build_store(tmp_path / "s", study, World(levels=LEVELS, skip=everything))
    assert f"{SENSITIVITY}.png" in report.write(store).read_text()
    assert json.loads((store.root / "search.json").read_text()) == recorded(build_search(store))
