"""Tables of keys that the documentation takes from models."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneoff.cli.key_tables import with_tables

MARKED = """# Costs

By hand.

<!-- keys: tuneoff.records.measurements.Noise without reason -->
an old table
<!-- end of keys -->

Also by hand.
"""


def test_a_table_is_made_anew_between_its_markers_and_the_rest_stays(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(MARKED)
    (tmp_path / "other.md").write_text("# Nothing here is generated\n")
    ((path, text),) = with_tables(tmp_path).items()
    assert path.name == "page.md"
    assert text.startswith(
        "# Costs\n\nBy hand.\n\n<!-- keys: tuneoff.records.measurements.Noise without reason -->\n| key | type |"
    )
    assert text.endswith("<!-- end of keys -->\n\nAlso by hand.\n")
    assert "an old table" not in text
    assert "| `contended` | true or false | true where the timing cannot be trusted |\n" in text
    assert "`reason`" not in text


def test_types_are_told_in_words_and_models_are_linked_to_their_tables(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "## `Memory`\n<!-- keys: tuneoff.records.measurements.Memory -->\n<!-- end of keys -->\n"
        "## One phase\n<!-- keys: tuneoff.records.measurements.PhaseMemory -->\n<!-- end of keys -->\n"
    )
    (tmp_path / "b.md").write_text("# B\n<!-- keys: tuneoff.records.record.TrialRecord -->\n<!-- end of keys -->\n")
    first, second = with_tables(tmp_path).values()
    assert "| `phases` | text -> [PhaseMemory](#one-phase) |" in first
    assert "| `kind` | `cuda_allocated`, `resident`, `cuda_reserved` or null |" in first
    assert "| `memory` | [Memory](a.md#memory) |" in second
    assert "| `log_tail` | list of text |" in second
    assert "| `timing` | object |" in second


def test_a_key_without_a_description_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A\n<!-- keys: tuneoff.records.events.Costs -->\n<!-- end of keys -->\n")
    with pytest.raises(ValueError, match=r"Costs.train_seconds has no description"):
        with_tables(tmp_path)
