"""The checklist says what can be repeated, and by what one can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from page_helpers import LEVELS, page_store
from record_helpers import data, environment
from tuneoff.records.record import Status
from tuneoff.report import build
from tuneoff.report.sections import checklist

OURS = {"environment": environment(versions={"torch": "2.13.0", "transformers": "5.23.0", "tuneoff": "0.1.0"})}


def lines(folder: Path, **study: Any) -> dict[str, str]:
    """The answers by their questions, with the evidence."""
    text = checklist.section(build(page_store(folder, **study)))
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {question: f"{answer}: {evidence}" for question, answer, evidence in rows[2:]}


def test_a_clean_study_says_yes_and_why(tmp_path: Path) -> None:
    told = lines(tmp_path, seeds=6, changes=dict.fromkeys(LEVELS, OURS))
    assert told["Are the rows known again?"].startswith("✓ yes: 1,000 train, 200 validation, 400 test")
    assert told["Is the software the same in all trials?"].startswith("✓ yes")
    assert told["Are there enough seeds?"].startswith("✓ yes: seeds 0, 1, 2, 3, 4, 5")
    assert told["Is every planned trial told of?"] == "✓ yes: 24 of 24 completed"
    assert told["Were all methods searched equally?"].startswith("– in part")
    assert told["Are the timings undisturbed?"] == "✓ yes: no trial was disturbed"
    assert told["Is the test split scored once, after all choices?"].startswith("✓ yes: checkpoint chosen ")


def test_of_an_imported_study_nothing_is_claimed_that_was_not_recorded(tmp_path: Path) -> None:
    told = lines(tmp_path)
    assert told["Are the timings undisturbed?"] == "– in part: not recorded"
    assert told["Is the test split scored once, after all choices?"] == "– in part: not recorded"


def test_one_failure_does_not_tell_of_trials_that_never_ran(tmp_path: Path) -> None:
    skip = frozenset([("head", 0), ("lora", 0), ("lora", 1)])
    told = lines(tmp_path, skip=skip, fail={("head", 1): Status.DIVERGED})
    assert told["Is every planned trial told of?"] == (
        "– in part: 4 of 8 completed; 1 failed, with their causes below; 3 without a result"
    )


def test_what_is_amiss_is_said(tmp_path: Path) -> None:
    other = environment(processor="Epyc", versions={"torch": "2.6.0", "transformers": "5.23.0"}, commit="abc+dirty")
    leaking = data(0, 400).model_copy(update={"overlap": {"train/test": 3}})
    told = lines(
        tmp_path,
        contended=frozenset(["full"]),
        fail={("head", 1): Status.DIVERGED},
        changes={"full": {"environment": other}, "majority": {"data": leaking}, "lora": {"data": leaking}},
    )
    assert told["Is the software the same in all trials?"] == "✗ no: trials differ in torch"
    assert told["Did all trials run on one kind of machine?"] == "✗ no: Xeon and Epyc"
    assert told["Are test rows kept out of training and validation?"] == "✗ no: 3 rows of train stand in test"
    assert told["Are there enough seeds?"].startswith("✗ no")
    assert told["Is every planned trial told of?"] == "✓ yes: 7 of 8 completed; 1 failed, with their causes below"
    assert told["Are the timings undisturbed?"] == "✗ no: something else used the machine: full"


def test_while_nothing_is_completed_there_is_none(tmp_path: Path) -> None:
    skip = frozenset((label, seed) for label in ("majority", "full", "lora", "head") for seed in range(2))
    assert lines(tmp_path, skip=skip) == {}
