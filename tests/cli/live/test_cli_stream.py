"""Events as lines on stdout: a reader holds nothing up, whatever it does."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tuneoff.cli._output import OutputGone
from tuneoff.cli.live.stream import Stream
from tuneoff.config.spec import TrialSpec
from tuneoff.executors.base import Progress
from tuneoff.records.events import study_ended
from tuneoff.records.record import TrialRecord

pytest_plugins = ("cli_fixtures",)

WAIT = 10


class Reader(io.StringIO):
    """A stdout whose reader reads when told, or has gone."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.reads = threading.Event()
        self.error = error

    def write(self, text: str) -> int:
        assert self.reads.wait(WAIT)
        if self.error is not None:
            raise self.error
        return super().write(text)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def reader() -> Reader:
    return Reader()


def test_what_an_executor_tells_becomes_lines(
    reader: Reader, small_trials: list[TrialSpec], fake_record: Callable[..., TrialRecord]
) -> None:
    reader.reads.set()
    trial = small_trials[1]
    with Stream(out=reader) as stream:
        stream.hear(Progress("started", trial))
        stream.hear(Progress("event", trial, {"kind": "phase", "phase": "train", "time": "then"}))
        stream.hear(Progress("event", trial, {"kind": "something of tomorrow"}))
        stream.hear(Progress("ended", trial, record=fake_record(trial)))
        stream.hear(Progress("skipped", trial, record=fake_record(trial)))
    told = reader.events()
    assert [event["event"] for event in told] == ["trial_started", "phase", "trial_ended", "trial_ended"]
    assert told[1] == {"event": "phase", "time": "then", "trial": trial.id, "phase": "train"}
    assert [event["earlier"] for event in told[2:]] == [False, True]


def test_a_reader_that_stalls_holds_nothing_up(reader: Reader) -> None:
    with Stream(out=reader) as stream:
        for _ in range(1000):
            stream.send(study_ended("interrupted"))
        assert reader.events() == []
        reader.reads.set()
    assert len(reader.events()) == 1000


@pytest.mark.parametrize("error", [BrokenPipeError(), OutputGone(), ValueError("I/O operation on closed file")])
def test_a_reader_that_goes_away_is_given_up(error: Exception, reader: Reader) -> None:
    reader.error = error
    reader.reads.set()
    with Stream(out=reader) as stream:
        for _ in range(3):
            stream.send(study_ended("interrupted"))
    assert stream.broken
    assert reader.events() == []


def test_a_stream_that_nobody_wants_is_silent(reader: Reader) -> None:
    reader.reads.set()
    with Stream(wanted=False, out=reader) as stream:
        stream.send(study_ended("interrupted"))
    assert reader.getvalue() == ""
