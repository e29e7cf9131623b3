"""The report's charts: one declarative definition each, and the data that fills them.

Nothing here draws. A `Chart` says what to show; `drawing.draw` turns it into a PNG, and another renderer may
turn it into something else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tuneoff.analysis.curves import LearningCurve, LearningCurves
from tuneoff.analysis.decisions.pareto import front_indices
from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.search_summary import Choices, SearchedArm
from tuneoff.report import columns, units
from tuneoff.report.arm_schema import ArmSummary, Figure, TestFigure
from tuneoff.report.charts import answers, messages, rewinding, standings
from tuneoff.report.charts.chart import BaselineLine, Chart, ChartAxis, PlotSeries
from tuneoff.report.charts.differences import DIFFERENCES, build_differences
from tuneoff.report.charts.style import assign_styles
from tuneoff.report.columns import Column
from tuneoff.report.schema import Report
from tuneoff.report.wording import ties_text
from tuneoff.search.space import LEARNING_RATE


@dataclass(frozen=True)
class CurveDefinition:
    """A figure against optimizer steps."""

    name: str
    what: str
    of: Callable[[LearningCurves], tuple[LearningCurve, ...]]


@dataclass(frozen=True)
class _Point:
    """An arm with its cost and score."""

    arm: ArmSummary
    cost: float
    score: TestFigure
    mean: float


@dataclass(frozen=True)
class ScatterDefinition:
    """The primary metric against a cost."""

    name: str
    what: str
    column: Column
    axis: Callable[[list[float]], tuple[float, ChartAxis]]
    signed: bool = False


def _seconds_axis(values: list[float]) -> tuple[float, ChartAxis]:
    for size, name in ((3600.0, "hours"), (60.0, "minutes")):
        if max(values) >= 3 * size:
            return size, ChartAxis(f"train time ({name})", "log", _plain)
    return 1.0, ChartAxis("train time (s)", "log", _plain)


def _bytes_axis(values: list[float]) -> tuple[float, ChartAxis]:
    size, name = units.byte_unit(max(values))
    return size, ChartAxis(f"peak memory while training ({name})", "log", _plain)


def _change_axis(_: list[float]) -> tuple[float, ChartAxis]:
    return 1.0, ChartAxis("forgetting (below 0: better than before)", "linear", _plain)


def _plain(value: float) -> str:
    return f"{value:g}"


def _count_axis(_: list[float]) -> tuple[float, ChartAxis]:
    return 1.0, ChartAxis("trainable parameters", "log", units.short_count)


TRAIN_LOSS = CurveDefinition(
    "learning_curve_train_loss", "training loss ({loss_unit})", lambda curves: curves.train_loss
)
CURVES = (
    CurveDefinition("learning_curve_quality", "validation {metric}", lambda curves: curves.quality),
    CurveDefinition("learning_curve_loss", "validation loss ({loss_unit})", lambda curves: curves.validation_loss),
    TRAIN_LOSS,
)
SCATTERS = (
    ScatterDefinition("quality_train_time", "train time", columns.TRAIN_TIME, _seconds_axis),
    ScatterDefinition("quality_peak_memory", "peak memory", columns.MEMORY, _bytes_axis),
    ScatterDefinition("quality_parameters", "trainable parameters", columns.TRAINABLE, _count_axis),
    ScatterDefinition("quality_forgetting", "forgetting", columns.FORGETTING_COLUMN, _change_axis, signed=True),
)
SENSITIVITY = "learning_rate_sensitivity"
LABELLED = 12
"""Most arms of a chart of which all have a label; of more only the front, the best and the baseline."""
SEEDS_FOR_BARS = 4
"""Fewest seeds whose spread is drawn as a bar; fewer are drawn one by one."""
_NAMES = (
    *(d.name for d in (*SCATTERS, *CURVES)),
    SENSITIVITY,
    DIFFERENCES,
    *standings.NAMES,
    *answers.NAMES,
    *rewinding.NAMES,
)
FILES = tuple(f"{name}.png" for name in _NAMES)
"""Every file that a report may hold a chart in."""


def build_charts(report: Report) -> list[Chart]:
    """Builds the charts that there are points for."""
    sensitivity = [chart for chart in [_sensitivity(report)] if chart is not None]
    metric = report.study.primary_metric
    if metric is None:
        return sensitivity
    charts = [_scatter(definition, report) for definition in SCATTERS]
    # Where the primary metric is the loss itself, one chart shows both.
    curves = [c for c in CURVES if not (metric == "loss" and c.name == "learning_curve_loss")]
    drawn = (
        *charts,
        *(_curve(c, report) for c in curves),
        build_differences(report),
        standings.build_ties(report),
        standings.build_forecast(report),
        *answers.build(report),
        *rewinding.build(report),
    )
    metric_charts = [chart for chart in drawn if chart is not None]
    return metric_charts + sensitivity


def _styles(report: Report) -> dict[str, int]:
    return assign_styles(arm.method for arm in report.methods)


def _baseline(report: Report) -> BaselineLine | None:
    label, metric = report.answer.baseline, report.study.primary_metric
    if label is None or metric is None:
        return None
    score = report.arm(label).metrics[metric]
    return BaselineLine(label, score.mean, score.unit) if score.mean is not None else None


def _untrained(report: Report) -> tuple[BaselineLine, ...]:
    """Returns the arms that do not train, the baseline left out."""
    metric = report.study.primary_metric or ""
    scores = [(arm.method, arm.metrics[metric]) for arm in report.methods if not arm.trains and metric in arm.metrics]
    return tuple(
        BaselineLine(label, score.mean, score.unit)
        for label, score in scores
        if score.mean is not None and label != report.answer.baseline
    )


def _loss_unit(report: Report) -> str:
    """Returns the unit of the validation loss, as recorded."""
    units_of = [e.validation_metrics["loss"].unit for e in report.methods if "loss" in e.validation_metrics]
    return units_of[0] if units_of else "nats"


def _points(column: Column, report: Report, signed: bool = False) -> list[_Point]:
    """Lists the arms that train and have both a score and this cost, above 0 unless it is signed."""
    name = report.study.primary_metric or ""
    return [
        _Point(entry, value[0], score, score.mean)
        for entry in report.methods
        if entry.trains and (score := entry.metrics.get(name)) is not None and score.mean is not None
        if (value := column.value(entry)) is not None and (signed or value[0] > 0)
    ]


def _time_front(report: Report) -> list[str]:
    """Returns the arms on the Pareto front of quality and train time, the fastest first."""
    points = _points(columns.TRAIN_TIME, report)
    if not points:
        return []
    front = front_indices([(point.cost, point.mean) for point in points], points[0].score.direction)
    return [points[index].arm.method for index in front]


def _scatter(definition: ScatterDefinition, report: Report) -> Chart | None:
    name, column = report.study.primary_metric or "", definition.column
    points = _points(column, report, definition.signed)
    if len(points) < 2:
        return None  # nothing is compared by one point
    size, axis = definition.axis([point.cost for point in points])
    grouped, styles = columns.grouped(report), _styles(report)
    front = front_indices([(point.cost, point.mean) for point in points], points[0].score.direction)
    named = _named([points[index].arm.method for index in front], len(points), report)
    series = tuple(
        PlotSeries(
            label=point.arm.method + (" †" if column.timing and point.arm.contended else ""),
            style=styles[point.arm.method],
            x=(point.cost / size,),
            y=(point.mean,),
            low=(_bar(point)[0],),
            high=(_bar(point)[1],),
            dots=point.score.values if 1 < point.score.n < SEEDS_FOR_BARS else (),
            x_error=_half_width(column.figure(point.arm)) / size,
            ties=point.arm.ties if grouped else "",
            muted=point.arm.method not in named,
        )
        for point in points
    )
    baseline = _baseline(report)
    values_text = "; ".join(
        f"{p.arm.method} {columns.score(p.mean, unit=p.score.unit)} at {column.spread(p.cost, None)}"
        for p in points
        if p.arm.method in named
    )
    lead = f"Test {metric_name(name)} against {definition.what}"
    return Chart(
        name=definition.name,
        kind="scatter",
        title=messages.title(
            # A share of what may be below 0 says nothing.
            ""
            if definition.signed
            else messages.of_cost(report, column, [(p.arm.method, p.cost, p.mean) for p in points]),
            lead,
            report,
        ),
        x=axis,
        y=ChartAxis(
            f"test {metric_name(name)}" + (" (lower is better)" if points[0].score.direction == "lower" else "")
        ),
        series=series,
        baseline=baseline,
        untrained=_untrained(report),
        caption=f"{lead}. {_describe_marks(series, report)}{_ties_sentence(report)}"
        + (" Dashed: the baseline, without training." if baseline else "")
        + (" Dotted: other arms without training." if _untrained(report) else "")
        + (" † timed on a busy machine." if any("†" in s.label for s in series) else "")
        + _describe_muted(series),
        alt=_alt(f"{lead}: {values_text}", baseline),
        front=tuple((points[index].cost / size, points[index].mean) for index in front),
    )


def _bar(point: _Point) -> tuple[float, float]:
    """Returns the ends of a score's bar. An interval over fewer than `SEEDS_FOR_BARS` seeds alone is not drawn."""
    score = point.score
    by_few_seeds = score.n < SEEDS_FOR_BARS and score.interval_over == "seeds"
    if score.interval_low is None or score.interval_high is None or by_few_seeds:
        return point.mean, point.mean
    return score.interval_low, score.interval_high


