"""What looks at a study's folder find, as the events that a run itself would stream (docs/events.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tuneoff.cli.live.follow import FolderState
from tuneoff.cli.live.stream import event_of
from tuneoff.records import events
from tuneoff.records.record import Event


class FolderEvents:
    """Turns looks into events, with one beginning and one end for every run that is seen.

    Args:
        folder: what the events name as the study's folder.
        report: makes the report, for the last event of a study that is over; None: that event has none.
    """

    def __init__(self, folder: str, report: Callable[[], dict[str, Any]] | None = None) -> None:
        self._folder = folder
        self._report = report
        self._previous: FolderState | None = None
        self._open = False
        self._newest: str | None = None

    def of(self, look: FolderState) -> Iterator[Event]:
        """Yields the events of one look."""
        previous, self._previous = self._previous, look
        if previous is None or (look.since is not None and look.since != previous.since):
            sizes = look.searched, len(look.trials) - look.searched
            start_time = events.utc(look.since) if look.since is not None else None
            self._open = True
            yield {**events.study_started(look.study, self._folder, *sizes), "time": start_time}
        for item in look.news:
            self._newest = item.time or self._newest
            if event := event_of(item.progress, item.time):
                yield event
        if self._open and look.since is None:
            outcome: events.Outcome = "failed_trials" if look.failed else "completed"
            outcome = outcome if look.is_over else "stopped"
            body = self._report() if look.is_over and self._report is not None else None
            self._open = False
            yield {**events.study_ended(outcome, body), "time": self._newest}
