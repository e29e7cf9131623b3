"""What the equal search before the final trials tried, chose and cost, and how sensitive the arms are to it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from tuneoff.analysis.arm_search import whole_seconds, whole_sum
from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.search_data import arm_data
from tuneoff.analysis.side_by_side import JoinedStore
from tuneoff.config.base import Frozen
from tuneoff.config.search import Prune, Sampler, SearchSpec, Stop
from tuneoff.planning.plan import search_studies
from tuneoff.search.rates import describe_first_rates
from tuneoff.search.sampling import SPREAD
from tuneoff.search.space import LEARNING_RATE

RateFrom = Literal["search", "protocol", "study", "default"]
TRIALS_FOR_MEDIAN = 5
"""Fewest trials whose median says something of a range."""


class SearchRung(Frozen):
    """One stage of a pruned search, equal for every arm."""

    trials: int = Field(description="the most trials of an arm")
    steps: int = Field(description="the most optimizer steps of each")


class Choices(Frozen):
    """A list of values that is searched."""

    choices: tuple[Any, ...] = Field(description="the values")
    first: Any = Field(description="the one that is tried first")


class Range(Frozen):
    """A range of numbers that is searched, both ends included."""

    low: int | float = Field(description="lower end")
    high: int | float = Field(description="upper end")
    log: bool = Field(description="whether its scale is logarithmic")
    first: int | float = Field(description="what is tried first")


Space = dict[str, Choices | Range]


class SearchTrial(Frozen):
    """One trial of the search."""

    trial: str = Field(description="its id")
    values: dict[str, Any] = Field(description="option or `learning_rate` -> what was tried")
    rung: int = Field(description="its share of the steps, from 0; always 0 without pruning")
    stopped: bool = Field(
        False, description="whether it was stopped on the way (`search.stop`); its score is that of then"
    )
    steps: int | None = Field(description="steps trained; null where it did not complete")
    status: str = Field(description="what became of it")
    score: float | None = Field(description="the validation metric; null where it did not complete")
    loss: float | None = Field(description="the validation loss, which decides between equal scores")
    train_seconds: float | None = Field(description="of training alone")
    total_seconds: float | None = Field(description="of the whole trial")


class SearchedArm(Frozen):
    """One arm's search."""

    method: str = Field(description="the arm's label")
    seed: int | None = Field(description="the final seed that it is of, where every one has its own; else null")
    space: Space = Field(description="option or `learning_rate` -> the range or values that were searched")
    grown: bool = Field(description="whether the ranges were widened")
    tried_count: int = Field(description="its search trials")
    configurations: int = Field(description="how many were tried; without pruning as many as trials")
    failed: int = Field(description="search trials that did not complete")
    exhausted: bool = Field(description="whether every configuration there is was tried")
    choice: dict[str, Any] | None = Field(description="what the final trials have; null while the search is not over")
    best: str | None = Field(description="id of the best trial; null where none completed")
    score: float | None = Field(description="the best trial's; null where none completed")
    at_edge: dict[str, str] = Field(description="what of the best lies at an edge of its range: `lower` or `upper`")
    median_drop: float | None = Field(
        description="sensitivity: how much worse the median of its trials scores than its best one, in the metric's "
        "unit and never negative. A trial that did not complete is the worst. But with `random` the median is of the "
        "first six trials, because later ones stand where scores are good. With pruning both are of the first rung, "
        "whose trials had equal steps. Validation noise is part of it, and a wider range gives a larger one"
    )
    median_drop_reason: str = Field(
        description="why that is null: fewer than five trials, half of them or more failed, none completed; else empty"
    )
    train_seconds: float = Field(description="the cost of its search: training alone")
    total_seconds: float | None = Field(
        description="the same of whole trials; null where one has no time of its own, as of those that shared a process"
    )
    final_train_seconds: float = Field(description="training of its final trials")
    final_total_seconds: float | None = Field(description="the same of whole trials, null likewise")
    money: float | None = Field(None, description="the cost of its search at the price of its final trials' device")
    money_reason: str = Field("", description="why that is null; else empty")
    tried: tuple[SearchTrial, ...] = Field(description="its search trials in order")

    @property
    def name(self) -> str:
        """Returns the arm's label, with the seed where every one has a search of its own."""
        return self.method if self.seed is None else f"{self.method} seed {self.seed}"

    @property
    def best_trial(self) -> SearchTrial | None:
        """Returns the best trial; None where none completed."""
        return next((trial for trial in self.tried if trial.trial == self.best), None)


