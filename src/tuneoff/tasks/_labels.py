"""Labels that a person would take for one and the same."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress

from tuneoff.records.record import Finding


def note_labels(counts: Mapping[str, int], spaced: int) -> tuple[Finding, ...]:
    """What a reader must know of the labels.

    Args:
        counts: label -> rows of all splits.
        spaced: labels that had spaces around them.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        groups[_form(label)].append(label)
    found = []
    alike = [group for group in groups.values() if len(group) > 1]
    if alike:
        shown = "; ".join(" and ".join(f"{label!r} ({counts[label]} rows)" for label in group) for group in alike[:3])
        more = f", and {len(alike) - 3} more" if len(alike) > 3 else ""
        message = (
            f"labels that look alike are taken for different classes: {shown}{more}. Where one class is meant, write "
            "them alike"
        )
        found.append(Finding(name="similar_labels", message=message))
    if spaced:
        message = f"{spaced} labels had spaces around them, which were left out"
        found.append(Finding(name="spaced_labels", message=message))
    return tuple(found)


def _form(label: str) -> str:
    """The same for labels that differ in case, spaces, invisible characters, Unicode form, or as `1` and `1.0` do."""
    visible = "".join(c for c in unicodedata.normalize("NFKC", label).casefold() if unicodedata.category(c) != "Cf")
    form = " ".join(visible.split())
    with suppress(ValueError, OverflowError):
        return repr(float(form))
    return form
