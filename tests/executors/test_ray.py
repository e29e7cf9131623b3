"""Trials as tasks of Ray: what is asked of nodes, and with real raylets on this machine of which some are killed."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from running_helpers import RAY_MISSING, Prepared, SharedExecutor, wait_until
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import ExecutorError
from tuneoff.executors import _ray_run
from tuneoff.executors._elsewhere import FollowedTrial
from tuneoff.executors._ray_run import Demand, RayOptions
from tuneoff.executors._ray_task import Inbox, Mirror, News, TrialFiles, run_trial
from tuneoff.executors.base import Progress
from tuneoff.executors.ray import RayExecutor
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import TrialStore
from tuneoff.store.transfer import receive, trial_files

pytest_plugins = ("running_fixtures",)

Prepare = Callable[..., Prepared]
GPU_NODE = {"CPU": 16.0, "GPU": 4.0, "memory": 1e11, "node:10.0.0.1": 1.0}
CPU_NODE = {"CPU": 8.0, "memory": 1e11}
HEAD = {"memory": 1e10}


def nodes(*offers: dict[str, float]) -> list[dict[str, Any]]:
    return [{"Resources": offer, "Alive": True} for offer in offers]


def test_it_says_what_to_install_where_ray_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExecutorError, match="Ray is not installed here") as caught:
        RayExecutor.create("auto", {})
    assert "pip install 'tuneoff[ray]'" in caught.value.hint


@pytest.mark.parametrize(
    ("offers", "options", "device", "devices", "demand"),
    [
        ((CPU_NODE, HEAD), {}, "auto", 1, "8 CPU"),
        ((CPU_NODE, {"CPU": 4.0}), {}, "cpu", 1, "4 CPU"),
        ((CPU_NODE, GPU_NODE), {}, "auto", 1, "4 CPU, 1 GPU"),
        ((GPU_NODE,), {}, "cuda", 2, "8 CPU, 2 GPU"),
        ((GPU_NODE,), {"cpus": 3, "resources": {"a100": 1}}, "auto", 1, "3 CPU, 1 GPU, 1 a100"),
        ((HEAD,), {}, "cpu", 1, "1 CPU"),
    ],
)
def test_every_trial_asks_for_equally_many_cores(
    offers: tuple[dict[str, float], ...], options: dict[str, Any], device: str, devices: int, demand: str
) -> None:
    assert str(Demand.of(nodes(*offers), RayOptions(**options), device, devices)) == demand


def test_a_node_that_is_smaller_than_a_trial_is_told() -> None:
    demand = Demand(4, 1, {"a100": 1.0})
    assert not demand.fits(GPU_NODE)
    assert demand.fits({**GPU_NODE, "a100": 2.0})
    assert not demand.fits({**CPU_NODE, "a100": 2.0})


def test_what_a_task_logs_is_seen_here_and_a_second_attempt_begins_anew(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = prepare(("full",), "there"), prepare(("full",), "here")
    (trial,) = here.trials
    source, one = there.store.trial(trial.id), FollowedTrial(here.store.trial(trial.id), trial)
    monkeypatch.setattr("tuneoff.executors._ray_task.MIRROR_SECONDS", 0.0)
    news: SimpleQueue[News] = SimpleQueue()
    inbox = Inbox(with_content=True)
    for attempt, steps in enumerate((2, 1)):
        source.events_path.unlink(missing_ok=True)
        mirror = Mirror(news.put, source, with_content=True)
        mirror.listen(Progress("started", trial))
        for step in range(steps):
            source.append_event({"kind": "step", "step": step})
            mirror.listen(Progress("event", trial))
        while not news.empty():
            inbox.take(one, news.get())
            one.follow(here.told.append)
        assert [event["step"] for event in one.store.events()[0]] == list(range(steps))
        assert one.store.attempts == attempt
    told = [(p.kind, p.event.get("step")) for p in here.told]
    assert told == [("started", None), ("event", 0), ("event", 1), ("event", 0)]


@pytest.mark.parametrize("name", ["../record.json", "record.json", "/tmp/log.txt", "trial.json"])
def test_a_task_adds_to_the_log_and_the_events_alone(prepare: Prepare, name: str) -> None:
    prepared = prepare(("full",))
    (trial,) = prepared.trials
    one = FollowedTrial(prepared.store.trial(trial.id), trial)
    before = sorted(prepared.store.root.rglob("*"))
    Inbox(with_content=True).take(one, News(trial.id, "1", name, 0, b"{}"))
    assert sorted(prepared.store.root.rglob("*")) == before


real = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason=RAY_MISSING)


class EndedTasks:
    """What an executor uses of the module `ray`, on a made-up node: tasks have ended with an answer, or never end.

    Args:
        answers: id of a trial -> what its task gives; without one it never ends.
    """

    def __init__(self, answers: Mapping[str, TrialFiles]) -> None:
        self.answers = answers
        self.cancelled: set[str] = set()

    def nodes(self) -> list[dict[str, Any]]:
        return nodes(CPU_NODE)

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "0" * 56)

    def remote(self, **_: Any) -> Any:
        submit = SimpleNamespace(remote=lambda spec, *_: TrialSpec.model_validate_json(spec).id)
        return lambda _: SimpleNamespace(options=lambda **_: submit)

    def wait(self, references: list[str], **_: Any) -> tuple[list[str], list[str]]:
        over = self.answers.keys() | self.cancelled
        return [one for one in references if one in over], [one for one in references if one not in over]

    def get(self, reference: str) -> TrialFiles:
        return self.answers[reference]

    def cancel(self, reference: str, force: bool) -> None:
        self.cancelled.add(reference)


@real
@pytest.mark.parametrize("moment", ["followed", "received", "ended"])
def test_an_interrupt_keeps_what_tasks_have_finished(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    there, here = prepare(("full", "head", "lora"), "there"), prepare(("full", "head", "lora"), "here")
    for trial in there.trials[:2]:
        there.store.trial(trial.id).write_record(TrialRecord(spec=trial, status=Status.COMPLETED))
    answers = {trial.id: TrialFiles("1", trial_files(there.store.trial(trial.id))) for trial in there.trials[:2]}
    last = here.trials[2]
    news = [News(last.id, "1", "log.txt", 0, b"it runs\n")]
    queue = SimpleNamespace(actor=None, qsize=lambda: 1, get_nowait_batch=lambda _: news)
    monkeypatch.setattr("ray.util.queue.Queue", lambda **_: queue)
    monkeypatch.setattr(RayExecutor, "_check", lambda *_: None)

    def interrupted(store: TrialStore, files: list[tuple[str, bytes]]) -> None:
        monkeypatch.setattr(_ray_run, "receive", receive)
        receive(store, files)
        raise KeyboardInterrupt

    def listen(progress: Progress) -> None:
        if progress.kind == {"followed": "started", "ended": "ended"}.get(moment):
            raise KeyboardInterrupt

    if moment == "received":
        monkeypatch.setattr(_ray_run, "receive", interrupted)
    executor = RayExecutor("cpu")
    monkeypatch.setattr(executor, "_ray", EndedTasks(answers))
    with pytest.raises(KeyboardInterrupt):
        executor.run(here.store, here.trials, listen)
    expected = [Status.COMPLETED, Status.COMPLETED, Status.CANCELLED]
    records = {record.spec.id: record.status for record in here.store.records()}
    assert [records[trial.id] for trial in here.trials] == expected


class ExhaustedTasks(EndedTasks):
    """The first try at each trial is ended by Ray for want of memory; `submitted` holds what was run."""

    def __init__(self, answers: Mapping[str, TrialFiles]) -> None:
        super().__init__(answers)
        self.submitted: list[TrialSpec] = []

    def remote(self, **_: Any) -> Any:
        def submit(spec: str, *_: Any) -> str:
            self.submitted.append(TrialSpec.model_validate_json(spec))
            return self.submitted[-1].id

        return lambda _: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=submit))

    def get(self, reference: str) -> TrialFiles:
        from ray.exceptions import OutOfMemoryError

        if len(self.submitted) == 1:
            raise OutOfMemoryError("the node is full")
        return super().get(reference)


@real
@pytest.mark.parametrize("asked", [True, False])
def test_a_task_that_ray_ends_for_want_of_memory_is_tried_again_with_half_the_micro_batch(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    execution = {"retry_out_of_memory": asked}
    there, here = (prepare(("full",), name, execution=execution) for name in ("there", "here"))
    (trial,) = here.trials
    smaller = trial.model_copy(update={"halved_batches": True})
    place = there.store.trial(trial.id)
    place.write_spec(smaller)
    place.write_record(TrialRecord(spec=smaller, status=Status.COMPLETED))
    queue = SimpleNamespace(actor=None, qsize=lambda: 0, get_nowait_batch=lambda _: [])
    monkeypatch.setattr("ray.util.queue.Queue", lambda **_: queue)
    monkeypatch.setattr(RayExecutor, "_check", lambda *_: None)
    executor, tasks = RayExecutor("cpu"), ExhaustedTasks({trial.id: TrialFiles("1", trial_files(place))})
    monkeypatch.setattr(executor, "_ray", tasks)
    executor.run(here.store, here.trials, here.told.append)
    assert tasks.submitted == ([trial, smaller] if asked else [trial])
    status = Status.COMPLETED if asked else Status.OUT_OF_MEMORY
    assert [record.status for record in here.store.records()] == [status]
    assert here.kinds()[-1] == ("ended", "full")


def test_a_task_leaves_the_second_try_to_the_run_that_asked_for_it(
    executor: SharedExecutor, prepare: Prepare, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the run knows which try Ray ends, and keeps what the first one left."""
    methods = {"exhausted": {"method": "faulty", "how": "batch_python"}}
    (trial,) = prepare(methods, execution={"retry_out_of_memory": True}, batch_size=16, max_steps=3).trials
    monkeypatch.setattr(executor, "tries_again", True)
    monkeypatch.setattr("tuneoff.executors._ray_task.LocalExecutor", lambda _: executor)
    queue = SimpleNamespace(put_nowait=SimpleNamespace(remote=lambda _: None))
    left = run_trial(trial.model_dump_json(), None, "cpu", 1, None, queue)
    assert left is not None
    record = json.loads(dict(left.files)["record.json"])
    assert (record["status"], record["spec"]["halved_batches"]) == ("out_of_memory", False)


