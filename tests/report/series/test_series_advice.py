"""`tuneoff recommend` of a series."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from series_helpers import based_series, set_series, sized_series
from tuneoff.cli.main import main
from tuneoff.errors import StudyError
from tuneoff.report.advice import Criteria
from tuneoff.report.series.advice import SeriesAdvice, advise_series
from tuneoff.store.series import SeriesStore

NO_COSTS: dict[str, str | None] = dict.fromkeys(("memory", "time", "stored", "latency", "money"))
SETS = {
    name: {"full": 0.8 + shift, "lora": 0.75 + shift, "head": 0.6 + shift}
    for name, shift in (("a", 0.0), ("b", 0.1), ("c", -0.1))
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> SeriesStore:
    return set_series(tmp_path_factory.mktemp("sets"), SETS)


def ask(store: SeriesStore, **criteria: object) -> SeriesAdvice:
    costs = {**NO_COSTS, **criteria.pop("costs", {})}  # type: ignore[dict-item]
    return advise_series(store, Criteria(costs, **criteria))  # type: ignore[arg-type]


def test_over_sizes_the_largest_answers_and_it_is_told_what_more_rows_bring(tmp_path: Path) -> None:
    curves = {
        "lora": {250: 0.60, 500: 0.70, 1000: 0.77, 2000: 0.82},
        "head": {250: 0.72, 500: 0.73, 1000: 0.735, 2000: 0.74},
    }
    advice = ask(sized_series(tmp_path, curves))
    assert advice.answer == "lora", "head is the better one with few rows alone"
    assert advice.report.member == "2000"
    assert [gain.more for gain in advice.report.more_rows] == [500, 2000]
    text = str(advice)
    assert "At 2,000 training rows, the largest size: Use lora" in text
    assert "500 more labelled rows bring +" in text
    assert advice.report.recommendation is not None
    assert advice.report.recommendation.answer == "lora"


def test_over_bases_the_arms_of_all_are_candidates_within_the_budget(tmp_path: Path) -> None:
    store = based_series(tmp_path, {"minilm": {"lora": 0.70, "head": 0.68}, "other": {"lora": 0.90, "head": 0.60}})
    assert ask(store).answer == "lora [other]"
    assert ask(store, costs={"memory": "450MiB"}).answer == "head [minilm]"
    assert ask(store, costs={"memory": "1MiB"}).answer is None


def test_over_data_sets_the_best_average_rank_within_the_budget_answers(sets: SeriesStore) -> None:
    advice = ask(sets)
    assert advice.answer == "full"
    assert "the best average rank over 3 data sets, 1.00." in str(advice)
    assert "3 data sets are few" in str(advice)
    within = ask(sets, costs={"memory": "700MiB"})
    assert within.answer == "lora"
    assert "of the arms that keep the limits on every set" in str(within)
    assert "Left out: full (a: not peak memory at most 700MiB; b:" in str(within)
    by_label = {arm.method: arm for arm in within.report.arms}
    assert by_label["full"].average_rank is None
    assert not by_label["full"].fits
    assert by_label["lora"].average_rank == 1.0


def test_a_metric_that_is_named_ranks_and_is_told(sets: SeriesStore) -> None:
    assert "over the data sets, by each set's primary metric" in str(ask(sets))
    assert "over the data sets, by test macro_f1" in str(ask(sets, metric="macro_f1"))


def test_a_metric_that_is_named_is_that_of_more_rows(tmp_path: Path) -> None:
    store = sized_series(tmp_path, {"lora": {250: 0.60, 500: 0.70, 1000: 0.77, 2000: 0.82}})
    gains = [ask(store, metric=name).report.more_rows[0].gain.value for name in ("accuracy", "macro_f1")]
    assert gains[0] != gains[1]


def test_what_to_know_of_the_data_sets_is_told(sets: SeriesStore, tmp_path: Path) -> None:
    store = set_series(tmp_path, SETS, seeds=2)
    for path in sorted((tmp_path / "members" / "a").glob("trials/*/record.json"))[:1]:
        path.unlink()
    assert not [note for note in ask(sets).report.notes if "without a record" in note]
    assert [note for note in ask(store).report.notes if note.startswith("a: ") and "without a record" in note]


def test_a_limit_must_be_kept_on_every_data_set(sets: SeriesStore) -> None:
    advice = ask(sets, at_least=["accuracy=0.6"])
    assert {arm.method for arm in advice.report.arms if arm.fits} == {"full", "lora"}
    nothing = ask(sets, at_least=["accuracy=0.99"])
    assert nothing.answer is None
    assert str(nothing).startswith("No arm that trains keeps the limits on every data set.")


def test_a_baseline_that_nothing_is_ranked_before_is_the_answer(tmp_path: Path) -> None:
    poor = set_series(tmp_path, {name: {"lora": 0.1, "full": 0.15} for name in "abc"})
    advice = ask(poor)
    assert advice.answer == "majority"
    assert "No arm that trains is ranked before doing without training." in str(advice)


def test_a_front_over_data_sets_is_refused(sets: SeriesStore) -> None:
    with pytest.raises(StudyError, match="--pareto is of one study"):
        ask(sets, pareto=["quality,time"])


def test_the_command_answers_and_tells_by_its_exit_code(sets: SeriesStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", str(sets.root), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["axis"], body["answer"], body["recommendation"]) == ("data", "full", None)
    assert main(["recommend", str(sets.root), "--max-memory", "1MB"]) == 3
    assert "No arm that trains keeps the limits" in capsys.readouterr().out
