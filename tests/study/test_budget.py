"""A budget of time: what fits, what is refused, that a run ends within it and goes on with a larger one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from race_helpers import LEVELS, Racer
from record_helpers import small_study
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import StudyError
from tuneoff.report import build
from tuneoff.store import StudyStore
from tuneoff.study import budget
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
    monkeypatch.setattr(budget, "now", time.now)
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
