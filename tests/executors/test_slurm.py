"""Trials as jobs of SLURM: with commands that only keep a queue, and with a real cluster where there is one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from running_helpers import Prepared, SharedExecutor, wait_until
from slurm_helpers import slurm_environment, slurm_missing, start_slurm
from tuneoff.errors import ExecutorError
from tuneoff.executors import _slurm_queue, slurm
from tuneoff.executors._slurm_queue import JobArray, Queue
from tuneoff.executors.base import Progress
from tuneoff.executors.slurm import SlurmExecutor, SlurmOptions, TimeLimits
from tuneoff.records.forecast import ArmForecast, StudyForecast
from tuneoff.records.record import Status, TrialRecord

pytest_plugins = ("running_fixtures",)

Prepare = Callable[..., Prepared]
COMMANDS = {
    "sbatch": """
        [ -e "$QUEUE/broken" ] && { echo "sbatch: error: invalid partition specified: nowhere" >&2; exit 1; }
        number=$(( $(wc -l < "$QUEUE/submitted") + 1 ))
        script=$(cat); echo "$script" > "$QUEUE/script-$number"; env > "$QUEUE/environment-$number"
        name=$(sed -n "s/^#SBATCH --job-name=//p" <<< "$script")
        last=$(sed -n "s/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p" <<< "$script")
        echo "$name" >> "$QUEUE/submitted"
        if [ -z "$last" ]; then echo "$number $name" >> "$QUEUE/queue"
        else for element in $(seq 0 "$last"); do echo "${number}_$element $name" >> "$QUEUE/queue"; done; fi
        echo "$number"
    """,
    "squeue": 'cat "$QUEUE/queue"',
    "scancel": 'for number; do sed -i "/^$number /d" "$QUEUE/queue"; done',
    "scontrol": 'echo "MaxArraySize            = ${MOST:-1001}"',
    "sinfo": "",
}
"""Commands that keep a queue in a folder, and run nothing."""


def _command(cluster: Path, name: str, body: str) -> None:
    path = cluster / "bin" / name
    path.write_text("#!/bin/bash\n" + textwrap.dedent(body))
    path.chmod(0o755)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the `queue` of jobs, NUMBER NAME each, the names of those ever `submitted`, and their scripts."""
    folder = tmp_path / "cluster"
    (folder / "bin").mkdir(parents=True)
    for name, body in COMMANDS.items():
        _command(folder, name, body)
    for name in ("queue", "submitted"):
        (folder / name).touch()
    monkeypatch.setenv("QUEUE", str(folder))
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    for module in (slurm, _slurm_queue):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(slurm, "VISIBLE_SECONDS", 0.05)
    return folder


def _submitted(cluster: Path) -> list[list[str]]:
    """The trials of each submission."""
    count = len((cluster / "submitted").read_text().splitlines())
    scripts = [(cluster / f"script-{number + 1}").read_text() for number in range(count)]
    lines = [next(line for line in script.splitlines() if line.startswith("trials=(")) for script in scripts]
    return [line.removeprefix("trials=(").removesuffix(")").split() for line in lines]


def _script(executor: SlurmExecutor, prepared: Prepared, minutes: int | None = None, count: int = 1) -> list[str]:
    """The lines of the script of the first trials."""
    array = JobArray(tuple(prepared.trials[:count]), minutes)
    return executor.script(prepared.store, Queue(prepared.store), array).splitlines()


