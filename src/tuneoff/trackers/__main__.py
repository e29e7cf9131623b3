"""A tracker's process: `python -m tuneoff.trackers NAME`, started by a run (see `process`).

Messages come on standard input, a line of JSON each: what `_follower.Message` says, and its number `n`. Each is
answered on standard output by {"done": n}; the first failure by {"failed": why}, which ends the process. It ends too,
after writing down what it has, when the run that started it goes away.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import IO, Any, NoReturn

from tuneoff.errors import TuneoffError
from tuneoff.store import StudyStore
from tuneoff.trackers._follower import Message, TrackerFollower, send_output_to

NICENESS = 10
"""Trials come first where the processor is short."""
FINISH_SECONDS = 20.0
"""How long it may go on without the run that started it."""


def main() -> None:
    """Follows a run with the tracker named by the one argument."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tuneoff.trackers NAME (started by tuneoff itself)")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inbox, out = _take_over_pipes()
    messages: queue.Queue[Message | None] = queue.Queue()
    threading.Thread(target=_read, args=(inbox, messages), daemon=True).start()
    _follow(sys.argv[1], messages, out)


def _take_over_pipes() -> tuple[IO[str], IO[str]]:
    """Returns the pipes to the run. The tracker gets an empty input, so that nothing can ask, and its output goes
    nowhere."""
    inbox = os.fdopen(os.dup(0), "r", encoding="utf-8")
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    devnull = os.open(os.devnull, os.O_RDWR)
    os.dup2(devnull, 0)
    os.dup2(devnull, 1)
    os.close(devnull)
    return inbox, out


def _read(inbox: IO[str], messages: queue.Queue[Message | None]) -> None:
    for line in inbox:
        # The last one may be torn, where the run was killed.
        with contextlib.suppress(ValueError):
            messages.put(json.loads(line))
    messages.put(None)
    # The tracker may hang; nothing may be left behind.
    timer = threading.Timer(FINISH_SECONDS, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _follow(name: str, messages: queue.Queue[Message | None], out: IO[str]) -> None:
    finished = False
    try:
        follower = TrackerFollower(name)
        while (message := messages.get()) is not None:
            if message["do"] == "start":
                send_output_to(StudyStore(message["study"]).trackers.folder(name) / "log.txt")
            follower.take(message)
            if message["do"] == "start":
                _lower_priority()
            finished = message["do"] == "finish"
            _send(out, {"done": message["n"]})
        if not finished:
            follower.finish()
    except BaseException as error:  # a tracker may well raise SystemExit
        traceback.print_exc()
        _send(out, {"failed": _describe(error)})
        _exit_now()


def _lower_priority() -> None:
    """Lowers the priority of this process, so that trials get the processor. Called after the start, which runs wait
    for."""
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(NICENESS)


def _describe(error: BaseException) -> str:
    if isinstance(error, TuneoffError):
        return error.message
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _send(out: IO[str], message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        out.write(json.dumps(message) + "\n")


def _exit_now() -> NoReturn:
    """Ends the process at once: it waits neither for threads of a broken tracker nor for its exit handlers."""
    sys.stderr.flush()
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        # Processes that it started are in its group.
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
