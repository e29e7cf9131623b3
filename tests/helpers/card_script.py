"""Runs the code of exports' cards without tuneoff, each in its folder, and prints what it gives for some rows."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Standard input holds folder -> rows of texts by name; prints folder -> output and scores of each as JSON."""
    absent: dict[str, Any] = {"tuneoff": None}
    sys.modules.update(absent)
    found = {}
    for folder, rows in json.load(sys.stdin).items():
        os.chdir(folder)
        card = Path("README.md").read_text(encoding="utf-8")
        (code,) = re.findall("^```python\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)
        names: dict[str, Any] = {}
        with contextlib.redirect_stdout(sys.stderr):
            exec(compile(code, folder, "exec"), names)
            found[folder] = [(names["predict"](**row), names.get("scores", lambda **row: {})(**row)) for row in rows]
    print(json.dumps(found))


main()
