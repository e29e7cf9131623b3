"""What trials cost at the prices that a study states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from page_helpers import LEVELS, page_store
from record_helpers import World, build_store, environment, make_record, small_study
from tuneoff.analysis.money import NO_PRICES, price, with_money
from tuneoff.analysis.results import gather
from tuneoff.analysis.side_by_side import join
from tuneoff.config.spec import PricesSpec, TrialSpec
from tuneoff.errors import StudyError
from tuneoff.planning.plan import plan
from tuneoff.records.record import Inference, Status, Timing
from tuneoff.report import columns, page_data
from tuneoff.report.advice import Criteria, advise
from tuneoff.report.builder import build_report
from tuneoff.report.files import write_built
from tuneoff.report.markdown import render
from tuneoff.report.sections import results as results_section

PRICES = PricesSpec(currency="EUR", device_hour={"cpu": 36.0, "NVIDIA H200": 72.0})
TRIAL = plan(small_study("lora", seeds=1))[0]


@pytest.mark.parametrize(
    ("device", "names", "devices", "expected"),
    [
        ("cpu", ("Xeon",), 1, 36.0),
        ("cpu", (), 2, 36.0),
        ("cuda:0", ("nvidia h200",), 1, 72.0),
        ("cuda:0", ("NVIDIA H200",), 4, 288.0),
        ("cuda:1", ("another GPU",), 1, None),
    ],
)
def test_a_device_has_the_price_of_its_name_or_its_kind(
    device: str, names: tuple[str, ...], devices: int, expected: float | None
) -> None:
    assert price(PRICES, device, names, devices) == expected


def test_a_trial_costs_its_time_and_predictions_their_pace() -> None:
    record = make_record(
        TRIAL, timing=Timing(total_seconds=50.0), inference=Inference(batched_examples_per_second=100.0)
    )
    money = with_money(record, PRICES).money
    assert money.trial == pytest.approx(0.5)
    assert money.predictions == pytest.approx(0.1)


def test_trials_that_divide_the_processor_divide_its_price() -> None:
    timing, inference = Timing(total_seconds=50.0), Inference(batched_examples_per_second=100.0)

    def money(**device: Any) -> tuple[float | None, float | None]:
        record = make_record(TRIAL, environment=environment(**device), timing=timing, inference=inference)
        told = with_money(record, PRICES).money
        return told.trial, told.predictions

    assert money(trials_at_once=4) == pytest.approx((0.125, 0.025))
    assert money(device="cuda:0", device_name="NVIDIA H200") == pytest.approx((1.0, 0.2))


def test_predictions_have_the_price_of_the_devices_that_made_them() -> None:
    on_two = TRIAL.model_copy(update={"devices": 2})
    speed = {"batched_examples_per_second": 10.0}
    gpu = environment(device="cuda:0", device_name="NVIDIA H200")

    def predictions(spec: TrialSpec, **speeds: float) -> float | None:
        record = make_record(spec, environment=gpu, inference=Inference(**{**speed, **speeds}))
        return with_money(record, PRICES).money.predictions

    # A batch is timed on one of them; text is written by all, and spread weights are nowhere whole.
    assert predictions(on_two) == pytest.approx(2.0)
    assert predictions(on_two, generated_tokens_per_second=50.0) == pytest.approx(4.0)
    assert predictions(on_two.model_copy(update={"shard": True})) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("changes", "figure", "reason"),
    [
        ({"environment": None}, "trial", "which device"),
        ({"environment": environment(device="cuda:0", device_name="Other")}, "predictions", "none for 'Other'"),
        ({"timing": Timing(), "missing": {"timing.total_seconds": "it shared its device"}}, "trial", "it shared"),
        ({"inference": Inference(), "missing": {"inference": "not timed"}}, "predictions", "not timed"),
    ],
)
def test_what_is_not_known_is_null_with_its_reason(changes: dict[str, Any], figure: str, reason: str) -> None:
    record = with_money(make_record(TRIAL, **changes), PRICES)
    assert getattr(record.money, figure) is None
    assert reason in record.missing[f"money.{figure}"]


def test_without_prices_there_is_no_money_and_the_reason_is_told(tmp_path: Path) -> None:
    report = build_report(gather(page_store(tmp_path)))
    assert report.money is None
    assert columns.costs(report) == columns.COSTS
    for arm in report.methods:
        assert arm.money.mean is None
        assert {m.reason for m in arm.missing if m.figure in ("money", "prediction_money")} == {NO_PRICES}
    explorer = page_data.explorer(report, "")
    assert explorer is not None
    assert "money" not in [axis["key"] for axis in explorer["axes"]]


def test_money_is_never_part_of_the_file(tmp_path: Path) -> None:
    record = with_money(make_record(TRIAL), PRICES)
    assert record.money.trial is not None
    assert "money" not in record.model_dump()


def test_a_report_tells_money_everywhere(tmp_path: Path) -> None:
    results = gather(page_store(tmp_path, seeds=6), prices=PRICES)
    report = build_report(results)
    assert report.money is not None
    lora = report.arm("lora")
    assert lora.money.mean == pytest.approx((lora.total_seconds.mean or 0.0) * 0.01)
    seconds = [record.timing.total_seconds or 0.0 for record in results.completed]
    assert report.money.final == pytest.approx(sum(seconds) / 100)
    assert report.money.search is None
    folder = write_built(results, report, plots=False).parent
    for name in ("report.html", "report.md"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "money (EUR)" in text
        assert "36 an hour of cpu" in text
    assert "money_mean" in (folder / "methods.csv").read_text(encoding="utf-8")
    explorer = page_data.explorer(report, "")
    assert explorer is not None
    assert next(axis for axis in explorer["axes"] if axis["key"] == "money")["title"] == "money (EUR)"
    assert next(limit for limit in explorer["limits"] if limit["key"] == "money")["option"] == "--max-money"


def test_a_search_costs_what_its_time_does(tmp_path: Path) -> None:
    study = small_study("majority", "full", "lora", seeds=2, search=6)
    store = build_store(tmp_path / "study", study, World(levels=LEVELS))
    report = build_report(gather(store, prices=PRICES))
    assert report.search is not None
    assert report.money is not None
    assert report.money.search == report.search.money
    # Twelve trials of three seconds each, at a hundredth a second.
    assert report.money.search == pytest.approx(12 * 3 * 0.01)


def test_a_search_of_trials_without_a_time_of_their_own_has_no_price(tmp_path: Path) -> None:
    study = small_study("majority", "full", "lora", seeds=2, search=6)
    store = build_store(tmp_path / "study", study, World(levels=LEVELS))
    for trial_id in [trial_id for trial_id in store.search_ids() if "lora" in trial_id][:3]:
        place = store.trial(trial_id)
        record = place.record()
        assert record is not None
        place.record_path.unlink()
        place.write_record(record.model_copy(update={"timing": Timing(train_seconds=1.0)}))
    report = build_report(gather(store, prices=PRICES))
    assert report.search is not None
    assert report.money is not None
    full, lora = report.search.arms
    assert full.money == pytest.approx(6 * 3 * 0.01)
    assert (lora.money, lora.total_seconds) == (None, None)
    assert lora.money_reason == "3 of 6 search trials of lora have no time of their own"
    assert (report.money.search, report.search.total_seconds) == (None, None)
    assert f"The price of the search is not known: {lora.money_reason}." in results_section.describe_money(report)
    assert "(not known with loading and validation)" in render(report, [])


def test_what_the_study_cost_tells_of_trials_that_failed(tmp_path: Path) -> None:
    study = small_study("full", "lora", seeds=2)
    store = build_store(tmp_path / "study", study, World(levels=LEVELS, fail={("lora", 1): Status.DIVERGED}))
    report = build_report(gather(store, prices=PRICES))
    assert report.money is not None
    assert report.money.unpriced == 1
    assert "of 1 more the price is not known" in results_section.describe_money(report)


def test_prices_move_the_recommendation(tmp_path: Path) -> None:
    store = page_store(tmp_path, seeds=6)
    costs = {"memory": None, "time": None, "stored": None, "latency": None}
    free = advise(store, Criteria(costs, prices=PRICES, prefer="money"))
    assert free.answer == "lora"
    assert "EUR money" in str(free) or "money 0." in str(free)
    # lora takes some 17 s, head some 12 s: at 0.01 a second only head costs 0.13 or less.
    tight = advise(store, Criteria({**costs, "money": "0.13"}, prices=PRICES))
    assert tight.answer == "head"
    assert "money at most 0.13 EUR" in str(tight)
    assert tight.as_data()["arms"][0]["money"] is not None
    cheap = PricesSpec(currency="EUR", device_hour={"cpu": 1.0})
    assert advise(store, Criteria({**costs, "money": "0.13"}, prices=cheap)).answer == "lora"


@pytest.mark.parametrize(("limit", "prefer"), [("1", "time"), (None, "money")])
def test_money_without_prices_is_refused_with_the_way_out(limit: str | None, prefer: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="needs prices") as caught:
        advise(page_store(tmp_path), Criteria({"money": limit}, prefer=prefer))
    assert "--prices FILE" in caught.value.hint


@pytest.mark.parametrize("amount", ["five", "-1", "0", "3EUR", ""])
def test_an_amount_is_a_number_above_0(amount: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="--max-money"):
        advise(page_store(tmp_path), Criteria({"money": amount}, prices=PRICES))


def test_studies_of_other_prices_are_not_ranked_by_money(tmp_path: Path) -> None:
    folders = []
    for name, cpu in (("one", 1.0), ("two", 2.0)):
        study = small_study("majority", "lora").model_copy(
            update={"prices": PricesSpec(currency="EUR", device_hour={"cpu": cpu})}
        )
        folders.append(build_store(tmp_path / name, study, World(levels=LEVELS)).root)
    joined = join(folders)
    assert joined.results.study.prices is None
    assert all(record.money.trial is None for record in joined.results.records)
