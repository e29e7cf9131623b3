"""One arm's search: what it tried, what is best so far, and what its trials took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneoff.config.spec import TrialSpec
from tuneoff.records.record import TrialRecord
from tuneoff.search.space import Outcome, Space, Values, at_edge, best

FORMER_RULES = "an earlier version of tuneoff"
"""What suggested trials whose specification does not tell it."""


@dataclass
class ArmSearch:
    """One arm's search so far.

    Attributes:
        space: what is searched, widened once it has grown.
        grown: whether it has grown.
        history: what was tried and its outcome, in order, rung after rung.
        records: the records of these trials.
    """

    space: Space
    grown: bool = False
    history: list[Outcome] = field(default_factory=list)
    records: list[TrialRecord] = field(default_factory=list)

    @property
    def best(self) -> int | None:
        """Returns the position of the best trial, or None while none completed."""
        return best(self.history)

    @property
    def choice(self) -> Values | None:
        """Returns the values of the best trial, or None while none completed."""
        return None if self.best is None else self.history[self.best].values

    @property
    def at_edge(self) -> dict[str, int]:
        """Returns which of these values lie at an edge (see `space.at_edge`)."""
        return {} if self.choice is None else at_edge(self.space, self.choice)

    @property
    def configurations(self) -> int:
        """Counts the configurations that were tried; with pruning, one configuration may have several trials."""
        return sum(outcome.rung == 0 for outcome in self.history)


def space_data(space: Space) -> dict[str, dict[str, Any]]:
    """Returns what is searched as plain data."""
    return {dimension.name: dimension.as_data() for dimension in space}


def rules_of(trial: TrialSpec) -> str:
    """Returns the rules by which a search trial was suggested."""
    return trial.suggestion.rules if trial.suggestion is not None else FORMER_RULES


def whole_seconds(records: Sequence[TrialRecord]) -> float | None:
    """Sums the seconds of whole trials; None where one has no time of its own, as of those that trained together."""
    return whole_sum([record.timing.total_seconds for record in records])


def whole_sum(figures: Sequence[float | None]) -> float | None:
    """Sums figures; None where one is not known."""
    return None if None in figures else math.fsum(figure for figure in figures if figure is not None)


def why_hopeless(records: Sequence[TrialRecord]) -> str:
    """Says that no trial of an arm's search completed, and how the last one ended."""
    last = records[-1]
    cause = last.cause.strip().splitlines()
    end = f"; the last ended as {last.status.value}" + (f": {cause[0]}" if cause else "")
    return (
        f"none of the {len(records)} search trials of {last.spec.label!r} completed, so there is nothing to test{end}"
    )
