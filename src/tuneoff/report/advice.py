"""Answers which arm of a study to use: the recommendation, its Pareto fronts, and both in words and as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tuneoff.analysis.axes import AXES, QUALITY, axis_named
from tuneoff.analysis.decisions.limits import Limit, cost_limit, form_limit, metric_limit, reference_limit
from tuneoff.analysis.decisions.pareto import Front, cost_draws, find_front, quality_draws
from tuneoff.analysis.decisions.recommend import Recommendation, recommend
from tuneoff.analysis.figures import FORGETTING
from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import Asked, Results, gather
from tuneoff.config.deployability import Form
from tuneoff.config.spec import PricesSpec
from tuneoff.errors import StoreError, StudyError, did_you_mean
from tuneoff.planning.problems import margin_problem
from tuneoff.records.record import Metric
from tuneoff.report import recommendation
from tuneoff.report.cost_wording import LIMIT_OPTIONS
from tuneoff.report.recommendation import Costs
from tuneoff.report.recommendation_data import build_recommendation
from tuneoff.report.recommendation_schema import RecommendationReport
from tuneoff.store import StudyStore

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Advice:
    """An answer that prints as words.

    Attributes:
        results: what it is of.
        recommendation: the recommendation.
        fronts: the Pareto fronts that were asked for.
    """

    results: Results
    recommendation: Recommendation
    fronts: tuple[Front, ...]

    @property
    def answer(self) -> str | None:
        """Returns the arm to use; None where no arm keeps the limits."""
        return self.recommendation.answer

    @property
    def trained(self) -> str | None:
        """Returns the arm to use if one trains all the same; None where none can be weighed."""
        recommendation = self.recommendation
        trained = recommendation.if_trained or recommendation.best
        return trained if recommendation.is_baseline or self.answer is None else self.answer

    @property
    def cautions(self) -> tuple[str, ...]:
        """Returns what to know before the answer."""
        return tuple(self.recommendation.caveats)

    @property
    def _costs(self) -> Costs:
        return {name: cost_draws(self.results, axis, draws=1).means for name, axis in AXES.items()}

    def lines(self) -> list[str]:
        """Returns the answer in words, then the reasons and all else there is to say."""
        texts = recommendation.lines(self.results, self.recommendation, self._costs)
        return [*texts, *(recommendation.front_text(front) for front in self.fronts)]

    @property
    def report(self) -> RecommendationReport:
        """Returns the recommendation as data, as docs/recommend.md describes it."""
        return build_recommendation(self.results, self.recommendation, self._costs, self.fronts)

    def as_data(self) -> dict[str, Any]:
        """Returns the same as plain data, as `tuneoff recommend --json` prints it."""
        return self.report.as_data()

    def __str__(self) -> str:
        return "\n".join([*(f"Caution: {caution}" for caution in self.cautions), *self.lines()])

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        answer, *rest = self.lines()
        first = [Text(f"Caution: {caution}", style="yellow") for caution in self.cautions]
        # That it is not shown that training helps comes before all cautions.
        first.insert(len(first) if self.recommendation.if_trained is None else 0, Text(answer, style="bold"))
        return Group(*first, *map(Text, rest))


@dataclass(frozen=True)
class Criteria:
    """What an arm must keep to be recommended, and what decides among those that do.

    Attributes:
        costs: axis (memory, time, stored, latency, money, forgetting) -> the most it may be, with its unit; None for no
            limit.
        at_least, at_most: limits of test metrics, as `accuracy=0.9`.
        metric: what quality is judged by; the primary metric where unset.
        as_good_as: label of an arm, or `best`, than which an arm must be shown to be worse by no more than the margin.
        margin: in the metric's unit; the study's own, which is of its primary metric, where unset.
        prices: of devices; the study's own where unset.
        forms: in which the arm's trained models must have been measured to work, such as `merged`.
        prefer: the cost that decides among arms that are equally good.
        pareto: axes of each front to find, e.g. `quality,memory`; quality and time where none is named.
    """

    costs: Mapping[str, str | None]
    at_least: Sequence[str] = ()
    at_most: Sequence[str] = ()
    metric: str | None = None
    prefer: str = "time"
    pareto: Sequence[str] = ()
    as_good_as: str | None = None
    margin: float | None = None
    prices: PricesSpec | None = None
    forms: Sequence[Form] = ()

    def cost_limits(self) -> list[Limit]:
        """Reads the limits of costs.

        Raises:
            StudyError: if one cannot be read.
        """
        return [cost_limit(axis, text, LIMIT_OPTIONS[axis]) for axis, text in self.costs.items() if text is not None]


def advise(store: StudyStore, criteria: Criteria, asked: Asked | None = None) -> Advice:
    """Recommends an arm of the study in a folder, of the arms and seeds that are asked for; of all where unset.

    Raises:
        StoreError: if no trial is completed.
        StudyError: if a limit, the metric or an axis cannot be read.
    """
    return advise_results(gather(store, asked, prices=criteria.prices), criteria)


def advise_results(results: Results, criteria: Criteria) -> Advice:
    """Recommends an arm of these results; see `advise`."""
    limits = criteria.cost_limits()
    limits = in_currency(criteria, limits, results.study.prices)
    _require_held(criteria, results)
    test_metrics = {m.name: m for record in results.completed for m in record.metrics if m.split == "test"}
    metric = _metric(criteria.metric, results.primary, test_metrics, results.store)
    limits += [metric_limit(text, "--min", test_metrics.values()) for text in criteria.at_least]
    limits += [metric_limit(text, "--max", test_metrics.values()) for text in criteria.at_most]
    limits += [form_limit(form) for form in criteria.forms]
    outcomes = Outcomes(results)
    if criteria.as_good_as is not None:
        best = outcomes.best((arm for arm in results.arms if arm.trains), metric)
        labels = [arm.label for arm in results.arms]
        margin = _margin(criteria, results, metric)
        limits.append(reference_limit(criteria.as_good_as, margin, metric, labels, best.label if best else None))
    elif criteria.margin is not None:
        raise StudyError("--margin is for --as-good-as", hint="For example --as-good-as best --margin 0.01.")
    fronts = tuple(_front(results, outcomes, metric, axes) for axes in criteria.pareto or ("quality,time",))
    return Advice(results, recommend(results, outcomes, metric, limits, criteria.prefer), fronts)


def in_currency(criteria: Criteria, limits: Sequence[Limit], prices: PricesSpec | None) -> list[Limit]:
    """Returns the limits, those of money with their currency.

    Raises:
        StudyError: if money is asked about and no prices are stated.
    """
    if prices is None and (criteria.costs.get("money") is not None or criteria.prefer == "money"):
        option = "--max-money" if criteria.costs.get("money") is not None else "--prefer money"
        raise StudyError(
            f"{option} needs prices, and the study has none",
            hint="Give a file of prices, --prices FILE, with your own price of an hour; examples/prices.yaml is one.",
        )
    return [
        replace(limit, text=f"{limit.text} {prices.currency}")
        if prices is not None and limit.axis is not None and limit.axis.unit == "money"
        else limit
        for limit in limits
    ]


def _require_held(criteria: Criteria, results: Results) -> None:
    """Refuses to ask of forgetting where nothing is held.

    Raises:
        StudyError: names the option that asks.
    """
    if any(record.retention.held for record in results.completed):
        return
    options = {
        "--max-forgetting": criteria.costs.get(FORGETTING) is not None,
        f"--prefer {FORGETTING}": criteria.prefer == FORGETTING,
    }
    if option := next((option for option, is_asked in options.items() if is_asked), ""):
        raise StudyError(
            f"{option} needs something that is scored before and after training, and the study holds nothing",
            hint="Run it with a text or a task that is held, e.g. `retention: docstrings` (docs/retention.md).",
        )


def _margin(criteria: Criteria, results: Results, metric: Metric) -> float | None:
    """Returns the margin of the metric that is asked for; the study's own is one of its primary metric.

    Raises:
        StudyError: if it cannot be one of that metric.
    """
    if criteria.margin is None:
        return results.study.margin if results.primary and metric.name == results.primary.name else None
    if problem := margin_problem(criteria.margin, metric.name, metric.unit):
        raise StudyError(f"--margin: {problem}")
    return criteria.margin


def _metric(name: str | None, primary: Metric | None, test_metrics: dict[str, Metric], store: StudyStore) -> Metric:
    """Returns the metric that quality is judged by.

    Raises:
        StoreError: if no trial is completed.
        StudyError: if no trial has that metric.
    """
    if primary is None:
        raise StoreError(f"no trial of {store.root} is completed yet", hint="Run the study first, or let it go on.")
    if name is not None and name not in test_metrics:
        raise StudyError(
            f"--metric: no test metric {name!r}{did_you_mean(name, test_metrics)}",
            hint=f"Test metrics of this study: {', '.join(test_metrics)}.",
        )
    return test_metrics[name] if name else primary


def _front(results: Results, outcomes: Outcomes, metric: Metric, text: str) -> Front:
    """Finds the Pareto front on the axes that a list names.

    Raises:
        StudyError: if it does not name two or three axes, each once.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    axes = [axis_named(name) for name in names]
    if len(set(names)) != len(names) or not 2 <= len(names) <= 3:
        raise StudyError(
            f"--pareto: {text!r} does not name two or three different axes", hint="For example --pareto quality,memory."
        )
    draws = [quality_draws(results, outcomes, metric) if a is None else cost_draws(results, a) for a in axes]
    return find_front(draws, {QUALITY: metric.direction})
