"""Trials on this machine: whatever ends a trial's process, it has a record, and the others go on."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from running_helpers import Prepared, SharedExecutor, Tiny, starter_of, wait_until
from tuneoff.errors import ExecutorError, OutOfMemory, StoreError, StudyError, TuneoffError
from tuneoff.executors import _endings, local
from tuneoff.executors._children import Child, Children, Spawner
from tuneoff.executors._interrupts import noted_interrupts
from tuneoff.executors._placement import Allocation
from tuneoff.executors._running import RunningTrial, start_together
from tuneoff.executors.base import Progress
from tuneoff.executors.local import LocalExecutor
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

pytest_plugins = ("running_fixtures",)

Prepare = Callable[..., Prepared]


def _faults(*ways: str) -> dict[str, Any]:
    return {way: {"method": "faulty", "how": way} for way in ways}


def _records(prepared: Prepared) -> dict[str, TrialRecord]:
    return {record.spec.label: record for record in prepared.store.records()}


def test_a_study_runs_tells_and_is_not_run_again(executor: SharedExecutor, prepare: Prepare) -> None:
    prepared = prepare(("majority", "head", "full"))
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    assert prepared.kinds() == [
        (kind, label) for label in ("majority", "head", "full") for kind in ("started", "ended")
    ]
    records = _records(prepared)
    assert {record.status for record in records.values()} == {Status.COMPLETED}
    told = {p.event["kind"] for p in prepared.told if p.kind == "event" and p.trial.label == "full"}
    assert {"phase", "step", "validation"} <= told
    before = {trial.id: prepared.store.trial(trial.id).record_path.stat().st_mtime_ns for trial in prepared.trials}

    prepared.told.clear()
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    assert prepared.kinds() == [("skipped", label) for label in ("majority", "head", "full")]
    assert all(p.record is not None for p in prepared.told)
    assert before == {t.id: prepared.store.trial(t.id).record_path.stat().st_mtime_ns for t in prepared.trials}


def test_a_trial_that_needs_nothing_starts_no_process(prepare: Prepare, executor: SharedExecutor) -> None:
    prepared = prepare(("majority",))
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    with LocalExecutor("cpu", starter=lambda _: pytest.fail("a process was started")) as idle:
        idle.run(prepared.store, prepared.trials, prepared.told.append)


def test_every_failure_is_a_status_with_a_cause_and_the_others_go_on(
    executor: SharedExecutor, prepare: Prepare, faulty: str
) -> None:
    ways = ("raise", "attach", "memory", "load_memory", "load_abort", "exit", "kill", "abort", "full_disk")
    rows = {**_faults(*ways), "diverges": {"method": "full", "learning_rate": 1e30}, "head": {}}
    prepared = prepare(rows, learning_rate=None)
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    records = _records(prepared)
    expected = {
        "raise": (Status.FAILED, "ZeroDivisionError: this plug-in divides by zero"),
        "attach": (Status.FAILED, "RuntimeError: this plug-in cannot attach"),
        "memory": (Status.OUT_OF_MEMORY, "out of memory"),
        "load_memory": (Status.OUT_OF_MEMORY, "out of memory while loading the model: "),
        "load_abort": (Status.OUT_OF_MEMORY, "out of memory: memory allocation of 17179869184 bytes failed"),
        "exit": (Status.FAILED, "the trial's process ended without a result (exit status 3)"),
        "kill": (Status.FAILED, "the trial's process ended without a result (killed by SIGKILL)"),
        "abort": (Status.FAILED, "the trial's process ended without a result (killed by SIGABRT)"),
        "diverges": (Status.DIVERGED, "Try a lower learning rate than 1e+30"),
        "head": (Status.COMPLETED, ""),
    }
    assert set(records) == {*expected, "full_disk"}
    for label, (status, cause) in expected.items():
        assert records[label].status is status, label
        assert cause in records[label].cause, label
    assert records["full_disk"].status is Status.FAILED
    for label in ("raise", "attach"):
        assert records[label].cause == records[label].log_tail[-1]
    assert records["head"].cause == ""
    assert prepared.kinds()[-1] == ("ended", "head")

    prepared.told.clear()
    executor.run(prepared.store, prepared.trials[-1:], prepared.told.append)
    assert prepared.kinds() == [("skipped", "head")]


def test_a_kill_for_want_of_memory_is_told_from_any_other(
    executor: SharedExecutor, prepare: Prepare, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(_faults("load_kill"))
    monkeypatch.setattr(_endings, "out_of_memory_kills", iter([7, 8]).__next__)
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    record = _records(prepared)["load_kill"]
    assert (record.status, record.cause) == (
        Status.OUT_OF_MEMORY,
        "the kernel killed the process: the machine ran out of memory",
    )


def test_a_look_that_runs_out_of_memory_says_so(
    executor: SharedExecutor, tiny: Tiny, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(tiny.study({"vanish": {"method": "faulty", "how": "vanish"}}))
    monkeypatch.setattr(_endings, "ran_out_of_memory", lambda child, kills, said: f"killed; {said[0]}")
    with pytest.raises(OutOfMemory, match="killed; about to vanish"):
        executor.inspect(study.spec, study.plan(), True)


def test_a_failed_trial_is_repeated_and_its_first_attempt_kept(
    executor: SharedExecutor, prepare: Prepare, faulty: str
) -> None:
    prepared = prepare(_faults("raise"))
    for _ in range(2):
        executor.run(prepared.store, prepared.trials, prepared.told.append)
    assert prepared.kinds() == [("started", "raise"), ("ended", "raise")] * 2
    attempt = prepared.store.trial(prepared.trials[0].id).folder / "attempts" / "1"
    assert {"record.json", "log.txt"} <= {path.name for path in attempt.iterdir()}


def test_a_full_disk_fails_the_trial_with_its_cause_and_keeps_earlier_records(
    executor: SharedExecutor, prepare: Prepare, faulty: str
) -> None:
    prepared = prepare({"head": {}, **_faults("full_disk"), "full": {}})
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    records = _records(prepared)
    assert [r.status for r in records.values()] == [Status.COMPLETED, Status.FAILED, Status.COMPLETED]
    assert os.strerror(errno.EFBIG) in records["full_disk"].cause + "".join(records["full_disk"].log_tail)


def test_a_disk_that_fills_up_stops_the_run_and_loses_nothing(
    executor: SharedExecutor, prepare: Prepare, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare({"head": {}, **_faults("raise")})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("tuneoff.store.files.os.fsync", full)
        with pytest.raises(StoreError, match="No space left on device") as caught:
            executor.run(prepared.store, prepared.trials, prepared.told.append)
    assert "finished trials are kept" in caught.value.hint
    assert {label: r.status for label, r in _records(prepared).items()} == {"head": Status.COMPLETED}
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    assert prepared.kinds()[-3:] == [("skipped", "head"), ("started", "raise"), ("ended", "raise")]


@pytest.mark.parametrize("how", ["slow", "stubborn"])
def test_a_trial_over_its_time_is_ended_within_seconds_even_if_it_will_not(
    how: str, executor: SharedExecutor, prepare: Prepare, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "grace_seconds", 0.5)
    prepared = prepare({**_faults(how), "majority": {}}, execution={"timeout_seconds": 3})
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    record = _records(prepared)[how]
    assert record.status is Status.OVER_BUDGET
    assert record.cause == "the trial took longer than execution.timeout_seconds, 3 s"
    log = prepared.store.trial(record.spec.id).log_path.read_text()
    assert "sleeping" in log
    assert tuple(line.rstrip() for line in log.splitlines()[-3:]) == record.log_tail[-3:]
    assert _records(prepared)["majority"].status is Status.COMPLETED


def _interrupt_at(prepared: Prepared, label: str, times: int = 1) -> Callable[[Progress], None]:
    """A listener that presses Ctrl-C once the trial has begun to sleep, and again where it is to."""

    def listen(progress: Progress) -> None:
        prepared.told.append(progress)
        if progress.kind == "started" and progress.trial.label == label:
            log = prepared.store.trial(progress.trial.id).log_path

            def press() -> None:
                wait_until(lambda: log.exists() and "sleeping" in log.read_text())
                for _ in range(times):
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.5)

            threading.Thread(target=press).start()

    return listen


@pytest.mark.parametrize("how", ["slow", "stubborn"])
def test_an_interrupt_records_the_running_trial_as_cancelled(
    how: str, executor: SharedExecutor, prepare: Prepare, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "grace_seconds", 0.5)
    prepared = prepare({"head": {}, **_faults(how), "majority": {}})
    with pytest.raises(KeyboardInterrupt):
        executor.run(prepared.store, prepared.trials, _interrupt_at(prepared, how))
    records = _records(prepared)
    assert {label: record.status for label, record in records.items()} == {
        "head": Status.COMPLETED,
        how: Status.CANCELLED,
    }
    assert records[how].cause == "the run was interrupted"
    assert not [p for p in psutil.Process().children(recursive=True) if p.status() == "sleeping" and _is_trial(p)]


def _is_trial(process: psutil.Process) -> bool:
    return process.ppid() != os.getpid() and "tuneoff.trial" in " ".join(process.cmdline())


def test_an_interrupt_in_the_listener_is_recorded_too(executor: SharedExecutor, prepare: Prepare) -> None:
    prepared = prepare(("full",), epochs=200)

    def listen(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.run(prepared.store, prepared.trials, listen)
    assert _records(prepared)["full"].status is Status.CANCELLED


def test_an_interrupted_training_continues_from_the_step_that_it_was_in(
    executor: SharedExecutor, prepare: Prepare
) -> None:
    whole, prepared = (prepare(("lora",), name, epochs=30) for name in ("whole", "cut"))
    executor.run(whole.store, whole.trials, whole.told.append)

    def listen(progress: Progress) -> None:
        prepared.told.append(progress)
        if progress.event.get("kind") == "step":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.run(prepared.store, prepared.trials, listen)
    assert _records(prepared)["lora"].status is Status.CANCELLED
    step = next(p.event["step"] for p in prepared.told if p.event.get("kind") == "step")
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    (event,) = [p.event for p in prepared.told if p.event.get("kind") == "resumed"]
    assert event["step"] >= step
    ours, theirs = _records(prepared)["lora"], _records(whole)["lora"]
    assert (ours.resumed, ours.metrics, ours.kept_files) == (1, theirs.metrics, theirs.kept_files)
    assert ours.predictions == theirs.predictions


def test_the_time_of_earlier_processes_counts_for_the_limit(prepare: Prepare) -> None:
    prepared = prepare(("full",), execution={"timeout_seconds": 3600})
    (trial,) = prepared.trials
    running = RunningTrial(prepared.store, trial, Allocation((0,), ((0,),), (), None, False))
    running._started = time.monotonic()
    prepared.store.trial(trial.id).append_event({"kind": "resumed", "step": 3, "earlier_seconds": 3590.0})
    running.pass_on(prepared.told.append)
    assert not running.is_over_time
    prepared.store.trial(trial.id).append_event({"kind": "resumed", "step": 3, "earlier_seconds": 3600.0})
    running.pass_on(prepared.told.append)
    assert running.is_over_time


def test_a_trial_that_is_stopped_ends_when_it_is_asked_to(
    executor: SharedExecutor, prepare: Prepare, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "grace_seconds", 600.0)
    prepared = prepare(_faults("stop"))

    def listen(progress: Progress) -> None:
        prepared.told.append(progress)
        if progress.kind == "event" and progress.event.get("phase") == "train":
            below = starter_of(executor).children()
            wait_until(lambda: any(p.status() == psutil.STATUS_STOPPED for p in below))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.run(prepared.store, prepared.trials, listen)
    assert _records(prepared)["stop"].status is Status.CANCELLED


class StuckChildren(Children):
    """Children of a starter that tells nothing."""

    def __init__(self, pid: int | None) -> None:
        super().__init__({})
        self.pid = pid
        self.closed = False

    def start(self, verb: str, payload: dict[str, Any], log: Path | None = None) -> Child:
        child = Child(Path(self.scratch.name) / "reply.json")
        child.pid = self.pid
        return child

    def wake(self) -> None:
        """It does not."""

    def wait(self, child: Child, seconds: float) -> bool:
        return False

    def close(self) -> None:
        self.scratch.cleanup()
        self.closed = True


def test_what_starts_processes_may_be_started_ahead() -> None:
    children = StuckChildren(None)
    with LocalExecutor("cpu", starter=lambda _: children) as executor:
        executor.warm_up()
        assert executor._children is children
        executor.warm_up()
        assert executor.children is children
    assert children.closed


@pytest.mark.parametrize("pid", [None, 1 << 30])
def test_a_starter_that_tells_nothing_is_given_up(
    pid: int | None, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(local, "LOST_SECONDS", 0.1)
    prepared = prepare(("full", "head"), execution={"timeout_seconds": 0.01})
    starters: list[StuckChildren] = []

    def start(environment: dict[str, str]) -> Children:
        starters.append(StuckChildren(pid))
        return starters[-1]

    LocalExecutor("cpu", starter=start).run(prepared.store, prepared.trials, prepared.told.append)
    assert {label: r.status for label, r in _records(prepared).items()} == dict.fromkeys(
        ("full", "head"), Status.OVER_BUDGET
    )
    assert [starter.closed for starter in starters] == [True, True], "the next trial has a new one"


def test_the_last_of_trials_together_ends_with_their_process(prepare: Prepare) -> None:
    prepared = prepare(("full",), seeds=2)
    children = StuckChildren(None)
    executor = LocalExecutor("cpu", starter=lambda _: children)
    assert executor.children is children
    running = [RunningTrial(prepared.store, trial, Allocation((0,), ((0,),))) for trial in prepared.trials]
    start_together(running, [trial.id for trial in prepared.trials], prepared.store, children, "cpu")
    first, last = running
    try:
        for one in running:
            prepared.store.trial(one.trial.id).write_record(TrialRecord(spec=one.trial, status=Status.COMPLETED))
        assert executor._follow(prepared.store, running, prepared.told.append) == [first]
        assert executor._follow(prepared.store, [last], prepared.told.append) == [], "its process lives"
    finally:
        children.close()


def test_an_interrupt_while_one_is_heeded_tears_nothing() -> None:
    with noted_interrupts() as again:
        assert not again()
        os.kill(os.getpid(), signal.SIGINT)
        assert again()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_interrupt_ends_a_stubborn_trial_at_once_and_records_it(
    executor: SharedExecutor, prepare: Prepare, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "grace_seconds", 600.0)
    prepared = prepare(_faults("stubborn"))
    with pytest.raises(KeyboardInterrupt):
        executor.run(prepared.store, prepared.trials, _interrupt_at(prepared, "stubborn", times=2))
    assert _records(prepared)["stubborn"].status is Status.CANCELLED


@pytest.mark.slow
def test_a_starter_that_is_killed_is_one_clear_error_and_loses_nothing(
    executor: SharedExecutor, prepare: Prepare, faulty: str, child_environment: dict[str, str]
) -> None:
    prepared = prepare({"head": {}, **_faults("slow")})
    doomed = LocalExecutor("cpu")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in child_environment.items():
            patch.setenv(name, value)
        assert doomed.children
    pids: list[int] = []

    def listen(progress: Progress) -> None:
        prepared.told.append(progress)
        if (progress.kind, progress.trial.label) == ("started", "slow"):
            log = prepared.store.trial(progress.trial.id).log_path
            wait_until(lambda: log.exists() and "sleeping" in log.read_text())
            process = starter_of(doomed)
            pids.extend(p.pid for p in process.children(recursive=True))
            process.kill()

    with doomed, pytest.raises(ExecutorError, match="the process that starts trials was killed by SIGKILL") as caught:
        doomed.run(prepared.store, prepared.trials, listen)
    assert "finished trials are kept" in caught.value.hint
    assert pids
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), 10)
    assert {label: r.status for label, r in _records(prepared).items()} == {"head": Status.COMPLETED}

    prepared.told.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor.children, "preload", lambda _: None)
        executor.run(prepared.store, prepared.trials[:1], prepared.told.append)
    assert prepared.kinds() == [("skipped", "head")]


@pytest.mark.slow
def test_spawned_trials_give_the_same_predictions_bit_for_bit(
    executor: SharedExecutor, prepare: Prepare, child_environment: dict[str, str]
) -> None:
    warm, spawned = prepare(("full",), "warm"), prepare(("full",), "spawned")
    executor.run(warm.store, warm.trials, warm.told.append)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in child_environment.items():
            patch.setenv(name, value)
        with LocalExecutor("cpu", starter=Spawner) as other:
            other.run(spawned.store, spawned.trials, spawned.told.append)
    one, two = _records(warm)["full"], _records(spawned)["full"]
    assert one.status is two.status is Status.COMPLETED
    assert one.predictions["test"].sha256 == two.predictions["test"].sha256
    assert one.metrics == two.metrics
    assert one.gradient_norm == two.gradient_norm


# --- looking before training


def _inspect(executor: SharedExecutor, raw: dict[str, Any], require_data: bool = True) -> Any:
    study = Study(raw)
    return executor.inspect(study.spec, study.plan(), require_data)


def test_an_inspection_counts_and_describes(executor: SharedExecutor, tiny: Tiny) -> None:
    found = _inspect(executor, tiny.study(("majority", "full", "lora")))
    assert found.labels == ("cats", "dogs", "fish")
    assert found.data["splits"]["test"]["rows"] == 30
    by_label = {trial_id.rsplit("-", 2)[0]: counts for trial_id, counts in found.trials.items()}
    assert by_label["full"]["trainable_parameters"] == by_label["full"]["total_parameters"]
    assert 0 < by_label["lora"]["trainable_parameters"]["adapter"] < by_label["full"]["total_parameters"]["base"]
    assert sum(by_label["majority"]["total_parameters"].values()) == 0


def test_an_inspection_before_a_run_tells_of_gpus_too(
    executor: SharedExecutor, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "device", "auto")
    monkeypatch.setattr(executor, "_gpus", None)
    _inspect(executor, tiny.study(("majority",)))
    monkeypatch.setattr(executor, "call", lambda verb, payload: pytest.fail(f"{verb} is asked for"))
    assert len(executor.devices()) >= 1


def test_a_process_that_vanishes_while_looking_is_an_error_with_its_last_words(
    executor: SharedExecutor, tiny: Tiny, faulty: str
) -> None:
    with pytest.raises(ExecutorError, match=r"'inspect' ended without an answer \(exit status 3\): about to vanish"):
        _inspect(executor, tiny.study(_faults("vanish")))


def test_a_method_that_cannot_attach_is_told_before_training(executor: SharedExecutor, tiny: Tiny, faulty: str) -> None:
    with pytest.raises(TuneoffError, match="this plug-in cannot attach"):
        _inspect(executor, tiny.study(_faults("refuse")))


def test_a_device_that_is_not_there_is_told_before_training(tiny: Tiny, executor: SharedExecutor) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "device", "cuda")
        with pytest.raises(ExecutorError, match="no CUDA device"):
            _inspect(executor, tiny.study())
        assert _inspect(executor, tiny.study(), require_data=False).labels


def test_every_method_that_cannot_take_the_model_is_named(executor: SharedExecutor, tiny: Tiny) -> None:
    raw = tiny.study(("bitfit", "head"))
    raw["model"] = str(tiny.llama)
    with pytest.raises(StudyError, match="bitfit") as caught:
        _inspect(executor, raw)
    assert caught.value.hint == "The others can run: --methods head"


def test_a_call_answers_what_the_child_found(executor: SharedExecutor, prepare: Prepare, tmp_path: Path) -> None:
    prepared = prepare(("full",))
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    place = prepared.store.trial(prepared.trials[0].id)
    rows = tmp_path / "new.csv"
    rows.write_text("text\nwoof 1\npurr 2\n")
    payload = {"folder": str(place.folder), "device": "cpu", "file": str(rows)}
    answer = executor.call("predict", payload)
    assert [p["index"] for p in answer["predictions"]] == [0, 1]
    with pytest.raises(TuneoffError, match=r"gone\.csv"):
        executor.call("predict", {**payload, "file": str(tmp_path / "gone.csv")})


@pytest.mark.parametrize("gone", ["removed", "renamed"])
def test_a_folder_that_goes_ends_the_run_with_one_sentence(
    gone: str, executor: SharedExecutor, prepare: Prepare, faulty: str
) -> None:
    prepared = prepare({"majority": {}, **_faults("slow"), "head": {}})
    root = prepared.store.root

    def hear(told: Progress) -> None:
        prepared.told.append(told)
        if told.kind == "event" and told.trial.label == "slow" and (told.event or {}).get("phase") == "train":
            shutil.rmtree(root) if gone == "removed" else root.rename(root.with_name("elsewhere"))

    with (
        pytest.raises(StoreError, match="study was removed or renamed while this run wrote to it"),
        prepared.store.lock(),
    ):
        executor.run(prepared.store, prepared.trials, hear)
    assert ("started", "head") not in prepared.kinds()
    assert not root.exists()
    if gone == "renamed":
        kept = StudyStore.open(root.with_name("elsewhere"))
        assert [record.spec.label for record in kept.records()] == ["majority"]