class SearchSummary(Frozen):
    """The search of a study."""

    trials: int = Field(description="search trials of an arm, as the protocol asks; of one seed with `per_seed`")
    per_seed: bool = Field(description="likewise: whether every final seed has a search of its own")
    seed: int = Field(description="seed of the search, likewise")
    sampler: Sampler = Field(description="likewise")
    grow: bool = Field(description="likewise: whether ranges may grow")
    prune: Prune = Field(description="likewise")
    stop: Stop = Field(description="likewise: the rule by which trials are stopped on the way")
    rungs: tuple[SearchRung, ...] = Field(description="as in `search.json`; empty without pruning")
    train_rows: int | None = Field(
        description="training rows that a search trial gets, the protocol's own filled in; null: no limit"
    )
    epochs: int | None = Field(description="epochs, likewise")
    max_steps: int | None = Field(description="steps, likewise")
    metric: str = Field(description="the validation metric that it goes by")
    direction: str = Field(description="`higher` or `lower` is better")
    unit: str | None = Field(description="the metric's unit; null while nothing is completed")
    complete: bool = Field(description="whether it is over; no arm has a `choice` before")
    equal: bool = Field(description="whether all arms have tried the same number of configurations")
    tried_count: int = Field(
        description="search trials of all arms. With pruning a configuration that goes on is a trial in every rung "
        "that it reaches"
    )
    failed: int = Field(description="those of them that did not complete")
    train_seconds: float = Field(description="the cost, summed over search trials: training alone")
    total_seconds: float | None = Field(
        description="the same of whole trials; null where one has no time of its own, as of those that shared a process"
    )
    final_train_seconds: float = Field(description="training of these arms' final trials")
    final_total_seconds: float | None = Field(description="the same of whole trials, null likewise")
    money: float | None = Field(None, description="the cost at the study's `prices`")
    money_reason: str = Field("", description="why that is null: without prices, or where an arm's is; else empty")
    first_rates: str = Field("", description="by what the rates were chosen that were tried first; empty without any")
    arms: tuple[SearchedArm, ...] = Field(
        description="one object per searched arm, in the study's order; with `per_seed` one of each of its seeds"
    )
    not_searched: tuple[str, ...] = Field(description="labels of arms that train and of which the search holds nothing")


_SUMS = ("tried_count", "failed", "train_seconds", "final_train_seconds")
_WHOLE_SUMS = ("total_seconds", "final_total_seconds", "money")


def summarise_search(results: Results) -> SearchSummary | None:
    """Summarises what `search.json` holds, with the final trials' cost and each arm's sensitivity; None without a
    search."""
    search, asked = results.search, results.study.protocol.search
    if search is None or asked is None:
        return None
    settings = next(iter(search_studies(results.study).values())).protocol.search
    assert settings is not None
    sign = 1.0 if search["metric"]["direction"] == "higher" else -1.0
    found = {arm.label: arm_data(search, arm.label) for arm in results.arms}
    arms = [_arm(arm, seed, data, sign, settings) for arm in results.arms for seed, data in found[arm.label].items()]
    protocol = results.study.protocol
    name = search["metric"]["name"]
    units_of = [m.unit for r in results.completed for m in r.metrics if (m.name, m.split) == (name, "validation")]
    return SearchSummary(
        **asked.model_dump(include={"seed", "sampler", "grow", "prune", "stop"}),
        per_seed=bool(asked.per_seed),
        trials=settings.trials,
        rungs=tuple(SearchRung(**rung) for rung in search["rungs"]),
        **{
            key: getattr(protocol, key) if getattr(settings, key) is None else getattr(settings, key)
            for key in ("train_rows", "epochs", "max_steps")
        },
        metric=name,
        direction=search["metric"]["direction"],
        unit=units_of[0] if units_of else None,
        complete=search["complete"],
        equal=search["equal"],
        **{key: sum(getattr(arm, key) for arm in arms) for key in _SUMS},
        **{key: whole_sum([getattr(arm, key) for arm in arms]) for key in _WHOLE_SUMS},
        money_reason="; ".join(dict.fromkeys(arm.money_reason for arm in arms if arm.money is None)),
        first_rates=_first_rates(results, arms),
        arms=tuple(arms),
        not_searched=tuple(arm.label for arm in results.arms if arm.trains and not found[arm.label]),
    )


def _first_rates(results: Results, arms: Sequence[SearchedArm]) -> str:
    firsts = {
        arm.method: arm.tried[0].values[LEARNING_RATE]
        for arm in arms
        if arm.tried and LEARNING_RATE in arm.space and arm.method in results.study.methods
    }
    return describe_first_rates(results.study, firsts) if firsts else ""


