"""A real browser without a window, driven by the WebDriver protocol that chromedriver speaks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


class Browser:
    """One open page."""

    def __init__(self, address: str) -> None:
        self._address = address

    def call(self, command: str, body: dict[str, Any]) -> Any:
        """Sends a command of the session, such as `url` or `execute/sync`, and returns its value."""
        request = urllib.request.Request(
            f"{self._address}/{command}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, page: Path) -> None:
        self.call("url", {"url": page.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs JavaScript, as a developer at the console would, and returns what it returns."""
        return self.call("execute/sync", {"script": script, "args": list(arguments)})

    def press(self, *keys: str) -> None:
        """Presses keys, one after another, on whatever has the focus; named ones as WebDriver codes them."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def develop(self, command: str, **parameters: Any) -> Any:
        """Sends a command of Chromium's own developer protocol."""
        return self.call("goog/cdp/execute", {"cmd": command, "params": parameters})

    def console(self) -> list[str]:
        """Returns what the console said since the last time: errors of scripts and of the policy."""
        return [entry["message"] for entry in self.call("se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Returns the addresses that were asked for since the last time."""
        events = [json.loads(entry["message"])["message"] for entry in self.call("se/log", {"type": "performance"})]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


@contextmanager
def browse(downloads: Path) -> Iterator[Browser]:
    """Starts a browser, and ends it; what it downloads goes to a folder."""
    assert BROWSER is not None
    assert DRIVER is not None
    options = {
        "binary": BROWSER,
        "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1600,1200"],
        "prefs": {
            "download.default_directory": str(downloads),
            # Else it asks before a page saves a second file.
            "profile.default_content_setting_values.automatic_downloads": 1,
        },
    }
    wanted = {
        "browserName": "chrome",
        "goog:chromeOptions": options,
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    }
    with subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as driver:
        try:
            assert driver.stdout is not None
            started = (re.search(r"started successfully on port (\d+)", line) for line in driver.stdout)
            port = next(found[1] for found in started if found is not None)
            root = Browser(f"http://127.0.0.1:{port}")
            session = root.call("session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
            browser = Browser(f"http://127.0.0.1:{port}/session/{session}")
            try:
                yield browser
            finally:
                end = urllib.request.Request(f"http://127.0.0.1:{port}/session/{session}", method="DELETE")
                urllib.request.urlopen(end, timeout=60).close()
        finally:
            driver.terminate()
