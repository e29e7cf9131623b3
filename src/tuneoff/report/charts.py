"""The report's charts: one declarative definition each, and the data that fills them.

Nothing here draws. A `Chart` says what to show; `drawing.draw` turns it into a PNG, and another renderer may
turn it into something else.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.results import Arm, Results
from tuneoff.records.record import CurvePoint
from tuneoff.report import columns, units
from tuneoff.report.columns import Column
from tuneoff.report.search import rung_of
from tuneoff.report.wording import ties_text
from tuneoff.search.space import LEARNING_RATE


@dataclass(frozen=True)
class Axis:
    """A label with its unit, a scale, and how a tick is written (None: as the number it is)."""

    label: str
    scale: Literal["linear", "log"] = "linear"
    tick: Callable[[float], str] | None = None


@dataclass(frozen=True)
class Series:
    """One arm of the study in a chart.

    Attributes:
        label: the text beside it.
        style: the arm's place in the study; gives colour and marker, equal in all charts.
        x, y: points; a scatter chart has one.
        low, high: of y at each point, for the band or the error bar.
        x_error: half width of the horizontal error bar.
        ties: letters of the groups within which arms cannot be told apart; empty where all are in one.
        chosen: which point was chosen; of a search.
        span: the ends of the range that was searched.
        early: points that are no part of the line: of search trials with fewer steps.
        failed: x of what was tried without any y.
        joined: whether a line joins the points, as it may where nothing but x tells them apart.
    """

    label: str
    style: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    x_error: float = 0.0
    ties: str = ""
    chosen: int | None = None
    span: tuple[float, float] | None = None
    early: tuple[tuple[float, float], ...] = ()
    failed: tuple[float, ...] = ()
    joined: bool = True

    @property
    def text(self) -> str:
        """Returns the label with its letters in brackets."""
        return f"{self.label} ({self.ties})" if self.ties else self.label


@dataclass(frozen=True)
class BaselineLine:
    """A horizontal line: the best arm that needs no training."""

    label: str
    value: float
    unit: str | None = None

    @property
    def text(self) -> str:
        """Returns the value as tables show it."""
        return columns.score(self.value, unit=self.unit)


@dataclass(frozen=True)
class Chart:
    """All that one chart shows."""

    name: str
    kind: Literal["curve", "scatter", "search"]
    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    baseline: BaselineLine | None
    caption: str
    alt: str

    @property
    def file(self) -> str:
        return f"{self.name}.png"


@dataclass(frozen=True)
class CurveDefinition:
    """A figure against optimizer steps. `value` reads it from a point, given the primary metric's name."""

    name: str
    what: str
    value: Callable[[CurvePoint, str], float | None]


@dataclass(frozen=True)
class ScatterDefinition:
    """The primary metric against a cost."""

    name: str
    what: str
    column: Column
    axis: Callable[[list[float]], tuple[float, Axis]]


def _seconds_axis(values: list[float]) -> tuple[float, Axis]:
    for size, name in ((3600.0, "hours"), (60.0, "minutes")):
        if max(values) >= 3 * size:
            return size, Axis(f"train time ({name})")
    return 1.0, Axis("train time (s)")


def _bytes_axis(values: list[float]) -> tuple[float, Axis]:
    size, name = units.byte_unit(max(values))
    return size, Axis(f"peak memory while training ({name})")


def _count_axis(_: list[float]) -> tuple[float, Axis]:
    return 1.0, Axis("trainable parameters", "log", units.short_count)


CURVES = (
    CurveDefinition("learning_curve_quality", "validation {metric}", lambda p, metric: p.validation.get(metric)),
    CurveDefinition("learning_curve_loss", "validation loss ({loss_unit})", lambda p, _: p.validation.get("loss")),
    CurveDefinition("learning_curve_train_loss", "training loss ({loss_unit})", lambda p, _: p.train_loss),
)
SCATTERS = (
    ScatterDefinition("quality_train_time", "train time", columns.TRAIN_TIME, _seconds_axis),
    ScatterDefinition("quality_peak_memory", "peak memory", columns.MEMORY, _bytes_axis),
    ScatterDefinition("quality_parameters", "trainable parameters", columns.TRAINABLE, _count_axis),
)
SENSITIVITY = "learning_rate_sensitivity"
FILES = (*(f"{definition.name}.png" for definition in (*SCATTERS, *CURVES)), f"{SENSITIVITY}.png")
"""Every file that a report may hold a chart in."""


