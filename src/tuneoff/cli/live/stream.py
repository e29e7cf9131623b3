"""Events as lines of JSON on stdout (docs/events.md). A reader that stalls or goes away holds up nothing."""

from __future__ import annotations

import queue
import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from tuneoff.cli._output import OutputFailed, OutputGone
from tuneoff.encoding import json_text

if TYPE_CHECKING:
    from tuneoff.executors.base import Progress
    from tuneoff.records.record import Event


class Stream:
    """Writes from a thread of its own; leaving the block waits until all is written.

    Args:
        wanted: whether there is a stream at all; otherwise nothing is written.
        out: where to; None: stdout.

    Attributes:
        broken: nothing can be written any more.
        open: a `study_started` was sent, and no `study_ended` since.
    """

    def __init__(self, wanted: bool = True, out: TextIO | None = None) -> None:
        self.wanted = wanted
        self.broken = False
        self.open = False
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._out = out or sys.stdout
        self._thread = threading.Thread(target=self._write, name="tuneoff-stream", daemon=True)

    def __enter__(self) -> Self:
        if self.wanted:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.wanted:
            self._lines.put(None)
            self._thread.join()

    def send(self, event: Event) -> None:
        """Writes one event."""
        if event["event"] in ("study_started", "study_ended"):
            self.open = event["event"] == "study_started"
        if self.wanted and not self.broken:
            self._lines.put(json_text(event) + "\n")

    def hear(self, progress: Progress, time: str | None = None) -> None:
        """Writes an executor's progress as an event with the time `time` (now where it is not given)."""
        if event := event_of(progress, time):
            self.send(event)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            if self.broken:
                continue
            try:
                self._out.write(line)
                self._out.flush()
            except (OSError, ValueError, OutputGone, OutputFailed):
                self.broken = True


def event_of(progress: Progress, time: str | None = None) -> Event | None:
    """Returns an executor's progress as an event; None for a kind of event that is not known.

    Args:
        progress: what happened.
        time: when it happened; now where it is not given.
    """
    from tuneoff.records import events

    if progress.kind == "started":
        return events.trial_started(progress.trial, time)
    if progress.record is not None:
        return events.trial_ended(progress.record, progress.kind == "skipped", time)
    return events.logged(progress.trial, progress.event, time)
