"""No recorded work is lost, whatever befalls a run: seeded, with counts that are printed. Trials train nothing here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HELPERS = Path(__file__).parents[1] / "helpers"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks trials that end with their run"),
]


def _suffer(what: str, folder: Path, count: int, seed: int = 0) -> dict[str, int]:
    """Runs one part of coordinator_script.py; returns and prints its counts."""
    script = HELPERS / "coordinator_script.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, str(script), what, str(folder / what), str(seed), str(count)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counts: dict[str, int] = json.loads(done.stdout)
    print(what, counts)
    return counts


def test_two_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    counts = _suffer("kills", tmp_path, 200)
    assert counts["tried"] >= 200
    assert {name: counts[name] for name in ("lost", "damaged", "different", "unended")} == dict.fromkeys(
        ("lost", "damaged", "different", "unended"), 0
    )


def test_eight_runs_on_one_study_run_each_trial_once(tmp_path: Path) -> None:
    assert _suffer("eight", tmp_path, 10) == {"tried": 10, "different": 0, "repeated": 0, "failed": 0}


def test_a_run_that_is_stopped_and_woken_late_keeps_its_folder(tmp_path: Path) -> None:
    expected = {"tried": 10, "different": 0, "repeated": 0, "not_refused": 0, "failed": 0}
    assert _suffer("stopped", tmp_path, 10) == expected


def test_a_clock_that_is_moved_changes_nothing(tmp_path: Path) -> None:
    assert _suffer("clock", tmp_path, 20) == {"tried": 20, "different": 0, "unseen": 0, "failed": 0}


def test_a_full_disk_and_a_read_only_folder_lose_nothing_at_fifty_points(tmp_path: Path) -> None:
    counts = _suffer("disk", tmp_path, 50)
    assert counts == {"tried": 50, "lost": 0, "damaged": 0, "different": 0, "crashed": 0, "unharmed": 0}
