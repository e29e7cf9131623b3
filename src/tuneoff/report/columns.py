"""The columns of the report's tables: one definition for markdown, terminal and CSV readers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from tuneoff.analysis.figures import COSTS as MEASURED
from tuneoff.analysis.figures import FORGETTING, metric_name
from tuneoff.report import units
from tuneoff.report.arm_schema import ArmSummary, Best, Comparison, Figure, TestFigure
from tuneoff.report.schema import Report

_TIMED = {cost.name for cost in MEASURED if cost.timing}


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: name of the metric or figure in the method's entry.
        title: heading.
        short: heading where room is scarce.
        better: which way is better; None where neither is.
        spread: text of a mean and a standard deviation.
        quality: whether it is a metric, which random weights make meaningless.
    """

    key: str
    title: str
    better: Literal["higher", "lower"] | None
    spread: Callable[[float, float | None], str]
    quality: bool = False
    short: str = ""

    @property
    def timing(self) -> bool:
        """Returns whether a busy machine spoils it."""
        return self.key in _TIMED

    def figure(self, entry: ArmSummary) -> Figure | int | None:
        """Returns the arm's figure, or its count; None where the arm has no such metric or count."""
        if self.quality:
            return entry.metrics.get(self.key)
        figure: Figure | int | None = getattr(entry, self.key)
        return figure

    def value(self, entry: ArmSummary) -> tuple[float, float | None] | None:
        """Returns mean and standard deviation, or None where there is no figure."""
        figure = self.figure(entry)
        if not isinstance(figure, Figure):
            return None if figure is None else (float(figure), None)
        return None if figure.mean is None else (figure.mean, figure.std)

    def comparable(self, entry: ArmSummary) -> float | None:
        """Returns the mean by which arms are ranked. A metric is compared with other arms' on the seeds that they
        share."""
        if self.quality:
            return entry.metrics[self.key].ranked_mean if self.key in entry.metrics else None
        value = self.value(entry)
        return value[0] if value else None

    def text(self, entry: ArmSummary) -> str | None:
        """Returns the cell's text, with its mark; None where there is no figure."""
        value = self.value(entry)
        return None if value is None else self.spread(*value) + self.mark(entry)

    def mark(self, entry: ArmSummary) -> str:
        """Returns ` †` at a contended timing, ` ‡` at a metric with diverged seeds; else an empty string."""
        if self.quality and self.key in entry.metrics and entry.metrics[self.key].diverged_seeds:
            return " ‡"
        return " †" if self.timing and entry.contended else ""

    def interval(self, entry: ArmSummary) -> str | None:
        """Returns `0.862 [0.841, 0.880]`, or the mean alone where there is no interval or it rounds to the mean.

        None where there is no figure.
        """
        figure = self.figure(entry)
        if not isinstance(figure, Figure) or figure.mean is None:
            return None
        text = self.spread(figure.mean, None)
        if figure.interval_low is not None and figure.interval_high is not None:
            ends = [self.spread(end, None) for end in (figure.interval_low, figure.interval_high)]
            text += f" [{', '.join(ends)}]" if set(ends) != {text} else ""
        ties = figure.ties if isinstance(figure, TestFigure) else ""
        return text + (f" {ties}" if ties else "") + self.mark(entry)

    def why_missing(self, entry: ArmSummary) -> str:
        """Returns the reason for an empty cell."""
        figures = ("metrics", self.key) if self.quality else (self.key,)
        reasons = [item.reason for item in entry.missing if item.figure in figures]
        return reasons[0] if reasons else "not recorded"


def _plain(text: Callable[[float], str]) -> Callable[[float, float | None], str]:
    return lambda value, _: text(value)


TRAIN_TIME = Column("train_seconds", "train time", "lower", units.seconds_spread, short="time")
MEMORY = Column("peak_memory_bytes", "peak memory", "lower", units.size_spread, short="memory")
TRAINABLE = Column("trainable_parameters", "trainable", "lower", _plain(units.count), short="trained")
STORED = Column("stored_bytes", "stored", "lower", units.size_spread)

FORGETTING_COLUMN = Column(FORGETTING, "forgetting", "lower", units.change_spread)

MEMORY_KINDS: dict[str, str] = {
    "resident": "the process's resident memory in training",
    "cuda_allocated": "what CUDA's allocator gave out in training",
    "cuda_reserved": "what CUDA's allocator held over the whole run",
}
"""`memory_kind` -> what an arm's peak memory is the peak of."""

COSTS = (TRAIN_TIME, MEMORY, TRAINABLE, STORED)


def costs(report: Report) -> tuple[Column, ...]:
    """Returns the columns of costs; money among them, behind the time that it is of, where prices are stated, and what
    is forgotten, where something is held."""
    money = () if report.money is None else (_money("money", "money", report.money.currency),)
    forgetting = () if report.retention is None else (FORGETTING_COLUMN,)
    return (TRAIN_TIME, *money, *COSTS[1:], *forgetting)


def speeds(report: Report) -> tuple[Column, ...]:
    """Returns the columns of speeds; the price of predictions among them where prices are stated."""
    if report.money is None:
        return SPEED
    return (*SPEED, _money("prediction_money", "1,000 predictions", report.money.currency))


def _money(key: str, title: str, currency: str) -> Column:
    return Column(key, f"{title} ({currency})", "lower", units.number_spread, short=currency)


LENGTH = Column("generated_tokens_mean", "tokens written", None, units.number_spread)

LATENCY = Column("latency_seconds", "latency, one", "lower", units.seconds_spread)
LATENCY_EXAMPLES = 5
"""Fewest single examples whose median latency may be called the best: of fewer, one text's length decides it."""

