"""The equal search from end to end: what every arm gets, what stays untouched, what a stop changes."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from running_helpers import Ended, OneExecutor, SharedExecutor, Tiny, tiny_rows, write_rows
from tuneoff.analysis.search_data import recorded
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import DataError, StoreError
from tuneoff.executors.base import Listener, Progress
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

pytest_plugins = ("running_fixtures",)
pytestmark = pytest.mark.usefixtures("shared")

ROWS = {"majority": {}, "head": {}, "lora": {"r": {"search": [2, 4, 8]}}}
SEARCH = {"trials": 3, "train_rows": 48, "max_steps": 2}


def searching(tiny: Tiny, methods: Any = None, search: Any = None, **protocol: Any) -> dict[str, Any]:
    raw = tiny.study(
        ROWS if methods is None else methods, max_steps=6, epochs=2, search={**SEARCH, **(search or {})}, **protocol
    )
    return raw | {"protocol": {k: v for k, v in raw["protocol"].items() if k != "learning_rate"}}


def run(raw: dict[str, Any], folder: Path, listener: Listener | None = None) -> list[Progress]:
    """Runs a study; what it told but for events."""
    told: list[Progress] = []

    def hear(progress: Progress) -> None:
        if progress.kind != "event":
            told.append(progress)
        if listener is not None:
            listener(progress)

    Study(raw).run(folder, hear)
    return told


def search_records(folder: Path) -> list[TrialRecord]:
    store = StudyStore.open(folder)
    records = [store.trial(trial_id).record() for trial_id in store.search_ids()]
    return [record for record in records if record is not None]


def found(folder: Path) -> dict[str, Any]:
    data = recorded(StudyStore.open(folder))
    assert data is not None
    return data


@pytest.fixture(scope="module")
def finished(tiny: Tiny, executor: SharedExecutor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that was searched and run; no test writes to it."""
    folder = tmp_path_factory.mktemp("searched") / "study"
    with OneExecutor(executor).registered():
        run(searching(tiny), folder)
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def kinds(told: list[Progress]) -> dict[str, int]:
    """'purpose kind' -> how often."""
    return dict(Counter(f"{progress.trial.purpose} {progress.kind}" for progress in told))


# --- equal


def test_every_row_that_trains_gets_as_many_trials_on_the_same_rows_and_steps(finished: Path) -> None:
    records = search_records(finished)
    assert [r.spec.label for r in records] == ["head", "lora"] * 3, "round by round, baselines apart"
    assert {(r.steps, r.data.splits["train"].rows if r.data else 0) for r in records} == {(2, 48)}
    assert len({r.data.train_order_fingerprint for r in records if r.data}) == 1
    assert {r.spec.seed for r in records} == {1000}
    assert len({r.spec.id for r in records}) == 6


def test_the_verdict_is_run_at_the_choice_with_its_own_seeds_and_the_whole_budget(finished: Path) -> None:
    study = Study.open(finished)
    records = {record.spec.label: record for record in study.records()}
    assert list(records) == ["majority", "head", "lora"], "the search's trials are no arms"
    assert {record.status for record in records.values()} == {Status.COMPLETED}
    assert {record.spec.seed for record in records.values()} == {0}
    assert study.chosen.keys() == {"head", "lora"}
    for label, values in study.chosen.items():
        assert records[label].spec.learning_rate == values["learning_rate"]
        assert (records[label].steps, records[label].spec.protocol.train_rows) == (6, None)
    assert records["lora"].spec.options["r"] == study.chosen["lora"]["r"]
    assert [trial.id for trial in study.plan()] == [record.spec.id for record in records.values()]
    assert len(study.results()) == 3


def test_what_it_found_is_written_down_as_the_records_tell_it(finished: Path) -> None:
    data = found(finished)
    assert (data["complete"], data["equal"]) == (True, True)
    assert data["metric"] == {"name": "accuracy", "direction": "higher", "split": "validation"}
    records = {record.spec.id: record for record in search_records(finished)}
    for label, arm in data["arms"].items():
        assert [len(arm["tried"]), arm["failed"]] == [3, 0]
        for tried in arm["tried"]:
            record = records[tried["trial"]]
            assert record.spec.label == label
            assert tried["score"] == record.metric("accuracy", "validation")
            assert tried["values"]["learning_rate"] == record.spec.learning_rate
        ranked = max(arm["tried"], key=lambda tried: (tried["score"], -tried["loss"]))
        assert (arm["best"], arm["choice"]) == (ranked["trial"], ranked["values"])
        assert arm["train_seconds"] == pytest.approx(sum(tried["train_seconds"] for tried in arm["tried"]))
    assert data["arms"]["lora"]["space"]["r"] == {"choices": [2, 4, 8], "first": 8}


# --- what stays untouched


