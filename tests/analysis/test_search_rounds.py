"""The search of a study over its folder, with an executor that trains nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tuneoff.analysis.search_data import as_data, recorded
from tuneoff.analysis.search_rounds import Search, outline
from tuneoff.config.execution import ExecutionSpec
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import ExecutorError, StudyError
from tuneoff.executors.base import Executor, Inspection, Listener, Progress
from tuneoff.planning.loading import narrow, override, parse
from tuneoff.planning.plan import plan
from tuneoff.records.record import CurvePoint, Metric, Status, Timing, TrialRecord
from tuneoff.search.space import size
from tuneoff.search.stopping import STARTUP, is_stopped
from tuneoff.store import StudyStore
from tuneoff.study.search_runner import SearchRunner
from tuneoff.study.study import Study

pytest_plugins = ("study_fixtures",)

ROWS = 640
"""Training arms that there are said to be."""
MakeStudy = Callable[..., StudySpec]
Ending = Callable[[TrialSpec], Status]


class Pretender(Executor):
    """Seals a record at once: accuracy falls with the distance of the rate from 3e-3, whatever the steps.

    Args:
        ending: what becomes of a trial.
        stop: interrupts the run before this trial (counted from 0).
    """

    def __init__(self, ending: Ending = lambda _: Status.COMPLETED, stop: int = -1) -> None:
        self.ending, self.stop = ending, stop
        self.ran: list[str] = []

    @classmethod
    def create(cls, device: str, options: Mapping[str, Any]) -> Executor:
        return cls()

    def close(self) -> None: ...

    def inspect(self, study: StudySpec, trials: Sequence[TrialSpec], require_data: bool) -> Inspection:
        return Inspection({}, (), {"splits": {"train": {"rows": ROWS}}}, ())

    def call(self, verb: str, payload: dict[str, Any]) -> Any:
        raise ExecutorError("it answers nothing")

    def run(self, store: StudyStore, trials: Sequence[TrialSpec], listener: Listener) -> None:
        for trial in trials:
            place = store.trial(trial.id)
            if (done := place.record()) is not None and done.status.finished:
                listener(Progress("skipped", trial, record=done))
                continue
            place.begin_attempt()
            if len(self.ran) == self.stop:
                place.write_record(TrialRecord(spec=trial, status=Status.CANCELLED))
                raise KeyboardInterrupt
            self.ran.append(trial.id)
            record = self.make_record(trial)
            place.write_record(record)
            listener(Progress("ended", trial, record=record))

    def make_record(self, trial: TrialSpec) -> TrialRecord:
        record = TrialRecord(
            spec=trial,
            status=self.ending(trial),
            cause="so it is",
            steps=trial.protocol.max_steps or 0,
            timing=Timing(train_seconds=2),
        )
        if record.status is Status.COMPLETED:
            record = record.model_copy(update={"metrics": scores(trial)})
        return record


class Validator(Pretender):
    """Validates each trial four times on its way, evenly up to its score, and stops it where its rule says so."""

    def make_record(self, trial: TrialSpec) -> TrialRecord:
        record = super().make_record(trial)
        curve: list[CurvePoint] = []
        for part in (1, 2, 3, 4):
            values = {metric.name: metric.value * part / 4 for metric in record.metrics}
            point = CurvePoint(step=10 * part, epoch=part / 4, learning_rate=1, train_loss=1, validation=values)
            curve.append(point)
            if is_stopped(trial.stopping, curve):
                break
        reached = [metric.model_copy(update={"value": curve[-1].validation[metric.name]}) for metric in record.metrics]
        steps = curve[-1].step
        return record.model_copy(update={"curve": tuple(curve), "metrics": tuple(reached), "steps": steps})


def scores(trial: TrialSpec) -> tuple[Metric, ...]:
    off = abs(math.log10((trial.learning_rate or 1) / 3e-3))
    values = (("accuracy", 1 - off / 10, "higher"), ("loss", off, "lower"))
    return tuple(
        Metric(name=name, value=value, unit="", direction=direction, split="validation")
        for name, value, direction in values
    )


@pytest.fixture
def study(make_study: MakeStudy) -> StudySpec:
    return make_study(
        methods={"lora": {"r": {"search": [2, 4, 8]}}, "full": {}, "majority": {}}, protocol={"search": {"trials": 10}}
    )


def search(
    study: StudySpec, folder: Path, executor: Pretender | None = None, told: list[Progress] | None = None
) -> tuple[Search, list[str]]:
    """Runs a search; returns it and the ids that were run."""
    executor = executor or Pretender()
    found = SearchRunner(study, {}, StudyStore(folder))
    found.run(executor, (told if told is not None else []).append)
    return found, executor.ran


def test_rounds_go_over_all_rows_that_train(study: StudySpec, tmp_path: Path) -> None:
    found, ran = search(study, tmp_path)
    assert [trial_id.split("-")[0] for trial_id in ran] == ["lora", "full"] * 10
    assert StudyStore.open(tmp_path).search_ids() == ran
    assert len(set(ran)) == 20
    assert found.complete
    assert found.missing() == []
    assert [trial.label for trial in outline(study)] == ["lora", "full"] * 10


def test_a_search_stopped_anywhere_goes_on_as_if_it_had_not(study: StudySpec, tmp_path: Path) -> None:
    whole, ids = search(study, tmp_path / "whole")
    for stop in (0, 1, 6, 15, 16, 17, 19):
        folder = tmp_path / str(stop)
        with pytest.raises(KeyboardInterrupt):
            search(study, folder, Pretender(stop=stop))
        data = recorded(StudyStore.open(folder))
        assert data is not None
        assert not data["complete"]
        assert sum(len(arm["tried"]) for arm in data["arms"].values()) == stop
        assert Search(study, {}, StudyStore(folder)).chosen == {}
        rest, ran = search(study, folder)
        assert ran == ids[stop:], f"stopped before trial {stop}"
        assert rest.chosen == whole.chosen
        assert as_data(rest) == as_data(whole)


def test_a_search_does_not_go_on_by_other_rules(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(study, tmp_path / "part", Pretender(stop=12))
    search(study, tmp_path / "whole")
    monkeypatch.setattr("tuneoff.search.sampling.RULES", 0)
    with pytest.raises(StudyError, match=r"begun by gp, rules \d, and gp, rules 0 would suggest otherwise") as refused:
        search(study, tmp_path / "part")
    assert "--out" in refused.value.hint
    whole, ran = search(study, tmp_path / "whole")
    assert (ran, whole.complete) == ([], True), "where nothing is missing nothing is suggested"


def test_what_a_search_by_other_rules_chose_counts_once_it_is_over(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = search(study, tmp_path)

    def suggest(*_: Any) -> None:
        raise AssertionError("nothing is suggested for a search that is over")

    monkeypatch.setattr("tuneoff.search.sampling.RULES", 0)
    monkeypatch.setattr("tuneoff.analysis.search_rounds.suggest", suggest)
    again, ran = search(study, tmp_path)
    assert (ran, again.chosen, as_data(again)) == ([], whole.chosen, as_data(whole))


def test_other_rules_that_searched_other_rows_are_no_matter(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        SearchRunner(study, {"rows": "before"}, StudyStore(tmp_path)).run(Pretender(stop=12), lambda _: None)
    monkeypatch.setattr("tuneoff.search.sampling.RULES", 0)
    with pytest.raises(StudyError, match="begun by"):
        SearchRunner(study, {"rows": "before"}, StudyStore(tmp_path)).missing()
    anew, executor = SearchRunner(study, {"rows": "now"}, StudyStore(tmp_path)), Pretender()
    anew.run(executor, lambda _: None)
    assert (len(executor.ran), anew.complete) == (20, True)


def test_each_trial_is_known_by_the_sources_of_its_own(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What other arms start from, and what is held, is no part of a search trial."""
    study = make_study(
        methods={"lora": {"start_from": "weights"}, "full": {}},
        retention="notes.csv",
        protocol={"search": {"trials": 3}},
    )
    fingerprints = {"rows": "r", "weights": "w", "notes.csv": "n"}
    whole = SearchRunner(study, fingerprints, StudyStore(tmp_path))
    whole.run(Pretender(), lambda _: None)
    assert recorded(StudyStore.open(tmp_path)) == as_data(whole)
    monkeypatch.setattr("tuneoff.search.sampling.RULES", 0)
    again, executor = SearchRunner(study, fingerprints, StudyStore(tmp_path)), Pretender()
    again.run(executor, lambda _: None)
    assert (executor.ran, as_data(again)) == ([], as_data(whole))


