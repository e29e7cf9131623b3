"""The answer of a study: which method to use, and how certain that is."""

from __future__ import annotations

from dataclasses import dataclass, field

from tuneoff.analysis.checks.caveats import LOUD
from tuneoff.analysis.decisions.recommend import among_trained
from tuneoff.analysis.decisions.rule import Scales
from tuneoff.analysis.figures import COSTS
from tuneoff.analysis.outcomes import Outcomes, over_seeds
from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.statistics import Estimate, Pair, Verdict, equivalence
from tuneoff.records.record import Finding, Metric

THRIFT = ("train_seconds", "peak_memory_bytes", "stored_bytes")
"""Costs by which the cheapest of the tied arms are named."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of a study.

    Attributes:
        best: label of the trained arm with the best mean of the primary metric, on the seeds that arms share (`rank`);
            None while none can be weighed.
        tied_with: labels that cannot be told apart from it, by as many seeds as are required.
        open: labels that share fewer seeds with it than a comparison requires, whatever the difference.
        behind: labels that are significantly worse.
        ahead: labels that are significantly better on the seeds that they share with it: only where arms have different
            seeds and each is behind another (`rank`).
        not_compared: labels for which no fair comparison could be made.
        without_score: labels of arms that train and have no score, or none yet.
        unequal_seeds: whether arms have scores of different seeds.
        baseline: label of the best arm that does not train; None where none can be weighed.
        not_above_baseline: trained arms that are not clearly better than the baseline (`Outcomes.above`).
        if_trained: where it is not shown that training helps, the arm that `recommend` gives among those that train.
        cheapest: cost -> label, among the best and those tied with it.
        margin: by how much an arm may be worse than the best and count as as good; None where the study says none.
        as_good: labels of arms that train and are shown to be worse than the best by no more than the margin.
        seeds: fewest seeds in a comparison to the best (of the best alone, if it has no rival).
        to_best: label -> that arm against the best, baselines included.
        to_baseline: label -> that trained arm against the baseline.
        verdict: of all arms on the primary metric, baselines included; None while there is none.
        caveats: warnings that belong to the answer, most serious first.
    """

    best: str | None
    tied_with: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    ahead: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()
    without_score: tuple[str, ...]
    unequal_seeds: bool
    baseline: str | None
    not_above_baseline: tuple[str, ...] = ()
    if_trained: str | None = None
    cheapest: dict[str, str] = field(default_factory=dict)
    margin: float | None
    as_good: tuple[str, ...] = ()
    seeds: int = 0
    to_best: dict[str, Pair] = field(default_factory=dict)
    to_baseline: dict[str, Pair] = field(default_factory=dict)
    verdict: Verdict | None
    caveats: tuple[str, ...]

    @property
    def significant(self) -> bool:
        """Returns whether some arm is significantly behind the best."""
        return bool(self.behind)

    @property
    def winner(self) -> str | None:
        """Returns the best arm, if it is significantly ahead of every other arm that trains; else None."""
        others = (self.tied_with, self.open, self.ahead, self.not_compared, self.without_score)
        return self.best if self.behind and not any(others) else None


def find_answer(results: Results, outcomes: Outcomes, warnings: list[Finding]) -> Answer:
    """Compares every arm to the best one and to the baseline."""
    metric, margin = results.primary, results.study.margin
    ranked_warnings = sorted((w for w in warnings if w.name in LOUD), key=lambda w: LOUD.index(w.name))
    caveats = tuple(w.message for w in ranked_warnings)
    verdict = outcomes.verdict(metric) if metric else None
    ranked = outcomes.ranked(results.arms, metric) if metric else []
    trained, baselines = [arm for arm in ranked if arm.trains], [arm for arm in ranked if not arm.trains]
    best, baseline = (outcomes.best(arms, metric) if metric else None for arms in (trained, baselines))
    scored = {arm.label for arm in ranked}
    without_score = tuple(arm.label for arm in results.arms if arm.trains and arm.label not in scored)
    figures = [outcomes.figure(arm, metric) for arm in ranked] if metric else []
    unequal = len({frozenset(figure.scores) for figure in figures if figure}) > 1
    if best is None or metric is None:
        return Answer(
            best=None,
            without_score=without_score,
            unequal_seeds=unequal,
            baseline=baseline.label if baseline else None,
            margin=margin,
            verdict=verdict,
            caveats=caveats,
        )

    def against(arm: Arm, other: Arm) -> Pair:
        return _pair(arm, other, outcomes, verdict, metric)

    to_baseline = {arm.label: against(arm, baseline) for arm in trained} if baseline else {}
    rivals = {arm.label: against(arm, best) for arm in trained[1:]}

    def standing(relation: str) -> tuple[str, ...]:
        return tuple(label for label, pair in rivals.items() if pair.relation == relation)

    unproven = outcomes.unproven(trained, baseline, metric)
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
        baseline=baseline.label if baseline else None,
        not_above_baseline=outcomes.not_above(trained, baseline, metric),
        if_trained=among_trained(Scales(results, outcomes, metric)) if unproven else None,
        cheapest=_cheapest([best, *(results.arm(label) for label in standing("tied"))]),
        margin=margin,
        as_good=tuple(
            label
            for label, pair in rivals.items()
            if margin is not None and equivalence(pair, margin, metric.direction) != "not_shown"
        ),
        seeds=min(counted, default=len(best.completed) + len(best.diverged)),
        to_best=rivals | {arm.label: against(arm, best) for arm in baselines},
        to_baseline=to_baseline,
        verdict=verdict,
        caveats=caveats,
    )


def cost(arm: Arm, name: str) -> Estimate | None:
    """Estimates a cost of an arm over its completed trials."""
    figure_of = next(c for c in COSTS if c.name == name).of
    return over_seeds(value for record in arm.completed if (value := figure_of(record)) is not None)


def _pair(arm: Arm, other: Arm, outcomes: Outcomes, verdict: Verdict | None, metric: Metric) -> Pair:
    """Compares one arm to another; gives the reason where one of them is not in the verdict."""
    try:
        if verdict is not None:
            return verdict.pair(arm.label, other.label)
    except KeyError:
        pass
    notes = [figure.note for r in (arm, other) if (figure := outcomes.figure(r, metric)) and figure.sample is None]
    seeds = len(arm.scores(metric.name).keys() & other.scores(metric.name).keys())
    reason = notes[0] if notes else "no seed that both completed"
    return Pair(
        first=arm.label,
        second=other.label,
        difference=None,
        interval=None,
        p=None,
        p_corrected=None,
        effect=None,
        win_rate=None,
        test=None,
        relation="not_compared",
        seeds=seeds,
        examples=None,
        seeds_needed=None,
        reason=reason,
    )


def _cheapest(arms: list[Arm]) -> dict[str, str]:
    """Maps each cost to the arm with the lowest mean; leaves out a cost that some of the arms lack."""
    cheapest = {}
    for name in THRIFT:
        costs = [(value.mean, arm.label) for arm in arms if (value := cost(arm, name))]
        if len(costs) == len(arms):
            cheapest[name] = min(costs, key=lambda pair: pair[0])[1]
    return cheapest
