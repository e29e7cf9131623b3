"""Warns of a search that was unequal or too narrow, that failed in part or is not over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tuneoff.analysis.figures import option_text
from tuneoff.analysis.search_summary import Choices, Range, SearchedArm, SearchSummary
from tuneoff.records.record import Finding


def search_warnings(search: SearchSummary | None) -> list[Finding]:
    """Returns the warnings `unequal_search`, `search_unfinished`, `best_at_edge` and `failed_search_trials`."""
    if search is None:
        return []
    warnings = []
    arms = search.arms
    most = max((arm.configurations for arm in arms), default=0)
    unequal_arms = [arm for arm in arms if arm.configurations < most and not arm.exhausted]
    if not search.complete:
        listed = listed_counts((arm.name, arm.tried_count) for arm in arms)
        message = f"The search is not over, so nothing is chosen by it yet (trials so far: {listed})."
        warnings.append(Finding(name="search_unfinished", message=message))
    elif unequal_arms or search.not_searched:
        counts = [
            *((arm.name, arm.configurations) for arm in arms),
            *((label, 0) for label in search.not_searched),
        ]
        message = (
            f"Arms were not searched equally (search trials: {listed_counts(counts)}), so their ranking is not fair."
        )
        warnings.append(Finding(name="unequal_search", message=message))
    edges = [f"{arm.name}: {_describe_edge(arm, name)}" for arm in arms for name in arm.at_edge]
    if edges:
        message = (
            f"The best value lies at an edge of its range ({'; '.join(edges)}): the range may be too narrow, and a "
            "better one may lie beyond."
        )
        warnings.append(Finding(name="best_at_edge", message=message))
    if search.failed:
        listed = "; ".join(f"{arm.name}: {_count_failures(arm)}" for arm in arms if arm.failed)
        message = f"{search.failed} of {search.tried_count} search trials did not complete ({listed})."
        warnings.append(Finding(name="failed_search_trials", message=message))
    return warnings


def listed_counts(counts: Iterable[tuple[str, int]]) -> str:
    """Joins labels with their counts: `full 8, lora 6`."""
    return ", ".join(f"{label} {count}" for label, count in counts)


def setting_text(name: str, value: Any) -> str:
    """Formats an option with its value: `learning rate 0.01`."""
    return f"{name.replace('_', ' ')} {option_text(value)}"


def range_text(dimension: Choices | Range) -> str:
    """Formats what was searched: `4, 8, 16` or `0.0001 to 0.01`."""
    if isinstance(dimension, Choices):
        return ", ".join(map(option_text, dimension.choices))
    return f"{option_text(dimension.low)} to {option_text(dimension.high)}"


def _count_failures(arm: SearchedArm) -> str:
    counts = Counter(trial.status for trial in arm.tried if trial.score is None)
    return ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in counts.items())


def _describe_edge(arm: SearchedArm, name: str) -> str:
    """Describes a value at an edge: `learning rate 0.01, upper edge of 0.0001 to 0.01`, or of a list `r 16, greatest of
    4, 8, 16`."""
    best = arm.best_trial
    assert best is not None  # only a best trial lies at an edge
    dimension, side = arm.space[name], arm.at_edge[name]
    where = {"lower": "least", "upper": "greatest"}[side] if isinstance(dimension, Choices) else f"{side} edge"
    return f"{setting_text(name, best.values[name])}, {where} of {range_text(dimension)}"