def test_the_search_leaves_the_test_split_and_the_disk_alone(finished: Path) -> None:
    store = StudyStore.open(finished)
    for record in search_records(finished):
        assert {metric.split for metric in record.metrics} == {"validation"}
        assert record.predictions == {}
        assert record.timing.test_seconds is None
        assert "validation alone" in record.missing["timing.test_seconds"]
        place = store.trial(record.spec.id)
        assert not list(place.folder.glob("predictions-*"))
        assert not place.weights.exists()
        with pytest.raises(StoreError, match="belongs to the search"):
            Study.open(finished).call("export", record.spec.id, out=str(finished.parent / "export"), merged=False)


def test_a_trial_of_the_verdict_is_the_trial_of_a_plain_study(tiny: Tiny, finished: Path) -> None:
    chosen = Study.open(finished).chosen
    plain = tiny.study({"majority": {}, "head": chosen["head"], "lora": chosen["lora"]}, max_steps=6, epochs=2)
    del plain["protocol"]["learning_rate"]
    assert {trial.id for trial in Study(plain).plan()} == set(StudyStore.open(finished).trial_ids())


def test_other_test_rows_lead_to_the_same_choice(tiny: Tiny, finished: Path, tmp_path: Path) -> None:
    """The search never sees them, so it chooses the same."""
    raw = searching(tiny)
    other = write_rows(tmp_path / "other.csv", [(text, "cats") for text, _ in tiny_rows(30, 7)])
    raw["task"] = {"data": {"train": str(tiny.train), "test": str(other)}}
    run(raw, tmp_path / "out")
    assert Study.open(tmp_path / "out").chosen == Study.open(finished).chosen


# --- stopping and going on


def test_a_finished_search_is_not_run_again(tiny: Tiny, copied: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in (copied / "trials").rglob("*")}
    told = run(searching(tiny), copied)
    assert kinds(told) == {"search skipped": 6, "final skipped": 3}
    assert stamps == {path: path.stat().st_mtime_ns for path in (copied / "trials").rglob("*")}


def test_an_interrupted_search_goes_on_with_what_it_would_have_tried(
    tiny: Tiny, finished: Path, tmp_path: Path
) -> None:
    started: list[TrialSpec] = []

    def interrupt(progress: Progress) -> None:
        if progress.kind == "started":
            started.append(progress.trial)
            if len(started) == 4:
                raise KeyboardInterrupt

    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(searching(tiny), folder, interrupt)
    assert [record.status for record in search_records(folder)] == [*[Status.COMPLETED] * 3, Status.CANCELLED]
    assert not found(folder)["complete"]
    assert found(folder)["arms"]["head"]["choice"] is None
    assert StudyStore.open(folder).records() == []
    assert "3 trials" in Study.open(folder).report(plots=False).read_text(encoding="utf-8")
    told = run(searching(tiny), folder)
    assert kinds(told)["search skipped"] == 3
    assert StudyStore.open(folder).search_ids() == StudyStore.open(finished).search_ids()
    assert Study.open(folder).chosen == Study.open(finished).chosen


def test_more_trials_go_on_where_the_search_ended(tiny: Tiny, copied: Path) -> None:
    before = StudyStore.open(copied).search_ids()
    with pytest.raises(StoreError, match="for some arms alone would not be equal"):
        run(searching(tiny, {"head": {}}, {"trials": 4}), copied)
    told = run(searching(tiny, search={"trials": 4}), copied)
    assert kinds(told)["search skipped"] == 6
    assert kinds(told)["search started"] == 2
    assert StudyStore.open(copied).search_ids()[:6] == before
    assert len(Study.open(copied).records()) == 3, "an arm has one configuration, the one chosen last"
    assert [trial.id for trial in Study.open(copied).plan()] == StudyStore.open(copied).trial_ids()


# --- a search for every seed


def test_every_seed_is_searched_by_itself_and_a_further_one_leaves_the_others(tiny: Tiny, tmp_path: Path) -> None:
    def asked(seeds: list[int]) -> dict[str, Any]:
        raw = searching(tiny, {"majority": {}, "head": {}}, {"trials": 2, "per_seed": 1})
        return raw | {"protocol": {**raw["protocol"], "seeds": seeds, "splits": "per_seed"}}

    folder = tmp_path / "study"
    told = run(asked([0, 1]), folder)
    ended = [progress.trial for progress in told if progress.kind == "ended"]
    assert [t.seed for t in ended if t.purpose == "search"] == [1000, 1000, 1001, 1001], "two whole trials each"
    told = run(asked([0, 1, 2]), folder)
    assert kinds(told)["search skipped"] == 4
    assert kinds(told)["final skipped"] == 4
    assert [p.trial.seed for p in told if p.kind == "started" and p.trial.purpose == "search"] == [1002, 1002]
    choices = Study.open(folder).chosen
    records = Study.open(folder).records()
    rates = {record.spec.seed: record.spec.learning_rate for record in records if record.spec.label == "head"}
    assert rates == {seed: choices["head", seed]["learning_rate"] for seed in range(3)}
    rows = {r.spec.seed: r.data.splits["train"].fingerprint for r in records if r.data is not None}
    assert len(set(rows.values())) == 3, "and each has a draw of its own"
    assert found(folder)["complete"]


# --- settings of the protocol


