"""Starts a trial on several devices: torchrun starts its ranks in place of this process, and what ends them is
explained.

    executor ──▶ `launch` (torchrun's agent, and the watch) ──▶ N × `python -m tuneoff.trial rank`

Every rank writes what it answers into a folder that they share. One that fails, dies or hangs ends all: torchrun ends
the others, and the agent says which one it was. Ranks die with the agent, and the agent with whoever started it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.errors import Cancelled, Diverged, TrialError
from tuneoff.store import TrialStore
from tuneoff.trial.distributed.hang_detector import HangDetector
from tuneoff.trial.distributed.heartbeat import Beat, Pulse

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

REQUEST = "TUNEOFF_RANK"
"""Environment variable by which a rank finds its request."""
POLL_SECONDS = 0.2
"""Seconds between torchrun's checks of the ranks; ranks that notice a lost rank have this long to report it."""


class RankFailed(Exception):
    """A rank ended the trial; `described` is its error as `requests` sends it, with the rank's number."""

    def __init__(self, described: dict[str, Any]) -> None:
        super().__init__(described["message"])
        self.described = described


def launch(place: TrialStore, payload: dict[str, Any]) -> Any:
    """Runs a trial under torchrun on the devices that its specification names; returns what the first rank answered.

    Raises:
        RankFailed: naming the rank that ended the trial.
        Cancelled: when asked to stop.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    from tuneoff.trial.distributed.context import threads_each

    size = place.spec().devices
    with tempfile.TemporaryDirectory(prefix="ranks-", dir=payload["scratch"]) as scratch:
        folder = Path(scratch)
        (folder / "request.json").write_text(json.dumps({"agent": os.getpid(), "payload": payload}), encoding="utf-8")
        _prepare(folder, threads_each(size))
        watch = HangDetector([beat_path(folder, rank) for rank in range(size)])
        watch.start()
        failures: dict[int, ProcessFailure] = {}
        try:
            run(parse_args(_arguments(size, scratch)))  # type: ignore[no-untyped-call]
        except ChildFailedError as error:
            failures = error.failures
        except SignalException:
            raise Cancelled("the trial was asked to stop") from None
        finally:
            watch.stop()
        replies = {rank: reply for rank in range(size) if (reply := _reply(folder, rank)) is not None}
        if failures or "result" not in replies.get(0, {}):
            raise RankFailed(explain(size, failures, replies, watch.hung, watch.deadlock, place))
        return replies[0]["result"]


def _arguments(size: int, scratch: str) -> list[str]:
    """Returns torchrun's arguments: one node that meets itself by a file, no restart.

    By default torchrun meets by a port, open to every machine and to whoever sends it a pickle.
    """
    return [
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{scratch}/rendezvous", "--rdzv-conf", "store_type=file"),
        *("--nproc-per-node", str(size), "--max-restarts", "0", "--local-addr", "127.0.0.1"),
        *("--monitor-interval", str(POLL_SECONDS), "--log-dir", f"{scratch}/torchrun", "--shutdown-timeout", "5"),
        *("-m", "tuneoff.trial", "rank"),
    ]


def _prepare(folder: Path, threads: int) -> None:
    """Sets the environment and logging that the ranks inherit."""
    os.environ[REQUEST] = str(folder)
    # Nor do the ranks meet by a port (`serve_rank`).
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    if sys.platform == "linux":
        # Ranks of one machine meet on its loopback, whatever its name resolves to.
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, "lo")
    # What torchrun logs about a failure is reported here, in fewer lines.
    logging.disable(logging.ERROR)


def beat_path(folder: Path, rank: int) -> Path:
    """Returns the file of a rank's heartbeats."""
    return folder / f"{rank}.beat"


def reply_path(folder: Path, rank: int) -> Path:
    """Returns the file of a rank's answer."""
    return folder / f"{rank}.json"


def request_of(rank: int) -> dict[str, Any]:
    """Returns the request of this process, a rank, from its environment, in the form that `__main__` answers."""
    folder = Path(os.environ[REQUEST])
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    place = TrialStore(Path(request["payload"]["folder"]))
    return {
        "verb": "rank",
        "payload": request["payload"],
        "asker": request["agent"],
        "folder": os.getcwd(),
        "reply": str(reply_path(folder, rank)),
        # The first rank prints where a trial of one process would.
        "log": str(place.rank_log(rank)) if rank else "",
    }


def serve_rank(place: TrialStore, payload: dict[str, Any], started: float) -> Any:
    """Does one rank's part of a trial."""
    import faulthandler

    number, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if hasattr(signal, "SIGUSR1"):
        # A rank that hangs is asked where it is before it is ended.
        faulthandler.register(signal.SIGUSR1, all_threads=False)
    beat = Beat(beat_path(Path(os.environ[REQUEST]), number))

    import torch

    from tuneoff.trial.distributed import context
    from tuneoff.trial.run import run

    torch.set_num_threads(context.threads_each(size))
    device = context.device_of(payload["device"], number)
    store = torch.distributed.FileStore(str(Path(os.environ[REQUEST]) / "ranks"), size)  # type: ignore[attr-defined]
    with context.joined(number, size, device, sharded=place.spec().shard, beat=beat, store=store) as ranks:
        record = run(place, str(device), started, payload.get("commit"), ranks)
    return {"status": record.status}