def _named(front: Sequence[str], count: int, report: Report) -> set[str]:
    """Returns the arms of a chart that have labels: of few all, else the best and those of the front, evenly chosen
    where they are many too."""
    if count <= LABELLED:
        return {arm.method for arm in report.methods}
    room = LABELLED - 1
    chosen = front if len(front) <= room else [front[i * (len(front) - 1) // (room - 1)] for i in range(room)]
    return {*chosen, *([report.answer.best] if report.answer.best is not None else [])}


def _describe_marks(series: Sequence[PlotSeries], report: Report) -> str:
    """Says what bars, dots and the line of a scatter chart are."""
    bars = f"Bars: {report.answer.interval_level:.0%} intervals, cut at the frame."
    dots = " Small dots: single seeds." if any(s.dots for s in series if not s.muted) else ""
    return f"{bars}{dots} Line: the Pareto front by means."


def _describe_muted(series: Sequence[PlotSeries]) -> str:
    muted = sum(s.muted for s in series)
    return f" Grey: {muted} arms that are neither the best nor named of the front." if muted else ""


def _curve(definition: CurveDefinition, report: Report) -> Chart | None:
    what = definition.what.format(metric=metric_name(report.study.primary_metric or ""), loss_unit=_loss_unit(report))
    grouped, styles = columns.grouped(report), _styles(report)
    curves, is_train = definition.of(report.curves), definition is TRAIN_LOSS
    lines = (
        "means over seeds of steps' losses, smoothed" if is_train else "mean over seeds; bands: lowest to highest seed"
    )
    named = _named(_time_front(report), len(curves), report)
    series = tuple(
        PlotSeries(
            label=curve.method,
            style=styles[curve.method],
            x=tuple(float(step) for step in curve.steps),
            y=curve.mean,
            # Single steps differ by their batches: bands of them would tell of these, not of the seeds.
            low=curve.mean if is_train else curve.lowest,
            high=curve.mean if is_train else curve.highest,
            ties=report.arm(curve.method).ties if grouped else "",
            muted=curve.method not in named,
        )
        for curve in curves
    )
    if max((len(s.x) for s in series), default=0) < 2:
        return None  # one point of time is no curve
    quality = definition.name == "learning_curve_quality"
    baseline = _baseline(report) if quality else None
    unit = report.study.primary_unit if quality else None
    lower_is_better = report.study.primary_direction == "lower"
    ends = "; ".join(f"{s.label} {columns.score(s.y[-1], unit=unit)}" for s in series if not s.muted)
    lead = f"{what[0].upper()}{what[1:]} while training"
    return Chart(
        name=definition.name,
        kind="curve",
        title=messages.title(
            messages.of_course(curves, what, lower=not quality or lower_is_better, unit=unit), lead, report
        ),
        x=ChartAxis("optimizer step"),
        y=ChartAxis(what),
        series=series,
        baseline=replace(baseline, label=f"{baseline.label}, test") if baseline else None,
        caption=f"{lead}. Lines: {lines}.{_ties_sentence(report)}"
        + (" Dashed: the baseline's test score." if baseline else "")
        + _describe_muted(series),
        alt=_alt(f"{lead}, at the end: {ends}", baseline),
    )


def _sensitivity(report: Report) -> Chart | None:
    """Builds the chart with the validation score of every learning rate that was tried; None where none was
    searched."""
    search = report.search
    if search is None:
        return None
    styles = _styles(report)
    ties = {entry.method: entry.ties if columns.grouped(report) else "" for entry in report.methods}
    named = _named(_time_front(report), len(search.arms), report)
    series = tuple(
        replace(
            _search_series(arm),
            style=styles[arm.method],
            ties=ties[arm.method],
            muted=arm.method not in named,
        )
        for arm in search.arms
        if LEARNING_RATE in arm.space and arm.tried and arm.seed == search.arms[0].seed
    )
    scores = [score for s in series for score in (*s.y, *(y for _, y in s.early))]
    if not scores:
        return None
    metric, lower = metric_name(search.metric), search.direction == "lower"
    lead = f"Validation {metric} against the learning rate"
    log_scale = lower and min(scores) > 0 and max(scores) > 4 * min(scores)
    best_rates = "; ".join(
        f"{s.label} {units.rate(s.x[s.chosen])}" for s in series if s.chosen is not None and not s.muted
    )
    return Chart(
        name=SENSITIVITY,
        kind="search",
        title=messages.title(messages.of_search(search), lead, report),
        x=ChartAxis("learning rate", "log"),
        y=ChartAxis(f"validation {metric}" + (" (lower is better)" if lower else ""), "log" if log_scale else "linear"),
        series=series,
        baseline=None,
        caption=f"{lead}: one point per search trial. Ringed: the best of an arm. Below: the range that was "
        "searched, with the rates that were tried."
        + (
            " Hollow: what was pruned or stopped, with its score after fewer steps."
            if any(s.early for s in series)
            else ""
        )
        + (" Crosses: trials that did not complete." if any(s.failed for s in series) else "")
        + ("" if all(s.joined for s in series) else " No line joins points that differ in other options too.")
        + (f" Of the search of seed {search.arms[0].seed}." if search.per_seed else "")
        + _describe_muted(series),
        alt=_alt(f"{lead}; best rates: {best_rates or 'none'}", None),
    )


def _search_series(arm: SearchedArm) -> PlotSeries:
    """Returns an arm's search trials by rate. Of a configuration tried with more and more steps, the last trial
    counts."""
    completed = [(trial, trial.score) for trial in arm.tried if trial.score is not None]
    top_rung = max((trial.rung for trial, _ in completed if trial.trial == arm.best), default=0)
    rates = sorted(
        (trial.values[LEARNING_RATE], score, trial.trial)
        for trial, score in completed
        if trial.rung == top_rung and not trial.stopped
    )
    last_trials = {repr(trial.values): (trial, score) for trial, score in completed}
    early = sorted(
        (t.values[LEARNING_RATE], score) for t, score in last_trials.values() if t.rung != top_rung or t.stopped
    )
    ends = arm.space[LEARNING_RATE]
    scores = tuple(score for _, score, _ in rates)
    best = [index for index, (_, _, trial_id) in enumerate(rates) if trial_id == arm.best]
    return PlotSeries(
        label=arm.method,
        style=0,
        x=tuple(rate for rate, _, _ in rates),
        y=scores,
        low=scores,
        high=scores,
        chosen=best[0] if best else None,
        span=(min(ends.choices), max(ends.choices)) if isinstance(ends, Choices) else (ends.low, ends.high),
        early=tuple(early),
        failed=tuple(trial.values[LEARNING_RATE] for trial in arm.tried if trial.score is None),
        joined=len(arm.space) == 1,
    )


def _half_width(figure: Figure | int | None) -> float:
    """Returns half the width of a cost's interval; 0 for a count, without an interval and of few seeds."""
    if not isinstance(figure, Figure) or figure.interval_high is None or figure.mean is None:
        return 0.0
    if figure.n < SEEDS_FOR_BARS:
        return 0.0
    return figure.interval_high - figure.mean


def _ties_sentence(report: Report) -> str:
    text = ties_text(report, f"test {metric_name(report.study.primary_metric or '')}")
    return f" {text}" if text else ""


def _alt(text: str, baseline: BaselineLine | None) -> str:
    alt = f"{text}. Baseline {baseline.label}: {baseline.text}." if baseline else f"{text}."
    return alt.replace("[", "(").replace("]", ")")
