"""Child processes on this machine: forked from a warm parent where the system allows, started afresh elsewhere."""

from __future__ import annotations

import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuneoff.checksums import remembered
from tuneoff.errors import ExecutorError, Problem, StudyError, TuneoffError, by_name

CLOSE_SECONDS = 8.0
"""How long a warm parent may take to end its children and itself."""


class Child:
    """One running request.

    Attributes:
        pid: id of its process, once known.
        exit: its exit status once it ended; negative for the signal that killed it.
    """

    def __init__(self, reply: Path) -> None:
        self.reply_path = reply
        self.pid: int | None = None
        self.exit: int | None = None
        self._owed: int | None = None

    def signal(self, number: int) -> None:
        """Sends a signal if the process still runs; one that has not begun gets it when it begins."""
        if self.pid is None:
            self._owed = number
        elif self.exit is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self) -> None:
        """Asks the process to end; continues one that is stopped (SIGSTOP), so that it can handle the request."""
        self.signal(signal.SIGTERM)
        if self.pid is not None and hasattr(signal, "SIGCONT"):
            self.signal(signal.SIGCONT)

    def began(self, pid: int) -> None:
        """Notes that the child's process runs."""
        self.pid = pid
        if self._owed is not None:
            self.signal(self._owed)

    def reply(self) -> dict[str, Any] | None:
        """Returns the child's answer; None if it died without one."""
        try:
            answer: dict[str, Any] = json.loads(self.reply_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return answer


class Children(ABC):
    """Starts children. Closing it ends them all.

    Args:
        environment: of the children, besides this process's own.

    Raises:
        ExecutorError: if there is no room for their scratch folder.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        try:
            self.scratch = tempfile.TemporaryDirectory(prefix="tuneoff-")
        except OSError as error:
            raise ExecutorError(
                f"cannot make a folder for what is temporary: {error.strerror or error}",
                hint=f"Free some space in {tempfile.gettempdir()}, or name another folder in TMPDIR.",
            ) from None
        # Unfinished files of a child that is killed are deleted with the scratch folder.
        self.environment = {**os.environ, **environment, "TMPDIR": self.scratch.name}
        self._numbers = itertools.count()

    def _request(self, verb: str, payload: dict[str, Any], log: Path | None) -> tuple[dict[str, Any], Child]:
        number = next(self._numbers)
        child = Child(Path(self.scratch.name) / f"{number}.json")
        request = {"id": number, "verb": verb, "payload": payload, "reply": str(child.reply_path)}
        # A warm parent may have started in another folder than the one that relative paths start from now.
        context = {"folder": os.getcwd(), "asker": os.getpid()}
        return {**request, **context, "log": str(log.absolute()) if log else os.devnull}, child

    @abstractmethod
    def start(self, verb: str, payload: dict[str, Any], log: Path | None = None) -> Child:
        """Starts a child. Everything it prints goes to `log`."""

    @abstractmethod
    def wait(self, child: Child, seconds: float) -> bool:
        """Waits at most `seconds`; returns True once the child has ended.

        Raises:
            ExecutorError: if children cannot be waited for any more.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends every child."""

    def wake(self) -> None:
        """Lets a warm parent continue that is stopped (SIGSTOP)."""
        return

    def preload(self, modules: list[str]) -> None:
        """Sends a warm parent the modules that its next children will need; does nothing where there is no warm
        parent."""
        return


class WarmParent(Children):
    """A process that imports the libraries once and forks a child per request."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__(environment)
        self._errors = Path(self.scratch.name) / "parent.log"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tuneoff.trial", "serve", self.scratch.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self.environment,
                start_new_session=True,
            )
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._children: dict[int, Child] = {}
        self._ready = threading.Event()
        self._has_told_checksums = False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with suppress(ValueError):
                message = json.loads(line)
                if "ready" in message:
                    self._ready.set()
                else:
                    self._messages.put(message)
        self._messages.put(None)

    def start(self, verb: str, payload: dict[str, Any], log: Path | None = None) -> Child:
        if not self._has_told_checksums:
            # Those of the study's sources: no child needs to read them whole for that again.
            self._has_told_checksums = True
            self._send({"verb": "remember", "payload": {"checksums": remembered()}})
        request, child = self._request(verb, payload, log)
        self._children[request["id"]] = child
        self._send(request)
        return child

    def preload(self, modules: list[str]) -> None:
        self._send({"verb": "preload", "payload": {"modules": modules}})

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._dead() from None

    def wait(self, child: Child, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while child.exit is None and (remaining := deadline - time.monotonic()) > 0:
            try:
                message = self._messages.get(timeout=remaining)
            except queue.Empty:
                break
            if message is None:
                raise self._dead()
            self._note(message)
        return child.exit is not None

    def _note(self, message: dict[str, Any]) -> None:
        if "pid" in message:
            self._children[message["id"]].began(message["pid"])
        else:
            self._children.pop(message["id"]).exit = message["exit"]

    def _dead(self) -> ExecutorError:
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            status = None
        if status is not None and status < 0:
            return ExecutorError(
                f"the process that starts trials was killed by {signal.Signals(-status).name}",
                hint="Run the same command again: finished trials are kept.",
            )
        reason = last_line(self._errors) or f"exit status {status}"
        return ExecutorError(
            f"the process that starts trials died: {reason}", hint="`tuneoff doctor` shows what is installed."
        )

    def wake(self) -> None:
        if hasattr(signal, "SIGCONT") and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        if not self._ready.is_set():
            # It would continue to import for seconds before it noticed that its input is closed.
            self._process.terminate()
        self.wake()
        try:
            self._process.wait(timeout=CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self.scratch.cleanup()


class Spawner(Children):
    """Starts a fresh interpreter for every request; for systems without fork, and for CUDA-initialised parents."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__(environment)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, verb: str, payload: dict[str, Any], log: Path | None = None) -> Child:
        request, child = self._request(verb, payload, log)
        process = subprocess.Popen(
            [sys.executable, "-m", "tuneoff.trial", "once"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment,
            start_new_session=True,
        )
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.write(json.dumps(request).encode())
            process.stdin.close()
        child.began(process.pid)
        self._processes[id(child)] = process
        return child

    def wait(self, child: Child, seconds: float) -> bool:
        if child.exit is None:
            with suppress(subprocess.TimeoutExpired):
                child.exit = self._processes[id(child)].wait(timeout=seconds)
        return child.exit is not None

    def close(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                if hasattr(signal, "SIGCONT"):
                    process.send_signal(signal.SIGCONT)
        for process in self._processes.values():
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.scratch.cleanup()


def last_line(path: Path) -> str:
    """Returns the last line of a log that is not empty, or an empty string."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def rebuild_error(description: dict[str, Any]) -> TuneoffError:
    """Rebuilds a child's error with its class; one that tuneoff did not raise becomes a `TuneoffError`."""
    if description["type"] == "StudyError":
        return StudyError([Problem(*problem) for problem in description["problems"]], hint=description["hint"])
    return by_name(description["type"])(description["message"], description["hint"])
