"""The columns of the report's tables: one definition for markdown, terminal and CSV readers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from tuneoff.analysis.figures import metric_name
from tuneoff.report import units

Entry = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: name of the metric or figure in the method's entry.
        title: heading.
        short: heading where room is scarce.
        better: which way is better; None where neither is.
        spread: text of a mean and a standard deviation.
        timing: whether a busy machine spoils it.
        quality: whether it is a metric, which random weights make meaningless.
    """

    key: str
    title: str
    better: Literal["higher", "lower"] | None
    spread: Callable[[float, float | None], str]
    timing: bool = False
    quality: bool = False
    short: str = ""

    def found(self, entry: Entry) -> tuple[float, float | None] | None:
        """Returns mean and standard deviation, or None where there is no figure."""
        figure = entry["metrics"].get(self.key) if self.quality else entry.get(self.key)
        if figure is None:
            return None
        if not isinstance(figure, dict):
            return float(figure), None
        return None if figure["mean"] is None else (figure["mean"], figure["std"])

    def comparable(self, entry: Entry) -> float | None:
        """Returns the mean by which arms are ranked. A metric is compared with other arms' on the seeds that they
        share."""
        if self.quality:
            value: float | None = entry["metrics"].get(self.key, {}).get("ranked_mean")
            return value
        figure = self.found(entry)
        return figure[0] if figure else None

    def text(self, entry: Entry) -> str | None:
        """Returns the cell's text, with its mark; None where there is no figure."""
        figure = self.found(entry)
        return None if figure is None else self.spread(*figure) + self.mark(entry)

    def mark(self, entry: Entry) -> str:
        """Returns ` †` at a contended timing, ` ‡` at a metric with diverged seeds; else an empty string."""
        if self.quality and entry["metrics"].get(self.key, {}).get("diverged_seeds"):
            return " ‡"
        return " †" if self.timing and entry["contended"] else ""

    def interval(self, entry: Entry) -> str | None:
        """Returns `0.862 [0.841, 0.880]`, or the mean alone where there is no interval or it rounds to the mean.

        None where there is no figure.
        """
        figure = entry["metrics"].get(self.key) if self.quality else entry.get(self.key)
        if not isinstance(figure, dict) or figure["mean"] is None:
            return None
        text = self.spread(figure["mean"], None)
        if figure["interval_low"] is not None:
            ends = [self.spread(figure[end], None) for end in ("interval_low", "interval_high")]
            text += f" [{', '.join(ends)}]" if set(ends) != {text} else ""
        return text + (f" {figure['ties']}" if figure.get("ties") else "") + self.mark(entry)

    def why_missing(self, entry: Entry) -> str:
        """Returns the reason for an empty cell."""
        figures = ("metrics", self.key) if self.quality else (self.key,)
        reasons = [item["reason"] for item in entry["missing"] if item["figure"] in figures]
        return reasons[0] if reasons else "not recorded"


def _plain(text: Callable[[float], str]) -> Callable[[float, float | None], str]:
    return lambda value, _: text(value)


TRAIN_TIME = Column("train_seconds", "train time", "lower", units.seconds_spread, timing=True, short="time")
MEMORY = Column("peak_memory_bytes", "peak memory", "lower", units.size_spread, short="memory")
TRAINABLE = Column("trainable_parameters", "trainable", "lower", _plain(units.count), short="trained")
STORED = Column("stored_bytes", "stored", "lower", units.size_spread)

MEMORY_KINDS = {
    "resident": "the process's resident memory in training",
    "cuda_allocated": "what CUDA's allocator gave out in training",
    "cuda_reserved": "what CUDA's allocator held over the whole run",
}
"""`memory_kind` -> what an arm's peak memory is the peak of."""

COSTS = (TRAIN_TIME, MEMORY, TRAINABLE, STORED)

LENGTH = Column("generated_tokens_mean", "tokens written", None, units.number_spread)

LATENCY = Column("latency_seconds", "latency, one", "lower", units.seconds_spread, timing=True)
LATENCY_EXAMPLES = 5
"""Fewest single examples whose median latency may be called the best: of fewer, one text's length decides it."""

SPEED = (
    Column("step_seconds", "one step", "lower", units.seconds_spread, timing=True),
    Column("peak_over_base_bytes", "memory over base", "lower", units.size_spread),
    Column("examples_per_second", "examples/s", "higher", units.number_spread, timing=True),
    Column("tokens_per_second", "tokens/s", "higher", units.number_spread, timing=True),
    LATENCY,
    Column("batched_examples_per_second", "inference examples/s", "higher", units.number_spread, timing=True),
    Column("generated_tokens_per_second", "written tokens/s", "higher", units.number_spread, timing=True),
    LENGTH,
    Column("total_seconds", "whole trial", "lower", units.seconds_spread, timing=True),
    Column("gradient_norm_mean", "gradient norm, mean", None, units.number_spread),
    Column("gradient_norm_max", "max", None, units.number_spread),
    Column("energy_joules", "energy (J)", "lower", units.number_spread),
)


