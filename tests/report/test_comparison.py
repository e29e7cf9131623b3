"""The comparison in an exported model's card."""

from __future__ import annotations

from pathlib import Path

import pytest

from record_helpers import Level, World, build_store, small_study
from tuneoff import report
from tuneoff.planning.plan import plan
from tuneoff.report.comparison import section
from tuneoff.store import StudyStore

LEVELS = {"majority": Level(0.5, head=0, stored=0), "full": Level(0.9), "lora_8": Level(0.88, 20.0)}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyStore:
    arms = {"majority": {}, "full": {}, "lora_8": {"method": "lora"}}
    return build_store(tmp_path_factory.mktemp("c") / "s", small_study(arms=arms), World(levels=LEVELS))


def exported(store: StudyStore, label: str, folder: Path) -> Path:
    """A folder as an export leaves it."""
    folder.mkdir()
    spec = next(trial for trial in plan(store.study()) if trial.label == label)
    (folder / "README.md").write_text("# lora\n\nText.\n", encoding="utf-8")
    (folder / "tuneoff-trial.json").write_text(spec.model_dump_json(), encoding="utf-8")
    return folder / "README.md"


def test_the_card_gets_every_arm_and_its_own_in_bold(study: StudyStore, tmp_path: Path) -> None:
    card = exported(study, "lora_8", tmp_path / "out")
    report.add_comparison(study, card.parent)
    text = card.read_text(encoding="utf-8")
    assert text.startswith("# lora\n\nText.\n\n## Comparison\n\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows[-3:]] == ["| majority", "| full", "| **lora_8**"]
    assert "**lora_8**" in text
    assert "highest test accuracy" in text
    assert text.endswith(
        "The arms were trained by another suite, whose results were imported; its settings are its own.\n"
    )


def test_the_card_says_of_the_conditions_what_holds(study: StudyStore) -> None:
    built = report.build(study)
    versions = {**built.environments.versions, "tuneoff": "0.1.0"}
    ours = built.model_copy(update={"environments": built.environments.model_copy(update={"versions": versions})})
    told = {
        comparable: section(ours.model_copy(update={"comparable": comparable}), "full") for comparable in (True, False)
    }
    assert all(
        "All arms but majority, without training, were trained under one protocol" in text for text in told.values()
    )
    assert told[True].endswith("and like conditions, which the study's report tells.")
    assert told[False].endswith("under unlike conditions: the study's report tells which, and costs may not compare.")


def test_a_damaged_study_takes_nothing_from_the_export(study: StudyStore, tmp_path: Path) -> None:
    card = exported(study, "full", tmp_path / "out")
    report.add_comparison(StudyStore(tmp_path / "gone"), card.parent)
    assert "## Comparison\n\nThe study could not be read: " in card.read_text(encoding="utf-8")


def test_nothing_is_compared_where_no_trial_is_tested(tmp_path: Path) -> None:
    store = build_store(tmp_path / "s", small_study("full"), World(skip=frozenset({("full", 0), ("full", 1)})))
    assert section(report.build(store), "full") == ""
