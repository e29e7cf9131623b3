"""Arms that gave freed memory back stand beside arms that did not: the report says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from record_helpers import Level, World, build_store, environment, small_study
from tuneoff import report

LEVELS = {"full": Level(0.9, 30.0, 900 << 20), "lora": Level(0.9, 8.0)}
TOLD = "freed memory given back at once (`execution.release_memory`)"


@pytest.mark.parametrize(("changed", "lines"), [((), 0), (("lora",), 1), (("full", "lora"), 1)])
def test_the_machines_lines_tell_them_apart(changed: tuple[str, ...], lines: int, tmp_path: Path) -> None:
    changes = {label: {"environment": environment(release_memory=label in changed)} for label in LEVELS}
    study = build_store(tmp_path / "study", small_study(*LEVELS), World(levels=LEVELS, changes=changes))
    page = report.write(study, plots=False).read_text()
    assert page.count(TOLD) == lines
    summary = report.build(study).as_data()
    mixed = len(changed) == 1
    assert len(summary["environments"]["machines"]) == 1 + mixed
    assert summary["comparable"] is not mixed
    assert ("Freed memory went back to the system at once in some trials and not in others" in page) is mixed
