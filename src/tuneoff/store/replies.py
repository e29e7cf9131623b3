"""Replies of a served model, kept as they come, so that none is paid for twice."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from tuneoff.checksums import content_hash
from tuneoff.errors import CorruptRecord, StoreError
from tuneoff.files import open_file
from tuneoff.records.served import Reply
from tuneoff.store.files import unsealed


class Replies:
    """Replies by request in a file of lines, each with its checksum. Threads may keep replies at once.

    A reply is on disk before `keep` returns. Of a file that ends in half a line, or was changed, the whole lines count.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def read(self) -> dict[str, Reply]:
        """Returns request -> its reply, of all that are kept; the first of several."""
        replies: dict[str, Reply] = {}
        for reply in self._lines():
            replies.setdefault(reply.request, reply)
        return replies

    def _lines(self) -> Iterator[Reply]:
        try:
            with open_file(self.path) as file:
                lines = file.read().splitlines()
        except OSError:  # none yet, or none that can be read
            return
        for line in lines:
            # A line that is no text is as one that was changed: the others count.
            with suppress(ValueError, RecursionError, CorruptRecord, ValidationError):
                yield Reply.model_validate(unsealed(self.path, json.loads(line)))

    def keep(self, reply: Reply) -> None:
        """Appends a reply.

        Raises:
            StoreError: if it cannot be written; those before it stay.
        """
        body = reply.model_dump(mode="json")
        line = json.dumps({"sha256": content_hash(body), **body})
        with self._lock:
            try:
                with self.path.open("a+b") as file:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(max(0, size - 1))
                    # What a killed process left of a line ends here.
                    begun = file.read(1) not in {b"", b"\n"}
                    file.write((f"\n{line}\n" if begun else f"{line}\n").encode())
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise StoreError(
                    f"cannot write {self.path}: {error.strerror or error}",
                    hint="Free some space, then run the same command again: replies that were kept are not asked for.",
                ) from error
