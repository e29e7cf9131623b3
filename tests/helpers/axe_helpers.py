"""axe-core, which tells what of a page people with a screen reader, a keyboard or weak eyes cannot use."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from browser_helpers import Browser

NPM = shutil.which("npm")
VERSION = "4.14.1"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
"""Of the package, as npm's registry tells it."""


def axe_source(folder: Path) -> str:
    """Returns the script; npm brings it once into a folder."""
    package = folder / f"axe-core-{VERSION}.tgz"
    if not package.exists():
        assert NPM is not None
        subprocess.run([NPM, "pack", f"axe-core@{VERSION}", "--silent"], cwd=folder, check=True, capture_output=True)
    assert base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode() == SHA512
    with tarfile.open(package) as files:
        script = files.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


def violations(browser: Browser, script: str) -> list[Any]:
    """Returns what the open page does wrong: the rule, how grave it is, and the first places."""
    browser.develop("Runtime.evaluate", expression=script)
    run = (
        "axe.run(document, {resultTypes: ['violations']}).then((found) => JSON.stringify(found.violations.map("
        "(each) => [each.id, each.impact, each.nodes.slice(0, 3).map((node) => node.html.slice(0, 200))])))"
    )
    found = browser.develop("Runtime.evaluate", expression=run, awaitPromise=True)
    return list(json.loads(found["result"]["value"]))