def _finish(cluster: Path, prepared: Prepared, *labels: str) -> Callable[[], None]:
    """Has the jobs of these arms end, with a record, as soon as they are in the queue."""

    def finish() -> None:
        for trial in prepared.trials:
            if trial.label in labels and prepared.store.trial(trial.id).record() is None:
                prepared.store.trial(trial.id).write_record(TrialRecord(spec=trial, status=Status.COMPLETED))
        (cluster / "queue").write_text("")

    return finish


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Does something while the coordinator sleeps."""

    def at_sleep(act: Callable[[], None]) -> None:
        monkeypatch.setattr("tuneoff.executors.slurm.time.sleep", lambda _: act())

    return at_sleep


def test_it_is_refused_where_slurm_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExecutorError, match=r"SLURM are not here \(sbatch, squeue, scancel\)") as caught:
        SlurmExecutor.create("auto", {})
    assert "--executor local" in caught.value.hint


def test_a_job_asks_for_what_the_options_say(prepare: Prepare) -> None:
    prepared = prepare({"full": {"devices": 2}})
    options: dict[str, Any] = {
        "partition": "gpu",
        "time": "2:00:00",
        "cpus": 4,
        "setup": ["module load cuda"],
        "requeue_seconds": 60,
        "sbatch": ["--nice=5"],
    }
    executor = SlurmExecutor("cuda", SlurmOptions.model_validate(options))
    lines = _script(executor, prepared)
    assert lines[0] == "#!/bin/bash"
    for flag in ("partition=gpu", "time=2:00:00", "cpus-per-task=4", "gpus=2", "nice=5", "signal=B:USR2@60"):
        assert f"#SBATCH --{flag}" in lines
    assert not any("account" in line for line in lines), "what is unset is the cluster's"
    assert not any("array" in line for line in lines), "one trial is a plain job"
    assert lines[-2] == "module load cuda"
    assert lines[-1].startswith(f"exec {sys.executable} -m tuneoff.executors._job ")
    contained = SlurmExecutor("cuda", SlurmOptions(python="apptainer exec --nv 'my image.sif' python"))
    last = _script(contained, prepared)[-1]
    assert last.startswith("exec apptainer exec --nv 'my image.sif' python -m tuneoff.executors._job ")


@pytest.mark.parametrize(
    ("partitions", "options", "repeats", "minutes"),
    [
        (None, {}, 0, 15),
        (None, {"time_margin": 6}, 0, 20),
        (None, {}, 2, 60),
        ("cpu* 1-00:00:00\nlow 12:00", {}, 0, 15),
        ("cpu* 12:00\nlow infinite", {}, 0, 12),
        ("cpu* 12:00\nlow infinite", {"partition": "low"}, 0, 15),
        (None, {"time": "90"}, 0, 90),
    ],
)
def test_a_job_has_the_time_that_the_forecast_expects_with_a_margin(
    cluster: Path, prepare: Prepare, partitions: str | None, options: dict[str, Any], repeats: int, minutes: int
) -> None:
    if partitions is not None:
        _command(cluster, "sinfo", f"printf '{partitions}\n'")
    prepared = prepare(("full", "head"))
    full, head = prepared.trials
    arm = ArmForecast(label="full", how="estimate", device="cpu", seconds={"load": 20.0, "train": 80.0})
    prepared.store.write_forecast(StudyForecast(arms={"full": arm}, total_seconds=None, disk_bytes=None))
    for number in range(repeats):
        (prepared.store.trial(full.id).folder / "attempts" / str(number + 1)).mkdir(parents=True)
    limits = TimeLimits(prepared.store, prepared.trials, SlurmOptions.model_validate(options)).minutes
    executor = SlurmExecutor("cpu", SlurmOptions.model_validate(options))
    assert f"#SBATCH --time={minutes}" in _script(executor, prepared, limits[full.id])
    assert head.id not in limits, "nothing is known of it: the cluster's default"


def test_a_repeated_trial_has_twice_the_time_from_its_first_repeat_on(
    cluster: Path, prepare: Prepare, ending: Callable[[Callable[[], None]], None]
) -> None:
    prepared = prepare(("full",))
    place = prepared.store.trial(prepared.trials[0].id)
    arm = ArmForecast(label="full", how="estimate", device="cpu", seconds={"load": 20.0, "train": 80.0})
    prepared.store.write_forecast(StudyForecast(arms={"full": arm}, total_seconds=None, disk_bytes=None))

    def end() -> None:
        place.log_path.write_text("it runs\n")
        (cluster / "queue").write_text("")

    ending(end)
    for _ in range(3):
        SlurmExecutor.create("cpu", {}).run(prepared.store, prepared.trials, prepared.told.append)
    scripts = [(cluster / f"script-{number}").read_text() for number in (1, 2, 3)]
    assert [minutes for script in scripts for minutes in re.findall("--time=(.*)", script)] == ["15", "30", "60"]


def test_a_job_that_is_submitted_from_a_job_reads_nothing_of_that_one(
    cluster: Path, prepare: Prepare, ending: Callable[[Callable[[], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sbatch` hands its own environment on to jobs."""
    prepared = prepare(("full",))
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_CPUS_PER_TASK", "SLURM_CONF"):
        monkeypatch.setenv(name, "3")
    ending(_finish(cluster, prepared, "full"))
    SlurmExecutor.create("cpu", {}).run(prepared.store, prepared.trials, prepared.told.append)
    environment = (cluster / "environment-1").read_text().splitlines()
    assert [line for line in environment if line.startswith("SLURM_")] == ["SLURM_CONF=3"]


