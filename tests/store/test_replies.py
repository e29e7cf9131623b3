"""Replies of a served model are kept as they come, and none that is whole is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tuneoff.errors import StoreError
from tuneoff.records.served import Reply
from tuneoff.store import TrialStore, link
from tuneoff.store.replies import Replies


def reply(number: int) -> Reply:
    return Reply(request=f"r{number}", text=f"text {number} \u2028 ä", seconds=0.5, time="2026-01-01T00:00:00+00:00")


def test_what_is_kept_is_read_by_request(tmp_path: Path) -> None:
    replies = Replies(tmp_path / "replies.jsonl")
    assert replies.read() == {}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(replies.keep, map(reply, range(40))))
    assert replies.read() == {f"r{number}": reply(number) for number in range(40)}


@pytest.mark.parametrize("tail", [b'{"sha256": "x", "requ', b"[]\n", b"\xff\xfe\n", b'{"sha256": "no"}\n'])
def test_half_a_line_and_a_changed_one_are_left_out(tail: bytes, tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    Replies(path).keep(reply(1))
    Replies(path).keep(reply(2))
    path.write_bytes(path.read_bytes().replace(b"text 2", b"text 9") + tail)
    Replies(path).keep(reply(3))
    assert list(Replies(path).read()) == ["r1", "r3"]


def test_a_folder_that_is_gone_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write"):
        Replies(tmp_path / "none" / "replies.jsonl").keep(reply(1))


def test_a_finished_attempt_keeps_those_that_its_record_tells_of(tmp_path: Path) -> None:
    one, other = (TrialStore(tmp_path / name) for name in ("one", "other"))
    for place in (one, other):
        place.folder.mkdir()
    one.replies.keep(reply(1))
    # As where a finished trial is taken over from another study.
    link(one.replies.path, other.replies.path)
    (other.folder / "log.txt").write_text("a log")
    other.begin_attempt(again=True)
    other.replies.keep(reply(2))
    assert list(other.replies.read()) == ["r1", "r2"]
    for path in (one.replies.path, other.folder / "attempts" / "1" / "replies.jsonl"):
        assert Replies(path).read() == {"r1": reply(1)}


@pytest.mark.parametrize("again", [False, True])
def test_they_outlive_an_attempt_and_other_trials_find_them(again: bool, tmp_path: Path) -> None:
    one, other = (TrialStore(tmp_path / name) for name in ("one", "other"))
    for place in (one, other):
        place.folder.mkdir()
    one.replies.keep(reply(1))
    (one.folder / "log.txt").write_text("a log")
    one.begin_attempt(again=again)
    assert sorted(path.name for path in one.folder.iterdir()) == ["attempts", "replies.jsonl"]
    assert one.replies.read() == other.replies_of_others() == {"r1": reply(1)}
    assert one.replies_of_others() == {}