SPEED = (
    Column("step_seconds", "one step", "lower", units.seconds_spread),
    Column("peak_over_base_bytes", "memory over base", "lower", units.size_spread),
    Column("examples_per_second", "examples/s", "higher", units.number_spread),
    Column("tokens_per_second", "tokens/s", "higher", units.number_spread),
    LATENCY,
    Column("batched_examples_per_second", "inference examples/s", "higher", units.number_spread),
    Column("generated_tokens_per_second", "written tokens/s", "higher", units.number_spread),
    LENGTH,
    Column("total_seconds", "whole trial", "lower", units.seconds_spread),
    Column("gradient_norm_mean", "gradient norm, mean", None, units.number_spread),
    Column("gradient_norm_max", "max", None, units.number_spread),
    Column("energy_joules", "energy (J)", "lower", units.number_spread),
)


def score(value: float, std: float | None = None, unit: str | None = None) -> str:
    """Formats a metric: three decimals for fractions and nats, about four digits for what may be any size."""
    return units.score(value, std) if unit in _SMALL else units.number_spread(value, std)


def bound(value: float, unit: str | None, up: bool = True) -> str:
    """Formats a bound of a metric with the digits of `score`, rounded up (or down) so that it still holds."""
    return units.bound(value, 3 if unit in _SMALL else units.decimals(value), up)


_SMALL = (None, "fraction", "nats")


def metrics(report: Report) -> list[Column]:
    """Returns a column per test metric. First comes the primary one, then the first other one that validation scores
    while training (it usually selects the checkpoint), then the rest in the task's order."""
    by_name: dict[str, TestFigure] = {}
    validation_names: dict[str, None] = {}
    for entry in report.methods:
        for name, metric in entry.metrics.items():
            by_name.setdefault(name, metric)
        validation_names |= dict.fromkeys(entry.validation_metrics if entry.trains else ())
    primary = report.study.primary_metric
    second = next((name for name in validation_names if name != primary and name in by_name), None)
    names = sorted(by_name, key=lambda name: (name != primary, name != second))
    return [
        Column(name, metric_name(name), by_name[name].direction, partial(score, unit=by_name[name].unit), quality=True)
        for name in names
    ]


def best_arms(column: Column, report: Report) -> set[str]:
    """Returns the labels of the arms that train and whose figure is the best of the column.

    Nothing is best where random weights make quality meaningless, nor among timings of which some are contended:
    those arms may truly be faster. Nor is a latency of which some are of too few examples.
    """
    if column.better is None or (column.quality and report.study.random_weights):
        return set()
    compared = [(e, value) for e in report.methods if e.trains and (value := column.comparable(e)) is not None]
    values = {entry.method: value for entry, value in compared}
    if len(values) < 2 or (column.timing and any(entry.contended for entry, _ in compared)):
        return set()
    example_counts = [entry.latency_examples for entry, _ in compared if entry.latency_examples is not None]
    if column is LATENCY and min(example_counts, default=LATENCY_EXAMPLES) < LATENCY_EXAMPLES:
        return set()
    best = max(values.values()) if column.better == "higher" else min(values.values())
    if all(value == best for value in values.values()):
        return set()
    return {label for label, value in values.items() if value == best}


def standing(entry: ArmSummary, unit: str | None) -> str:
    """Returns how an arm compares with the best: `best`, `tied`, or the difference with its interval, in the metric's
    unit; `(open)` behind it where seeds are too few to tell."""
    pair = entry.to_best
    if pair is None:
        return "–"
    if isinstance(pair, Best):
        return pair.relation
    if pair.difference is None:
        return "not compared"
    text = pair.relation if pair.relation == "tied" else difference(pair, unit)
    return text + (" (open)" if pair.relation == "open" else "") + within_margin(pair)


def within_margin(pair: Comparison) -> str:
    """Returns `, within the margin` where the arm is shown to be as good as the other; else an empty string."""
    return ", within the margin" if pair.equivalence in ("as_good", "equivalent") else ""


def difference(pair: Comparison, unit: str | None) -> str:
    """Formats a pair's difference with its interval, where there is one: `-0.120 [-0.150, -0.090]`; `–` without a
    difference."""
    if pair.difference is None:
        return "–"
    if pair.interval_low is None or pair.interval_high is None:
        return f"{signed(pair.difference, unit)} (no interval)"
    texts = [signed(value, unit) for value in (pair.difference, pair.interval_low, pair.interval_high)]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


def seeds_range(least: int, most: int | None) -> str:
    """Formats the range of a number of seeds: `9 to 40 seeds`, `9 seeds or more`."""
    if most is None:
        return f"{least} seeds or more"
    return f"{least} to {most} seeds" if least != most else f"{least} seeds"


def any_diverged(report: Report) -> bool:
    """Returns whether diverged seeds count in some metric."""
    return any(metric.diverged_seeds for entry in report.methods for metric in entry.metrics.values())


def grouped(report: Report) -> bool:
    """Returns whether arms fall into several groups, so that their letters say something."""
    return report.verdict is not None and len(report.verdict.groups) > 1


def signed(value: float, unit: str | None) -> str:
    return units.with_sign(value, score(abs(value), unit=unit))


def trials(entry: ArmSummary) -> str:
    """Returns `2` where all seeds completed, else `1 of 2 (1 diverged)`."""
    planned_count, completed_count = len(entry.planned_seeds), len(entry.seeds)
    if planned_count == completed_count:
        return str(completed_count)
    others = ", ".join(f"{count} {name}" for name, count in entry.statuses.items() if name != "completed")
    return f"{completed_count} of {planned_count} ({others})"
