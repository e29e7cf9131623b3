"""docs/cli.md says what the commands say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneoff.cli._common import EXIT_CODES
from tuneoff.cli.commands import docs
from tuneoff.cli.main import COMMANDS

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == docs.markdown(), "run: python -m tuneoff.cli.commands.docs docs/cli.md"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section(name: str) -> None:
    assert f"\n## tuneoff {name}\n" in docs.markdown()


def test_every_exit_code_is_told() -> None:
    assert all(f"| {code} |" in docs.markdown() for code in EXIT_CODES)