def build(results: Results, summary: dict[str, Any]) -> list[Chart]:
    """Builds the charts that there are points for."""
    sensitivity = [chart for chart in [_sensitivity(summary)] if chart is not None]
    metric = results.primary
    if metric is None:
        return sensitivity
    charts = [_scatter(definition, summary) for definition in SCATTERS]
    # Where the primary metric is the loss itself, one chart shows both.
    curves = [c for c in CURVES if not (metric.name == "loss" and c.name == "learning_curve_loss")]
    metric_charts = [chart for chart in (*charts, *(_curve(c, results, summary) for c in curves)) if chart is not None]
    return metric_charts + sensitivity


def _baseline(summary: dict[str, Any]) -> BaselineLine | None:
    label, metric = summary["answer"]["baseline"], summary["study"]["primary_metric"]
    for entry in summary["methods"]:
        if entry["method"] == label:
            return BaselineLine(label, entry["metrics"][metric]["mean"], entry["metrics"][metric]["unit"])
    return None


def _loss_unit(summary: dict[str, Any]) -> str:
    """Returns the unit of the validation loss, as recorded."""
    units_of = [
        e["validation_metrics"]["loss"]["unit"] for e in summary["methods"] if "loss" in e["validation_metrics"]
    ]
    return units_of[0] if units_of else "nats"


def _random_weights_note(summary: dict[str, Any]) -> str:
    return " — RANDOM WEIGHTS, quality means nothing" if summary["study"]["random_weights"] else ""


def _scatter(definition: ScatterDefinition, summary: dict[str, Any]) -> Chart | None:
    name = summary["study"]["primary_metric"]
    column = definition.column
    points = [
        (position, entry, figure, entry["metrics"][name])
        for position, entry in enumerate(summary["methods"])
        if entry["trains"] and name in entry["metrics"] and (figure := column.found(entry)) and figure[0] > 0
    ]
    if not points:
        return None
    size, axis = definition.axis([figure[0] for _, _, figure, _ in points])
    grouped = columns.grouped(summary)
    series = tuple(
        Series(
            label=entry["method"] + (" †" if column.timing and entry["contended"] else ""),
            style=position,
            x=(figure[0] / size,),
            y=(score["mean"],),
            low=(score["mean"] if score["interval_low"] is None else score["interval_low"],),
            high=(score["mean"] if score["interval_high"] is None else score["interval_high"],),
            x_error=_half_width(entry[column.key]) / size,
            ties=entry["ties"] if grouped else "",
        )
        for position, entry, figure, score in points
    )
    baseline = _baseline(summary)
    values_text = "; ".join(
        f"{entry['method']} {columns.score(score['mean'], unit=score['unit'])} at {column.spread(figure[0], None)}"
        for _, entry, figure, score in points
    )
    lead = f"Test {metric_name(name)} against {definition.what}"
    return Chart(
        name=definition.name,
        kind="scatter",
        title=lead + _random_weights_note(summary),
        x=axis,
        y=Axis(f"test {metric_name(name)}" + (" (lower is better)" if points[0][3]["direction"] == "lower" else "")),
        series=series,
        baseline=baseline,
        caption=f"{lead}. Bars: {summary['answer']['interval_level']:.0%} intervals.{_ties_sentence(summary)}"
        + (" Dashed: the baseline, without training." if baseline else "")
        + (" † timed on a busy machine." if any("†" in s.label for s in series) else ""),
        alt=_alt(f"{lead}: {values_text}", baseline),
    )


def _curve(definition: CurveDefinition, results: Results, summary: dict[str, Any]) -> Chart | None:
    metric = summary["study"]["primary_metric"]
    what = definition.what.format(metric=metric_name(metric), loss_unit=_loss_unit(summary))
    all_series = [_curve_series(position, arm, definition, metric) for position, arm in enumerate(results.arms)]
    ties = {entry["method"]: entry["ties"] if columns.grouped(summary) else "" for entry in summary["methods"]}
    series = tuple(replace(s, ties=ties[s.label]) for s in all_series if s is not None)
    if not series:
        return None
    quality = definition.name == "learning_curve_quality"
    baseline = _baseline(summary) if quality else None
    unit = summary["study"]["primary_unit"] if quality else None
    ends = "; ".join(f"{s.label} {columns.score(s.y[-1], unit=unit)}" for s in series)
    lead = f"{what[0].upper()}{what[1:]} while training"
    return Chart(
        name=definition.name,
        kind="curve",
        title=lead + _random_weights_note(summary),
        x=Axis("optimizer step"),
        y=Axis(what),
        series=series,
        baseline=replace(baseline, label=f"{baseline.label}, test") if baseline else None,
        caption=f"{lead}. Lines: mean over seeds; bands: lowest to highest seed.{_ties_sentence(summary)}"
        + (" Dashed: the baseline's test score." if baseline else ""),
        alt=_alt(f"{lead}, at the end: {ends}", baseline),
    )