def score(value: float, std: float | None = None, unit: str | None = None) -> str:
    """Formats a metric: three decimals for fractions and nats, about four digits for what may be any size."""
    return units.score(value, std) if unit in _SMALL else units.number_spread(value, std)


_SMALL = (None, "fraction", "nats")


def metrics(summary: dict[str, Any]) -> list[Column]:
    """Returns a column per test metric. First comes the primary one, then the first other one that validation scores
    while training (it usually selects the checkpoint), then the rest in the task's order."""
    by_name: dict[str, Any] = {}
    validation_names: dict[str, None] = {}
    for entry in summary["methods"]:
        for name, metric in entry["metrics"].items():
            by_name.setdefault(name, metric)
        validation_names |= dict.fromkeys(entry["validation_metrics"] if entry["trains"] else ())
    primary = summary["study"]["primary_metric"]
    second = next((name for name in validation_names if name != primary and name in by_name), None)
    names = sorted(by_name, key=lambda name: (name != primary, name != second))
    return [
        Column(
            name,
            metric_name(name),
            by_name[name]["direction"],
            partial(score, unit=by_name[name]["unit"]),
            quality=True,
        )
        for name in names
    ]


def best_arms(column: Column, summary: dict[str, Any]) -> set[str]:
    """Returns the labels of the arms that train and whose figure is the best of the column.

    Nothing is best where random weights make quality meaningless, nor among timings of which some are contended:
    those arms may truly be faster. Nor is a latency of which some are of too few examples.
    """
    if column.better is None or (column.quality and summary["study"]["random_weights"]):
        return set()
    compared = [(e, value) for e in summary["methods"] if e["trains"] and (value := column.comparable(e)) is not None]
    values = {entry["method"]: value for entry, value in compared}
    if len(values) < 2 or (column.timing and any(entry["contended"] for entry, _ in compared)):
        return set()
    example_counts = [entry["latency_examples"] for entry, _ in compared if entry["latency_examples"] is not None]
    if column is LATENCY and min(example_counts, default=LATENCY_EXAMPLES) < LATENCY_EXAMPLES:
        return set()
    best = max(values.values()) if column.better == "higher" else min(values.values())
    if all(value == best for value in values.values()):
        return set()
    return {label for label, value in values.items() if value == best}


def standing(entry: Entry, unit: str | None) -> str:
    """Returns how an arm compares with the best: `best`, `tied`, or the difference with its interval, in the metric's
    unit; `(open)` behind it where seeds are too few to tell."""
    pair = entry["to_best"]
    if pair is None:
        return "–"
    if pair["relation"] in ("best", "tied"):
        return str(pair["relation"])
    if pair["difference"] is None:
        return "not compared"
    return difference(pair, unit) + (" (open)" if pair["relation"] == "open" else "")


def difference(pair: dict[str, Any], unit: str | None) -> str:
    """Formats a pair's difference with its interval, where there is one: `-0.120 [-0.150, -0.090]`."""
    if pair["interval_low"] is None:
        return f"{_signed(pair['difference'], unit)} (no interval)"
    texts = [_signed(pair[key], unit) for key in ("difference", "interval_low", "interval_high")]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


def any_diverged(summary: dict[str, Any]) -> bool:
    """Returns whether diverged seeds count in some metric."""
    return any(metric["diverged_seeds"] for entry in summary["methods"] for metric in entry["metrics"].values())


def grouped(summary: dict[str, Any]) -> bool:
    """Returns whether arms fall into several groups, so that their letters say something."""
    return summary["verdict"] is not None and len(summary["verdict"]["groups"]) > 1


def _signed(value: float, unit: str | None) -> str:
    return f"{'-' if value < 0 else '+'}{score(abs(value), unit=unit)}"


def trials(entry: Entry) -> str:
    """Returns `2` where all seeds completed, else `1 of 2 (1 diverged)`."""
    planned_count, completed_count = len(entry["planned_seeds"]), len(entry["seeds"])
    if planned_count == completed_count:
        return str(completed_count)
    others = ", ".join(f"{count} {name}" for name, count in entry["statuses"].items() if name != "completed")
    return f"{completed_count} of {planned_count} ({others})"