def _arm(arm: Arm, seed: int | None, result: dict[str, Any], sign: float, settings: SearchSpec) -> SearchedArm:
    """Summarises the search of an arm, for one final seed or for all; `settings` are those of one search."""
    records = [record for record in arm.records if seed in (None, record.spec.seed)]
    tried = tuple(SearchTrial(**trial) for trial in result["tried"])
    space: Space = {
        name: Choices(**dimension) if "choices" in dimension else Range(**dimension)
        for name, dimension in result["space"].items()
    }
    best = next((trial for trial in tried if trial.trial == result["best"]), None)
    # Only scores after equally many steps can be held against one another.
    first = [trial for trial in tried if not trial.rung]
    reference = best if len(first) == len(tried) else _best(first, sign)
    spread = spread_count(settings.trials, settings.sampler)
    drop, reason = _median_drop(first[:spread], reference, sign)
    seconds = whole_sum([trial.total_seconds for trial in tried])
    money, money_reason = _money(arm, tried, seconds)
    return SearchedArm(
        method=arm.label,
        seed=seed,
        space=space,
        grown=result["grown"],
        tried_count=len(tried),
        configurations=len(first),
        failed=result["failed"],
        exhausted=len(first) >= _size(space),
        choice=result["choice"],
        best=result["best"],
        score=best.score if best else None,
        at_edge=result["at_edge"],
        median_drop=drop,
        median_drop_reason=reason,
        train_seconds=result["train_seconds"],
        total_seconds=seconds,
        final_train_seconds=sum(record.timing.train_seconds or 0.0 for record in records),
        final_total_seconds=whole_seconds(records),
        money=money,
        money_reason=money_reason,
        tried=tried,
    )


def _money(arm: Arm, tried: Sequence[SearchTrial], seconds: float | None) -> tuple[float | None, str]:
    """Returns what the search costs at the price of the arm's final trials, and why that is not known."""
    pairs = [(record.money.trial, record.timing.total_seconds) for record in arm.completed]
    prices = [amount / own for amount, own in pairs if amount is not None and own]
    if seconds is None:
        untimed = sum(trial.total_seconds is None for trial in tried)
        return None, f"{untimed} of {len(tried)} search trials of {arm.label} have no time of their own"
    if not prices:
        unpriced = f"no final trial of {arm.label} has completed, whose price it would have"
        reasons = (why for record in arm.completed if (why := record.missing.get("money.trial")))
        return None, next(reasons, unpriced)
    if max(prices) - min(prices) > 1e-9 * max(prices):
        return None, f"final trials of {arm.label} ran on devices of different prices"
    return prices[0] * seconds, ""


def spread_count(trials: int, sampler: Sampler) -> int:
    """Counts the trials, from the first on, that are spread over the whole space: later ones stand where scores are
    good."""
    return trials if sampler == "random" else min(trials, SPREAD)


def _best(trials: list[SearchTrial], sign: float) -> SearchTrial | None:
    scored = [(sign * trial.score, trial) for trial in trials if trial.score is not None]
    return max(scored, key=lambda pair: pair[0], default=(0.0, None))[1]


def _size(space: Space) -> float:
    """Counts the configurations of a space."""
    return math.prod(_values(dimension) for dimension in space.values())


def _values(dimension: Choices | Range) -> float:
    if isinstance(dimension, Choices):
        return len(dimension.choices)
    low, high = dimension.low, dimension.high
    return high - low + 1 if isinstance(low, int) and isinstance(high, int) else math.inf


def _median_drop(trials: list[SearchTrial], best: SearchTrial | None, sign: float) -> tuple[float | None, str]:
    """Returns how much worse the median of these trials is than the best; or None and why. A failed trial is the
    worst."""
    if best is None or best.score is None:
        return None, "no trial completed"
    if len(trials) < TRIALS_FOR_MEDIAN:
        return None, f"fewer than {TRIALS_FOR_MEDIAN} trials"
    scores = [-math.inf if trial.score is None else sign * trial.score for trial in trials]
    median = statistics.median(scores)
    if median == -math.inf:
        return None, "half of the trials or more failed"
    return sign * best.score - median, ""


def rate_from(results: Results, arm: Arm) -> RateFrom | None:
    """Returns where an arm's learning rate comes from: `search`, `protocol` (one for all), `study`, or `default` (the
    method).

    None of an arm that does not train, and where studies are joined: each of them may have been searched or not.
    """
    if not arm.trains or isinstance(results.store, JoinedStore):
        return None
    searches = arm_data(results.search, arm.label) if results.search and results.study.protocol.search else {}
    result = searches.get(None) or searches.get(arm.trials[0].seed)
    if result and result["choice"] and arm.learning_rate == result["choice"].get(LEARNING_RATE):
        return "search"
    if results.study.protocol.learning_rate is not None:
        return "protocol"
    method = results.study.methods.get(arm.trials[0].label)
    return "study" if method is not None and method.learning_rate == arm.learning_rate else "default"
