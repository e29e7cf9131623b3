"""The columns of the report's tables: one definition for markdown, terminal and CSV readers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

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
        """Mean and standard deviation, or None where there is no figure."""
        place = entry["metrics"].get(self.key) if self.quality else entry.get(self.key)
        if place is None:
            return None
        if not isinstance(place, dict):
            return float(place), None
        return None if place["mean"] is None else (place["mean"], place["std"])

    def text(self, entry: Entry) -> str | None:
        """The cell, with a dagger at a contended timing; None where there is no figure."""
        found = self.found(entry)
        if found is None:
            return None
        mark = " †" if self.timing and entry["contended"] else ""
        return self.spread(*found) + mark

    def why_missing(self, entry: Entry) -> str:
        """The reason for an empty cell."""
        wanted = ("metrics", self.key) if self.quality else (self.key,)
        reasons = [item["reason"] for item in entry["missing"] if item["figure"] in wanted]
        return reasons[0] if reasons else "not recorded"


def _plain(text: Callable[[float], str]) -> Callable[[float, float | None], str]:
    return lambda value, _: text(value)


TRAIN_TIME = Column("train_seconds", "train time", "lower", units.seconds_spread, timing=True, short="time")
MEMORY = Column("peak_memory_bytes", "peak memory", "lower", units.size_spread, short="memory")
TRAINABLE = Column("trainable_parameters", "trainable", "lower", _plain(units.count), short="trained")
STORED = Column("stored_bytes", "stored", "lower", units.size_spread)

COSTS = (TRAIN_TIME, MEMORY, TRAINABLE, STORED)

SPEED = (
    Column("examples_per_second", "examples/s", "higher", units.number_spread, timing=True),
    Column("tokens_per_second", "tokens/s", "higher", units.number_spread, timing=True),
    Column("latency_seconds", "latency, one", "lower", units.seconds_spread, timing=True),
    Column("batched_examples_per_second", "inference examples/s", "higher", units.number_spread, timing=True),
    Column("total_seconds", "whole trial", "lower", units.seconds_spread, timing=True),
    Column("gradient_norm_mean", "gradient norm, mean", None, units.number_spread),
    Column("gradient_norm_max", "max", None, units.number_spread),
    Column("energy_joules", "energy (J)", "lower", units.number_spread),
)


def metrics(summary: dict[str, Any]) -> list[Column]:
    """A column per test metric, the primary one first."""
    directions: dict[str, Any] = {}
    for entry in summary["methods"]:
        for name, metric in entry["metrics"].items():
            directions.setdefault(name, metric["direction"])
    primary = summary["study"]["primary_metric"]
    names = sorted(directions, key=lambda name: name != primary)
    return [Column(name, name.replace("_", " "), directions[name], units.score, quality=True) for name in names]


def best_rows(column: Column, summary: dict[str, Any]) -> set[str]:
    """Labels whose figure is the best of the column, among rows that train.

    Nothing is best where random weights make quality meaningless, nor among timings of which some are contended:
    those rows may truly be faster.
    """
    if column.better is None or (column.quality and summary["study"]["random_weights"]):
        return set()
    shown = [(entry, value[0]) for entry in summary["methods"] if entry["trains"] and (value := column.found(entry))]
    found = {entry["method"]: value for entry, value in shown}
    if len(found) < 2 or (column.timing and any(entry["contended"] for entry, _ in shown)):
        return set()
    best = max(found.values()) if column.better == "higher" else min(found.values())
    if all(value == best for value in found.values()):
        return set()
    return {label for label, value in found.items() if value == best}


def standing(entry: Entry) -> str:
    """How a row stands to the best: `best`, `tied`, or the difference with its interval."""
    found = entry["to_best"]
    if found is None:
        return "–"
    if found["relation"] in ("best", "tied"):
        return str(found["relation"])
    if found["difference"] is None:
        return "not compared"
    return f"{found['difference']:+.3f} [{found['interval_low']:+.3f}, {found['interval_high']:+.3f}]"


def progress(entry: Entry) -> str:
    """`2/2`, or `1/2 diverged`: trials completed of those planned, and what became of the others."""
    others = [name.replace("_", " ") for name in entry["statuses"] if name != "completed"]
    return " ".join([f"{len(entry['seeds'])}/{len(entry['planned_seeds'])}", ", ".join(others)]).rstrip()


def trials(entry: Entry) -> str:
    """`2` where all seeds completed, else `1 of 2 (1 diverged)`."""
    planned, done = len(entry["planned_seeds"]), len(entry["seeds"])
    if planned == done:
        return str(done)
    others = ", ".join(f"{count} {name}" for name, count in entry["statuses"].items() if name != "completed")
    return f"{done} of {planned} ({others})"
