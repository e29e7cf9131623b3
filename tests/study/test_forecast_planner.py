"""The forecast of a study, arm by arm, with an executor that makes them up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forecast_helpers import ForecastExecutor, Forecasting, arm_forecast
from record_helpers import small_study, writing_study
from tuneoff.analysis.search_rounds import outline
from tuneoff.config.spec import PricesSpec, StudySpec, TrialSpec
from tuneoff.errors import DataError, ExecutorError, OutOfMemory, SourceUnreachable, TuneoffError
from tuneoff.executors.base import Inspection
from tuneoff.planning.plan import plan
from tuneoff.records.forecast import ArmForecast, StudyForecast, with_times_of
from tuneoff.store import StudyStore
from tuneoff.study import forecast_planner, forecast_worth, kept_forecast
from tuneoff.study.forecast_planner import ForecastProgress
from tuneoff.study.forecast_worth import (
    ESTIMATE_SECONDS,
    PAYS,
    PROFILE_ESTIMATES,
    PROFILE_SECONDS,
    SHORT_OPERATIONS,
    TOO_HIGH,
)
from tuneoff.study.to_come import ToCome

pytest_plugins = ("study_fixtures",)

MakeStudy = Callable[..., StudySpec]
METHODS = {"majority": {}, "lora": {"r": 4}, "full": {}}
BASELINE = arm_forecast("majority", seconds={"test": 0.1}, train_seconds=None, peak_memory_bytes=None, fits=None)


@pytest.fixture
def to_come(make_study: MakeStudy) -> ToCome:
    return ToCome(plan(make_study(methods=METHODS)))


LEAST = TOO_HIGH * PAYS * (2 * ESTIMATE_SECONDS + PROFILE_SECONDS)
"""Estimated seconds of a study from which on it is forecast with a profile, where estimating an arm takes next to
nothing."""


def slow(label: str) -> Any:
    """An arm so slow that profiling all arms pays."""
    return arm_forecast(label, seconds={"train": 10 * LEAST}, train_seconds=10 * LEAST)


def heard(told: list[Any]) -> list[tuple[str | None, str]]:
    return [(one.label, one.how) for one in told if isinstance(one, ForecastProgress)]


# --- all arms at once


def test_each_row_is_asked_for_once_with_one_of_its_trials(to_come: ToCome) -> None:
    forecasting, told = Forecasting(), list[ForecastProgress]()
    found = forecast_planner.forecast(
        ForecastExecutor(forecasting), to_come, memory_limit_bytes=8_000, listener=told.append
    )
    assert forecasting.asked == [(label, True, 8_000) for label in METHODS]
    assert [(one.label, one.number, one.arms, one.how) for one in told] == [
        (label, number, 3, "profile") for number, label in enumerate(METHODS, 1)
    ]
    assert found.total_seconds == pytest.approx(6 * 15)
    assert found.memory_limit_bytes == 8_000
    assert {label: arm.trial for label, arm in found.arms.items()} == {
        trial.label: trial.id for trial in to_come.final if trial.seed == 0
    }


def test_a_search_is_asked_for_and_estimated_too(make_study: MakeStudy) -> None:
    study = make_study(methods=METHODS, protocol={"seeds": 2, "search": {"trials": 5}})
    found = forecast_planner.forecast(ForecastExecutor(), ToCome(plan(study), outline(study)), profile=False)
    assert found.total_seconds == pytest.approx(6 * 15 + 10 * 4)
    assert found.arms["majority"].search_seconds == {}


def test_a_pruned_search_is_asked_for_by_its_longest_trial(make_study: MakeStudy) -> None:
    pruned = {"trials": 4, "max_steps": 40, "prune": "halving"}
    study = make_study(methods=METHODS, protocol={"seeds": 2, "search": pruned})
    coming = ToCome(plan(study), outline(study))
    longest = coming.longest("lora")
    assert longest is not None
    assert longest.protocol.max_steps == 40
    assert coming.longest("majority") is None
    whole = {label: arm_forecast(label, search_seconds={"train": 40.0}) for label in METHODS}
    searched = coming.total(whole).total_seconds
    assert searched == pytest.approx(6 * 15 + sum(t.protocol.max_steps or 0 for t in coming.search))


@pytest.mark.parametrize("profile", [True, False])
def test_an_arm_whose_batch_size_is_searched_has_the_memory_of_the_greatest_and_the_times_of_the_least(
    make_study: MakeStudy, profile: bool
) -> None:
    protocol = {"seeds": 2, "search": 3, "batch_size": {"search": [32, 8, 64]}}
    study = make_study(methods=METHODS, protocol=protocol)
    assert study.protocol.search is not None
    forecasting = Forecasting(by_batch_size=True)
    coming = ToCome(plan(study), outline(study), batch_sizes=study.protocol.search.batch_sizes)
    found = forecast_planner.forecast(ForecastExecutor(forecasting), coming, profile=profile)
    lora = found.arms["lora"]
    assert (lora.batch_sizes, lora.peak_memory_bytes) == ((8, 64), 64 << 20)
    assert lora.train_seconds == lora.seconds["train"] == 640 / 8
    assert lora.search_seconds == {"train": 640 / 8}
    assert lora.trial == coming.final[1].id
    assert found.arms["majority"].batch_sizes is None, "nothing of it is searched"
    asked = [label for label, *_ in forecasting.asked]
    assert asked == ["majority", "lora", "lora", "full", "full"]
    chosen = replace(coming, search=())
    assert forecast_planner.forecast(ForecastExecutor(forecasting), chosen).arms["lora"].batch_sizes is None


def test_times_that_are_not_known_of_the_least_batch_size_are_not_taken_from_the_greatest() -> None:
    greatest = arm_forecast("lora", missing={"profile": "a", "remedies": "b"})
    least = arm_forecast("lora", seconds={}, train_seconds=None, missing={"train_seconds": "c", "fits": "d"})
    joined = with_times_of(greatest, least)
    assert (joined.seconds, joined.train_seconds) == ({}, None)
    assert joined.missing == {"profile": "a", "remedies": "b", "train_seconds": "c"}


def test_an_arm_that_cannot_be_profiled_is_estimated_and_says_why(to_come: ToCome) -> None:
    forecasting = Forecasting(unprofiled={"full": OutOfMemory("out of memory:\n  too much")})
    found = forecast_planner.forecast(ForecastExecutor(forecasting), to_come)
    assert [arm.how for arm in found.arms.values()] == ["profile", "profile", "estimate"]
    assert found.arms["full"].missing["profile"] == "out of memory: too much"
    assert [asked for asked in forecasting.asked if asked[0] == "full"] == [("full", True, None), ("full", False, None)]
    assert found.total_seconds is not None


def test_a_row_of_which_nothing_can_be_told_has_reasons_and_no_figures(to_come: ToCome) -> None:
    forecasting = Forecasting(arms={"lora": ExecutorError("it vanished")})
    found = forecast_planner.forecast(ForecastExecutor(forecasting), to_come)
    arm = found.arms["lora"]
    assert (arm.peak_memory_bytes, arm.train_seconds, arm.trial_seconds, arm.fits) == (None, None, None, None)
    assert arm.missing["peak_memory_bytes"] == arm.missing["profile"] == "it vanished"
    assert "search_seconds" not in arm.missing
    assert found.total_seconds is None
    assert found.arms["full"].train_seconds == 10


@pytest.mark.parametrize("error", [SourceUnreachable("the hub does not answer"), DataError("one class alone")])
def test_what_is_out_of_reach_is_tried_once(error: Exception, to_come: ToCome) -> None:
    forecasting = Forecasting(unprofiled=dict.fromkeys(METHODS, error))
    found = forecast_planner.forecast(ForecastExecutor(forecasting), to_come)
    assert [profile for _, profile, _ in forecasting.asked] == [True, False, False, False]
    assert {arm.missing["profile"] for arm in found.arms.values()} == {str(error)}


def test_an_interrupt_is_no_reason_to_go_on(to_come: ToCome) -> None:
    forecasting = Forecasting(unprofiled={"lora": KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        forecast_planner.forecast(ForecastExecutor(forecasting), to_come)
    assert [label for label, _, _ in forecasting.asked] == ["majority", "lora"]


# --- before a run


def run_forecast(
    to_come: ToCome, folder: Path, forecasting: Forecasting | None = None, profile: bool = True
) -> list[Any]:
    told: list[Any] = []
    # Long enough for a forecast.
    arms = {label: arm_forecast(label, seconds={"train": LEAST / 3}) for label in to_come.labels}
    executor = ForecastExecutor(forecasting or Forecasting(arms=dict(arms)))
    forecast_planner.forecast_before_run(executor, StudyStore(folder), to_come, profile=profile, listener=told.append)
    return told


def test_arms_are_profiled_where_that_takes_little_beside_the_run(to_come: ToCome, tmp_path: Path) -> None:
    told = run_forecast(to_come, tmp_path, Forecasting(arms={"lora": slow("lora")}))
    assert [how for _, how in heard(told)] == ["estimate", "estimate", "profile", "profile", "profile"]
    assert {label for label, how in heard(told) if how == "profile"} == set(METHODS)
    assert isinstance(told[-1], StudyForecast)
    assert told[-1] == StudyStore(tmp_path).forecast()
    assert {arm.how for arm in told[-1].arms.values()} == {"profile"}


class Half(Forecasting):
    """Profiles that take a minute, and find every phase twice as long as its estimate, 30 s of training and 50 MiB more
    memory."""

    def make(self, trial: TrialSpec, search_trial: TrialSpec | None, profile: bool, limit: int | None) -> ArmForecast:
        made = super().make(trial, search_trial, profile, limit)
        if not profile:
            return made
        seconds = {phase: 2 * value for phase, value in made.seconds.items()} | {"train": 30.0}
        memory = {**made.memory, "process": made.memory["process"] + (50 << 20)}
        peak = {"memory": memory, "peak_memory_bytes": 650 << 20}
        return made.model_copy(update={"seconds": seconds, "train_seconds": 30.0, "forecast_seconds": 60.0, **peak})


def test_a_middling_run_is_estimated_and_corrected_by_one_arm(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast_worth, "TOO_HIGH", 0.1)
    methods: dict[str, Any] = {"majority": {}, "lora": {}, "full": {}, "head": {}}
    counts = {
        "majority": BASELINE,
        "lora": arm_forecast("lora", train_seconds=20.0, seconds={"load": 1.0, "train": 20.0}, available_bytes=1 << 30),
        "full": arm_forecast("full", train_seconds=25.0, seconds={"train": 25.0}, available_bytes=610 << 20),
    }
    study = make_study(methods=methods, protocol={"seeds": 2, "search": 2})
    coming = ToCome(plan(study), outline(study))
    told = run_forecast(coming, tmp_path, Half(arms=dict(counts)))
    # One is estimated to know what pays, then the others; the one in the middle by its estimated time is profiled.
    assert heard(told) == [(None, "estimate"), (None, "estimate"), ("lora", "profile")]
    arms = told[-1].arms
    assert {label: (arm.how, arm.corrected_by) for label, arm in arms.items()} == {
        "majority": ("estimate", "lora"),
        "lora": ("profile", None),
        "full": ("estimate", "lora"),
        "head": ("estimate", "lora"),
    }
    # lora took 2 s and 30 s where 1 s and 20 s were estimated; of other phases training's factor is taken.
    assert arms["full"].train_seconds == pytest.approx(37.5)
    assert arms["head"].seconds == pytest.approx({"load": 2.0, "train": 15.0, "validation": 2.25, "test": 3.75})
    assert arms["head"].search_seconds == pytest.approx({"load": 2.0, "train": 4.5})
    assert arms["head"].peak_memory_bytes == 650 << 20
    assert arms["head"].memory["process"] == 350 << 20
    assert arms["full"].fits is False
    assert "remedies" in arms["full"].missing
    assert arms["head"].fits is True
    assert told[-1] == StudyStore(tmp_path).forecast()


@pytest.mark.parametrize(("methods", "profiled"), [({"lora": {}, "full": {"devices": 2}}, ["lora"]), ({}, [])])
def test_arms_on_several_devices_are_never_profiled_nor_corrected(
    methods: dict[str, Any], profiled: list[str], make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast_worth, "TOO_HIGH", 0.1)
    methods = methods or {"lora": {"devices": 2}, "full": {"devices": 2}}
    told = run_forecast(ToCome(plan(make_study(methods=methods))), tmp_path, Half())
    assert [label for label, how in heard(told) if how == "profile"] == profiled
    arms = told[-1].arms
    assert {label: (arm.how, arm.corrected_by) for label, arm in arms.items()} == {
        label: ("profile" if label in profiled else "estimate", None) for label in methods
    }


def test_an_arm_whose_profile_fails_leaves_the_estimates_as_they_are(to_come: ToCome, tmp_path: Path) -> None:
    arms = {label: slow(label) for label in METHODS}
    unprofiled = dict.fromkeys(METHODS, OutOfMemory("too much"))
    told = run_forecast(to_come, tmp_path, Forecasting(arms=dict(arms), unprofiled=unprofiled))
    assert {(arm.how, arm.corrected_by) for arm in told[-1].arms.values()} == {("estimate", None)}
    assert [label for label, arm in told[-1].arms.items() if "profile" in arm.missing] == ["lora"]


def test_arms_are_estimated_one_by_one_where_one_process_cannot_do_all(to_come: ToCome, tmp_path: Path) -> None:
    class Failing(ForecastExecutor):
        def estimate(self, pairs: Any, **how: Any) -> list[ArmForecast | TuneoffError]:
            if len(pairs) > 1:
                raise ExecutorError("killed")
            return super().estimate(pairs, **how)

    arms = {label: slow(label) for label in METHODS}
    forecasting, told = Forecasting(arms=dict(arms)), list[Any]()
    forecast_planner.forecast_before_run(
        Failing(forecasting), StudyStore(tmp_path), to_come, profile=False, listener=told.append
    )
    named = [label for label, _ in heard(told)]
    assert named == [None, None, "majority", "full"]
    assert told[-1].total_seconds == pytest.approx(6 * 10 * LEAST)


def test_without_profiling_all_is_estimated_however_long_the_run(to_come: ToCome, tmp_path: Path) -> None:
    told = run_forecast(to_come, tmp_path, Forecasting(arms={"lora": slow("lora")}), profile=False)
    assert heard(told) == [(None, "estimate"), (None, "estimate")]
    assert {arm.how for arm in told[-1].arms.values()} == {"estimate"}


def test_where_estimates_tell_no_time_arms_are_profiled(to_come: ToCome, tmp_path: Path) -> None:
    without_estimate = {label: arm_forecast(label, seconds={}, train_seconds=None) for label in METHODS}
    told = run_forecast(to_come, tmp_path, Forecasting(arms=dict(without_estimate)))
    assert heard(told)[2:] == [(label, "profile") for label in METHODS]


def test_baselines_alone_are_not_forecast(make_study: MakeStudy, tmp_path: Path) -> None:
    told = run_forecast(
        ToCome(plan(make_study(methods={"majority": {}}))), tmp_path, Forecasting(arms={"majority": BASELINE})
    )
    assert not [one for one in told if isinstance(one, StudyForecast)]
    assert not (tmp_path / "forecast.json").exists()


def test_a_short_run_has_no_forecast_unless_a_row_does_not_fit(to_come: ToCome, tmp_path: Path) -> None:
    # Four trials train: just enough, and just not enough.
    for factor in (1.01, 0.99):
        arms = {label: arm_forecast(label, seconds={"train": factor * LEAST / 4}) for label in ("lora", "full")}
        folder = tmp_path / str(factor)
        folder.mkdir()
        told = run_forecast(to_come, folder, Forecasting(arms={"majority": BASELINE, **arms}))
        assert (folder / "forecast.json").exists() == (factor > 1)
        assert (len([one for one in told if isinstance(one, ForecastProgress)]) == 1) == (factor < 1)
    unfit = arm_forecast("lora", seconds={"train": 1.0}, fits=False)
    arms = {"majority": BASELINE, "full": arm_forecast("full", seconds={"train": 1.0}), "lora": unfit}
    told = run_forecast(to_come, tmp_path / "unfit", Forecasting(arms=dict(arms)))
    assert told[-1].unfit


def test_rows_that_take_long_to_count_need_a_longer_run(to_come: ToCome, tmp_path: Path) -> None:
    class Slow(Forecasting):
        def make(self, *given: Any) -> ArmForecast:
            return super().make(*given).model_copy(update={"forecast_seconds": ESTIMATE_SECONDS + 1})

    # Three arms and what a profile estimates: a second each.
    more = TOO_HIGH * PAYS * (3 + PROFILE_ESTIMATES)
    for factor in (1.01, 0.99):
        seconds = {"train": factor * (LEAST + more) / 4}
        arms = {label: arm_forecast(label, seconds=seconds) for label in ("lora", "full")}
        folder = tmp_path / str(factor)
        folder.mkdir()
        run_forecast(to_come, folder, Slow(arms={"majority": BASELINE, **arms}))
        assert (folder / "forecast.json").exists() == (factor > 1)


def test_trials_that_compute_next_to_nothing_are_not_even_estimated(to_come: ToCome, tmp_path: Path) -> None:
    def seen(weights: float) -> Inspection:
        counts = {"total_parameters": {"base": int(weights), "head": 0}, "trainable_parameters": {}}
        data = {"splits": {"train": {"rows": 100}, "validation": {"rows": 10}, "test": {"rows": 20}}}
        return Inspection({t.id: counts for t in to_come.final if t.learning_rate}, (), data, ())

    def asked(found: Inspection, folder: str) -> int:
        forecasting = Forecasting()
        executor, store = ForecastExecutor(forecasting), StudyStore(tmp_path / folder)
        forecast_planner.forecast_before_run(executor, store, to_come, found)
        return len(forecasting.asked)

    # Four trials that train: 3 epochs of 100 arms forward and backward, three validations and a test, 128 tokens each.
    operations = 4 * 2 * 128 * (3 * 3 * 100 + 3 * 10 + 20)
    assert asked(seen(1.01 * SHORT_OPERATIONS / operations), "long") > 0
    assert asked(seen(0.99 * SHORT_OPERATIONS / operations), "short") == 0
    unread = Inspection({}, (), None, ())
    assert asked(unread, "unread") > 0


def test_tokens_to_write_count_in_what_a_trial_computes() -> None:
    (trial,) = plan(writing_study("lora", seeds=1))
    arms = {"train": 100, "validation": 10, "test": 20}
    room = 128
    assert forecast_worth.written_tokens(trial, arms) == 20 * room, (
        "validation is chosen by its loss, which needs no text"
    )
    chosen = trial.protocol.model_copy(update={"select_metric": "rouge_l", "epochs": 3})
    assert forecast_worth.written_tokens(trial.model_copy(update={"protocol": chosen}), arms) == (20 + 3 * 10) * room
    (classes,) = plan(small_study("lora", seeds=1))
    assert forecast_worth.written_tokens(classes, arms) == 0


def test_a_row_keeps_its_first_forecast_and_new_rows_join(to_come: ToCome, tmp_path: Path) -> None:
    run_forecast(to_come.only(["lora"]), tmp_path, Forecasting(arms={"lora": slow("lora")}))
    first = StudyStore(tmp_path).forecast()
    assert first is not None
    changed = {label: slow(label) for label in METHODS}
    told = run_forecast(to_come, tmp_path, Forecasting(arms=dict(changed)))
    assert "lora" not in {label for label, _ in heard(told)}
    kept = StudyStore(tmp_path).forecast()
    assert kept is not None
    assert kept.arms["lora"] == first.arms["lora"]
    assert kept.arms.keys() == set(METHODS)
    assert kept.total_seconds == pytest.approx((first.total_seconds or 0.0) * 3)
    assert told[-1].total_seconds == kept.total_seconds


def test_a_chosen_batch_size_ends_the_forecast_of_the_most(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(methods=METHODS, protocol={"seeds": 2, "search": 3, "batch_size": {"search": [8, 64]}})
    assert study.protocol.search is not None
    to_come = ToCome(plan(study), outline(study), batch_sizes=study.protocol.search.batch_sizes)
    first = run_forecast(to_come, tmp_path)[-1]
    assert first.arms["lora"].batch_sizes == (8, 64)
    forecasting = Forecasting(arms={label: slow(label) for label in METHODS})
    assert run_forecast(to_come, tmp_path, forecasting)[-1].arms == first.arms
    assert not forecasting.asked
    told = run_forecast(replace(to_come, search=()), tmp_path, forecasting)[-1]
    assert (told.arms["lora"].batch_sizes, told.arms["lora"].train_seconds) == (None, 10 * LEAST)
    assert StudyStore(tmp_path).forecast() == first, "what was forecast before the first trial stays"


def test_a_run_that_goes_on_tells_what_is_left_and_asks_nothing(to_come: ToCome, tmp_path: Path) -> None:
    run_forecast(to_come, tmp_path)
    before = (tmp_path / "forecast.json").read_bytes()
    left = ToCome([trial for trial in to_come.final if trial.seed == 1 and trial.label == "full"])
    told = run_forecast(left, tmp_path)
    assert len(told) == 1
    assert told[0].total_seconds == pytest.approx(LEAST / 3)
    assert list(told[0].arms) == ["full"]
    assert (tmp_path / "forecast.json").read_bytes() == before


def test_a_finished_study_gets_none(tmp_path: Path) -> None:
    assert run_forecast(ToCome([]), tmp_path) == []
    assert not (tmp_path / "forecast.json").exists()


def test_a_damaged_forecast_is_made_anew(to_come: ToCome, tmp_path: Path) -> None:
    (tmp_path / "forecast.json").write_text("{")
    run_forecast(to_come, tmp_path)
    made = StudyStore(tmp_path).forecast()
    assert made is not None
    assert made.arms.keys() == set(METHODS)


def test_no_failure_stops_the_run(to_come: ToCome, tmp_path: Path) -> None:
    lost = Forecasting(arms={label: ExecutorError("no") for label in METHODS})
    told = run_forecast(to_come, tmp_path, lost)
    assert told[-1].total_seconds is None
    (tmp_path / "file").write_text("")
    # A folder that cannot be written: the forecast is told all the same.
    assert isinstance(run_forecast(to_come, tmp_path / "file")[-1], StudyForecast)


def test_sums_of_two_runs_are_unknown_where_one_is(to_come: ToCome) -> None:
    known = to_come.only(["lora"]).total({"lora": arm_forecast("lora")})
    unknown = to_come.only(["full"]).total({"full": arm_forecast("full", seconds={}, predictions_bytes=None)})
    both = kept_forecast.merge_forecasts(known, unknown)
    assert (both.total_seconds, both.disk_bytes) == (None, None)
    assert both.missing == unknown.missing
    assert kept_forecast.merge_forecasts(known, known).total_seconds == 2 * (known.total_seconds or 0)


def test_only_keeps_the_order_and_leaves_other_rows_out(make_study: MakeStudy) -> None:
    study = make_study(methods=METHODS, protocol={"seeds": 1, "search": {"trials": 2}})
    some = replace(ToCome(plan(study), outline(study))).only(["full", "lora"])
    assert some.labels == ["lora", "full"]
    assert [trial.label for trial in some.search] == ["lora", "full", "lora", "full"]


# --- money


def test_a_forecast_tells_money_where_prices_are_stated(make_study: MakeStudy) -> None:
    prices = PricesSpec(currency="EUR", device_hour={"cpu": 36.0})
    study = make_study(methods=METHODS, protocol={"seeds": 2, "search": 6})
    trials, searched = plan(study), [trial for trial in outline(study) if trial.label != "majority"]
    arms = {
        "majority": BASELINE,
        "lora": arm_forecast(
            "lora", seconds={"train": 90.0, "test": 10.0}, search_seconds={"train": 20.0}, test_examples=500
        ),
        "full": arm_forecast("full", seconds={"train": 200.0}, search_seconds={"train": 30.0}),
    }
    told = ToCome(trials, searched, prices).total(arms)
    lora = told.arms["lora"]
    count = sum(trial.label == "lora" for trial in searched)
    # A hundredth of a euro a second.
    assert (lora.money, lora.search_money) == pytest.approx((1.0, 0.2 * count))
    assert lora.prediction_money == pytest.approx(0.01 * 10 / 500 * 1000)
    assert told.money == pytest.approx((told.total_seconds or 0.0) * 0.01)
    assert told.currency == "EUR"
    assert told.arms["full"].prediction_money is None
    assert "time of the test" in told.arms["full"].missing["prediction_money"]
    without = ToCome(trials, searched).total(arms)
    assert (without.money, without.currency, without.arms["lora"].money) == (None, "", None)
    assert without.missing["money"] == without.arms["lora"].missing["money"] == "the study has no `prices`"
    # Half of lora's tokens would be found: its records count them all the same, and so does their price.
    found = {**arms, "lora": arms["lora"].model_copy(update={"kept_seconds": {"train": 50.0}})}
    cheaper = ToCome(trials, searched, prices).total(found)
    assert (cheaper.total_seconds or 0.0) < (told.total_seconds or 0.0)
    assert cheaper.money == pytest.approx(told.money)
    unknown = ToCome(trials, searched, PricesSpec(currency="EUR", device_hour={"cuda": 1.0})).total(arms)
    assert unknown.money is None
    assert "none for 'cpu'" in unknown.arms["lora"].missing["money"]


def _with_devices(make_study: MakeStudy, devices: int = 1, **changes: str) -> ArmForecast:
    """An arm's forecast of 100 s, 10 s of them its test, with money."""
    prices = PricesSpec(currency="EUR", device_hour={"cuda": 36.0, "NVIDIA H200": 144.0, "A Processor": 72.0})
    trials = [t.model_copy(update={"devices": devices}) for t in plan(make_study(methods=METHODS)) if t.label == "lora"]
    arm = arm_forecast("lora", seconds={"train": 90.0, "test": 10.0}, test_examples=500, **changes)
    return ToCome(trials, [], prices).total({"lora": arm}).arms["lora"]


