"""The run's side of its trackers: one process for each, which gets messages; a running trial never waits for it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tuneoff import registry
from tuneoff.encoding import visible
from tuneoff.errors import StoreError, StudyError
from tuneoff.store import StudyStore

if TYPE_CHECKING:
    from pathlib import Path

    from tuneoff.executors.base import Listener, Progress

START_SECONDS = 60.0
"""How long trackers may take to start, before anything is trained."""
STALL_SECONDS = 60.0
"""A tracker that answers nothing for so long hangs."""
SETTLE_SECONDS = 5.0
"""How long the next trial waits for trackers to close the last one's run, so that they do not disturb its timing."""
FINISH_SECONDS = 20.0
"""How long trackers may take to finish at the end of a run."""
HASTY_SECONDS = 4.0
"""The same where the run was interrupted."""
QUIET_SECONDS = 1.0
"""Waits longer than this are announced."""
WAITING = 1000
"""Messages that may wait for a tracker that is slow."""
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


class Outlet:
    """One tracker's process.

    Attributes:
        name: of the tracker.
        reason: why it was given up; empty while it follows.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.reason = ""
        self._sent = self._done = 0
        self._moved = time.monotonic()
        self._ending = False
        self._news = threading.Condition()
        self._lines: queue.Queue[bytes | None] = queue.Queue(WAITING)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tuneoff.trackers", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **ENVIRONMENT},
            start_new_session=True,
        )
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._write, self._read)]
        for thread in self._threads:
            thread.start()
        self.tell("ready")

    def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        # A process that has ended is noticed by the reader.
        with suppress(OSError):
            while (line := self._lines.get()) is not None:
                pipe.write(line)
                pipe.flush()
        with suppress(OSError):
            pipe.close()

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        for line in pipe:
            with suppress(ValueError), self._news:
                answer = json.loads(line)
                self._moved = time.monotonic()
                self._done = answer.get("done", self._done)
                self.reason = self.reason or answer.get("failed", "")
                self._news.notify_all()
        pipe.close()
        status = self._process.wait()
        with self._news:
            if not (self.reason or self._ending):
                self.reason = f"its process ended ({_ending(status)})"
            self._news.notify_all()

    @property
    def done(self) -> int:
        """Returns the number of the newest message that the tracker took in."""
        return self._done

    def tell(self, do: str, **more: Any) -> int:
        """Sends a message; never waits. Returns the message's number, or 0 for a tracker that was given up."""
        if self.reason or self._hangs():
            return 0
        with self._news:
            if self._done == self._sent:
                self._moved = time.monotonic()
            self._sent += 1
            number = self._sent
        try:
            self._lines.put_nowait(json.dumps({"n": number, "do": do, **more}).encode() + b"\n")
        except queue.Full:
            self.give_up(f"it did not keep up: {WAITING} messages were waiting")
            return 0
        return number

    def _hangs(self) -> bool:
        if self._done < self._sent and time.monotonic() - self._moved > STALL_SECONDS:
            self.give_up(f"it gave no answer for {STALL_SECONDS:g} s")
        return bool(self.reason)

    def wait(self, seconds: float) -> bool:
        """Waits at most `seconds` until the tracker took in all messages. Returns False if it did not, or was given
        up."""
        deadline = time.monotonic() + seconds
        with self._news:
            while not self.reason and self._done < self._sent:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                self._news.wait(remaining)
        return not self.reason

    def give_up(self, reason: str) -> None:
        """Ends its process and says why."""
        with self._news:
            self.reason = self.reason or reason
        self._kill()

    def _kill(self) -> None:
        if self._process.poll() is not None:
            return
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def close(self, seconds: float) -> None:
        """Ends the process, which gets `seconds` to end by itself."""
        self._ending = True
        with suppress(queue.Full):
            self._lines.put_nowait(None)
        try:
            self._process.wait(timeout=0 if self.reason else max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self._kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(timeout=5)


def _ending(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _say(line: str) -> None:
    with suppress(OSError, ValueError):
        print(visible(line), file=sys.stderr, flush=True)


class Outlets:
    """The trackers of one run. Use as a context manager: leaving it gives them a bounded time to finish.

    Args:
        names: of the trackers; none is the rule, and then nothing is done.
        say: shows one line to the person who started the run.

    Raises:
        StudyError: for a name that is none, or a tracker that is not installed.
    """

    def __init__(self, names: Iterable[str], say: Callable[[str], None] = _say) -> None:
        self.names = tuple(dict.fromkeys(names))
        self.say = say
        self._outlets: list[Outlet] = []
        self._store: StudyStore | None = None
        self._key = ""
        self._took: dict[str, dict[str, int]] = {}
        self._ended: dict[str, list[tuple[int, str, int]]] = {name: [] for name in self.names}
        self._running: set[str] = set()
        self._reported: set[str] = set()
        _refuse_missing(self.names)

    def __enter__(self) -> Self:
        # Started long before they are needed: they import while the data is looked at, not while a trial is timed.
        self._outlets = [Outlet(name) for name in self.names]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish(HASTY_SECONDS if kind is KeyboardInterrupt else FINISH_SECONDS)

    @property
    def following(self) -> list[Outlet]:
        """Returns the trackers that were not given up."""
        return [outlet for outlet in self._outlets if not outlet.reason]

    def open(self, store: StudyStore) -> None:
        """Opens the trackers for a study whose folder is there, and waits until they have started; does so once."""
        if self._store is not None or not self._outlets:
            return
        self._store = store
        self._key, self._took = store.trackers.followed()
        for outlet in self.following:
            outlet.tell("start", study=str(store.root.resolve()), key=self._key)
        for outlet in self._wait_for(self.following, START_SECONDS):
            outlet.give_up(f"it did not start within {START_SECONDS:g} s")
        self._report_failures()
        # Written now, so that runs are continued even if this one is killed.
        self._write_states("following")

    def follow(self, listener: Listener) -> Listener:
        """Returns a listener that calls the given one and then tells the trackers."""
        if not self.names:
            return listener

        def tell_both(progress: Progress) -> None:
            listener(progress)
            self._pass_on(progress)

        return tell_both

    def _pass_on(self, progress: Progress) -> None:
        if self._store is None:
            return
        trial = progress.trial.id
        if progress.kind == "started":
            self._running.add(trial)
            self._keep_failures([trial])
        elif progress.kind == "ended":
            self._running.discard(trial)
        kind = "replay" if progress.kind == "skipped" else progress.kind
        content = {"event": progress.event} if progress.kind == "event" else {}
        attempt = self._store.trial(trial).attempts + 1 if progress.record else 0
        for outlet in self.following:
            if kind == "replay" and self._took.get(outlet.name, {}).get(trial) == attempt:
                continue
            number = outlet.tell(kind, trial=trial, **content)
            if number and attempt:
                self._ended[outlet.name].append((number, trial, attempt))
        if kind in ("ended", "replay"):
            self._wait_for(self.following, SETTLE_SECONDS)
            self._write_states("following")
        self._report_failures()

    def artifacts(self, write: Callable[[], Path]) -> None:
        """Hands over the report that `write` writes. A report that cannot be written is left to the next caller to
        report."""
        if not self.following:
            return
        try:
            page = write()
        except Exception as error:
            self.say(f"the trackers get no report: {error}")
            return
        for outlet in self.following:
            outlet.tell("artifacts", folder=str(page.parent.resolve()))

    def _wait_for(self, outlets: list[Outlet], seconds: float) -> list[Outlet]:
        """Waits for several trackers, at most `seconds` for all together. Returns those that were not done by then."""
        deadline = time.monotonic() + seconds
        return [outlet for outlet in outlets if not outlet.wait(deadline - time.monotonic()) and not outlet.reason]

    def _report_failures(self) -> None:
        """Reports trackers given up since the last call: to the person, in the running trials' folders and in the
        study's folder."""
        failed_outlets = [outlet for outlet in self._outlets if outlet.reason and outlet.name not in self._reported]
        for outlet in failed_outlets:
            self._reported.add(outlet.name)
            self.say(f"note: tracker {outlet.name} was given up: {outlet.reason}; the study goes on without it")
        if failed_outlets:
            self._keep_failures(self._running)
            self._write_states("following")

    def _keep_failures(self, trials: Iterable[str]) -> None:
        """Writes into the folders of trials which trackers were given up, so that their records name them."""
        failures = {outlet.name: outlet.reason for outlet in self._outlets if outlet.reason}
        if self._store is not None and failures:
            for trial in trials:
                self._store.trial(trial).write_tracker_failures(failures)

    def _write_states(self, state: str) -> None:
        if self._store is None:
            return
        states = {}
        for outlet in self._outlets:
            attempts = {trial: attempt for number, trial, attempt in self._ended[outlet.name] if number <= outlet.done}
            states[outlet.name] = {
                "state": "failed" if outlet.reason else state,
                "reason": outlet.reason or None,
                "trials": self._took.get(outlet.name, {}) | attempts,
            }
        try:
            self._store.trackers.write(self._key, states)
        except StoreError as error:
            self.say(f"note: {error.message}")

    def _finish(self, seconds: float) -> None:
        """Gives the trackers their last `seconds`, ends their processes and writes down what became of them."""
        try:
            if self._store is not None:
                for outlet in self.following:
                    outlet.tell("finish")
                self._wait_for_the_end(seconds)
        except KeyboardInterrupt:
            for outlet in self.following:
                outlet.give_up("it was interrupted while it finished")
            raise
        finally:
            for outlet in self._outlets:
                outlet.close(QUIET_SECONDS if self._store is not None else 0)
            self._report_failures()
            self._write_states("finished")

    def _wait_for_the_end(self, seconds: float) -> None:
        late_outlets = self._wait_for(self.following, QUIET_SECONDS)
        if late_outlets:
            names = ", ".join(outlet.name for outlet in late_outlets)
            self.say(f"waiting at most {seconds:g} s for trackers to finish: {names}")
        for outlet in self._wait_for(late_outlets, seconds - QUIET_SECONDS):
            outlet.give_up(f"it did not finish within {seconds:g} s")


def _refuse_missing(names: Iterable[str]) -> None:
    missing_modules = {name: registry.trackers()[name].lacks() for name in names}
    missing_modules = {name: modules for name, modules in missing_modules.items() if modules}
    if missing_modules:
        missing = "; ".join(f"{name} needs {', '.join(modules)}" for name, modules in missing_modules.items())
        extras = " ".join(registry.trackers()[name].extra for name in missing_modules)
        raise StudyError(
            f"trackers that are not installed: {missing}",
            hint=f"pip install {extras}" if extras.strip() else "Install the package that it comes with.",
        )