def _reply(folder: Path, rank: int) -> dict[str, Any] | None:
    path = reply_path(folder, rank)
    try:
        answer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {**answer, "at": path.stat().st_mtime_ns}
    except (OSError, ValueError):
        return None


def explain(
    size: int,
    failures: dict[int, ProcessFailure],
    replies: dict[int, dict[str, Any]],
    hung: dict[int, float],
    deadlock: Sequence[Pulse],
    place: TrialStore,
) -> dict[str, Any]:
    """Returns which rank ended the trial and how, as an error in plain data with the number of the `rank`.

    Args:
        size: how many ranks there were.
        failures: rank -> how its process ended, in the order seen.
        replies: rank -> its answer, with the time `at` which it answered.
        hung: rank -> seconds for which it had kept the others waiting.
        deadlock: the ranks' last pulses if all were ended because all waited; otherwise empty.
        place: the trial's folder.
    """
    if deadlock:
        return _explain_deadlock(deadlock, place)
    failed_ranks = list(failures)

    def gravity(rank: int) -> tuple[int, float]:
        error = replies.get(rank, {}).get("error")
        code = failures[rank].exitcode if rank in failures else 0
        if rank in hung:
            return 0, -hung[rank]
        if error is not None:
            # A rank that lost another is never the one that was lost.
            return (5 if error["type"] == "LostRank" else 2), replies[rank]["at"]
        # Ranks that are ended because another one failed get SIGTERM.
        kind = 1 if code < 0 and code != -signal.SIGTERM else 3 if code > 0 else 4
        return kind, failed_ranks.index(rank) if rank in failed_ranks else size

    rank = min(range(size), key=gravity)
    rank_name = f"rank {rank} of {size}"
    error = replies.get(rank, {}).get("error")
    if rank in hung:
        message = f"{rank_name} hung{_where(place, rank)}: it kept the others waiting for {hung[rank]:.0f} s"
        return _described(TrialError.__name__, message, rank)
    if error is not None:
        messages = [reply.get("error", {}).get("message") for reply in replies.values()]
        all_same = len(messages) == size and len(set(messages)) == 1
        # Losses and gradients are the same on all ranks, so no single one diverges.
        if all_same or error["type"] == Diverged.__name__:
            return {**error, "rank": rank}
        return {**error, "message": f"{rank_name}: {error['message']}", "rank": rank}
    code = failures[rank].exitcode if rank in failures else 0
    if code < 0:
        described = _described(TrialError.__name__, f"{rank_name} was killed by {signal.Signals(-code).name}", rank)
        return {**described, "killed": code == -signal.SIGKILL}
    last_lines = place.log_tail(1, rank)
    ending = f"{rank_name} ended without a result (exit status {code})" + (f": {last_lines[-1]}" if last_lines else "")
    return _described(TrialError.__name__, ending, rank)


def _explain_deadlock(pulses: Sequence[Pulse], place: TrialStore) -> dict[str, Any]:
    """Returns the error that all ranks waited for one another, with the position of each."""
    positions, silent_ranks = [], []
    for rank, pulse in enumerate(pulses):
        where = _where(place, rank)
        silent_ranks += [] if where else [rank]
        collective = f"inside {pulse.collective}" if pulse.collective else "inside no collective"
        last_step = f" after step {pulse.steps}" if pulse.steps else ""
        positions.append(
            f"rank {rank} {collective}{where or ' (no answer)'}, phase {pulse.phase or 'start'}{last_step}"
        )
    # Look first at a rank that did not answer, then at one that was in no collective of this package.
    rank = next(iter([*silent_ranks, *(rank for rank, pulse in enumerate(pulses) if not pulse.collective), 0]))
    message = f"all {len(pulses)} ranks waited for one another and did nothing else: {'; '.join(positions)}"
    hint = "Every rank must come to the same collectives in the same order; the ranks' logs say where each stood."
    return {**_described(TrialError.__name__, message, rank), "hint": hint}


def _where(place: TrialStore, rank: int) -> str:
    """Returns where a hung rank was, from its log; empty where the log does not say."""
    stack = "\n".join(place.log_tail(200, rank)).rpartition("(most recent call first):")[2]
    frame = re.search(r'File "(.+)", line (\d+) in (\S+)', stack)
    return f" in {frame[3]} ({Path(frame[1]).name}, line {frame[2]})" if frame else ""


def _described(kind: str, message: str, rank: int) -> dict[str, Any]:
    return {"type": kind, "message": message, "hint": "", "rank": rank}
