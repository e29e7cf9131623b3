"""The answer of a study: which method to use, and how certain that is."""

from __future__ import annotations

from dataclasses import dataclass

from tuneoff.analysis.checks.caveats import LOUD
from tuneoff.analysis.decisions.recommend import among_trained
from tuneoff.analysis.decisions.rule import Scales
from tuneoff.analysis.figures import COSTS
from tuneoff.analysis.outcomes import Outcomes, over_seeds
from tuneoff.analysis.results import Results, Row
from tuneoff.analysis.statistics import Estimate, Pair, Verdict
from tuneoff.records.record import Finding, Metric

THRIFT = ("train_seconds", "peak_memory_bytes", "stored_bytes")
"""Costs by which the cheapest of the tied rows are named."""


@dataclass(frozen=True)
class Answer:
    """The answer of a study.

    Attributes:
        best: label of the trained row with the best mean of the primary metric, on the seeds that rows share (`rank`);
            None while none can be weighed.
        tied_with: labels that cannot be told apart from it, by as many seeds as are required.
        open: labels that share fewer seeds with it than a comparison requires, whatever the difference.
        behind: labels that are significantly worse.
        ahead: labels that are significantly better on the seeds that they share with it: only where rows have different
            seeds and each is behind another (`rank`).
        not_compared: labels for which no fair comparison could be made.
        without_score: labels of rows that train and have no score, or none yet.
        unequal_seeds: whether rows have scores of different seeds.
        floor: label of the best row that does not train; None where none can be weighed.
        not_above_floor: trained rows that are not clearly better than the floor (`Outcomes.above`).
        if_trained: where it is not shown that training helps, the row that `recommend` gives among those that train.
        cheapest: cost -> label, among the best and those tied with it.
        seeds: fewest seeds in a comparison to the best (of the best alone, if it has no rival).
        to_best: label -> that row against the best, floors included.
        to_floor: label -> that trained row against the floor.
        verdict: of all rows on the primary metric, floors included; None while there is none.
        caveats: warnings that belong to the answer, most serious first.
    """

    best: str | None
    tied_with: tuple[str, ...]
    open: tuple[str, ...]
    behind: tuple[str, ...]
    ahead: tuple[str, ...]
    not_compared: tuple[str, ...]
    without_score: tuple[str, ...]
    unequal_seeds: bool
    floor: str | None
    not_above_floor: tuple[str, ...]
    if_trained: str | None
    cheapest: dict[str, str]
    seeds: int
    to_best: dict[str, Pair]
    to_floor: dict[str, Pair]
    verdict: Verdict | None
    caveats: tuple[str, ...]

    @property
    def significant(self) -> bool:
        """Returns whether some row is significantly behind the best."""
        return bool(self.behind)

    @property
    def winner(self) -> str | None:
        """Returns the best row, if it is significantly ahead of every other row that trains; else None."""
        others = (self.tied_with, self.open, self.ahead, self.not_compared, self.without_score)
        return self.best if self.behind and not any(others) else None


def find_answer(results: Results, outcomes: Outcomes, warnings: list[Finding]) -> Answer:
    """Compares every row to the best one and to the floor."""
    metric = results.primary
    ranked_warnings = sorted((w for w in warnings if w.name in LOUD), key=lambda w: LOUD.index(w.name))
    caveats = tuple(w.message for w in ranked_warnings)
    verdict = outcomes.verdict(metric) if metric else None
    ranked = outcomes.ranked(results.rows, metric) if metric else []
    trained, floors = [row for row in ranked if row.trains], [row for row in ranked if not row.trains]
    best, floor = (outcomes.best(rows, metric) if metric else None for rows in (trained, floors))
    scored = {row.label for row in ranked}
    without_score = tuple(row.label for row in results.rows if row.trains and row.label not in scored)
    figures = [outcomes.figure(row, metric) for row in ranked] if metric else []
    unequal = len({frozenset(figure.scores) for figure in figures if figure}) > 1
    if best is None or metric is None:
        name = floor.label if floor else None
        return Answer(None, (), (), (), (), (), without_score, unequal, name, (), None, {}, 0, {}, {}, verdict, caveats)

    def against(row: Row, other: Row) -> Pair:
        return _pair(row, other, outcomes, verdict, metric)

    to_floor = {row.label: against(row, floor) for row in trained} if floor else {}
    rivals = {row.label: against(row, best) for row in trained[1:]}

    def standing(relation: str) -> tuple[str, ...]:
        return tuple(label for label, pair in rivals.items() if pair.relation == relation)

    unproven = outcomes.unproven(trained, floor, metric)
    counted = [pair.seeds for pair in rivals.values() if pair.relation != "not_compared"]
    return Answer(
        best=best.label,
        tied_with=standing("tied"),
        open=standing("open"),
        behind=standing("behind"),
        ahead=standing("ahead"),
        not_compared=standing("not_compared"),
        without_score=without_score,
        unequal_seeds=unequal,
        floor=floor.label if floor else None,
        not_above_floor=outcomes.not_above(trained, floor, metric),
        if_trained=among_trained(Scales(results, outcomes, metric)) if unproven else None,
        cheapest=_cheapest([best, *(results.row(label) for label in standing("tied"))]),
        seeds=min(counted, default=len(best.completed) + len(best.diverged)),
        to_best=rivals | {row.label: against(row, best) for row in floors},
        to_floor=to_floor,
        verdict=verdict,
        caveats=caveats,
    )


def cost(row: Row, name: str) -> Estimate | None:
    """Estimates a cost of a row over its completed trials."""
    figure_of = next(c for c in COSTS if c.name == name).of
    return over_seeds(value for record in row.completed if (value := figure_of(record)) is not None)


def _pair(row: Row, other: Row, outcomes: Outcomes, verdict: Verdict | None, metric: Metric) -> Pair:
    """Compares one row to another; gives the reason where one of them is not in the verdict."""
    try:
        if verdict is not None:
            return verdict.pair(row.label, other.label)
    except KeyError:
        pass
    notes = [figure.note for r in (row, other) if (figure := outcomes.figure(r, metric)) and figure.sample is None]
    seeds = len(row.scores(metric.name).keys() & other.scores(metric.name).keys())
    reason = notes[0] if notes else "no seed that both completed"
    return Pair(
        first=row.label,
        second=other.label,
        difference=None,
        interval=None,
        p=None,
        p_holm=None,
        effect=None,
        win_rate=None,
        test=None,
        relation="not_compared",
        seeds=seeds,
        examples=None,
        seeds_needed=None,
        reason=reason,
    )


def _cheapest(rows: list[Row]) -> dict[str, str]:
    """Maps each cost to the row with the lowest mean; leaves out a cost that some of the rows lack."""
    cheapest = {}
    for name in THRIFT:
        costs = [(value.mean, row.label) for row in rows if (value := cost(row, name))]
        if len(costs) == len(rows):
            cheapest[name] = min(costs, key=lambda pair: pair[0])[1]
    return cheapest
