"""A study whose seeds are given by racing: what runs, what is told, and that a race goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from race_helpers import LEVELS, Racer
from record_helpers import World, failed, small_study
from tuneoff.analysis.results import Asked, Results, gather
from tuneoff.config.spec import StudySpec
from tuneoff.errors import StoreError
from tuneoff.planning.loading import narrow, parse
from tuneoff.planning.plan import plan, question
from tuneoff.records.record import Status
from tuneoff.report import build
from tuneoff.store import StudyStore
from tuneoff.study import race_runner
from tuneoff.study.study import Study


def racing(*labels: str, **changes: Any) -> StudySpec:
    return narrow(small_study(*(labels or LEVELS)), seeds="race").model_copy(update=changes)


def run(study: StudySpec, folder: Path, racer: Racer | None = None) -> Racer:
    racer = racer or Racer()
    try:
        Study(study, executor=racer).run(folder, lambda _: None, profile=False)
    except KeyboardInterrupt:
        assert racer.stop_after is not None
    return racer


def test_arms_that_are_behind_get_the_first_look_alone_and_the_rest_more(tmp_path: Path) -> None:
    racer = run(racing(margin=0.001), tmp_path / "s")
    assert racer.seeds["majority"] == racer.seeds["head"] == 6
    assert racer.seeds["lora"] == racer.seeds["full"] > 6
    assert [len(batch) for batch in racer.batches[:2]] == [4 * 6, 2 * 2], "the first look, then two seeds for two arms"


def test_the_report_says_who_left_and_why_it_ended(tmp_path: Path) -> None:
    run(racing(margin=0.001), tmp_path / "s")
    report = build(StudyStore.open(tmp_path / "s"))
    assert report.race is not None
    assert set(report.race.looks[0].beaten) == {"majority", "head"}
    assert (report.race.running, report.race.ending) == ((), "last look")
    assert "Seeds were given by racing: " in report.answer.text
    assert "left at 6 (behind " in report.answer.text
    assert "It ended at 20 seeds" in report.answer.text
    assert not {"unequal_seeds", "missing_trials"} & {warning.name for warning in report.warnings}
    assert report.trials.planned == report.trials.completed


def test_a_race_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    study = racing(margin=0.001)
    whole = run(study, tmp_path / "whole")
    for stop in (3, 25):
        folder = tmp_path / f"stop{stop}"
        run(study, folder, Racer(stop_after=stop))
        rest = run(study, folder)
        assert sum(rest.seeds.values()) == sum(whole.seeds.values()) - stop
        one, other = (build(StudyStore.open(place)) for place in (folder, tmp_path / "whole"))
        assert (one.race, one.verdict) == (other.race, other.verdict)


def test_what_a_race_still_has_to_run_is_told_by_one_reading_of_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = racing(margin=0.001)
    run(study, tmp_path, Racer(stop_after=4 * 6 + 2 * 2 + 2 * 3 + 3))
    store, trials, readings = StudyStore.open(tmp_path), plan(study), list[StudyStore]()

    def gather_counted(store: StudyStore, asked: Asked) -> Results:
        readings.append(store)
        return gather(store, asked)

    monkeypatch.setattr("tuneoff.analysis.results.gather", gather_counted)
    due, missing = race_runner.outstanding(study, store, trials)
    assert len(readings) == 1
    assert (len(due), {trial.seed for trial in due}) == (5, {12, 13, 14})
    assert (len(missing), {trial.seed for trial in missing}) == (5 + 10, set(range(12, 20)))
    *before, last = race_runner.rounds(study, store, trials)
    assert (len(before), [trial for trial in last if trial in due]) == (3, due), "as when they are read at each look"


def test_a_finished_race_runs_nothing_and_looks_at_nothing(tmp_path: Path) -> None:
    run(racing(), tmp_path / "s")
    again = Racer(may_inspect=False)
    run(racing(), tmp_path / "s", again)
    assert again.seeds == {}


def test_trials_are_those_of_a_study_with_a_fixed_number_of_seeds(tmp_path: Path) -> None:
    fixed, race = narrow(small_study(*LEVELS), seeds=6), racing()
    assert {trial.id for trial in plan(fixed)} < {trial.id for trial in plan(race)}
    assert question(fixed) == question(race)
    run(fixed, tmp_path / "s")
    racer = run(race, tmp_path / "s")
    assert "head" not in racer.seeds, "its six seeds are there, and a look at six is the race's own first"


def test_a_trial_that_fails_holds_up_no_look(tmp_path: Path) -> None:
    world = World(LEVELS, test_rows=120, fail={("head", 2): Status.OUT_OF_MEMORY, ("full", 7): Status.DIVERGED})
    run(racing(margin=0.001), tmp_path / "s", Racer(world=world))
    report = build(StudyStore.open(tmp_path / "s"))
    assert report.race is not None
    assert report.race.ending == "last look"
    assert "head" in report.race.looks[0].beaten or "head" in report.race.looks[0].arms


def test_a_seed_that_diverged_is_not_trained_again_and_one_that_ran_out_of_memory_is(tmp_path: Path) -> None:
    world = World(LEVELS, test_rows=120, fail={("head", 2): Status.OUT_OF_MEMORY, ("full", 3): Status.DIVERGED})
    for study in (racing(margin=0.001), narrow(small_study(*LEVELS), seeds=6)):
        folder = tmp_path / ("race" if study.protocol.race else "fixed")
        run(study, folder, Racer(world=world))
        again = run(study, folder, Racer(world=world))
        assert [(trial.label, trial.seed) for trial in again.ran] == [("head", 2)]


def test_a_race_keeps_its_looks_while_a_trial_that_failed_is_run_again(tmp_path: Path) -> None:
    world = World(LEVELS, test_rows=120, fail={("head", 2): Status.OUT_OF_MEMORY})
    run(racing(margin=0.001), tmp_path / "s", Racer(world=world))
    store = StudyStore.open(tmp_path / "s")
    before = build(store).race
    (failed_trial,) = (trial for trial in plan(racing()) if (trial.label, trial.seed) == ("head", 2))
    place = store.trial(failed_trial.id)
    place.begin_attempt()
    assert build(store).race == before
    place.write_record(failed(failed_trial, Status.CANCELLED))
    assert build(store).race == before
    place.begin_attempt()
    place.write_record(failed(failed_trial, Status.CANCELLED))
    assert build(store).race == before, "whichever attempt it was"


def test_a_trial_that_was_only_interrupted_has_had_no_look(tmp_path: Path) -> None:
    run(racing(), tmp_path / "s", Racer(stop_after=20))
    store = StudyStore.open(tmp_path / "s")
    open_trials = [
        trial for trial in plan(racing()) if trial.id in store.trial_ids() and not store.trial(trial.id).record()
    ]
    for trial in open_trials:
        store.trial(trial.id).write_record(failed(trial, Status.CANCELLED))
        store.trial(trial.id).begin_attempt()
    race = build(store).race
    assert race is None or not race.looks


def test_a_study_with_a_failed_seed_has_been_looked_at(tmp_path: Path) -> None:
    for status in (Status.DIVERGED, Status.OUT_OF_MEMORY):
        world = World(LEVELS, test_rows=120, fail={("full", 3): status})
        small = small_study("lora", "full")
        folder = tmp_path / status.value
        run(narrow(small, seeds=6), folder, Racer(world=world))
        run(narrow(small, seeds=8), folder, Racer(world=world))
        assert [look["seeds"] for look in StudyStore.open(folder).looks()] == [6, 8]
        assert warned(folder)


def test_a_race_goes_by_its_own_order_of_seeds_whatever_else_the_folder_has(tmp_path: Path) -> None:
    small = parse({**small_study(*LEVELS).model_dump(mode="json"), "protocol": {"seeds": [9, 30, 2]}})
    study = narrow(small, seeds="race").model_copy(update={"margin": 0.001})
    run(narrow(small, seeds=2), tmp_path / "s")
    for _ in range(2):
        run(study, tmp_path / "s")
        race = build(StudyStore.open(tmp_path / "s")).race
        assert race is not None
        assert race.ending == "last look"


@pytest.mark.parametrize("seeds", [{"max": 15}, {"min": 7, "max": 20}])
def test_a_race_in_the_folder_of_another_is_refused_where_its_looks_would_be_others(
    tmp_path: Path, seeds: dict[str, int]
) -> None:
    run(racing(), tmp_path / "s", Racer(stop_after=3))
    raw = small_study(*LEVELS).model_dump(mode="json")
    other = parse({**raw, "protocol": {**raw["protocol"], "seeds": seeds}})
    racer = Racer(may_inspect=False)
    with pytest.raises(StoreError, match="holds a race of 6 to 20 seeds"):
        run(other, tmp_path / "s", racer)
    assert racer.ran == []


def test_a_race_may_go_further_than_the_one_before(tmp_path: Path) -> None:
    run(racing(margin=0.001), tmp_path / "s")
    raw = small_study(*LEVELS).model_dump(mode="json")
    longer = parse({**raw, "margin": 0.001, "protocol": {**raw["protocol"], "seeds": {"max": 22}}})
    run(longer, tmp_path / "s")
    race = build(StudyStore.open(tmp_path / "s")).race
    assert race is not None
    assert race.counts[-1] == 22


def warned(folder: Path) -> bool:
    return "unplanned_looks" in {warning.name for warning in build(StudyStore.open(folder)).warnings}


def test_seeds_that_are_added_to_a_finished_study_are_told_as_a_look_also_by_a_race(tmp_path: Path) -> None:
    small = small_study("lora", "full")
    run(narrow(small, seeds=6), tmp_path / "s")
    assert not warned(tmp_path / "s")
    run(narrow(small, seeds="race"), tmp_path / "s")
    assert warned(tmp_path / "s"), "it was judged at 5 %, and the race's first look is at less"
    run(narrow(small, seeds="race"), tmp_path / "race")
    assert not warned(tmp_path / "race")
    by_hand = tmp_path / "hand"
    for seeds in (4, 7):
        run(narrow(small, seeds=seeds), by_hand)
        assert not warned(by_hand), "nothing is called significant under six"
    run(narrow(small, seeds=9), by_hand)
    assert warned(by_hand)


def test_a_look_goes_along_with_the_trials_that_another_folder_takes_over(tmp_path: Path) -> None:
    small = small_study("lora", "full")
    for number, seeds in enumerate((6, 8)):
        racer = Racer()
        study = Study(narrow(small, seeds=seeds), executor=racer)
        study.folder = tmp_path / f"small-00000{number}"
        relatives = StudyStore(study.folder).relatives
        study.run(study.folder, lambda _: None, profile=False)
        StudyStore(study.folder).note_look(study.spec, relatives)
    assert warned(tmp_path / "small-000001")
