"""What of the documentation is generated says what the commands and the models say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneoff.cli.commands import docs
from tuneoff.cli.exit_codes import EXIT_CODES
from tuneoff.cli.main import COMMANDS

DOCS = Path(__file__).parents[3] / "docs"
GENERATED = docs.generated(DOCS)


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: str(path.name))
def test_page_is_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == GENERATED[path], "run: python -m tuneoff.cli.commands.docs docs"


def test_the_pages_of_record_events_plan_and_report_have_tables_of_keys() -> None:
    assert {path.name for path in GENERATED} >= {"cli.md", "record.md", "events.md", "plan.md", "report-schema.md"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section(name: str) -> None:
    assert f"\n## tuneoff {name}\n" in docs.markdown()


def test_every_exit_code_is_told() -> None:
    assert all(f"| {code} |" in docs.markdown() for code in EXIT_CODES)
