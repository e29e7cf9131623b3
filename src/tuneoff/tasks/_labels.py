"""Labels: their names in options and in a model's configuration, and names that a person takes for the same."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from tuneoff.errors import DataError, did_you_mean
from tuneoff.interfaces import Example, Finding

Names = TypeVar("Names")

MOST_DIGITS = 1000
"""Longest whole number that a label is; int() refuses texts of some thousands."""
KEPT_CHARACTERS, WRONG_KEPT = 440, 10_000
"""How much of a wrongly answered text is kept (a report shows 400 characters, cut at a space), and among how many of a
split's first examples."""


def distinct(names: Names) -> Names:
    """Returns the names that an option holds; for a validator of options.

    Raises:
        ValueError: if it is a list in which one stands twice.
    """
    counts = Counter(names if isinstance(names, tuple) else ())
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise ValueError(f"{repeated[0]!r} stands twice")
    return names


def head_labels(labels: Sequence[str]) -> dict[str, Any]:
    """Returns what a model's configuration says of the outputs of its head, one for each label."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def refuse_unseen(
    splits: Mapping[str, Sequence[Example]],
    train: Mapping[str, int],
    labels_of: Callable[[Example], Iterable[str]],
    hint: str,
) -> None:
    """Refuses labels that stand in a later split alone: none of them can be learned.

    Args:
        splits: name -> examples.
        train: label -> training rows that have it.
        labels_of: returns an example's labels, each once.
        hint: what to do.

    Raises:
        DataError: naming the most frequent of them.
    """
    for split, examples in splits.items():
        unseen = Counter(label for example in examples for label in labels_of(example) if label not in train)
        if split == "train" or not unseen:
            continue
        name, count = unseen.most_common(1)[0]
        first = next(example for example in examples if name in labels_of(example))
        raise DataError(
            f"label {name!r} stands in {split} ({count} rows, first {first.place}) but never in train"
            f"{did_you_mean(name, train)}" + (f", as do {len(unseen) - 1} more labels" if len(unseen) > 1 else ""),
            hint=hint,
        )


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
    """Tells whether a label is a whole number. Unlike str.isdigit, only what int() takes: "²" and "--5" are names, and
    so is what has too many digits."""
    return len(label) <= MOST_DIGITS and label.removeprefix("-").isdecimal()


def _normalise(label: str) -> str:
    """Returns one form for labels that look the same.

    They may differ in case, spaces, invisible characters, Unicode form, or as `1` and `1.0` do.
    """
    visible = "".join(c for c in unicodedata.normalize("NFKC", label).casefold() if unicodedata.category(c) != "Cf")
    form = " ".join(visible.split())
    with suppress(ValueError, OverflowError):
        return repr(float(form))
    return form
