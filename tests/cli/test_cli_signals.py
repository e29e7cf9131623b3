"""Polite requests to end are heeded as an interrupt is."""

from __future__ import annotations

import errno
import os
import signal
from typing import Any

import pytest

from tuneoff.cli._output import Output, OutputFailed, OutputGone
from tuneoff.cli._signals import like_an_interrupt

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no such signals there")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_polite_request_interrupts_once(number: signal.Signals) -> None:
    caller = signal.signal(number, signal.SIG_DFL)  # the tests may run where it is ignored
    try:
        with like_an_interrupt():
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)  # a terminal that closes may send it twice
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, caller)


def test_what_the_caller_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with like_an_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


class Closed:
    """A stream that cannot be written any more."""

    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(("terminal", "raised"), [(True, OutputGone), (False, OutputFailed)])
def test_a_closed_terminal_is_no_failure_and_a_broken_disk_is(terminal: bool, raised: type[Exception]) -> None:
    stream: Any = Closed(terminal)
    with pytest.raises(raised):
        Output(stream).write("a table")
