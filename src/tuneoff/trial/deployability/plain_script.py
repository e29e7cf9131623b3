"""Runs the code of an export's card in a process that cannot import tuneoff.

Usage: `python plain_script.py FOLDER ASKED ANSWERED BASE`. FOLDER holds the export. The file ASKED holds a list of
rows, each name -> text, as JSON. The file ANSWERED gets, as JSON, `answers`, each with what `predict` gave as `output`,
the `scores` where the card has them, and the `seconds` that the model took for it, without the tokenizer; and
`peak_memory_bytes`, null where it cannot be measured. BASE is where the base model lies on this machine, in the place
of the hub id that the card names; empty where it names none.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Timer:
    """Adds up the seconds of a model's outermost calls."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        self._started = 0.0

    def begin(self, *_: Any) -> None:
        """Begins a call."""
        if not self._depth:
            self._started = time.perf_counter()
        self._depth += 1

    def end(self, *_: Any) -> None:
        """Ends a call."""
        self._depth -= 1
        if not self._depth:
            self.seconds += time.perf_counter() - self._started

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.begin()
            try:
                return function(*args, **kwargs)
            finally:
                self.end()

        return timed


def main() -> None:
    """Answers every row."""
    absent: Mapping[str, Any] = {"tuneoff": None}
    sys.modules.update(absent)
    folder, asked, answered, base = sys.argv[1:]
    rows = json.loads(Path(asked).read_text(encoding="utf-8"))
    os.chdir(folder)
    card = Path("README.md").read_text(encoding="utf-8")
    (code,) = re.findall("^```python\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)
    code = re.sub("^BASE = .*$", lambda found: f"BASE = {base!r}" if base else found[0], code, flags=re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    timer, scores = Timer(), dict[str, float]()
    model = names["model"]
    model.register_forward_pre_hook(timer.begin)
    model.register_forward_hook(timer.end)
    if model.can_generate():
        model.generate = timer.around(model.generate)
    if "scores" in names:
        original = names["scores"]

        def keep(*args: Any, **kwargs: Any) -> Any:
            found = original(*args, **kwargs)
            scores.update(found)
            return found

        names["scores"] = keep
    _reset_peak()
    answers = []
    for row in rows:
        timer.seconds = 0.0
        scores.clear()
        output = names["predict"](**row)
        answers.append({"output": output, "scores": dict(scores), "seconds": timer.seconds})
    result = {"answers": answers, "peak_memory_bytes": _read_peak()}
    Path(answered).write_text(json.dumps(result), encoding="utf-8")


def _reset_peak() -> None:
    """Makes Linux forget the peak of the resident set so far, which loading made."""
    with contextlib.suppress(OSError):
        # Not `open`, which would make the file where there is no such file system.
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY)
        try:
            os.write(descriptor, b"5")
        finally:
            os.close(descriptor)


def _read_peak() -> int | None:
    with contextlib.suppress(OSError):
        peak = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        return int(peak[1]) * 1024 if peak else None
    return None


if __name__ == "__main__":
    main()
