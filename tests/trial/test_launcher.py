"""Which rank ended a trial, and what is said of it."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tuneoff.store import TrialStore
from tuneoff.trial.distributed.heartbeat import Pulse
from tuneoff.trial.launcher import RankFailed, explain
from tuneoff.trial.requests import _describe


@dataclass
class Ended:
    """As torchrun tells how a process ended."""

    exitcode: int


def error(kind: str, message: str, at: int) -> dict[str, Any]:
    return {"error": {"type": kind, "message": message, "hint": "a hint"}, "at": at}


LOST = error("LostRank", "rank 0 lost another rank", 5)
TERM, KILL, SEGV = -signal.SIGTERM, -signal.SIGKILL, -signal.SIGSEGV


def explained(
    place: Path,
    failures: dict[int, int],
    replies: dict[int, Any] | None = None,
    hung: dict[int, float] | None = None,
    size: int = 2,
    deadlock: Sequence[Pulse] = (),
) -> dict[str, Any]:
    ended: Any = {rank: Ended(code) for rank, code in failures.items()}
    return explain(size, ended, replies or {}, hung or {}, deadlock, TrialStore(place))


def test_a_killed_rank_is_named_and_not_the_one_that_lost_it(tmp_path: Path) -> None:
    found = explained(tmp_path, {0: 1, 1: KILL}, {0: LOST})
    assert found["message"] == "rank 1 of 2 was killed by SIGKILL"
    assert (found["rank"], found["killed"], found["type"]) == (1, True, "TrialError")
    found = explained(tmp_path, {1: SEGV, 0: TERM})
    assert (found["message"], found["killed"]) == ("rank 1 of 2 was killed by SIGSEGV", False)


def test_the_first_to_be_terminated_is_named_where_all_were(tmp_path: Path) -> None:
    assert explained(tmp_path, {2: TERM, 0: TERM, 1: TERM}, size=3)["message"] == "rank 2 of 3 was killed by SIGTERM"


def test_a_hung_rank_is_named_before_all_others(tmp_path: Path) -> None:
    found = explained(tmp_path, {0: 1, 1: KILL}, {0: LOST}, {1: 31.2})
    assert found["message"] == "rank 1 of 2 hung: it kept the others waiting for 31 s"
    assert "killed" not in found


def test_a_hung_rank_that_says_where_it_is_is_quoted(tmp_path: Path) -> None:
    stack = '  File "/a/method.py", line 7 in stuck\n  File "/a/loop.py", line 9 in train\n'
    (tmp_path / "log-rank-1.txt").write_text(f"sleeping\nStack (most recent call first):\n{stack}")
    found = explained(tmp_path, {1: KILL}, hung={1: 30.0})
    assert found["message"] == "rank 1 of 2 hung in stuck (method.py, line 7): it kept the others waiting for 30 s"


def test_a_deadlock_says_where_each_rank_stood(tmp_path: Path) -> None:
    stack = '  File "/a/ranks.py", line 7 in add_up\n'
    (tmp_path / "log-rank-1.txt").write_text(f"Stack (most recent call first):\n{stack}")
    pulses = [
        Pulse(pid=1, meetings=9, steps=3, phase="train", collective="all_gather"),
        Pulse(pid=2, meetings=9, steps=3, phase="validation", collective="all_reduce"),
    ]
    found = explained(tmp_path, {0: KILL, 1: KILL}, deadlock=pulses)
    assert found["message"] == (
        "all 2 ranks waited for one another and did nothing else: rank 0 inside all_gather (no answer), phase train "
        "after step 3; rank 1 inside all_reduce in add_up (ranks.py, line 7), phase validation after step 3"
    )
    assert "same order" in found["hint"]
    assert (found["type"], found["rank"]) == ("TrialError", 0)
    assert "killed" not in found


def test_of_a_deadlock_the_rank_in_no_collective_is_shown(tmp_path: Path) -> None:
    for rank in range(2):
        stack = 'Stack (most recent call first):\n  File "/a/b.py", line 7 in wait\n'
        TrialStore(tmp_path).rank_log(rank).write_text(stack)
    pulses = [Pulse(pid=1, phase="train", collective="all_gather"), Pulse(pid=2, phase="train")]
    found = explained(tmp_path, {0: KILL, 1: KILL}, deadlock=pulses)
    assert found["rank"] == 1
    assert found["message"].endswith("rank 1 inside no collective in wait (b.py, line 7), phase train")


def test_an_error_of_one_rank_keeps_its_kind_and_gets_its_name(tmp_path: Path) -> None:
    own = error("OutOfMemory", "out of memory: tried to allocate 2 GiB", 7)
    found = explained(tmp_path, {0: 1, 1: 1}, {0: LOST, 1: own})
    assert found["type"] == "OutOfMemory"
    assert found["message"] == "rank 1 of 2: out of memory: tried to allocate 2 GiB"
    assert (found["hint"], found["rank"]) == ("a hint", 1)


def test_the_earlier_of_two_errors_is_told(tmp_path: Path) -> None:
    late, early = error("ValueError", "late", 9), error("ValueError", "early", 3)
    assert explained(tmp_path, {0: 1, 1: 1}, {0: late, 1: early})["message"] == "rank 1 of 2: early"


def test_what_all_ranks_say_alike_is_no_fault_of_one(tmp_path: Path) -> None:
    said = {rank: error("UnsupportedModel", "no such blocks", rank) for rank in range(2)}
    assert explained(tmp_path, {0: 1, 1: 1}, said)["message"] == "no such blocks"
    diverged = {0: error("Diverged", "the loss is nan", 1)}
    assert explained(tmp_path, {0: 1, 1: TERM}, diverged)["message"] == "the loss is nan"


def test_a_rank_that_ends_without_a_word_is_told_by_its_log(tmp_path: Path) -> None:
    (tmp_path / "log-rank-1.txt").write_text("one\nlast words\n")
    found = explained(tmp_path, {0: 1, 1: 3}, {0: LOST})
    assert found["message"] == "rank 1 of 2 ended without a result (exit status 3): last words"


def test_a_failure_is_sent_as_it_was_described() -> None:
    described = {"type": "OutOfMemory", "message": "rank 1 of 2: out", "hint": "", "rank": 1}
    assert _describe(RankFailed(described)) == described


@pytest.mark.parametrize(("rank", "name"), [(0, "log.txt"), (3, "log-rank-3.txt")])
def test_every_rank_has_a_log(rank: int, name: str, tmp_path: Path) -> None:
    place = TrialStore(tmp_path)
    assert place.rank_log(rank) == tmp_path / name
    place.rank_log(rank).write_text(f"{rank} a\n{rank} b\n")
    assert place.log_tail(1, rank) == (f"{rank} b",)
