"""A budget of time: what fits, what is refused, that a run ends within it and goes on with a larger one."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from race_helpers import LEVELS, ROWS, Racer
from record_helpers import build_search, make_record, small_study
from tuneoff.analysis.search_rounds import outline
from tuneoff.analysis.statistics import Looks
from tuneoff.analysis.statistics.power import prior_components, smallest_difference
from tuneoff.config.spec import Stopping, TrialSpec
from tuneoff.errors import StudyError
from tuneoff.executors.base import Progress
from tuneoff.planning.plan import plan
from tuneoff.records.record import CurvePoint, Timing
from tuneoff.report import build
from tuneoff.store import StudyStore
from tuneoff.study import budget
from tuneoff.study import clock as clocks
from tuneoff.study.budget import Allotment
from tuneoff.study.study import Study

TRIAL, SEARCH_TRIAL = 15.0, 4.0
"""Seconds of a trial as `forecast_helpers` tells them."""
FIRST_LOOK = len(LEVELS) * 6 * TRIAL
"""Seconds of six seeds of every arm."""


class Time:
    """A clock that trials move."""

    def __init__(self, factor: float = 1.0) -> None:
        self.seconds, self.factor = 0.0, factor

    def now(self) -> float:
        return self.seconds

    def pass_(self, trial: TrialSpec) -> None:
        self.seconds += self.factor * (SEARCH_TRIAL if trial.purpose == "search" else TRIAL)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(clocks, "now", time.now)
    return time


def study(search: Any = None, **changes: Any) -> Study:
    spec = small_study(*LEVELS, search=search).model_copy(update=changes)
    return Study(spec, executor=Racer())


def allotted(seconds: float, search: Any = None) -> Allotment:
    limited = study(search)
    limited.limit(f"{seconds:.0f}s")
    return limited.allot(profile=False)


@pytest.mark.usefixtures("clock")
def test_the_search_comes_first_then_seeds_and_a_tenth_is_kept() -> None:
    whole = FIRST_LOOK + 3 * 8 * SEARCH_TRIAL
    enough = allotted(whole / 0.9 + 1, search=8)
    assert (enough.search_trials, enough.seeds, enough.first_seconds) == (8, 6, whole)
    assert allotted((whole + 4 * 2 * TRIAL) / 0.9 + 1, search=8).seeds == 8
    fewer = allotted(whole / 0.9 - 1, search=8)
    assert (fewer.search_trials, fewer.seeds) == (7, 6), "every arm tries one fewer"
    assert fewer.study.protocol.search is not None
    assert fewer.study.protocol.search.trials == 7
    assert fewer.study.protocol.epochs == study().spec.protocol.epochs


@pytest.mark.usefixtures("clock")
def test_a_budget_that_cannot_be_kept_is_refused_with_the_least_that_can() -> None:
    with pytest.raises(StudyError, match=r"^a budget of 1m40s is not enough: .*--budget 7m40s at least") as refused:
        allotted(100, search=8)
    assert "never changed for a budget" in refused.value.hint
    assert allotted(460, search=8).search_trials == 4, "what is named does"


@pytest.mark.usefixtures("clock")
def test_what_it_can_tell_goes_by_priors_before_a_run() -> None:
    few, many = allotted(500), allotted(2000)
    assert few.smallest is not None
    assert many.smallest is not None
    assert 0.01 < many.smallest < few.smallest < 0.3
    assert "prior" in few.smallest_by
    # Three of the four arms train.
    parts = prior_components(few.seeds, ROWS, 3)
    at_looks = Looks(few.study.protocol.seeds, (6, 8, 11, 15, 20), {})
    look = at_looks.counts.index(few.seeds) + 1
    assert few.smallest == pytest.approx(smallest_difference(parts, len(LEVELS), at_looks, look))


@pytest.mark.usefixtures("clock")
def test_no_prior_tells_what_draws_of_training_rows_add() -> None:
    spec = small_study(*LEVELS)
    drawing = spec.model_copy(update={"protocol": spec.protocol.model_copy(update={"splits": "per_seed"})})
    limited = Study(drawing, executor=Racer())
    limited.limit("2000s")
    assert limited.allot(profile=False).smallest is None


@pytest.mark.parametrize("text", ["soon", "30", "-5m", "0s"])
def test_a_budget_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(StudyError, match="--budget"):
        study().limit(text)


def run(folder: Path, seconds: float, time: Time, **changes: Any) -> tuple[Study, Racer]:
    racer = Racer(took=time.pass_)
    limited = Study(small_study(*LEVELS).model_copy(update={"margin": 0.001, **changes}), executor=racer)
    time.seconds = 0.0
    limited.run(folder, lambda _: None, budget=f"{seconds:.0f}s", profile=False)
    return limited, racer


def test_a_run_ends_within_its_budget_between_looks_and_goes_on_with_a_larger_one(tmp_path: Path, clock: Time) -> None:
    ended, first = run(tmp_path / "s", 405, clock)
    assert (sum(first.seeds.values()), ended.out_of_time, clock.seconds) == (24, True, FIRST_LOOK)
    race = build(StudyStore.open(tmp_path / "s")).race
    assert race is not None
    assert (len(race.looks), race.running, race.ending) == (1, ("lora", "full"), None)
    with pytest.raises(StudyError, match="of which earlier runs took 6m"):
        run(tmp_path / "s", 410, clock)
    again, second = run(tmp_path / "s", 500, clock)
    assert second.seeds == {"lora": 2, "full": 2}
    assert again.out_of_time
    done, rest = run(tmp_path / "s", 5000, clock)
    assert rest.seeds == {"lora": 12, "full": 12}
    assert not done.out_of_time
    assert build(StudyStore.open(tmp_path / "s")).race == build(run_whole(tmp_path / "whole")).race


def run_whole(folder: Path) -> StudyStore:
    spec = budget.raced(small_study(*LEVELS)).model_copy(update={"margin": 0.001})
    Study(spec, executor=Racer()).run(folder, lambda _: None, profile=False)
    return StudyStore.open(folder)


def test_a_forecast_that_was_too_low_ends_the_run_in_time_all_the_same(tmp_path: Path, clock: Time) -> None:
    clock.factor = 3.0
    ended, racer = run(tmp_path / "s", 405, clock)
    assert ended.out_of_time
    assert clock.seconds <= 405 + clock.factor * TRIAL, "a trial at most, which events would have ended"
    assert sum(racer.seeds.values()) == 9
    assert StudyStore.open(tmp_path / "s").spent_seconds() == clock.seconds


def test_a_run_within_a_budget_keeps_the_forecasts_of_arms_that_left(tmp_path: Path, clock: Time) -> None:
    run(tmp_path / "s", 405, clock)
    before = StudyStore.open(tmp_path / "s").forecast()
    run(tmp_path / "s", 500, clock)
    assert before is not None
    assert before.arms.keys() == LEVELS.keys()
    assert StudyStore.open(tmp_path / "s").forecast() == before


def test_what_is_missing_of_a_search_alone_is_run_within_a_budget(tmp_path: Path, clock: Time) -> None:
    folder = tmp_path / "s"
    searched = small_study("lora", "full", search=4)
    racer = Racer(took=clock.pass_)
    Study(searched, executor=racer).run(folder, lambda _: None, budget="1h", profile=False)
    lost = [trial for trial in racer.ran if trial.purpose == "search"][-1]
    for name in ("forecast.json", f"trials/{lost.id}/record.json"):
        (folder / name).unlink()
    clock.seconds = 0.0
    again = Racer(took=clock.pass_)
    told: list[Allotment] = []
    Study(searched, executor=again).run(folder, lambda _: None, budget="2h", profile=False, budget_listener=told.append)
    assert [trial.id for trial in again.ran] == [lost.id]
    assert told[0].first_seconds == 2 * SEARCH_TRIAL, "the whole round that lacks it"


@pytest.mark.parametrize(
    ("search", "rounds", "least"),
    [({"trials": 8, "prune": "halving", "max_steps": 200}, 2, 8), ({"trials": 8}, 6, 6), ({"trials": 8}, 2, 4)],
)
@pytest.mark.usefixtures("clock")
def test_a_search_that_has_begun_is_made_no_shorter_than_it_is(
    tmp_path: Path, search: dict[str, Any], rounds: int, least: int
) -> None:
    limited = study(search)
    limited.limit("100s")
    store = StudyStore.create(tmp_path / "s", limited.spec, limited.first_round(limited.plan()))
    build_search(store, rounds=rounds)
    limited.folder = store.root
    with pytest.raises(StudyError, match=f"{least} search trials and the next seeds of 4 arms need"):
        limited.allot(profile=False)


def test_a_run_whose_last_trial_ends_after_its_budget_is_whole(tmp_path: Path, clock: Time) -> None:
    clock.factor = 1.2
    racer = Racer(took=clock.pass_)
    limited = Study(small_study("lora"), executor=racer)
    limited.run(tmp_path / "s", lambda _: None, budget="100s", profile=False)
    assert (len(racer.ran), clock.seconds) == (6, 108)
    assert not limited.out_of_time
    assert limited.unfinished() == []


def clock_of(tmp_path: Path, seconds: float, search: Any = None) -> clocks.Clock:
    limited = study(search)
    limited.limit("1h")
    allotment = replace(limited.allot(profile=False), seconds=seconds)
    return clocks.Clock(allotment, StudyStore(tmp_path / "s"), clocks.now())


@pytest.mark.usefixtures("clock")
def test_times_of_search_trials_correct_the_forecast_too(tmp_path: Path) -> None:
    pace = clock_of(tmp_path, 31.0, 8)
    (final, *_) = plan(pace.allotment.study)
    assert pace.fits([final, final])
    for trial in outline(pace.allotment.study)[:4]:
        record = make_record(trial, timing=Timing(total_seconds=2 * SEARCH_TRIAL))
        pace.follow(lambda _: None)(Progress("ended", trial, record=record))
    assert pace.fits([final])
    assert not pace.fits([final, final]), "twice as long"


@pytest.mark.usefixtures("clock")
def test_search_trials_that_their_curves_stopped_tell_nothing_of_the_forecast(tmp_path: Path) -> None:
    pace = clock_of(tmp_path, 31.0, 8)
    (final, *_) = plan(pace.allotment.study)
    stopping = Stopping(metric="accuracy", direction="higher", bounds=(0.9,))
    point = CurvePoint(step=1, epoch=0.5, learning_rate=1e-3, train_loss=1.0, validation={"accuracy": 0.1})
    for trial in outline(pace.allotment.study)[:4]:
        stopped = trial.model_copy(update={"stopping": stopping})
        record = make_record(stopped, curve=(point,), timing=Timing(total_seconds=SEARCH_TRIAL / 4))
        pace.follow(lambda _: None)(Progress("ended", stopped, record=record))
    assert not pace.fits([final] * 3)


@pytest.mark.skipif(os.name != "posix", reason="there is no timer of signals")
def test_a_budget_ends_what_tells_nothing_meanwhile(tmp_path: Path) -> None:
    ended = clock_of(tmp_path, 0.2)
    waited = []
    with ended.ending():
        waited.append(threading.Event().wait(60))
    assert ended.spent
    assert waited == []


def test_an_interrupt_by_a_person_is_none_of_the_budgets(tmp_path: Path) -> None:
    interrupted = clock_of(tmp_path, 1000)
    with pytest.raises(KeyboardInterrupt), interrupted.ending():
        raise KeyboardInterrupt
    assert not interrupted.spent
