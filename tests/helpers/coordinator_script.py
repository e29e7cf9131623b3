"""Runs of a study whose trials train nothing, and what befalls them: killed, stopped, many at once, a full disk.

`python coordinator_script.py WHAT FOLDER SEED COUNT` prints as JSON how often it was tried and what was lost. The runs
are the real ones of `local`: only what a trial's process does is made up.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from record_helpers import make_record, predictions, small_study
from tuneoff.cli.live.follow import FolderFollower
from tuneoff.errors import CorruptRecord, TuneoffError
from tuneoff.executors._children import Child, Children
from tuneoff.executors.local import LocalExecutor
from tuneoff.planning.plan import plan
from tuneoff.records.record import Status
from tuneoff.store import StudyStore, TrialStore

STUDY = small_study("lora", "full", seeds=4)
TRIALS = plan(STUDY)
REFUSED, TOLD, CRASHED = 4, 3, 9
"""Exit codes of a run: the folder is another's, it ended with one clear error, it did not."""
WRITES = ("fsync", "link", "replace", "mkdir")
"""Functions of `os` that fail where a disk is full or a folder cannot be written."""


class ForkedTrials(Children):
    """Trials are forks of the run that write what a real trial writes, and end with the run."""

    def start(self, verb: str, payload: dict[str, Any], log: Path | None = None) -> Child:
        _, child = self._request(verb, payload, log)
        if (pid := os.fork()) == 0:
            _be_trial(TrialStore(Path(payload["folder"])), child.reply_path)
        child.began(pid)
        return child

    def wait(self, child: Child, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while child.exit is None:
            pid, status = os.waitpid(child.pid or 0, os.WNOHANG)
            if pid:
                child.exit = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                return False
            else:
                time.sleep(0.0005)
        return True

    def close(self) -> None:
        self.scratch.cleanup()


def _be_trial(store: TrialStore, reply: Path) -> None:
    """Writes what a trial writes, and ends this process."""
    if "LATE_TRIALS" not in os.environ:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    try:
        spec = store.spec()
        ran = os.open(store.folder.parents[2] / "ran.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(ran, f"{spec.id}\n".encode())
        for step in range(3):
            store.append_event({"kind": "step", "step": step})
        info = store.write_predictions("test", predictions(spec, 0.9, 20))
        store.write_record(make_record(spec, predictions={"test": info}))
    except TuneoffError as error:
        answer = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        with suppress(OSError):
            reply.write_text(json.dumps({"error": answer}), encoding="utf-8")
    finally:
        os._exit(0)


def run_once(root: Path, patience: float = 0.0) -> int:
    """Runs the study to its end; returns an exit code. Tries so many seconds where the folder is another's."""
    deadline = time.monotonic() + patience
    store = StudyStore(root)
    while True:
        try:
            with store.lock(), LocalExecutor("cpu", starter=ForkedTrials) as executor:
                store.set_aside_damage()
                StudyStore.create(root, STUDY, TRIALS)
                executor.run(store, TRIALS, lambda _: None)
            return 0
        except TuneoffError as error:
            if "another run" not in error.message:
                return TOLD
            if time.monotonic() > deadline:
                return REFUSED
        except BaseException:
            return CRASHED


def forked(act: Callable[[], int]) -> int:
    """Does something in a process group of its own; returns its number."""
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        code = CRASHED
        try:
            code = act()
        finally:
            os._exit(code)
    with suppress(OSError):
        os.setpgid(pid, pid)
    return pid


def ended(pid: int) -> int:
    """Waits for a process; returns its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Ledger:
    """What has been seen of a folder: a record that was whole once must stay as it is.

    Attributes:
        lost: records that were seen and are gone or changed.
        damaged: records or files of records that cannot be read as what they were written.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.lost, self.damaged = root, 0, 0
        self._seen: dict[str, bytes] = {}

    def check(self) -> bool:
        """Looks at every trial; tells whether all are finished."""
        finished = 0
        for trial in TRIALS:
            store = StudyStore(self.root).trial(trial.id)
            try:
                record = store.record()
                if record is not None:
                    store.verify(record)
            except CorruptRecord:
                self.damaged += 1
                continue
            content = store.record_path.read_bytes() if record is not None else b""
            if record is not None and record.status.finished:
                finished += 1
                self.lost += self._seen.setdefault(trial.id, content) != content
            else:
                self.lost += trial.id in self._seen
        return finished == len(TRIALS)

    def results(self) -> dict[str, Any]:
        """Returns trial -> what it gave, which is equal however often a run was disturbed."""
        records = StudyStore(self.root).records()
        return {record.spec.id: (record.metrics, record.predictions["test"].sha256) for record in records}


def expected(folder: Path) -> dict[str, Any]:
    """Returns what an undisturbed run gives."""
    assert run_once(folder / "undisturbed") == 0
    return Ledger(folder / "undisturbed").results()


def kills(folder: Path, draw: random.Random, count: int) -> dict[str, Any]:
    """Kills runs at any moment: some with their trial, some alone, some whose trial lives on for a while."""
    wanted = expected(folder)
    began = time.monotonic()
    assert run_once(folder / "timed") == 0
    whole = time.monotonic() - began
    totals: Counter[str] = Counter(tried=0, lost=0, damaged=0, studies=0, different=0, unended=0)
    while totals["tried"] < count:
        ledger = Ledger(folder / f"study-{totals['studies']}")
        while not ledger.check():
            if draw.random() < 0.3:
                os.environ["LATE_TRIALS"] = "1"
            else:
                os.environ.pop("LATE_TRIALS", None)
            pid = forked(partial(run_once, ledger.root))
            time.sleep(draw.uniform(0, whole / 3))
            with suppress(ProcessLookupError):
                os.kill(-pid if draw.random() < 0.5 else pid, signal.SIGKILL)
            totals["tried"] += ended(pid) == -signal.SIGKILL
            totals["unended"] += not _group_ends(pid)
        totals["lost"] += ledger.lost
        totals["damaged"] += ledger.damaged
        totals["different"] += ledger.results() != wanted
        totals["studies"] += 1
    return totals


def _group_ends(pid: int) -> bool:
    """Tells whether nothing is left of a process group after ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(pid, 0)
        except (ProcessLookupError, PermissionError):
            return True
        time.sleep(0.001)
    return False


def eight(folder: Path, draw: random.Random, count: int) -> dict[str, Any]:
    """Lets eight runs write to one folder, each waiting until it may."""
    wanted = expected(folder)
    totals: Counter[str] = Counter(tried=0, different=0, repeated=0, failed=0)
    for number in range(count):
        ledger = Ledger(folder / f"study-{number}")
        (folder / "ran.txt").unlink(missing_ok=True)
        pids = [forked(partial(run_once, ledger.root, patience=60)) for _ in range(8)]
        totals["failed"] += sum(ended(pid) != 0 for pid in pids)
        totals["repeated"] += len((folder / "ran.txt").read_text().split()) - len(TRIALS)
        totals["different"] += not ledger.check() or ledger.results() != wanted
        totals["tried"] += 1
    return totals


def stopped(folder: Path, draw: random.Random, count: int) -> dict[str, Any]:
    """Stops a run, lets another one try, and wakes the first late: the folder stays its own."""
    wanted = expected(folder)
    totals: Counter[str] = Counter(tried=0, different=0, repeated=0, not_refused=0, failed=0)
    while totals["tried"] < count:
        root = folder / f"study-{totals['tried']}-{draw.random()}"
        (folder / "ran.txt").unlink(missing_ok=True)
        first = forked(partial(run_once, root))
        time.sleep(draw.uniform(0.01, 0.1))
        with suppress(ProcessLookupError):
            os.kill(first, signal.SIGSTOP)
        if not StudyStore(root).running_since():
            # It had not begun yet, or was over.
            os.kill(first, signal.SIGCONT)
            ended(first)
            continue
        totals["not_refused"] += ended(forked(partial(run_once, root))) != REFUSED
        time.sleep(0.2)
        os.kill(first, signal.SIGCONT)
        totals["failed"] += ended(first) != 0
        totals["repeated"] += len((folder / "ran.txt").read_text().split()) - len(TRIALS)
        ledger = Ledger(root)
        totals["different"] += not ledger.check() or ledger.results() != wanted
        totals["tried"] += 1
    return totals


def _moved(real: Callable[[], float], shift: float) -> float:
    """Returns the time of a clock that is wrong."""
    return real() + shift


def clock(folder: Path, draw: random.Random, count: int) -> dict[str, Any]:
    """Moves the clock, and the times of files, while a study runs in several pieces and is watched."""
    wanted = expected(folder)
    totals: Counter[str] = Counter(tried=0, different=0, unseen=0, failed=0)
    real = time.time
    for number in range(count):
        ledger = Ledger(folder / f"study-{number}")
        for _ in range(3):
            shift = draw.choice((-1, 1)) * draw.uniform(1, 10 * 365 * 86400)
            time.time = partial(_moved, real, shift)
            pid = forked(partial(run_once, ledger.root))
            time.sleep(draw.uniform(0, 0.05))
            os.kill(pid, signal.SIGKILL)
            ended(pid)
            for path in [path for path in ledger.root.rglob("*") if path.is_file()]:
                os.utime(path, (real() - shift, real() - shift))
        totals["failed"] += ended(forked(partial(run_once, ledger.root))) != 0
        state = FolderFollower(StudyStore(ledger.root)).poll()
        totals["unseen"] += state is None or not state.is_over
        totals["different"] += not ledger.check() or ledger.results() != wanted
        totals["tried"] += 1
    return totals


@contextmanager
def failing_writes(after: int, number: int) -> Iterator[Callable[[], int]]:
    """Lets every write fail after so many; yields a function that tells how many there were."""
    count = 0
    originals = {name: getattr(os, name) for name in WRITES}
    mkstemp = tempfile.mkstemp

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            nonlocal count
            count += 1
            if count > after:
                raise OSError(number, os.strerror(number))
            return original(*arguments, **keywords)

        return call

    for name, original in originals.items():
        setattr(os, name, wrapped(original))
    tempfile.mkstemp = wrapped(mkstemp)
    try:
        yield lambda: count
    finally:
        for name, original in originals.items():
            setattr(os, name, original)
        tempfile.mkstemp = mkstemp


def _run_failing(root: Path, after: int, number: int) -> int:
    with failing_writes(after, number):
        return run_once(root)


def disk(folder: Path, draw: random.Random, count: int) -> dict[str, Any]:
    """Lets the disk fill up, or the folder become read-only, at points spread over a whole run; then runs it again."""
    wanted = expected(folder)
    totals: Counter[str] = Counter(tried=0, lost=0, damaged=0, different=0, crashed=0, unharmed=0)
    with failing_writes(10**9, errno.ENOSPC) as written:
        assert run_once(folder / "counted") == 0
        points = written()
    for number in range(count):
        ledger = Ledger(folder / f"study-{number}")
        point = number * points // count

        code = ended(forked(partial(_run_failing, ledger.root, point, (errno.ENOSPC, errno.EROFS)[number % 2])))
        totals["unharmed"] += code == 0 and all(r.status is Status.COMPLETED for r in StudyStore(ledger.root).records())
        totals["crashed"] += code not in (0, TOLD)
        if StudyStore(ledger.root).is_there:
            ledger.check()
        again = ended(forked(partial(run_once, ledger.root)))
        totals["crashed"] += again != 0
        totals["different"] += not ledger.check() or ledger.results() != wanted
        totals["lost"] += ledger.lost
        totals["damaged"] += ledger.damaged
        totals["tried"] += 1
    return totals


if __name__ == "__main__":
    what, root, seed, times = sys.argv[1:]
    place = Path(root)
    place.mkdir(parents=True, exist_ok=True)
    try:
        print(json.dumps(globals()[what](place, random.Random(int(seed)), int(times))))
    finally:
        shutil.rmtree(place, ignore_errors=True)
