"""Predicted beside measured, in the report's data, page and terminal."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from forecast_helpers import arm_forecast
from record_helpers import Level, World, build_store, small_study
from tuneoff import report
from tuneoff.analysis.side_by_side import join
from tuneoff.records.forecast import ArmForecast
from tuneoff.records.forecast_sums import study_forecast
from tuneoff.records.record import Status
from tuneoff.report import markdown, terminal
from tuneoff.report.builder import build_report
from tuneoff.store import StudyStore

LEVELS = {
    "majority": Level(0.5, head=0, stored=0),
    "full": Level(0.9, 30.0, 900 << 20, base=1_000_000),
    "lora": Level(0.9, 8.0, 600 << 20, adapter=147_456),
}
FIGURES = ("peak_memory_bytes", "train_seconds", "total_seconds")


def made_store(
    folder: Path, arms: Mapping[str, ArmForecast] | None = None, search: Any = None, **world: Any
) -> StudyStore:
    """A study of three arms with a forecast of these."""
    study = small_study(*LEVELS, seeds=2, search=search)
    store = build_store(folder / "study", study, World(**{"levels": LEVELS, **world}))
    ids = {store.trial(trial).spec().label: trial for trial in reversed(store.trial_ids())}
    told = {
        label: arm.model_copy(update={"trial": arm.trial or ids[label]})
        for label, arm in (arms if arms is not None else predicted()).items()
    }
    store.write_forecast(study_forecast(told, list(told)))
    return store


def predicted() -> dict[str, ArmForecast]:
    unknown = {"train_seconds": "nothing is trained", "peak_memory_bytes": "no model"}
    return {
        "majority": arm_forecast("majority", train_seconds=None, peak_memory_bytes=None, missing=unknown),
        "full": arm_forecast("full", train_seconds=33.0, peak_memory_bytes=945 << 20, forecast_seconds=6.0),
        "lora": arm_forecast("lora", train_seconds=6.0, peak_memory_bytes=594 << 20, how="estimate"),
    }


def by_arm(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {arm["method"]: arm for arm in body["forecast"]["arms"]}


def measured(body: dict[str, Any], label: str, figure: str) -> float | None:
    found: float | None = next(m for m in body["methods"] if m["method"] == label)[figure]["mean"]
    return found


def section(page: str) -> str:
    return page.partition("## Predicted and measured\n")[2].partition("\n## ")[0]


def page(store: StudyStore) -> str:
    return section(markdown.render(report.build(store), []))


# --- as data


def test_errors_are_of_the_prediction_against_the_mean_that_the_table_shows(tmp_path: Path) -> None:
    body = report.build(made_store(tmp_path)).as_data()
    json.dumps(body, allow_nan=False)
    arms = by_arm(body)
    for label, made in predicted().items():
        for figure in ("peak_memory_bytes", "train_seconds"):
            found, mean = arms[label][figure], measured(body, label, figure)
            assert found["predicted"] == getattr(made, figure)
            assert found["measured"] == (None if mean is None else pytest.approx(mean))
            if mean is not None:
                assert found["relative_error"] == pytest.approx(getattr(made, figure) / mean - 1)
                assert found["reason"] == ""
    assert arms["full"]["total_seconds"]["predicted"] == pytest.approx(15)
    assert (arms["full"]["how"], arms["lora"]["how"]) == ("profile", "estimate")
    assert body["forecast"]["forecast_seconds"] == pytest.approx(6)


@pytest.mark.parametrize(("search", "predicted"), [(None, 14.0), ({"trials": 2}, 13.0)])
def test_what_frozen_blocks_give_is_a_part_of_every_trial(search: Any, predicted: float, tmp_path: Path) -> None:
    arm = arm_forecast("lora", kept_seconds={"train": 4.0, "test": 2.0})
    body = report.build(made_store(tmp_path, {"lora": arm}, search=search)).as_data()
    # One of two seeds computes that of the test, or a trial of the search before them; training rows count in each.
    assert by_arm(body)["lora"]["total_seconds"]["predicted"] == pytest.approx(predicted)


def test_a_figure_without_two_sides_has_no_error_and_a_reason(tmp_path: Path) -> None:
    baseline = by_arm(report.build(made_store(tmp_path)).as_data())["majority"]
    assert baseline["train_seconds"]["relative_error"] is None
    assert baseline["train_seconds"]["reason"] == "nothing is trained"
    assert baseline["peak_memory_bytes"]["reason"] == "no model"


def test_median_and_worst_are_over_the_rows_that_have_both(tmp_path: Path) -> None:
    body = report.build(made_store(tmp_path)).as_data()
    arms, accuracy = by_arm(body), body["forecast"]["accuracy"]
    errors = [abs(arms[label]["train_seconds"]["relative_error"]) for label in ("full", "lora")]
    assert accuracy["train_seconds"]["median"] == pytest.approx(sum(errors) / 2)
    assert accuracy["train_seconds"]["worst"] == pytest.approx(max(errors))
    assert (accuracy["train_seconds"]["worst_method"], accuracy["train_seconds"]["arms"]) == ("lora", 2)


def test_a_trial_that_did_not_complete_has_no_part_in_it(tmp_path: Path) -> None:
    store = made_store(tmp_path, fail={("full", 0): Status.DIVERGED, ("full", 1): Status.DIVERGED})
    body = report.build(store).as_data()
    assert by_arm(body)["full"]["train_seconds"]["reason"] == "no trial of this arm has completed"
    assert body["forecast"]["accuracy"]["train_seconds"]["arms"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"trial": "lora-s0-of-another-one"}, "the forecast was made of another configuration or of other data"),
        ({"device": "cuda:0"}, "the forecast was made for cuda:0, the trials ran on cpu"),
        (
            {"batch_sizes": (8, 64)},
            "the forecast is of the most that memory and times could be: the search was still to choose batch sizes",
        ),
    ],
)
def test_a_forecast_of_other_trials_is_not_held_against_these(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    body = report.build(made_store(tmp_path, {**predicted(), "lora": arm_forecast("lora", **change)})).as_data()
    lora = by_arm(body)["lora"]
    assert {lora[figure]["reason"] for figure in FIGURES} == {reason}
    assert {lora[figure]["relative_error"] for figure in FIGURES} == {None}
    assert body["forecast"]["accuracy"]["peak_memory_bytes"]["arms"] == 1


def test_a_searched_row_is_held_against_the_configuration_tried_first(tmp_path: Path) -> None:
    arms = {**predicted(), "lora": arm_forecast("lora", trial="lora-s0-at-another-rate")}
    store = made_store(tmp_path, arms, search=4)
    assert by_arm(report.build(store).as_data())["lora"]["train_seconds"]["relative_error"] is not None
    assert "configuration that the search tried first" in page(store)


def test_a_row_that_was_not_forecast_says_so(tmp_path: Path) -> None:
    arms = {label: arm for label, arm in predicted().items() if label != "lora"}
    body = report.build(made_store(tmp_path, arms)).as_data()
    lora = by_arm(body)["lora"]
    assert (lora["how"], lora["device"], lora["forecast_seconds"]) == (None, None, None)
    assert lora["train_seconds"]["reason"] == "no forecast was made of this arm"
    assert lora["train_seconds"]["measured"] is not None


def test_without_a_forecast_there_is_nothing(tmp_path: Path) -> None:
    store = build_store(tmp_path / "study", small_study("lora"), World(levels=LEVELS))
    assert report.build(store).as_data()["forecast"] is None
    assert page(store) == ""
    assert "Predicted" not in shown(store)


def test_a_damaged_forecast_spoils_no_report(tmp_path: Path) -> None:
    store = made_store(tmp_path)
    (store.root / "forecast.json").write_text("{")
    body = report.build(store).as_data()
    assert "cannot be read" in body["forecast"]["reason"]
    assert body["forecast"]["arms"] == []
    assert "The forecast cannot be read" in page(store)


def test_studies_side_by_side_have_none(tmp_path: Path) -> None:
    stores = [made_store(tmp_path / name) for name in ("one", "two")]
    assert build_report(join([store.root for store in stores]).results).as_data()["forecast"] is None


def test_every_key_is_documented(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/report-schema.md").read_text(encoding="utf-8")
    part = text.partition("## `forecast`\n")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`([a-z_]+)`", part))
    found = report.build(made_store(tmp_path)).as_data()["forecast"]
    arm, accuracy = found["arms"][0], found["accuracy"]["train_seconds"]
    assert found.keys() | arm.keys() | arm["train_seconds"].keys() | accuracy.keys() <= documented


# --- for people


def shown(store: StudyStore) -> str:
    stream = io.StringIO()
    terminal.render(store, Console(file=stream, width=200, highlight=False))
    return stream.getvalue()


def test_the_page_shows_both_sides_with_the_error_and_the_reasons(tmp_path: Path) -> None:
    text = page(made_store(tmp_path))
    full = next(line for line in text.splitlines() if line.startswith("| full"))
    assert "945.0 MiB → 901.4 MiB (+4.8 %)" in full
    assert re.search(r"33\.0 s → \d\d\.\d s \([+-]\d+\.\d %\)", full)
    assert full.endswith("| profile |")
    baseline = next(line for line in text.splitlines() if line.startswith("| majority"))
    assert "– [" in baseline
    assert "nothing is trained." in text
    assert re.search(r"Predictions: peak memory off by \d+\.\d % at the median and 4\.8 % at the worst \(full\)", text)
    assert "Making the forecast took 6.0 s." in text


def test_contended_times_are_marked(tmp_path: Path) -> None:
    text = page(made_store(tmp_path, contended=frozenset({"lora"})))
    lora = next(line for line in text.splitlines() if line.startswith("| lora"))
    assert lora.count("†") == 2  # train time and whole trial; memory is not spoiled
    assert "† Something else used the machine" in text


def test_the_terminal_has_one_line(tmp_path: Path) -> None:
    line = next(line for line in shown(made_store(tmp_path)).splitlines() if line.startswith("Predicted"))
    assert re.fullmatch(
        r"Predicted before training: peak memory off by \d\.\d % at the median, 4\.8 % at the worst; train time off by "
        r"\d+\.\d % at the median, \d+\.\d % at the worst\.",
        line.strip(),
    )
