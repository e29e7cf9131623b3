"""What a verdict speaks of: which of a study's draws vary in it, and which of them are one draw."""

from __future__ import annotations

from tuneoff.analysis.statistics.estimates import Over

SUBJECT = "This is of these configurations, on this split"
UNVARIED = "searches, training rows and base models"
"""What no verdict lets vary."""


def scope_text(over: Over | None, group: str | None = None) -> str:
    """Says what a verdict speaks of, and what it does not vary.

    Args:
        over: what its intervals let vary; None without an interval.
        group: the column of groups of rows that belong together (`task.group`), where there is one.
    """
    if over is None:
        return f"{SUBJECT} alone."
    groups = f"groups of test examples ({group})" if group else "groups of test examples"
    varied = {
        "seeds and examples": "seeds and test examples",
        "seeds and groups": f"seeds and {groups}",
        "groups": groups,
    }.get(over, over)
    return f"{SUBJECT}: {varied} vary in it, {UNVARIED} do not."


def unvaried_text() -> str:
    """Says what a verdict speaks of by what it does not vary alone."""
    return f"{SUBJECT}: {UNVARIED} are not varied in it."
