"""Ten thousand studies, folders, checkpoints, tables and results changed at random: each is used, or refused by one
clear error. None ends in a fault, hangs, or leads outside. Seeded, with counts that are printed (`pytest -s`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HELPERS = Path(__file__).parents[1] / "helpers"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="a case that hangs is ended by SIGALRM")


def _fuzz(what: str, folder: Path, count: int, seed: int = 0) -> None:
    """Runs one part of fuzz_script.py; prints its counts."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, str(HELPERS / "fuzz_script.py"), what, str(folder / what), str(seed), str(count)],
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counts = json.loads(done.stdout)
    first = counts.pop("first")
    print(what, counts)
    assert {name: counts[name] for name in ("faults", "hung", "outside")} == {"faults": 0, "hung": 0, "outside": 0}, (
        "\n\n".join(first)
    )
    assert counts["tried"] == counts["used"] + counts["refused"] == count
    assert min(counts["used"], counts["refused"]) > count // 25, "both are tried"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "count"),
    [("study_files", 4000), ("folders", 2500), ("checkpoints", 1000), ("rows", 2000), ("imports", 500)],
)
def test_ten_thousand_changed_documents_end_in_use_or_one_clear_error(what: str, count: int, tmp_path: Path) -> None:
    _fuzz(what, tmp_path, count)


@pytest.mark.parametrize(("what", "count"), [("study_files", 100), ("folders", 40), ("rows", 100), ("imports", 30)])
def test_some_of_them(what: str, count: int, tmp_path: Path) -> None:
    _fuzz(what, tmp_path, count, seed=1)
