from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuneoff.config.spec import StudySpec
from tuneoff.errors import CorruptRecord, RecordExists, StoreError
from tuneoff.planning.plan import plan, search_trial
from tuneoff.records.record import Metric, Prediction, Status, TrialRecord
from tuneoff.store import StudyStore, write_atomically
from tuneoff.store.transfer import receive, trial_files

pytest_plugins = ("study_fixtures",)

MakeStudy = Callable[..., StudySpec]


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture
def store(tmp_path: Path, make_study: MakeStudy) -> StudyStore:
    study = make_study()
    return StudyStore.create(tmp_path / "study", study, plan(study))


def record_of(store: StudyStore, trial_id: str, status: Status = Status.COMPLETED, **more: Any) -> TrialRecord:
    return TrialRecord(spec=store.trial(trial_id).spec(), status=status, **more)


def finish(store: StudyStore, trial_id: str, value: float = 0.75) -> TrialRecord:
    """Seals a record with predictions, as a trial does."""
    kept = [Prediction(index=i, target="a", output="ä\n", scores=(-0.1, -2.25)) for i in range(3)]
    metric = Metric(name="accuracy", value=value, unit="fraction", direction="higher", split="test")
    info = store.trial(trial_id).write_predictions("test", kept)
    record = record_of(store, trial_id, metrics=(metric,), predictions={"test": info})
    store.trial(trial_id).write_record(record)
    return record


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes one function of `os` fail as on a full disk."""

    def fill(function: str) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, function, fail)

    return fill


# --- whole or not at all


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "x.json"
    write_atomically(path, "first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_loses_nothing_that_was_there(
    store: StudyStore, full_disk: Callable[[str], None], function: str
) -> None:
    first, second = store.trial_ids()[:2]
    finish(store, first)
    before = files_of(store.root)
    full_disk(function)
    with pytest.raises(StoreError, match="No space left on device") as caught:
        finish(store, second)
    assert "finished trials are kept" in caught.value.hint
    assert files_of(store.root) == before, "no half-written and no temporary file stays"
    assert [r.spec.id for r in store.records()] == [first]


def test_an_earlier_attempt_that_cannot_be_set_aside(store: StudyStore, full_disk: Callable[[str], None]) -> None:
    trial = store.trial(store.trial_ids()[0])
    trial.log_path.write_text("log")
    full_disk("replace")
    with pytest.raises(StoreError, match="No space left on device"):
        trial.begin_attempt()
    assert trial.log_path.read_text() == "log"


# --- records


def test_a_record_is_read_as_it_was_written(store: StudyStore) -> None:
    trial_id = store.trial_ids()[0]
    assert store.trial(trial_id).record() is None
    record = finish(store, trial_id)
    assert store.trial(trial_id).record() == record
    assert store.records() == [record]


def test_a_record_is_immutable(store: StudyStore) -> None:
    trial_id = store.trial_ids()[0]
    finish(store, trial_id)
    before = files_of(store.root)
    with pytest.raises(RecordExists, match="immutable"):
        store.trial(trial_id).begin_attempt()
    assert files_of(store.root) == before
    with pytest.raises(RecordExists, match="immutable"):
        store.trial(trial_id).write_record(record_of(store, trial_id))
    after = files_of(store.root)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(("again", "told"), [(0.75, "is the same"), (0.5, "differs: test accuracy 0.75 here, 0.5")])
def test_a_second_result_of_a_trial_is_kept_aside_and_compared(store: StudyStore, again: float, told: str) -> None:
    trial = store.trial(store.trial_ids()[0])
    record = finish(store, trial.folder.name)
    second = record.model_copy(update={"metrics": (record.metrics[0].model_copy(update={"value": again}),)})
    with pytest.raises(RecordExists, match="immutable"):
        trial.write_record(second)
    assert trial.record() == record
    kept = json.loads((trial.folder / "attempts" / "1" / "record.json").read_text())
    assert kept["metrics"][0]["value"] == again
    (event,) = trial.events()[0]
    assert event["message"] == f"it was run twice at once; the second result, attempts/1/record.json, {told}"


def test_of_records_that_are_written_at_once_one_is_sealed(store: StudyStore) -> None:
    trial_id = store.trial_ids()[0]
    trial = store.trial(trial_id)
    records = [record_of(store, trial_id, cause=str(number)) for number in range(8)]
    refused: list[str] = []
    barrier = threading.Barrier(len(records))

    def write(record: TrialRecord) -> None:
        barrier.wait()
        try:
            trial.write_record(record)
        except RecordExists:
            refused.append(record.cause)

    threads = [threading.Thread(target=write, args=(record,)) for record in records]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sealed = trial.record()
    assert sealed is not None
    assert sorted([sealed.cause, *refused]) == [record.cause for record in records]
    assert trial.attempts == 7


def test_what_a_trial_left_elsewhere_is_taken_over_whole_or_set_aside(store: StudyStore, tmp_path: Path) -> None:
    trial_id, *_ = store.trial_ids()
    there = StudyStore.create(tmp_path / "there", store.study(), [store.trial(trial_id).spec()])
    record = finish(there, trial_id)
    there.trial(trial_id).weights.mkdir()
    (there.trial(trial_id).weights / "head.bin").write_bytes(b"head")
    files = trial_files(there.trial(trial_id))
    assert [name for name, _ in files] == ["predictions-test.jsonl", "weights/head.bin", "record.json"]

    here = store.trial(trial_id)
    for bad in (files[:-1], [("predictions-test.jsonl", b"{}"), *files[1:]], [("../record.json", b""), *files]):
        with pytest.raises(CorruptRecord):
            receive(here, bad)
        assert here.record() is None
    receive(here, files)
    assert here.finished_record() == record
    assert (here.weights / "head.bin").read_bytes() == b"head"
    assert not (here.folder.parent / "record.json").exists()
    with pytest.raises(RecordExists):
        receive(here, files)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda text: text.replace("0.75", "0.95"),
        lambda text: text.replace('"completed"', '"failed"'),
        lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "sha256"}),
        lambda text: json.dumps({**json.loads(text), "note": "added later"}),
        lambda text: text[: len(text) // 2],
        lambda _: "[]",
        lambda _: "",
        lambda _: "\x80",
    ],
)
def test_a_changed_record_is_detected(store: StudyStore, tamper: Callable[[str], str]) -> None:
    trial = store.trial(store.trial_ids()[0])
    finish(store, store.trial_ids()[0])
    trial.record_path.write_text(tamper(trial.record_path.read_text()), encoding="latin-1")
    with pytest.raises(CorruptRecord, match=r"record\.json"):
        trial.record()


def test_a_reformatted_record_is_the_same_record(store: StudyStore) -> None:
    trial = store.trial(store.trial_ids()[0])
    record = finish(store, store.trial_ids()[0])
    trial.record_path.write_text(json.dumps(json.loads(trial.record_path.read_text()), sort_keys=True))
    assert trial.record() == record


def test_changed_predictions_are_detected(store: StudyStore) -> None:
    trial = store.trial(store.trial_ids()[0])
    finish(store, store.trial_ids()[0])
    kept = trial.predictions()
    assert kept is not None
    assert [(p.index, p.output) for p in kept] == [(0, "ä\n"), (1, "ä\n"), (2, "ä\n")]
    assert trial.prediction_rows() == [p.model_dump(mode="json") for p in kept]
    path = trial.folder / "predictions-test.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"target":"a"', b'"target":"b"'))
    with pytest.raises(CorruptRecord, match="does not match the checksum"):
        trial.predictions()
    path.unlink()
    with pytest.raises(CorruptRecord, match="cannot be read"):
        trial.predictions()


def test_predictions_that_were_not_kept_are_none(store: StudyStore) -> None:
    finish(store, store.trial_ids()[0])
    assert store.trial(store.trial_ids()[0]).predictions("validation") is None
    assert store.trial(store.trial_ids()[1]).predictions() is None


def test_a_record_of_another_version_is_refused(store: StudyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(store, store.trial_ids()[0])
    monkeypatch.setattr("tuneoff.store.trial.RECORD_VERSION", 99)
    with pytest.raises(StoreError, match="has record version 3, this tuneoff reads 99"):
        store.records()


# --- attempts


def test_what_an_unfinished_attempt_left_is_kept(store: StudyStore) -> None:
    trial_id = store.trial_ids()[0]
    trial = store.trial(trial_id)
    for number in (1, 2):
        trial.log_path.write_text(f"attempt {number}")
        trial.append_event({"kind": "phase", "phase": "load"})
        trial.weights.mkdir()
        (trial.weights / "half.safetensors").write_bytes(b"x")
        trial.write_record(record_of(store, trial_id, Status.FAILED, cause=f"cause {number}"))
        trial.begin_attempt()
        assert trial.record() is None
        attempt = trial.folder / "attempts" / str(number)
        assert sorted(p.name for p in attempt.iterdir()) == ["events.jsonl", "log.txt", "record.json"]
        assert (attempt / "log.txt").read_text() == f"attempt {number}"
        assert f"cause {number}" in (attempt / "record.json").read_text()
        assert not trial.weights.exists(), "half-trained weights are of no use"
    finish(store, trial_id)
    assert trial.spec().id == trial_id


def test_a_first_attempt_leaves_no_trace(store: StudyStore) -> None:
    trial = store.trial(store.trial_ids()[0])
    trial.begin_attempt()
    assert [p.name for p in trial.folder.iterdir()] == ["trial.json"]


# --- progress


def test_events_are_read_on_from_where_one_stopped(store: StudyStore) -> None:
    trial = store.trial(store.trial_ids()[0])
    assert trial.events() == ([], 0)
    trial.append_event({"kind": "step", "step": 1})
    first, offset = trial.events()
    trial.append_event({"kind": "step", "step": 2})
    with trial.events_path.open("a") as file:
        file.write('7\n{torn\n{"kind": "st')
    second, offset = trial.events(offset)
    assert [[(event["kind"], event["step"]) for event in some] for some in (first, second)] == [
        [("step", 1)],
        [("step", 2)],
    ]
    assert first[0]["time"] <= second[0]["time"]
    assert trial.events(offset) == ([], offset), "a line that is being written waits"


def test_threads_may_write_events_at_once(store: StudyStore) -> None:
    trial = store.trial(store.trial_ids()[0])
    each = 200

    def write(name: str) -> None:
        for number in range(each):
            trial.append_event({"kind": name, "number": number, "text": "x" * 300})

    threads = [threading.Thread(target=write, args=(name,)) for name in ("machine", "step", "phase")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events, _ = trial.events()
    for name in ("machine", "step", "phase"):
        assert [event["number"] for event in events if event["kind"] == name] == list(range(each))


def test_progress_that_cannot_be_written_does_not_stop_the_trial(store: StudyStore) -> None:
    trial = store.trial(store.trial_ids()[0])
    trial.events_path.mkdir()
    trial.append_event({"kind": "step"})


def test_the_tail_of_a_log(store: StudyStore) -> None:
    trial = store.trial(store.trial_ids()[0])
    assert trial.log_tail() == ()
    trial.log_path.write_bytes(b"first\n" * 9000 + b"10%\r50%\r100%\n\n\xff\xfe bytes\nlast")
    assert trial.log_tail(3) == ("100%", "�� bytes", "last")


# --- studies


def test_a_study_can_be_copied_anywhere(store: StudyStore, tmp_path: Path) -> None:
    record = finish(store, store.trial_ids()[0])
    elsewhere = tmp_path / "other place" / "ünïcode"
    shutil.copytree(store.root, elsewhere)
    shutil.rmtree(store.root)
    copy = StudyStore.open(elsewhere)
    assert copy.records() == [record]
    assert copy.trial(record.spec.id).predictions() is not None
    assert not any(str(tmp_path).encode() in content for content in files_of(elsewhere).values())


def test_a_study_begun_under_its_own_lock(tmp_path: Path, make_study: MakeStudy) -> None:
    study = make_study()
    with StudyStore(tmp_path / "new").lock():
        StudyStore.create(tmp_path / "new", study, plan(study))
    assert StudyStore.open(tmp_path / "new").study() == study


def test_trials_are_added_to_the_same_question(store: StudyStore, make_study: MakeStudy) -> None:
    done = finish(store, store.trial_ids()[0])
    before = store.trial_ids()
    more = make_study(methods={"bitfit": {}}, protocol={"seeds": 3})
    StudyStore.create(store.root, more, plan(more))
    assert list(store.study().methods) == ["lora", "full", "bitfit"]
    assert store.study().protocol.seeds == (0, 1, 2)
    assert store.trial_ids() == [*before, *(t.id for t in plan(more))]
    assert store.records() == [done]


def test_a_row_that_was_changed_keeps_what_it_was(store: StudyStore, make_study: MakeStudy) -> None:
    before = store.trial_ids()
    old = finish(store, before[0])
    wider = make_study(methods={"lora": {"r": 64}})
    StudyStore.create(store.root, wider, plan(wider))
    assert store.study().methods["lora"].options == {"r": 64}
    assert store.trial_ids() == [*before, *(t.id for t in plan(wider))]
    assert store.records() == [old]


def test_another_question_is_refused_and_the_difference_named(store: StudyStore, make_study: MakeStudy) -> None:
    other = make_study(protocol={"seeds": 2, "epochs": 9}, model="smollm2-135m")
    before = files_of(store.root)
    with pytest.raises(StoreError) as caught:
        StudyStore.create(store.root, other, plan(other))
    assert "protocol.epochs: 3 there, 9 here" in caught.value.message
    assert "model.source: minilm there, smollm2-135m here" in caught.value.message
    assert "--out" in caught.value.hint
    assert files_of(store.root) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, make_study: MakeStudy) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match="not empty and not a study"):
        StudyStore.create(tmp_path, make_study(), plan(make_study()))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_opening_what_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a study folder"):
        StudyStore.open(tmp_path)
    with pytest.raises(StoreError, match="is not there"):
        StudyStore.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read"), ("[]", "manifest"), ('{"study": {}, "trials": []}', "not a study")],
)
def test_a_damaged_manifest(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "study.json").write_text(content)
    store = StudyStore.open(tmp_path)
    with pytest.raises(CorruptRecord, match=message):
        store.study()


def test_one_run_at_a_time(tmp_path: Path) -> None:
    root = tmp_path / "study"
    with (
        StudyStore(root).lock(),
        pytest.raises(StoreError, match="another run is writing"),
        StudyStore(root).lock(),
    ):
        pytest.fail("two runs hold the lock")
    with StudyStore(root).lock():
        assert root.is_dir()


def test_whether_a_run_is_on_is_seen_from_outside(tmp_path: Path) -> None:
    store = StudyStore(tmp_path / "study")
    assert store.running_since() is None
    store.root.mkdir()
    with store.lock():
        began = store.running_since()
        assert began is not None
        before = files_of(store.root)
        assert store.running_since() == began, "looking changes nothing"
        assert files_of(store.root) == before
    assert store.running_since() is None
    os.utime(tmp_path / "study" / "lock", (1e9, 1e9))
    with store.lock():
        again = store.running_since()
    assert again is not None
    assert again > 1e9, "the run's own beginning, not that of the file"


def test_a_run_begins_while_somebody_looks(tmp_path: Path) -> None:
    """A look takes the lock for a moment, shared; a long moment here."""
    fcntl = pytest.importorskip("fcntl")
    store = StudyStore(tmp_path)
    with store.lock():
        pass
    looking = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    end = threading.Timer(0.1, os.close, [looking])
    end.start()
    with store.lock():
        assert store.running_since() is not None
    end.join()


def test_an_error_under_the_lock_stays_itself_and_frees_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="mine"), StudyStore(tmp_path).lock():
        raise OSError("mine")
    with StudyStore(tmp_path).lock():
        pass


def test_a_folder_made_for_the_lock_alone_does_not_stay(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="mine"), StudyStore(tmp_path / "new").lock():
        raise OSError("mine")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with StudyStore(tmp_path / "old").lock():
        pass
    assert (tmp_path / "old").is_dir()
    with StudyStore(tmp_path / "removed").lock():
        shutil.rmtree(tmp_path / "removed")
    with StudyStore(tmp_path / "full").lock():
        (tmp_path / "full" / "kept").write_text("x")
    assert (tmp_path / "full" / "kept").read_text() == "x"


def test_a_place_that_cannot_hold_a_study(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot write to"), StudyStore(tmp_path / "file").lock():
        pytest.fail("a file is no folder")


def test_a_trial_by_the_beginning_of_its_id(store: StudyStore) -> None:
    ids = store.trial_ids()
    assert store.find_trial(ids[0]).folder.name == ids[0]
    assert store.find_trial("lora-s1").folder.name.startswith("lora-s1-")
    with pytest.raises(StoreError, match="2 trials") as caught:
        store.find_trial("lora")
    assert "lora-s0" in caught.value.hint
    with pytest.raises(StoreError, match="no trial"):
        store.find_trial("nothing")


# --- searches


def test_a_rows_earlier_choice_is_no_trial_of_the_study_any_more(tmp_path: Path, make_study: MakeStudy) -> None:
    study = make_study(methods={"lora": {}, "full": {}}, protocol={"seeds": 2, "search": 4})
    before = plan(study, {}, {"lora": {"learning_rate": 1e-3}, "full": {"learning_rate": 1e-5}})
    store = StudyStore.create(tmp_path, study, before)
    finish(store, before[0].id)
    after = plan(study, {}, {"lora": {"learning_rate": 1e-4}, "full": {"learning_rate": 1e-5}})
    one_seed = [trial for trial in after if trial.seed == 0]
    StudyStore.create(tmp_path, study, one_seed)
    kept = {trial.id for trial in before if trial.label == "full"}
    assert set(store.trial_ids()) == {*kept, one_seed[0].id}, "the other arm keeps both its seeds"
    assert store.trial(before[0].id).record() is not None, "nothing is deleted"


def test_search_trials_are_kept_apart(tmp_path: Path, make_study: MakeStudy) -> None:
    study = make_study(methods={"lora": {}}, protocol={"seeds": 1, "search": 4})
    tried = [search_trial(study, "lora", {"learning_rate": rate}) for rate in (1e-3, 1e-4)]
    store = StudyStore.create(tmp_path, study, tried[:1])
    StudyStore.create(tmp_path, study, tried[1:])
    assert store.search_ids() == [trial.id for trial in tried]
    assert (store.trial_ids(), store.records()) == ([], [])
    assert store.find_trial(tried[0].id[:-2]).spec() == tried[0]


def test_a_longer_search_of_some_rows_alone_is_refused(tmp_path: Path, make_study: MakeStudy) -> None:
    arms: dict[str, Any] = {"lora": {}, "full": {}, "majority": {}}
    StudyStore.create(tmp_path, make_study(methods=arms, protocol={"search": 4}), [])
    store = StudyStore(tmp_path)
    with pytest.raises(StoreError, match="gave every arm 4 trials; 8 for some arms alone") as caught:
        store.check(make_study(methods={"lora": {}}, protocol={"search": 8}))
    assert "full" in caught.value.hint
    store.check(make_study(methods={"lora": {}}, protocol={"search": 4}))
    store.check(make_study(methods={"lora": {}, "full": {}}, protocol={"search": 8}))