class Killed(BaseException):
    """The coordinator is killed."""


def _kill() -> None:
    raise Killed


def test_trials_of_equal_resources_are_one_array_and_each_is_submitted_once_however_often_it_is_asked_for(
    cluster: Path, prepare: Prepare, ending: Callable[[Callable[[], None]], None]
) -> None:
    prepared = prepare(("full", "head"))
    ids = [trial.id for trial in prepared.trials]
    ending(_kill)
    with pytest.raises(Killed):
        SlurmExecutor.create("cpu", {}).run(prepared.store, prepared.trials, prepared.told.append)
    assert _submitted(cluster) == [ids]
    assert "#SBATCH --array=0-1" in (cluster / "script-1").read_text().splitlines()
    assert Queue(prepared.store).active() == {ids[0]: "1_0", ids[1]: "1_1"}
    ending(_finish(cluster, prepared, "full"))
    SlurmExecutor.create("cpu", {}).run(prepared.store, prepared.trials, prepared.told.append)
    assert len(_submitted(cluster)) == 1, "the jobs were found again"
    records = {record.spec.label: record for record in prepared.store.records()}
    assert (records["full"].status, records["head"].status) == (Status.COMPLETED, Status.FAILED)
    assert records["head"].cause == "its SLURM job ended without a result, as where a node fails or a job is killed"

    prepared.told.clear()
    ending(_finish(cluster, prepared, "head"))
    SlurmExecutor.create("cpu", {}).run(prepared.store, prepared.trials, prepared.told.append)
    assert prepared.kinds() == [("skipped", "full"), ("started", "head"), ("ended", "head")]
    assert _submitted(cluster) == [ids, ids[1:]]