def test_a_forecast_has_the_price_of_the_devices_name_as_records_have(make_study: MakeStudy) -> None:
    assert _with_devices(make_study, device="cuda:0").money == pytest.approx(1.0)
    assert _with_devices(make_study, device="cuda:0", device_name="NVIDIA H200").money == pytest.approx(4.0)
    assert _with_devices(make_study, processor="A Processor").money == pytest.approx(2.0)
    other = _with_devices(make_study, device_name="Another Processor")
    assert other.money is None
    assert "none for 'Another Processor'" in other.missing["money"]


def test_all_devices_of_a_trial_predict_its_test(make_study: MakeStudy) -> None:
    one, four = (_with_devices(make_study, devices, device="cuda:0") for devices in (1, 4))
    assert one.prediction_money == pytest.approx(0.01 * 10 / 500 * 1000)
    assert four.prediction_money == pytest.approx(4 * (one.prediction_money or 0.0))


@pytest.mark.parametrize("trials_device", ["auto", "cuda"])
def test_a_forecast_of_this_machine_tells_no_money_of_trials_on_others(
    trials_device: str, make_study: MakeStudy
) -> None:
    told = _with_devices(make_study, processor="A Processor", trials_device=trials_device)
    assert (told.money, told.prediction_money) == (None, None)
    assert "the trials run on other machines" in told.missing["money"]
