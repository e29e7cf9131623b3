"""What a trial tells while it runs: its events, and what its processes print."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from tuneoff.files import NON_BLOCKING, open_file
from tuneoff.records.events import utc
from tuneoff.records.record import Event


class TrialLog:
    """Events and logs in a trial's folder. What cannot be written of them is lost, never the trial."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def log_path(self) -> Path:
        return self.folder / "log.txt"

    @property
    def events_path(self) -> Path:
        return self.folder / "events.jsonl"

    def append_event(self, event: Event) -> None:
        """Appends one progress line with the time in a single write, because threads may write at once. Progress that
        cannot be written is lost, never the trial."""
        line = json.dumps({**event, "time": utc()}) + "\n"
        with suppress(OSError):
            handle = os.open(self.events_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | NON_BLOCKING, 0o666)
            try:
                os.write(handle, line.encode())
            finally:
                os.close(handle)

    def events(self, offset: int = 0, until: int | None = None) -> tuple[list[Event], int]:
        """Returns the whole lines from a byte offset on, as far as another where it is given, and the offset after
        them."""
        try:
            with open_file(self.events_path) as file:
                file.seek(offset)
                data = file.read(-1 if until is None else until - offset)
        except OSError:  # none yet, or none that can be read: progress is lost, never the trial
            return [], 0
        end = data.rfind(b"\n") + 1
        events = []
        for line in data[:end].splitlines():
            # A line cut off by a full disk is lost; the others are used.
            with suppress(ValueError, RecursionError):
                if isinstance(event := json.loads(line), dict):
                    events.append(event)
        return events, offset + end

    def events_size(self) -> int:
        """Returns how many bytes of events there are."""
        with suppress(OSError):
            return self.events_path.stat().st_size
        return 0

    def earlier_events(self, attempt: int, size: int) -> list[Event]:
        """Returns the first `size` bytes of events of an attempt that has been set aside; none where they are gone."""
        events, _ = TrialLog(self.folder / "attempts" / str(attempt)).events(until=size)
        return events

    def rank_log(self, rank: int) -> Path:
        """Returns the file of what one process of a trial on several devices printed."""
        return self.folder / f"log-rank-{rank}.txt" if rank else self.log_path

    def share_log(self, other: TrialLog) -> None:
        """Makes what is printed into another trial's log appear in this one's, too. A file system without links loses
        it here."""
        if self.folder == other.folder:
            self.log_path.touch()
            return
        with suppress(OSError):
            os.link(other.log_path, self.log_path)

    def log_tail(self, lines: int = 12, rank: int = 0) -> tuple[str, ...]:
        """Returns the last lines that the trial's process printed, or that one of its ranks printed."""
        path = self.rank_log(rank)
        try:
            with open_file(path) as file:
                file.seek(max(0, path.stat().st_size - 16384))
                text = file.read().decode("utf-8", "replace")
        except OSError:  # none, or none that can be read
            return ()
        log_lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines()]
        return tuple([line for line in log_lines if line][-lines:])
