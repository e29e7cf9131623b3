"""The child process. It has three modes:

- `python -m tuneoff.trial once`: one request on standard input, as JSON; then it ends. Works everywhere.
- `python -m tuneoff.trial serve SCRATCH`: a warm parent. It imports the heavy libraries once and forks a child for
  every request, so that a trial starts in a fraction of a second, in a process of its own. Where there is `fork`. In
  the end it removes the folder SCRATCH.
- `python -m tuneoff.trial rank`: one of several processes of a trial, started by torchrun (see `launcher`).

A request is {"id", "verb", "payload", "reply", "log", "folder", "asker"}: the child goes to the folder, writes its
answer to the file `reply` and everything it prints to the file `log`, and dies with the process `asker` (or with the
warm parent). The warm parent writes to standard output, a JSON line each, that it is {"ready"}, that a child
{"id", "pid"} started and that it {"id", "exit"} ended; a negative exit is the signal that killed it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import sys
from typing import Any, TextIO

from tuneoff.checksums import remember
from tuneoff.methods._peft_import import import_peft
from tuneoff.trial.parentage import die_with

WARM = (
    "torch",
    "torch.optim",
    "transformers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "peft",
    "tuneoff.trial.export",
    "tuneoff.trial.requests",
    "tuneoff.trial.inspection",
    "tuneoff.trial.inference",
    "tuneoff.trial.run",
)
GRACE_SECONDS = 5.0


KEPT_KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32", "LRU_CACHE_CAPACITY": "16"}
"""Kernels that oneDNN, and PyTorch's own cache in front of it, keep on a CPU. In bf16 there are some for every width of
a batch, each of half a MiB, and both would keep 1,024 of them: batches of like length come in many widths, and that
took a tenth more memory for a twentieth less time (docs/speed.md)."""


def main() -> None:
    """Runs the mode that the first argument names."""
    os.environ |= {name: value for name, value in KEPT_KERNELS.items() if name not in os.environ}
    if sys.argv[1:2] == ["serve"]:
        serve()
        # The asker may have been killed before it could remove them.
        for scratch in sys.argv[2:]:
            shutil.rmtree(scratch, ignore_errors=True)
        # Its children have ended, and nothing is left to flush. Taking the libraries down would take over a second.
        os._exit(0)
    elif sys.argv[1:] == ["once"]:
        request = json.loads(sys.stdin.read())
        die_with(request["asker"])
        sys.exit(_child(request))
    elif sys.argv[1:] == ["rank"]:
        from tuneoff.trial.launcher import request_of

        request = request_of(int(os.environ["RANK"]))
        die_with(request["asker"])
        # Without cleaning up: that would wait for collectives begun with a rank that has ended.
        os._exit(_child(request))
    else:
        sys.exit("usage: python -m tuneoff.trial once|serve SCRATCH|rank (started by tuneoff itself)")


def serve() -> None:
    """Forks a child per request until standard input ends; then ends what still runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    for name in WARM:
        _import(name)
    _tell(out, {"ready": os.getpid()})
    running: dict[int, Any] = {}
    pending = b""
    while True:
        readable, _, _ = select.select([0], [], [], 0.02 if running else None)
        if readable:
            data = os.read(0, 1 << 16)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                _serve_one(json.loads(line), out, running)
        _reap(out, running)
    _end(running)


def _import(name: str) -> None:
    """Imports a module before any fork, unless that would start CUDA: a forked child could not use it then.

    PEFT may have bitsandbytes imported, which asks the GPU for its capability at once.
    """
    import torch

    if name.partition(".")[0] == "peft":
        if torch.version.cuda is not None:
            return
        import_peft()
    importlib.import_module(name)


def _serve_one(request: dict[str, Any], out: TextIO, running: dict[int, Any]) -> None:
    if request["verb"] == "preload":
        for name in request["payload"]["modules"]:
            with contextlib.suppress(Exception):
                _import(name)
        return
    if request["verb"] == "remember":
        remember(request["payload"]["checksums"])
        return
    parent = os.getpid()
    # The libraries' objects live as long as the process: a child need not look through them for garbage, which takes
    # a third of a second each time and copies their pages.
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            os.setsid()
            die_with(parent)
            status = _child(request)
        finally:
            os._exit(status)
    running[pid] = request["id"]
    _tell(out, {"id": request["id"], "pid": pid})


def _child(request: dict[str, Any]) -> int:
    """Answers one request with its output in its log; returns 0 for a result, 1 for an error."""
    if request.get("log"):
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
    with contextlib.suppress(OSError):
        os.chdir(request["folder"])
    null_input = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_input, 0)
    from tuneoff.trial.requests import answer, write_reply

    reply = answer(request["verb"], request["payload"])
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        write_reply(request["reply"], reply)
    except OSError as error:
        # The asker sees the exit status alone; the log says why, if the disk still takes a line.
        print(f"the answer could not be written: {error}", file=sys.stderr, flush=True)
        return 74
    return 1 if "error" in reply else 0


def _reap(out: TextIO, running: dict[int, Any]) -> None:
    for pid in list(running):
        ended_pid, status = os.waitpid(pid, os.WNOHANG)
        if ended_pid:
            _tell(out, {"id": running.pop(pid), "exit": os.waitstatus_to_exitcode(status)})


def _end(running: dict[int, Any]) -> None:
    import time

    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            # A stopped process would not receive it.
            os.kill(pid, signal.SIGCONT)
    deadline = time.monotonic() + GRACE_SECONDS
    while running and time.monotonic() < deadline:
        for pid in list(running):
            if os.waitpid(pid, os.WNOHANG)[0]:
                running.pop(pid)
        time.sleep(0.05)
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _tell(out: TextIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")


if __name__ == "__main__":
    main()
