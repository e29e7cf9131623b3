"""Runs functions of the report page's scripts on data: in Node.js where it is there, else in a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

from browser_helpers import BROWSER, DRIVER, browse

NODE = shutil.which("node")
CAN_RUN = NODE is not None or (BROWSER is not None and DRIVER is not None)


def call_each(
    script: str, function: str, cases: list[list[Any]], folder: Path, package: str = "tuneoff.report"
) -> list[Any]:
    """Calls a function of a script of the page with each list of arguments; returns what it returns."""
    source = (resources.files(package) / "page" / script).read_text(encoding="utf-8")
    if NODE is None:
        with browse(folder) as browser:
            return list(browser.run(f"{source}; return arguments[0].map((case) => {function}(...case));", cases))
    program = folder / "called.js"
    data = folder / "cases.json"
    data.write_text(json.dumps(cases))
    program.write_text(
        f"{source}\nconst cases = JSON.parse(require('fs').readFileSync({json.dumps(str(data))}, 'utf-8'));\n"
        f"console.log(JSON.stringify(cases.map((each) => {function}(...each))));\n"
    )
    done = subprocess.run([NODE, program], capture_output=True, text=True, check=True, timeout=60)
    return list(json.loads(done.stdout))
