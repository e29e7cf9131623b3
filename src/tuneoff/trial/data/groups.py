"""Rows that belong together (`task.group`): the same patient, author or document.

Rows of a group never fall into different splits: what a model has seen of a group would help it with the rest of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from numbers import Real
from typing import Any, NoReturn

import numpy as np

from tuneoff.errors import DataError, did_you_mean, listed
from tuneoff.interfaces import Example, Rows, Task, is_missing
from tuneoff.records.record import Finding, Prediction
from tuneoff.trial.data.draws import Seed

FEW_GROUPS = 20
"""Of the test rows; with fewer, intervals and tests are rough (docs/statistics.md)."""

Splits = Mapping[str, Sequence[Example]]


def group_values(rows: Rows, column: str, split: str) -> list[str]:
    """Returns the group of each row.

    Raises:
        DataError: if the column is not there, or a cell of it is empty.
    """
    if column not in rows.columns:
        raise DataError(
            f"{rows.origin} ({split}) has no column {column!r}{did_you_mean(column, rows.columns)}",
            hint=f"Its columns: {listed(rows.columns)}. Set task.group to one of them.",
        )
    cells = rows.columns[column]
    empty = [index for index, cell in enumerate(cells) if is_missing(cell)]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(rows)} rows of {rows.origin} ({split}) have no group; the first is "
            f"{rows.place(empty[0])}",
            hint=f"Fill in column {column!r}, with a group of its own for a row that stands alone; task.missing: skip "
            "leaves those rows out.",
        )
    return list(map(_name, cells))


def _name(cell: Any) -> str:
    """Returns a group's name, which is the same in a file of numbers and in one of texts."""
    whole = isinstance(cell, Real) and cell % 1 == 0
    return str(int(cell)) if whole else str(cell).strip()


def cut_groups(
    task: Task, examples: Sequence[Example], fraction: float, seed: Seed, name: str
) -> tuple[list[Example], list[Example]]:
    """Cuts whole groups off the training rows, which together hold about this share of the rows of every stratum.

    Groups come in random order; one is taken where that brings the rows that are cut nearer to what is wanted. Every
    stratum keeps a row in train.

    Raises:
        DataError: if no group can be cut off.
    """
    strata: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        strata[example.group][task.stratum(example)] += 1
    left = sum(strata.values(), Counter[str]())
    wanted = {stratum: fraction * count for stratum, count in left.items()}
    cut: Counter[str] = Counter()
    taken: set[str] = set()
    groups = sorted(strata)
    order = [groups[place] for place in np.random.default_rng(seed).permutation(len(groups))]
    for group in order:
        if _stays(left, strata[group]) and _distance(wanted, cut + strata[group]) < _distance(wanted, cut):
            cut, left = cut + strata[group], left - strata[group]
            taken.add(group)
    if not taken:
        possible = [group for group in order if _stays(left, strata[group])]
        if not possible:
            raise DataError(
                f"no {name} rows can be cut off: {len(examples)} training rows are of {len(groups)} "
                f"group{'s' * (len(groups) != 1)} (task.group), and every one is needed in train",
                hint=f"Set task.data.{name} to a file of its own, or give rows of more groups.",
            )
        taken.add(min(possible, key=lambda group: _distance(wanted, strata[group])))
    return [e for e in examples if e.group not in taken], [e for e in examples if e.group in taken]


def _stays(left: Counter[str], members: Counter[str]) -> bool:
    """Returns whether every stratum still has a row when these are taken away."""
    return all(left[stratum] > count for stratum, count in members.items())


def _distance(wanted: Mapping[str, float], cut: Mapping[str, int]) -> float:
    return sum(abs(cut.get(stratum, 0) - count) for stratum, count in wanted.items())


def refuse_emptied(name: str, later: str) -> NoReturn:
    """Refuses a split whose every group also stands in the later ones."""
    raise DataError(
        f"every group of the {name} rows (task.group) also stands in {later}; removing them leaves none",
        hint=f"Give task.data.{name} rows of other groups.",
    )


def check_groups(splits: Splits, column: str) -> None:
    """Checks that no two splits share a group, and that the test rows are of several.

    Raises:
        DataError: says which splits share how many groups, or that there is one alone.
    """
    groups = {name: {example.group for example in examples} for name, examples in splits.items()}
    shared = {
        f"{one} and {other}": groups[one] & groups[other]
        for one, other in combinations(groups, 2)
        if groups[one] & groups[other]
    }
    if shared:
        counts = "; ".join(f"{pair} share {len(names):,}, e.g. {min(names)!r}" for pair, names in shared.items())
        raise DataError(
            f"groups of column {column!r} (task.group) stand in two splits: {counts}",
            hint="Set protocol.duplicates to remove to drop their rows from train (and from validation what stands in "
            "test), or give each split groups of its own.",
        )
    if len(groups["test"]) < 2:
        raise DataError(
            f"all {len(splits['test'])} test rows are of one group, {min(groups['test'])!r} (task.group), which tells "
            "nothing of others",
            hint="Give test rows of several groups, or leave task.group out.",
        )


def count_groups(splits: Splits) -> dict[str, int]:
    """Returns split -> number of its groups."""
    return {name: len({example.group for example in examples}) for name, examples in splits.items()}


def note_groups(counts: Mapping[str, int], splits: Splits, removed: Mapping[str, int]) -> list[Finding]:
    """Returns what a reader must know of the groups."""
    findings = []
    for name, count in removed.items():
        if count:
            later = "validation or test" if name == "train" else "test"
            rows = "training" if name == "train" else name
            message = f"{count} {rows} rows are of groups (task.group) that also stand in {later}, and were removed"
            findings.append(Finding(name="groups_removed", message=message))
    if counts["test"] == len(splits["test"]):
        message = "every test row is a group of its own, so task.group changes no interval"
        findings.append(Finding(name="groups_of_one", message=message))
    elif counts["test"] < FEW_GROUPS:
        message = (
            f"the test rows are of {counts['test']} groups (task.group): under {FEW_GROUPS}, intervals are wide, and "
            "rough where groups are of unequal size"
        )
        findings.append(Finding(name="few_groups", message=message))
    return findings


def with_groups(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Sequence[Prediction]:
    """Returns the predictions with the number of each example's group, in order of appearance; as they are where rows
    have no groups."""
    if not any(example.group for example in examples):
        return predictions
    numbers: dict[str, int] = {}
    return [
        prediction.model_copy(update={"group": numbers.setdefault(example.group, len(numbers))})
        for prediction, example in zip(predictions, examples, strict=True)
    ]


def grouped(examples: Sequence[Example], groups: Sequence[str]) -> list[Example]:
    """Returns the examples, each with its group."""
    return [replace(example, group=group) for example, group in zip(examples, groups, strict=True)]