def test_a_search_by_other_rules_is_refused_before_anything_is_looked_at(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind(Pretender):
        def inspect(self, study: StudySpec, trials: Sequence[TrialSpec], require_data: bool) -> Inspection:
            raise AssertionError("nothing is looked at")

    with pytest.raises(KeyboardInterrupt):
        search(study, tmp_path, Pretender(stop=12))
    monkeypatch.setattr("tuneoff.search.sampling.RULES", 0)
    with pytest.raises(StudyError, match="begun by"):
        Study(study, executor=Blind()).run(tmp_path, lambda _: None, profile=False)


class Grouping(Pretender):
    """An executor that trains eight trials of an arm together."""

    def __init__(self, stop: int = -1) -> None:
        super().__init__(lambda trial: Status.DIVERGED if (trial.learning_rate or 0) > 0.01 else Status.COMPLETED, stop)
        self.rounds: list[int] = []

    def trains_together(self, execution: ExecutionSpec) -> int:
        return 8

    def run(self, store: StudyStore, trials: Sequence[TrialSpec], listener: Listener) -> None:
        self.rounds.append(len(trials))
        super().run(store, trials, listener)


class Over(Grouping):
    """An executor of a search that is over: nobody asks what it runs on, which may take a process."""

    def trains_together(self, execution: ExecutionSpec) -> int:
        raise AssertionError("nothing is to be run")


@pytest.mark.parametrize(
    ("options", "rounds"),
    [
        ({}, [12, 2, 2, 2, 2]),
        ({"sampler": "random"}, [16, 4]),
        ({"prune": "halving", "max_steps": 40}, [12, 2, 2, 2, 2, 10, 4]),
    ],
)
def test_rounds_without_a_need_for_outcomes_are_one_where_trials_train_together(
    study: StudySpec, tmp_path: Path, options: dict[str, Any], rounds: list[int]
) -> None:
    changes = {f"protocol.search.{key}": value for key, value in options.items()}
    asked = parse(override(study.model_dump(mode="json"), changes))
    one_by_one, ids = search(asked, tmp_path / "one", Pretender(Grouping().ending))
    executor = Grouping()
    together, ran = search(asked, tmp_path / "together", executor)
    assert executor.rounds == rounds
    assert sorted(ran) == sorted(ids)
    assert as_data(together) == as_data(one_by_one)
    assert recorded(StudyStore.open(tmp_path / "together")) == as_data(one_by_one)
    assert not search(asked, tmp_path / "together", Over())[1]
    for stop in (0, 5, 17):
        folder = tmp_path / str(stop)
        with pytest.raises(KeyboardInterrupt):
            search(asked, folder, Grouping(stop))
        rest, _ = search(asked, folder, Grouping())
        assert as_data(rest) == as_data(one_by_one)


def test_more_trials_keep_those_that_there_are(study: StudySpec, tmp_path: Path) -> None:
    _, ids = search(study, tmp_path)
    longer = parse(override(study.model_dump(mode="json"), {"protocol.search.trials": 12}))
    told: list[Progress] = []
    _, ran = search(longer, tmp_path, told=told)
    assert len(ran) == 4
    assert not set(ran) & set(ids)
    assert [p.trial.id for p in told if p.kind == "skipped"] == ids


def test_a_shorter_search_is_told_by_its_own_trials(make_study: MakeStudy, tmp_path: Path) -> None:
    for trials in (8, 4, 6):
        asked = make_study(methods=["lora", "full"], protocol={"search": {"trials": trials}})
        found, ran = search(asked, tmp_path)
        assert len(ran) == (16 if trials == 8 else 0)
        assert recorded(StudyStore.open(tmp_path)) == as_data(found)


def test_a_search_that_went_on_otherwise_is_told_without_what_it_had_tried_before(
    study: StudySpec, tmp_path: Path
) -> None:
    failing = iter([Status.COMPLETED] * 12 + [Status.FAILED])
    search(study, tmp_path, Pretender(lambda _: next(failing, Status.COMPLETED)))
    again, ran = search(study, tmp_path)
    assert len(ran) > 1, "what was suggested after the failure is suggested otherwise"
    assert recorded(StudyStore.open(tmp_path)) == as_data(again)


def test_a_run_of_some_rows_keeps_what_was_found_of_the_others(study: StudySpec, tmp_path: Path) -> None:
    search(study, tmp_path)
    before = recorded(StudyStore.open(tmp_path))
    assert before is not None
    assert before["arms"].keys() == {"lora", "full"}
    _, ran = search(narrow(study, methods=["full"]), tmp_path)
    assert ran == []
    assert recorded(StudyStore.open(tmp_path)) == before


def test_a_row_that_ran_on_alone_is_told_whole_in_a_search_that_is_not_over(study: StudySpec, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(study, tmp_path, Pretender(stop=2))
    search(narrow(study, methods=["full"]), tmp_path)
    data = recorded(StudyStore.open(tmp_path))
    assert data is not None
    assert {label: len(arm["tried"]) for label, arm in data["arms"].items()} == {"lora": 1, "full": 10}
    assert (data["complete"], data["equal"]) == (False, False)
    search(study, tmp_path)
    assert recorded(StudyStore.open(tmp_path)) == as_data(search(study, tmp_path / "whole")[0])


def test_the_choice_is_the_best_on_validation_and_the_verdict_stands_at_it(study: StudySpec, tmp_path: Path) -> None:
    found, _ = search(study, tmp_path)
    for label, arm in found.arms.items():
        offs = [abs(math.log10(outcome.values["learning_rate"] / 3e-3)) for outcome in arm.history]
        assert found.chosen[label] == arm.history[offs.index(min(offs))].values
    trials = {trial.label: trial for trial in plan(study, {}, found.chosen)}
    assert trials["lora"].learning_rate == found.chosen["lora"]["learning_rate"]
    assert trials["lora"].options["r"] == found.chosen["lora"]["r"]
    assert as_data(found)["arms"]["lora"]["train_seconds"] == 20.0


def test_a_metric_to_be_lowered_is_lowered(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(methods={"lora": {}}, protocol={"search": 6, "select_metric": "loss"})
    found, _ = search(study, tmp_path)
    data = as_data(found)
    assert data["metric"] == {"name": "loss", "direction": "lower", "split": "validation"}
    tried = data["arms"]["lora"]["tried"]
    assert data["arms"]["lora"]["best"] == min(tried, key=lambda one: float(one["score"]))["trial"]
    assert min(one["score"] for one in tried) >= 0


@pytest.mark.parametrize("failure", [Status.FAILED, Status.OUT_OF_MEMORY])
def test_divergence_is_an_answer_and_another_failure_is_tried_again(
    study: StudySpec, tmp_path: Path, failure: Status
) -> None:
    def ending(trial: TrialSpec) -> Status:
        if (trial.learning_rate or 0) > 4e-3:
            return Status.DIVERGED
        return failure if trial.label == "full" and trial.learning_rate == 5e-5 else Status.COMPLETED

    _, ran = search(study, tmp_path, Pretender(ending))
    assert len(ran) == 20
    statuses = [record.status for i in ran if (record := StudyStore(tmp_path).trial(i).record())]
    assert Status.DIVERGED in statuses
    told: list[Progress] = []
    study = study.model_copy(update={"execution": study.execution.model_copy(update={"retry_out_of_memory": True})})
    _, again = search(study, tmp_path, Pretender(ending), told)
    assert again == [i for i, status in zip(ran, statuses, strict=True) if status is failure]
    assert len(again) == 1
    record = StudyStore(tmp_path).trial(again[0]).record()
    assert record is not None
    assert record.spec.execution.retry_out_of_memory, "switched on since, it holds"
    assert sum(p.kind == "skipped" for p in told) == 19


def test_a_row_without_any_result_says_why(study: StudySpec, tmp_path: Path) -> None:
    ending: Ending = lambda trial: Status.DIVERGED if trial.label == "full" else Status.COMPLETED  # noqa: E731
    found, ran = search(study, tmp_path, Pretender(ending))
    assert len(ran) == 20, "it gets as many as the others"
    assert found.chosen.keys() == {"lora"}
    assert found.hopeless.keys() == {"full"}
    assert found.hopeless["full"].startswith("none of the 10 search trials of 'full' completed")
    assert found.hopeless["full"].endswith("the last ended as diverged: so it is")
    arm = as_data(found)["arms"]["full"]
    assert (arm["choice"], arm["best"], arm["failed"]) == (None, None, 10)


def test_growing_gives_every_row_as_many_more(make_study: MakeStudy, tmp_path: Path) -> None:
    arms = {
        "low": {"method": "lora", "learning_rate": {"search": {"low": 1e-5, "high": 3e-3}}},
        "wide": {"method": "lora", "learning_rate": {"search": {"low": 1e-4, "high": 1e-1}}},
    }
    study = make_study(methods=arms, protocol={"search": {"trials": 8, "grow": True}})
    found, ran = search(study, tmp_path)
    assert found.complete
    assert [trial_id.split("-")[0] for trial_id in ran] == ["low", "wide"] * 12
    data = as_data(found)["arms"]
    assert (data["low"]["grown"], data["wide"]["grown"]) == (True, False)
    assert data["low"]["space"]["learning_rate"]["high"] == pytest.approx(3e-2)
    assert data["low"]["tried"][8]["values"]["learning_rate"] == pytest.approx(math.sqrt(3e-3 * 3e-2), rel=1e-3)
    assert search(study, tmp_path)[1] == [], "derived from the records, it grows the same"


def test_nothing_grows_without_an_edge_and_the_edge_is_told(make_study: MakeStudy, tmp_path: Path) -> None:
    arms = {"wide": {"method": "lora", "learning_rate": {"search": {"low": 1e-4, "high": 1e-1}}}}
    found, ran = search(make_study(methods=arms, protocol={"search": {"trials": 8, "grow": True}}), tmp_path / "a")
    assert len(ran) == 8
    assert as_data(found)["arms"]["wide"]["at_edge"] == {}
    arms["wide"]["learning_rate"] = {"search": {"low": 1e-5, "high": 1e-3}}
    found, ran = search(make_study(methods=arms, protocol={"search": {"trials": 8}}), tmp_path / "b")
    assert len(ran) == 8, "it does not grow unasked"
    assert as_data(found)["arms"]["wide"]["at_edge"] == {"learning_rate": "upper"}


def test_a_small_row_is_tried_completely(make_study: MakeStudy, tmp_path: Path) -> None:
    arms = {"lora": {"r": {"search": [2, 4]}}, "bitfit": {}}
    study = make_study(methods=arms, protocol={"search": 5, "learning_rate": 1e-3})
    found, ran = search(study, tmp_path)
    assert found.arms.keys() == {"lora"}, "nothing of the other is left to search"
    assert len(ran) == 2 == size(found.arms["lora"].space)
    assert found.complete


# --- ranges that grow, and runs of some arms


GROWING = {
    "low": {"method": "lora", "learning_rate": {"search": {"low": 1e-5, "high": 3e-3}}},
    "wide": {"method": "lora", "learning_rate": {"search": {"low": 1e-4, "high": 0.5}}},
}


@pytest.fixture
def growing(make_study: MakeStudy) -> StudySpec:
    """A study of which one arm alone has its best rate at an edge."""
    return make_study(methods=GROWING, protocol={"seeds": 1, "search": {"trials": 6, "grow": True}})


@pytest.mark.parametrize("order", [["low", "wide"], ["wide", "low"]])
def test_growth_does_not_hang_on_which_rows_a_run_was_asked_for(
    growing: StudySpec, tmp_path: Path, order: list[str]
) -> None:
    whole, _ = search(growing, tmp_path / "whole")
    counts = []
    for label in order:
        found, ran = search(narrow(growing, methods=[label]), tmp_path / "parts")
        assert found.complete
        counts.append(len(ran))
    # The arm at the edge grows by itself; the other gets its further trials as soon as the folder has both.
    assert counts == ([9, 9] if order[0] == "low" else [6, 12])
    data = recorded(StudyStore.open(tmp_path / "parts"))
    assert data is not None
    expected = as_data(whole)
    assert data | {"arms": None} == expected | {"arms": None}
    assert data["arms"] == expected["arms"]
    assert found.chosen == whole.chosen


def test_a_run_of_some_rows_first_ends_the_search_of_all(growing: StudySpec, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(growing, tmp_path, Pretender(stop=5))
    found, ran = search(narrow(growing, methods=["wide"]), tmp_path)
    assert len(ran) == 18 - 5
    assert found.complete
    assert found.chosen == search(growing, tmp_path / "whole")[0].chosen
    assert search(narrow(growing, methods=["low"]), tmp_path)[1] == []


def run(study: StudySpec, folder: Path, executor: Pretender | None = None) -> Study:
    """Runs search and verdict."""
    return Study(study, executor=executor or Pretender()).run(folder)


def test_rows_that_choose_otherwise_once_the_search_grew_wait_for_their_verdict(
    growing: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(narrow(growing, methods=["wide"]), tmp_path)
    store = StudyStore.open(tmp_path)
    (before,) = store.records()
    run(narrow(growing, methods=["low"]), tmp_path)
    chosen = (recorded(store) or {})["arms"]["wide"]["choice"]["learning_rate"]
    assert chosen != before.spec.learning_rate, "four trials more found a better rate"
    rates = {spec.label: spec.learning_rate for spec in (store.trial(i).spec() for i in store.trial_ids())}
    assert rates["wide"] == chosen
    assert {record.spec.label for record in store.records()} == {"low"}, "its verdict at the old rate counts no more"
    run(growing, tmp_path)
    assert {record.spec.label for record in store.records()} == {"low", "wide"}
    last = Pretender()
    run(narrow(growing, methods=["wide"]), tmp_path, last)
    assert last.ran == [], "nothing is left to do, and nothing is undone"
    assert len(store.trial_ids()) == 2


# --- pruning


@pytest.fixture
def pruned(make_study: MakeStudy) -> StudySpec:
    return make_study(
        methods={"lora": {"r": {"search": [2, 4, 8]}}, "full": {}, "majority": {}},
        protocol={"search": {"trials": 8, "max_steps": 80, "prune": "halving"}},
    )


RUNGS = [(8, 10), (4, 20), (2, 40), (1, 80)]


def test_the_better_half_of_every_row_goes_on_with_twice_the_steps(pruned: StudySpec, tmp_path: Path) -> None:
    found, ran = search(pruned, tmp_path)
    assert found.complete
    specs = [StudyStore(tmp_path).trial(trial_id).spec() for trial_id in ran]
    expected = [(label, steps) for count, steps in RUNGS for _ in range(count) for label in ("lora", "full")]
    assert [(spec.label, spec.protocol.max_steps) for spec in specs] == expected
    assert len(set(ran)) == 30
    assert {spec.seed for spec in specs} == {1000}
    assert [(t.label, t.protocol.max_steps) for t in outline(pruned)] == expected
    for label, arm in found.arms.items():
        for rung in range(3):
            ended = [o for o in arm.history if o.rung == rung]
            best = sorted(ended, key=lambda o: -(o.score or 0))[: len(ended) // 2]
            assert [o.values for o in arm.history if o.rung == rung + 1] == [o.values for o in best]
        assert found.chosen[label] == arm.history[-1].values
    data = recorded(StudyStore.open(tmp_path))
    assert data is not None
    assert data["rungs"] == [{"trials": trials, "steps": steps} for trials, steps in RUNGS]
    assert (data["equal"], data["search"]["prune"]) == (True, "halving")
    assert [(one["rung"], one["steps"]) for one in data["arms"]["full"]["tried"]] == [
        (rung, steps) for rung, (count, steps) in enumerate(RUNGS) for _ in range(count)
    ]
    assert data["arms"]["full"]["best"] == data["arms"]["full"]["tried"][-1]["trial"]


def test_a_search_without_pruning_is_what_it_was(study: StudySpec, tmp_path: Path) -> None:
    found, ran = search(study, tmp_path)
    assert {StudyStore(tmp_path).trial(trial_id).spec().protocol.max_steps for trial_id in ran} == {None}
    data = as_data(found)
    assert data["rungs"] == []
    assert {one["rung"] for arm in data["arms"].values() for one in arm["tried"]} == {0}


def test_a_pruned_search_stopped_anywhere_goes_on_as_if_it_had_not(pruned: StudySpec, tmp_path: Path) -> None:
    whole, ids = search(pruned, tmp_path / "whole")
    for stop in (3, 15, 16, 17, 23, 24, 29):
        folder = tmp_path / str(stop)
        with pytest.raises(KeyboardInterrupt):
            search(pruned, folder, Pretender(stop=stop))
        assert Search(pruned, {}, StudyStore(folder)).missing()[0].id == ids[stop]
        rest, ran = search(pruned, folder)
        assert ran == ids[stop:], f"stopped before trial {stop}"
        assert as_data(rest) == as_data(whole)
    assert search(pruned, tmp_path / "whole")[1] == []


def test_a_row_with_few_configurations_keeps_them_as_long_as_a_rung_has_room(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    arms = {"few": {"method": "lora", "learning_rate": {"search": [1e-3, 2e-3, 3e-3]}}, "full": {}}
    study = make_study(methods=arms, protocol={"search": {"trials": 8, "max_steps": 80, "prune": "halving"}})
    found, _ = search(study, tmp_path)
    assert [o.rung for o in found.arms["few"].history] == [0, 0, 0, 1, 1, 1, 2, 2, 3]
    assert found.chosen["few"] == {"learning_rate": 3e-3}
    assert [t.label for t in outline(study)].count("few") == 9


def test_what_failed_does_not_go_on_and_the_choice_falls_to_what_came_furthest(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    study = make_study(
        methods={"full": {}, "lora": {}}, protocol={"search": {"trials": 8, "max_steps": 80, "prune": "halving"}}
    )

    def ending(trial: TrialSpec) -> Status:
        lost = trial.label == "full" and trial.protocol.max_steps == 80
        return Status.DIVERGED if lost or (trial.learning_rate or 0) > 4e-3 else Status.COMPLETED

    found, _ = search(study, tmp_path, Pretender(ending))
    arm = found.arms["full"]
    assert arm.history[-1].score is None
    runner_up = next(o for o in reversed(arm.history) if o.rung == 2)
    assert found.chosen["full"] == runner_up.values != arm.history[-1].values
    high = [o for o in found.arms["lora"].history if o.values["learning_rate"] > 4e-3]
    assert high
    assert {o.rung for o in high} == {0}
    assert search(study, tmp_path, Pretender(ending))[1] == [], "divergence is an answer"
    assert as_data(found)["equal"], "as many configurations of each"


def test_a_pruned_row_without_any_result_says_why(pruned: StudySpec, tmp_path: Path) -> None:
    ending: Ending = lambda trial: Status.DIVERGED if trial.label == "full" else Status.COMPLETED  # noqa: E731
    found, ran = search(pruned, tmp_path, Pretender(ending))
    assert [trial_id.split("-")[0] for trial_id in ran].count("full") == 8, "nothing of it goes on"
    assert found.complete
    assert found.hopeless["full"].startswith("none of the 8 search trials of 'full' completed")


def test_some_rows_alone_are_pruned_like_all(pruned: StudySpec, tmp_path: Path) -> None:
    whole, _ = search(pruned, tmp_path / "whole")
    for label in ("full", "lora"):
        _, ran = search(narrow(pruned, methods=[label]), tmp_path / "parts")
        assert len(ran) == 15
    assert recorded(StudyStore.open(tmp_path / "parts")) == as_data(whole)


def test_rows_too_few_for_the_rungs_are_refused_before_anything_is_written(
    pruned: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = parse(override(pruned.model_dump(mode="json"), {"protocol.search.max_steps": 200}))
    with pytest.raises(
        StudyError, match=r"640 training rows give 120 in 3 epochs: set protocol\.search\.max_steps to 120"
    ):
        run(long, tmp_path / "long")
    assert not (tmp_path / "long" / "study.json").exists()
    run(pruned, tmp_path / "short")
    assert {r.spec.label for r in Study.open(tmp_path / "short").records()} == {"lora", "full", "majority"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"search.stop": "quartile", "search.max_steps": 40},
            r"40 steps, with no .*evaluations_per_epoch to 2 or more",
        ),
        ({"batch_size": {"search": [16, 641]}}, r"up to 641 is to be searched, .* 640 training rows"),
    ],
)
def test_rows_too_few_for_a_validation_on_the_way_or_for_a_batch_are_refused_before_anything_is_written(
    changes: dict[str, Any], said: str, make_study: MakeStudy, tmp_path: Path
) -> None:
    plain = make_study(methods={"lora": {}, "full": {}}, protocol={"search": 8}).model_dump(mode="json")
    study = parse(override(plain, {f"protocol.{key}": value for key, value in changes.items()}))
    with pytest.raises(StudyError, match=said):
        run(study, tmp_path / "out")
    assert not (tmp_path / "out" / "study.json").exists()


# --- stopped by curves


@pytest.fixture
def stopping_study(make_study: MakeStudy) -> StudySpec:
    return make_study(
        methods={"lora": {}, "full": {}},
        protocol={
            "search": {"trials": 10, "stop": "quartile", "sampler": "random"},
            "epochs": 1,
            "evaluations_per_epoch": 4,
        },
    )


def test_a_trial_in_the_worst_quartile_of_its_own_arm_is_stopped_and_never_chosen(
    stopping_study: StudySpec, tmp_path: Path
) -> None:
    found, ids = search(stopping_study, tmp_path, Validator())
    assert len(set(ids)) == 20
    for arm in found.arms.values():
        assert all(record.spec.stopping is None for record in arm.records[:STARTUP])
        assert all(record.spec.stopping is not None for record in arm.records[STARTUP:])
        stopped = [outcome.stopped for outcome in arm.history]
        assert [len(record.curve) < 4 for record in arm.records] == stopped
        best = max(arm.records, key=lambda record: scores(record.spec)[0].value)
        assert arm.best is not None
        assert arm.records[arm.best].spec.id == best.spec.id, "these curves do not cross"
    data = recorded(StudyStore.open(tmp_path))
    assert data == as_data(found)
    assert 0 < sum(outcome.stopped for arm in found.arms.values() for outcome in arm.history) < 12
    assert [each["stopped"] for each in data["arms"]["lora"]["tried"]] == [
        o.stopped for o in found.arms["lora"].history
    ]


def test_a_stopping_search_that_is_interrupted_goes_on_as_if_it_had_not(
    stopping_study: StudySpec, tmp_path: Path
) -> None:
    whole, ids = search(stopping_study, tmp_path / "whole", Validator())
    with pytest.raises(KeyboardInterrupt):
        search(stopping_study, tmp_path / "part", Validator(stop=13))
    rest, ran = search(stopping_study, tmp_path / "part", Validator())
    assert ran == ids[13:]
    assert as_data(rest) == as_data(whole)


def test_rounds_that_may_be_stopped_come_one_by_one(stopping_study: StudySpec, tmp_path: Path) -> None:
    found = SearchRunner(stopping_study, {}, StudyStore(tmp_path))
    store, sizes = StudyStore(tmp_path), []
    for trials in found.rounds(together=8):
        StudyStore.create(tmp_path, stopping_study, trials)
        Validator().run(store, trials, lambda _: None)
        sizes.append(len(trials) // 2)
    assert sizes == [STARTUP, 1, 1, 1, 1, 1, 1]
