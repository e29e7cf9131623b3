"""Labels that differ as strings but look the same to a person."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress

from tuneoff.interfaces import Example, Finding

KEPT_CHARACTERS, WRONG_KEPT = 440, 10_000
"""How much of a wrongly answered text is kept (a report shows 400 characters, cut at a space), and among how many of a
split's first examples."""


def kept_text(example: Example, output: str) -> str:
    """Returns what is kept of a text: its beginning where the answer is wrong, so that reports can show where methods
    disagree; of a very large split only among its first examples."""
    wrong = output != example.target
    return example.input_text[:KEPT_CHARACTERS] if wrong and example.index < WRONG_KEPT else ""


def note_labels(counts: Mapping[str, int], spaced: int) -> tuple[Finding, ...]:
    """Returns findings on the labels that a reader must know.

    Args:
        counts: label -> rows of all splits.
        spaced: labels that had spaces around them.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        groups[_normalise(label)].append(label)
    findings = []
    similar = [group for group in groups.values() if len(group) > 1]
    if similar:
        names = "; ".join(" and ".join(f"{label!r} ({counts[label]} rows)" for label in group) for group in similar[:3])
        more = f", and {len(similar) - 3} more" if len(similar) > 3 else ""
        message = (
            f"labels that look alike are taken for different classes: {names}{more}. Where one class is meant, write "
            "them alike"
        )
        findings.append(Finding(name="similar_labels", message=message))
    if spaced:
        message = f"{spaced} labels had spaces around them, which were left out"
        findings.append(Finding(name="spaced_labels", message=message))
    return tuple(findings)


def sort_key(label: str) -> tuple[int, int, str]:
    """Returns a sort key: numbers by size first, then names in alphabetical order."""
    return (0, int(label), "") if is_number(label) else (1, 0, label)


def is_number(label: str) -> bool:
    """Tells whether a label is a whole number. Unlike str.isdigit, only what int() takes: "²" and "--5" are names."""
    return label.removeprefix("-").isdecimal()


def _normalise(label: str) -> str:
    """Returns one form for labels that look the same.

    They may differ in case, spaces, invisible characters, Unicode form, or as `1` and `1.0` do.
    """
    visible = "".join(c for c in unicodedata.normalize("NFKC", label).casefold() if unicodedata.category(c) != "Cf")
    form = " ".join(visible.split())
    with suppress(ValueError, OverflowError):
        return repr(float(form))
    return form