def test_a_setting_of_the_protocol_is_searched_for_every_arm_and_kept_by_its_trials(tiny: Tiny, tmp_path: Path) -> None:
    raw = searching(tiny, {"majority": {}, "head": {}, "bitfit": {}}, {"trials": 3, "max_steps": None})
    raw["protocol"] |= {"max_steps": None, "epochs": 1, "batch_size": {"search": [8, 16]}}
    raw["protocol"] |= {"weight_decay": {"search": {"low": 0, "high": 1}}}
    run(raw, tmp_path / "out")
    records = search_records(tmp_path / "out")
    assert [r.spec.protocol.batch_size for r in records[:2]] == [16, 16], "the default first"
    assert {(r.spec.protocol.batch_size, r.steps) for r in records} == {(16, 3), (8, 6)}, "equal epochs"
    assert {0 <= r.spec.protocol.weight_decay <= 1 for r in records} == {True}
    study = Study.open(tmp_path / "out")
    chosen = {r.spec.label: r.spec.protocol.searchable for r in study.records() if r.spec.learning_rate is not None}
    for label, values in study.chosen.items():
        assert {**chosen[label], **values} == {**chosen[label], "learning_rate": values["learning_rate"]}
    assert kinds(run(raw, tmp_path / "out")) == {"search skipped": 6, "final skipped": 3}
    assert found(tmp_path / "out")["complete"]
    text = study.report(plots=False).read_text(encoding="utf-8")
    assert "Batch sizes were searched at equal epochs" in text
    assert "different order" not in text


# --- pruned


def test_a_pruned_search_gives_the_better_of_every_row_twice_the_steps(tiny: Tiny, tmp_path: Path) -> None:
    raw = searching(tiny, {"majority": {}, "head": {}, "full": {}}, {"max_steps": 20, "prune": "halving"})
    raw["protocol"] |= {"epochs": 8, "max_steps": 24}
    run(raw, tmp_path / "out")
    records = search_records(tmp_path / "out")
    assert [(r.spec.label, r.steps) for r in records] == [("head", 10), ("full", 10)] * 3 + [("head", 20), ("full", 20)]
    assert {metric.split for record in records for metric in record.metrics} == {"validation"}
    study = Study.open(tmp_path / "out")
    last = {record.spec.label: record.spec.learning_rate for record in records}
    assert {label: values["learning_rate"] for label, values in study.chosen.items()} == last
    assert {r.spec.label: (r.steps, r.spec.learning_rate) for r in study.records()} == {
        "majority": (0, None),
        "head": (24, last["head"]),
        "full": (24, last["full"]),
    }
    assert kinds(run(raw, tmp_path / "out")) == {"search skipped": 8, "final skipped": 3}
    text = study.report(plots=False).read_text(encoding="utf-8")
    assert "pruned by successive halving: 3 trials of an arm got 10 steps, then, anew, the best 1 with 20" in text


# --- going wrong


def test_a_failed_trial_is_the_worst_and_a_row_without_any_other_says_so(
    tiny: Tiny, faulty: str, tmp_path: Path
) -> None:
    arms = {
        "mixed": {"method": faulty, "how": {"search": ["nothing", "raise"]}},
        "lost": {"method": faulty, "seconds": 1.0},
    }
    told = run(searching(tiny, arms, {"trials": 2}), tmp_path / "out")
    statuses = {(r.spec.label, r.spec.options["how"]): r.status for r in search_records(tmp_path / "out")}
    assert statuses[("mixed", "raise")] is Status.FAILED
    assert Study.open(tmp_path / "out").chosen["mixed"]["how"] == "nothing"
    records = {record.spec.label: record for record in Study.open(tmp_path / "out").records()}
    assert records["mixed"].status is Status.COMPLETED
    assert records["lost"].status is Status.FAILED
    assert "none of the 2 search trials of 'lost' completed" in records["lost"].cause
    assert "this plug-in divides by zero" in records["lost"].cause
    assert kinds(told)["final ended"] == 2
    again = run(searching(tiny, arms, {"trials": 2}), tmp_path / "out")
    assert kinds(again)["search started"] == 3, "failures are tried again"


def test_a_share_too_small_for_the_classes_is_refused_before_anything_is_written(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="would have no training row left"):
        run(searching(tiny, search={"train_rows": 2}), tmp_path / "out")
    assert not (tmp_path / "out" / "study.json").exists()


def test_the_command_line_searches_counts_and_reports(
    tiny: Tiny, tmp_path: Path, command: Callable[..., Ended]
) -> None:
    raw = searching(tiny, {"majority": {}, "head": {}})
    del raw["protocol"]["search"]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    done = command("run", "study.yaml", "--search", "2", "--out", "out")
    assert done.code == 0, done.err
    line = "search before the final trials: 2 trials of 1 arm, scored on validation data alone; first rates: of "
    assert line in " ".join(done.err.split())
    assert "[1/4] search head, rate" in done.err
    assert "[4/4] head seed 0: completed" in done.err
    assert len(search_records(tmp_path / "out")) == 2