def test_a_coordinator_that_is_killed_between_two_arrays_submits_the_second_alone(
    cluster: Path, prepare: Prepare, ending: Callable[[Callable[[], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare({"full": {}, "head": {"devices": 2}, "bitfit": {}})
    submit = Queue.submit

    def once(queue: Queue, *arguments: Any) -> None:
        submit(queue, *arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Queue, "submit", once)
        with pytest.raises(Killed):
            SlurmExecutor.create("cuda", {}).run(prepared.store, prepared.trials, prepared.told.append)
    ending(_kill)
    with pytest.raises(Killed):
        SlurmExecutor.create("cuda", {}).run(prepared.store, prepared.trials, prepared.told.append)
    full, head, bitfit = (trial.id for trial in prepared.trials)
    assert _submitted(cluster) == [[full, bitfit], [head]]
    assert "#SBATCH --gpus=2" in (cluster / "script-2").read_text().splitlines()


def test_an_array_runs_as_many_trials_at_once_as_asked_for_and_holds_as_many_as_slurm_takes(
    cluster: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(("full",), seeds=5)
    executor = SlurmExecutor("cpu", SlurmOptions(array_limit=2))
    assert "#SBATCH --array=0-4%2" in _script(executor, prepared, count=5)
    queue, longer = Queue(prepared.store), {trial.id: 20 for trial in prepared.trials[:2]}
    assert [len(array.trials) for array in queue.arrays(prepared.trials, {})] == [5]
    assert [(len(a.trials), a.minutes) for a in queue.arrays(prepared.trials, longer)] == [(2, 20), (3, None)]
    monkeypatch.setenv("MOST", "2")
    assert [len(array.trials) for array in queue.arrays(prepared.trials, {})] == [2, 2, 1]
    monkeypatch.setenv("MOST", "0")
    assert [len(array.trials) for array in queue.arrays(prepared.trials, {})] == [1] * 5, "no arrays on this cluster"


def test_jobs_of_other_studies_are_left_alone(cluster: Path, prepare: Prepare) -> None:
    one, other = prepare(("full",), "one"), prepare(("full",), "other")
    assert one.trials == other.trials
    array = JobArray(tuple(one.trials))
    assert Queue(one.store).name(array) != Queue(other.store).name(array)
    (cluster / "queue").write_text(f"7 {Queue(other.store).name(array)}\n8 some thing\n")
    assert Queue(one.store).active() == {}


@pytest.mark.parametrize("asked", [True, False])
def test_a_job_that_slurm_ends_for_want_of_memory_is_tried_again_with_half_the_micro_batch(
    cluster: Path, prepare: Prepare, ending: Callable[[Callable[[], None]], None], asked: bool
) -> None:
    prepared = prepare(("full",), execution={"retry_out_of_memory": asked})
    (trial,) = prepared.trials
    _command(cluster, "scontrol", "echo JobId=$3 JobName=x JobState=OUT_OF_MEMORY Reason=OutOfMemory")
    ending(_finish(cluster, prepared))
    SlurmExecutor.create("cpu", {}).run(prepared.store, prepared.trials, prepared.told.append)
    assert len(_submitted(cluster)) == (2 if asked else 1)
    (record,) = prepared.store.records()
    assert record.status is Status.OUT_OF_MEMORY
    assert record.cause == "SLURM ended its job: it took more memory than the job has"
    place = prepared.store.trial(trial.id)
    assert (record.spec.halved_batches, place.spec().halved_batches, place.attempts) == (asked, asked, int(asked))


@pytest.mark.parametrize("killed", [True, False])
def test_a_job_that_ends_in_its_second_try_is_sealed_as_that_and_not_tried_a_third_time(
    cluster: Path, prepare: Prepare, ending: Callable[[Callable[[], None]], None], killed: bool
) -> None:
    """The job itself makes the second try; then its memory runs out as a whole, or its node fails."""
    prepared = prepare(("full",), execution={"retry_out_of_memory": True})
    (trial,) = prepared.trials
    place = prepared.store.trial(trial.id)
    _command(cluster, "scontrol", f"echo JobId=$3 JobState={'OUT_OF_MEMORY' if killed else 'NODE_FAIL'}")

    def end() -> None:
        if place.record() is None:
            place.write_spec(trial.model_copy(update={"halved_batches": True}))
        (cluster / "queue").write_text("")

    ending(end)
    SlurmExecutor.create("cpu", {}).run(prepared.store, prepared.trials, prepared.told.append)
    assert len(_submitted(cluster)) == 1
    (record,) = prepared.store.records()
    assert record.status is (Status.OUT_OF_MEMORY if killed else Status.FAILED)
    assert record.spec.halved_batches, "it names the batches that were run"


def test_a_job_whose_trials_are_not_known_is_refused(cluster: Path, prepare: Prepare) -> None:
    prepared = prepare(("full",))
    name = Queue(prepared.store).name(JobArray(tuple(prepared.trials)))
    (cluster / "queue").write_text(f"7_0 {name}\n")
    with pytest.raises(ExecutorError, match=rf"job 7_0 .*{name}\.json is not there") as caught:
        SlurmExecutor.create("cpu", {}).run(prepared.store, prepared.trials, prepared.told.append)
    assert caught.value.hint == f"Cancel the job (scancel --name={name}), and run the same command again."
    assert _submitted(cluster) == []


def test_an_interrupt_cancels_the_jobs_that_wait_and_records_those_that_run(
    cluster: Path, prepare: Prepare, ending: Callable[[Callable[[], None]], None]
) -> None:
    prepared = prepare(("full", "head"))

    def listen(progress: Progress) -> None:
        raise KeyboardInterrupt

    def begin() -> None:
        prepared.store.trial(prepared.trials[0].id).log_path.write_text("running\n")

    ending(begin)
    with pytest.raises(KeyboardInterrupt):
        SlurmExecutor.create("cpu", {}).run(prepared.store, prepared.trials, listen)
    assert (cluster / "queue").read_text() == ""
    assert {record.spec.label: record.status for record in prepared.store.records()} == {"full": Status.CANCELLED}


def test_what_slurm_refuses_is_told_in_its_words(cluster: Path, prepare: Prepare) -> None:
    prepared = prepare(("full",))
    (cluster / "broken").touch()
    with pytest.raises(ExecutorError, match="sbatch failed: sbatch: error: invalid partition specified: nowhere"):
        SlurmExecutor.create("cpu", {}).run(prepared.store, prepared.trials, prepared.told.append)
    assert prepared.store.records() == []


# --- a real cluster

real = pytest.mark.skipif(bool(reason := slurm_missing()), reason=reason)
RUN = """
import sys
from pathlib import Path
from tuneoff.executors.slurm import SlurmExecutor
from tuneoff.store import StudyStore

store = StudyStore(Path(sys.argv[1]))
trials = [store.trial(trial).spec() for trial in store.trial_ids()]
with SlurmExecutor.create("cpu", {"partition": "low", "cpus": 1}) as executor:
    executor.run(store, trials, lambda progress: print(progress.kind, progress.trial.label, flush=True))
"""


def _coordinate(prepared: Prepared, environment: dict[str, str]) -> subprocess.Popen[str]:
    start_slurm()
    command = [sys.executable, "-c", RUN, str(prepared.store.root)]
    return subprocess.Popen(command, env={**environment, **slurm_environment()}, stdout=subprocess.PIPE, text=True)


def _jobs() -> list[str]:
    listed = subprocess.run(
        ["squeue", "--me", "--noheader", "--array", "--format=%i %T"], capture_output=True, text=True, check=True
    )
    return listed.stdout.splitlines()


def _local(executor: SharedExecutor, prepared: Prepared) -> dict[Any, Any]:
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    return _hashes(prepared)


def _hashes(prepared: Prepared) -> dict[Any, Any]:
    return {
        (r.spec.label, r.spec.seed): (r.status, r.metrics, r.predictions["test"].sha256)
        for r in prepared.store.records()
    }


@real
@pytest.mark.slow
def test_a_coordinator_that_is_killed_finds_its_jobs_again(
    prepare: Prepare, executor: SharedExecutor, child_environment: dict[str, str]
) -> None:
    prepared = prepare(("full", "head"), epochs=40)
    first = _coordinate(prepared, child_environment)
    wait_until(lambda: any("RUNNING" in job for job in _jobs()))
    first.kill()
    first.communicate()
    numbers = [job.split()[0] for job in _jobs()]
    second = _coordinate(prepared, child_environment)
    out, _ = second.communicate(timeout=240)
    assert second.returncode == 0
    assert out.split().count("ended") == 2
    assert len({number.partition("_")[0] for number in numbers}) == 1, "one array"
    assert len(list(prepared.store.job_folder.glob("*.json"))) == 1, "no trial was submitted twice"
    assert len(list(prepared.store.job_folder.glob("*.txt"))) == 2
    assert _hashes(prepared) == _local(executor, prepare(("full", "head"), "local", epochs=40))


@real
@pytest.mark.slow
def test_a_preempted_element_of_an_array_continues_and_gives_what_it_gives_here(
    prepare: Prepare, executor: SharedExecutor, child_environment: dict[str, str]
) -> None:
    prepared = prepare(("full",), epochs=60, seeds=2)
    process = _coordinate(prepared, child_environment)
    places = [prepared.store.trial(trial.id) for trial in prepared.trials]
    wait_until(lambda: all(any(event.get("kind") == "step" for event in place.events()[0]) for place in places))
    urgent = ["sbatch", "--partition=high", "--cpus-per-task=1", "--output=/dev/null", "--wrap=sleep 1"]
    subprocess.run(urgent, check=True, stdout=subprocess.DEVNULL)
    process.communicate(timeout=400)
    assert process.returncode == 0
    assert sorted(place.attempts for place in places) == [0, 1], "what the preempted job left is kept"
    records = [place.record() for place in places]
    assert [record and record.resumed for record in records] == [place.attempts for place in places]
    assert _hashes(prepared) == _local(executor, prepare(("full",), "local", epochs=60, seeds=2))


@real
@pytest.mark.slow
def test_a_job_that_somebody_cancels_is_recorded_and_the_others_go_on(
    prepare: Prepare, faulty: str, child_environment: dict[str, str]
) -> None:
    prepared = prepare({"slow": {"method": "faulty", "how": "slow"}, "head": {}})
    process = _coordinate(prepared, child_environment)
    log = prepared.store.trial(prepared.trials[0].id).log_path
    wait_until(lambda: log.exists() and "sleeping" in log.read_text())
    subprocess.run(["scancel", Queue(prepared.store).active()[prepared.trials[0].id]], check=True)
    process.communicate(timeout=240)
    statuses = {record.spec.label: record.status for record in prepared.store.records()}
    assert statuses == {"slow": Status.CANCELLED, "head": Status.COMPLETED}


@real
@pytest.mark.slow
def test_an_interrupted_coordinator_leaves_no_job(
    prepare: Prepare, faulty: str, child_environment: dict[str, str]
) -> None:
    slow = {"method": "faulty", "how": "slow"}
    prepared = prepare({"one": slow, "two": {**slow, "seconds": 601}, "three": {**slow, "seconds": 602}})
    process = _coordinate(prepared, child_environment)
    logs = [prepared.store.trial(trial.id).log_path for trial in prepared.trials]
    wait_until(lambda: any(log.exists() and "sleeping" in log.read_text() for log in logs))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert _jobs() == []
    statuses = {record.status for record in prepared.store.records()}
    assert statuses == {Status.CANCELLED}


@real
@pytest.mark.slow
def test_an_array_element_whose_time_is_nearly_over_goes_back_to_the_queue_alone_and_continues(
    prepare: Prepare, executor: SharedExecutor, child_environment: dict[str, str]
) -> None:
    """The last element of an array has the number of the whole, too."""
    prepared = prepare(("full",), epochs=60, seeds=2)
    process = _coordinate(prepared, child_environment)
    places = [prepared.store.trial(trial.id) for trial in prepared.trials]
    wait_until(lambda: all(any(event.get("kind") == "step" for event in place.events()[0]) for place in places))
    warned = Queue(prepared.store).active()[prepared.trials[-1].id]
    # As SLURM warns, to the shell's process alone.
    subprocess.run(["scancel", "--batch", "--signal=USR2", warned], check=True)
    process.communicate(timeout=400)
    assert process.returncode == 0
    records = [place.record() for place in places]
    assert [record and record.resumed for record in records] == [0, 1]
    assert [place.attempts for place in places] == [0, 1]
    assert _hashes(prepared) == _local(executor, prepare(("full",), "local", epochs=60, seeds=2))