# --- a real cluster

RUN = """
import json, os, sys
from pathlib import Path
from tuneoff.executors.ray import RayExecutor
from tuneoff.store import StudyStore

store = StudyStore(Path(sys.argv[1]))
trials = [store.trial(trial).spec() for trial in store.trial_ids()]
with RayExecutor.create("cpu", json.loads(sys.argv[2])) as executor:
    executor.run(store, trials, lambda progress: print(progress.kind, progress.trial.label, flush=True))
"""
MARK = "TUNEOFF_TEST_CLUSTER"


@pytest.fixture(scope="module")
def cluster(child_environment: dict[str, str]) -> Iterator[Any]:
    """A head without cores and a node with one core; tests add others. Whatever runs there is marked."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**child_environment, "RAY_USAGE_STATS_ENABLED": "0", MARK: "1"}.items():
            patch.setenv(name, value)
        small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        yield cluster
        cluster.shutdown()


Coordinate = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def coordinate(cluster: Any, child_environment: dict[str, str]) -> Iterator[Coordinate]:
    """Starts a run on the cluster; it is ended with the test."""
    started = []

    def start(prepared: Prepared, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", RUN, str(prepared.store.root), json.dumps(options)]
        environment = {**child_environment, "RAY_ADDRESS": cluster.address}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
    wait_until(lambda: not _trial_processes())


def _trial_processes() -> list[int]:
    """The processes of trials that the cluster runs."""
    found = []
    for process in psutil.process_iter():
        try:
            if "tuneoff.trial" in process.cmdline() and MARK in process.environ():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def _steps(prepared: Prepared) -> list[str]:
    """Labels of the arms that have been seen to train."""
    stores = {trial.label: prepared.store.trial(trial.id) for trial in prepared.trials}
    return [label for label, store in stores.items() if any(event.get("kind") == "step" for event in store.events()[0])]


def _hashes(prepared: Prepared) -> dict[str, Any]:
    return {r.spec.label: (r.status, r.metrics, r.predictions["test"].sha256) for r in prepared.store.records()}


def _locally(executor: SharedExecutor, prepared: Prepared) -> dict[str, Any]:
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    return _hashes(prepared)


@real
@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_a_study_outlives_a_node_and_gives_what_it_gives_here(
    cluster: Any, coordinate: Coordinate, prepare: Prepare, executor: SharedExecutor, shared: bool
) -> None:
    other = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    prepared = prepare(("full", "head", "majority"), epochs=240)
    process = coordinate(prepared, shared=shared)
    wait_until(lambda: len(_steps(prepared)) == 2, 120)
    cluster.remove_node(other, allow_graceful=False)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0
    assert [line for line in out.splitlines() if line.startswith("ended")] != []
    attempts = sum(prepared.store.trial(trial.id).attempts for trial in prepared.trials)
    assert attempts == 1, "the trial of the lost node began anew, and what it had logged is kept"
    assert _hashes(prepared) == _locally(executor, prepare(("full", "head", "majority"), "local", epochs=240))


@real
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_ends_leaves_no_trial_and_goes_on(
    coordinate: Coordinate, prepare: Prepare, executor: SharedExecutor, number: signal.Signals
) -> None:
    prepared = prepare(("full", "head"), epochs=60)
    process = coordinate(prepared)
    wait_until(lambda: _steps(prepared), 120)
    process.send_signal(number)
    process.communicate(timeout=120)
    wait_until(lambda: not _trial_processes())
    statuses = [record.status for record in prepared.store.records()]
    assert statuses == ([Status.CANCELLED] if number == signal.SIGINT else []), "what had not begun has no record"
    again = coordinate(prepared)
    again.communicate(timeout=240)
    assert _hashes(prepared) == _locally(executor, prepare(("full", "head"), "local", epochs=60))


@real
@pytest.mark.slow
def test_what_the_cluster_cannot_run_is_told_before_training(
    cluster: Any, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(("full",))
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    with (
        RayExecutor.create("cuda", {}) as executor,
        pytest.raises(ExecutorError, match="no node of the Ray cluster has what a trial needs: 1 CPU, 1 GPU") as caught,
    ):
        executor.run(prepared.store, prepared.trials, prepared.told.append)
    assert "1 CPU" in caught.value.hint
    assert not prepared.told


@real
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer_is_told(prepare: Prepare, address: str) -> None:
    prepared = prepare(("full",))
    with (
        RayExecutor.create("cpu", {"address": address}) as executor,
        pytest.raises(ExecutorError, match=f"the Ray cluster at {address} cannot be used: .*refused"),
    ):
        executor.run(prepared.store, prepared.trials, prepared.told.append)
