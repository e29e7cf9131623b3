"""Which method to use, said with as much certainty as the trials give."""

from __future__ import annotations

from dataclasses import dataclass

from tuneoff.analysis.caveats import LOUD
from tuneoff.analysis.compare import Comparer, Comparison
from tuneoff.analysis.figures import COSTS
from tuneoff.analysis.results import Results, Row
from tuneoff.analysis.statistics import SEEDS_NEEDED, Spread, spread
from tuneoff.record import Finding, Metric

THRIFT = ("train_seconds", "peak_memory_bytes", "stored_bytes")
"""Costs by which the cheapest of the tied rows are named."""


@dataclass(frozen=True)
class Answer:
    """What the study says.

    Attributes:
        best: label of the trained row with the best mean of the primary metric; None while there is none.
        tied_with: labels that cannot be told apart from it.
        behind: labels whose interval of the difference to the best excludes 0.
        not_compared: labels for which no fair comparison could be made.
        floor: label of the best row that does not train; None without one.
        not_above_floor: trained rows that are not clearly above the floor.
        cheapest: cost -> label, among the best and those tied with it.
        seeds: fewest seeds in a comparison to the best (of the best alone, if it has no rival).
        to_best: label -> comparison of that row to the best, floors included.
        to_floor: label -> comparison of that trained row to the floor.
        caveats: what to know first, gravest first.
    """

    best: str | None
    tied_with: tuple[str, ...]
    behind: tuple[str, ...]
    not_compared: tuple[str, ...]
    floor: str | None
    not_above_floor: tuple[str, ...]
    cheapest: dict[str, str]
    seeds: int
    to_best: dict[str, Comparison]
    to_floor: dict[str, Comparison]
    caveats: tuple[str, ...]

    @property
    def significant(self) -> bool:
        """Whether there are seeds enough to call the rows behind significantly worse."""
        return bool(self.behind) and self.seeds >= SEEDS_NEEDED


def find_answer(results: Results, comparer: Comparer, warnings: list[Finding]) -> Answer:
    """Compares every row to the best and to the floor."""
    metric = results.primary
    loud = sorted((w for w in warnings if w.name in LOUD), key=lambda w: LOUD.index(w.name))
    caveats = tuple(w.message for w in loud)
    trained = _ranked([row for row in results.rows if row.trains], metric)
    floors = _ranked([row for row in results.rows if not row.trains], metric)
    floor = floors[0] if floors else None
    to_floor = {row.label: comparer.compare(row, floor) for row in trained} if floor else {}
    sunk = tuple(label for label, found in to_floor.items() if found.relation in ("tied", "behind"))
    if not trained:
        name = floor.label if floor else None
        return Answer(None, (), (), (), name, (), {}, 0, {}, {}, caveats)
    best = trained[0]
    rivals = {row.label: comparer.compare(row, best) for row in trained[1:]}
    tied = tuple(label for label, found in rivals.items() if found.relation == "tied")
    counted = [found.seeds for found in rivals.values() if found.relation != "not_compared"]
    return Answer(
        best=best.label,
        tied_with=tied,
        behind=tuple(label for label, found in rivals.items() if found.relation == "behind"),
        not_compared=tuple(label for label, found in rivals.items() if found.relation == "not_compared"),
        floor=floor.label if floor else None,
        not_above_floor=sunk,
        cheapest=_cheapest([best, *(results.row(label) for label in tied)]),
        seeds=min(counted, default=len(best.completed)),
        to_best=rivals | {row.label: comparer.compare(row, best) for row in floors},
        to_floor=to_floor,
        caveats=caveats,
    )


def cost(row: Row, name: str) -> Spread | None:
    """A cost of a row over its completed trials."""
    of = next(c for c in COSTS if c.name == name).of
    return spread(value for record in row.completed if (value := of(record)) is not None)


def _ranked(rows: list[Row], metric: Metric | None) -> list[Row]:
    """Rows that have a score, best mean first; equal means keep the study's order."""
    if metric is None:
        return []
    sign = -1.0 if metric.direction == "higher" else 1.0
    means = [(found.mean, row) for row in rows if (found := spread(row.scores(metric.name).values()))]
    return [row for _, row in sorted(means, key=lambda pair: sign * pair[0])]


def _cheapest(rows: list[Row]) -> dict[str, str]:
    """Cost -> the row with the lowest mean; a cost that some of the rows lack is left out."""
    found = {}
    for name in THRIFT:
        costs = [(value.mean, row.label) for row in rows if (value := cost(row, name))]
        if len(costs) == len(rows):
            found[name] = min(costs, key=lambda pair: pair[0])[1]
    return found