def _curve_series(position: int, arm: Arm, definition: CurveDefinition, metric: str) -> Series | None:
    """Computes mean and range over seeds at the steps that every seed of the arm has."""
    per_seed = []
    for record in arm.completed:
        values = {point.step: definition.value(point, metric) for point in record.curve}
        curve = {step: value for step, value in values.items() if value is not None}
        if curve:
            per_seed.append(curve)
    if not per_seed:
        return None
    steps = sorted(set.intersection(*(set(values) for values in per_seed)))
    if not steps:
        return None
    by_step = [[values[step] for values in per_seed] for step in steps]
    return Series(
        label=arm.label,
        style=position,
        x=tuple(float(step) for step in steps),
        y=tuple(statistics.fmean(values) for values in by_step),
        low=tuple(min(values) for values in by_step),
        high=tuple(max(values) for values in by_step),
    )


def _sensitivity(summary: dict[str, Any]) -> Chart | None:
    """Builds the chart with the validation score of every learning rate that was tried; None where none was
    searched."""
    search = summary["search"]
    if search is None:
        return None
    positions = {entry["method"]: position for position, entry in enumerate(summary["methods"])}
    ties = {entry["method"]: entry["ties"] if columns.grouped(summary) else "" for entry in summary["methods"]}
    series = tuple(
        replace(_search_series(arm), style=positions[arm["method"]], ties=ties[arm["method"]])
        for arm in search["arms"]
        if LEARNING_RATE in arm["space"] and arm["tried"]
    )
    scores = [score for s in series for score in (*s.y, *(y for _, y in s.early))]
    if not scores:
        return None
    metric, lower = metric_name(search["metric"]), search["direction"] == "lower"
    lead = f"Validation {metric} against the learning rate"
    log_scale = lower and min(scores) > 0 and max(scores) > 4 * min(scores)
    best_rates = "; ".join(f"{s.label} {units.rate(s.x[s.chosen])}" for s in series if s.chosen is not None)
    return Chart(
        name=SENSITIVITY,
        kind="search",
        title=lead + _random_weights_note(summary),
        x=Axis("learning rate", "log"),
        y=Axis(f"validation {metric}" + (" (lower is better)" if lower else ""), "log" if log_scale else "linear"),
        series=series,
        baseline=None,
        caption=f"{lead}: one point per search trial. Ringed: the best of an arm. Below: the range that was "
        "searched, with the rates that were tried."
        + (" Hollow: what was pruned, with its score after fewer steps." if any(s.early for s in series) else "")
        + (" Crosses: trials that did not complete." if any(s.failed for s in series) else "")
        + ("" if all(s.joined for s in series) else " No line joins points that differ in other options too."),
        alt=_alt(f"{lead}; best rates: {best_rates or 'none'}", None),
    )


def _search_series(arm: dict[str, Any]) -> Series:
    """Returns an arm's search trials by rate. Of a configuration tried with more and more steps, the last trial
    counts."""
    completed = [trial for trial in arm["tried"] if trial["score"] is not None]
    top_rung = max((rung_of(trial) for trial in completed if trial["trial"] == arm["best"]), default=0)
    rates = sorted(
        (trial["values"][LEARNING_RATE], trial["score"], trial["trial"])
        for trial in completed
        if rung_of(trial) == top_rung
    )
    last_trials = {repr(trial["values"]): trial for trial in completed}
    early = sorted((t["values"][LEARNING_RATE], t["score"]) for t in last_trials.values() if rung_of(t) != top_rung)
    ends = arm["space"][LEARNING_RATE]
    scores = tuple(score for _, score, _ in rates)
    best = [index for index, (_, _, trial_id) in enumerate(rates) if trial_id == arm["best"]]
    return Series(
        label=arm["method"],
        style=0,
        x=tuple(rate for rate, _, _ in rates),
        y=scores,
        low=scores,
        high=scores,
        chosen=best[0] if best else None,
        span=(min(ends["choices"]), max(ends["choices"])) if "choices" in ends else (ends["low"], ends["high"]),
        early=tuple(early),
        failed=tuple(trial["values"][LEARNING_RATE] for trial in arm["tried"] if trial["score"] is None),
        joined=len(arm["space"]) == 1,
    )


def _half_width(figure: Any) -> float:
    """Returns half the width of a cost's interval; 0 for a count, or where there is no interval."""
    if not isinstance(figure, dict) or figure["interval_high"] is None:
        return 0.0
    return float(figure["interval_high"] - figure["mean"])


def _ties_sentence(summary: dict[str, Any]) -> str:
    text = ties_text(summary, f"test {metric_name(summary['study']['primary_metric'])}")
    return f" {text}" if text else ""


def _alt(text: str, baseline: BaselineLine | None) -> str:
    alt = f"{text}. BaselineLine {baseline.label}: {baseline.text}." if baseline else f"{text}."
    return alt.replace("[", "(").replace("]", ")")
