"""The charts of what arms answered: classes, confusions, numbers, and how hard the examples are."""

from __future__ import annotations

import numpy as np

from tuneoff.analysis.answers import Counts
from tuneoff.analysis.figures import metric_name
from tuneoff.report.charts import messages
from tuneoff.report.charts.chart import Chart, ChartAxis, Panel, PlotSeries, shortened
from tuneoff.report.charts.style import assign_styles
from tuneoff.report.schema import Report

CLASS_F1, CONFUSION, RESIDUALS, HARDEST = "class_f1", "confusion", "residuals", "hardest_examples"
NAMES = (CLASS_F1, CONFUSION, RESIDUALS, HARDEST)
CLASSES_SHOWN = 24
"""Most classes with a line each; of more the worst."""
CELLS_SHOWN = 12
"""Most classes of a matrix; of more those with the most errors, and the others together."""
OTHERS = "others"


def build(report: Report) -> list[Chart | None]:
    """Builds the charts that there is something for."""
    return [_class_f1(report), _confusion(report), _residuals(report), _hardest(report)]


def _arms(labels: list[str]) -> str:
    """Returns which arms a chart is of: the best and, where it is another, the fastest of those tied with it."""
    return f"the best arm ({labels[0]})" + (
        f" and the fastest of those tied with it ({labels[1]})" if labels[1:] else ""
    )


def _class_f1(report: Report) -> Chart | None:
    classes = report.classes
    if classes is None or len(classes.labels) < 2:
        return None
    scores = [arm.f1 for arm in classes.arms]
    best = _over_seeds(scores[0], "mean")
    known = [place for place in range(len(classes.labels)) if np.isfinite(best[place])]
    order = sorted(known, key=lambda place: (best[place], place))
    shown, styles = order[:CLASSES_SHOWN], assign_styles(arm.method for arm in report.methods)
    if len(shown) < 2:
        return None
    series = []
    for arm, own in zip(classes.arms, scores, strict=True):
        means, lows, highs = (_over_seeds(own, how) for how in ("mean", "min", "max"))
        series.append(
            PlotSeries(
                label=arm.method,
                style=styles[arm.method],
                x=tuple(float(means[place]) for place in shown),
                y=tuple(float(-row) for row in range(len(shown))),
                low=tuple(float(lows[place]) for place in shown),
                high=tuple(float(highs[place]) for place in shown),
            )
        )
    names = [classes.labels[place] for place in shown]
    lead = f"F1 of each class of {_arms([s.label for s in series])}"
    spread = best[order[-1]] - best[order[0]]
    message = f"{shortened(names[0])} is the hardest class of {shortened(series[0].label)}: F1 {best[order[0]]:.2f}"
    left_out = len(known) - len(shown)
    return Chart(
        name=CLASS_F1,
        kind="classes",
        title=messages.title(message if spread >= 0.02 else "", lead, report),
        x=ChartAxis("F1 on the test split"),
        y=ChartAxis("class"),
        series=tuple(series),
        baseline=None,
        caption=f"{lead}, the worst class first. Points: means over seeds; bars: lowest to highest seed."
        + (f" {left_out} classes with a higher F1 are left out." if left_out else ""),
        alt=f"{lead}: " + "; ".join(f"{name} {x:.2f}" for name, x in zip(names, series[0].x, strict=True)) + ".",
        names=tuple(names),
    )


def _over_seeds(scores: Counts, how: str) -> Counts:
    """Returns the mean, least or greatest of the seeds at which a class has a score; not a number without any."""
    missing = ~np.isfinite(scores)
    fill = {"mean": 0.0, "min": np.inf, "max": -np.inf}[how]
    filled = np.where(missing, fill, scores)
    counts = (~missing).sum(axis=0)
    values = filled.sum(axis=0) / np.maximum(counts, 1) if how == "mean" else getattr(filled, how)(axis=0)
    result: Counts = np.where(counts > 0, values, np.nan)
    return result


def _confusion(report: Report) -> Chart | None:
    classes = report.classes
    if classes is None or len(classes.labels) < 2 or not all(arm.confusion for arm in classes.arms):
        return None
    matrices = [arm.mean_counts for arm in classes.arms]
    shown = _most_confused(matrices[0])
    names = [classes.labels[place] for place in shown]
    rest = [place for place in range(len(classes.labels)) if place not in shown]
    styles = assign_styles(arm.method for arm in report.methods)
    panels = tuple(
        Panel(arm.method, styles[arm.method], tuple(map(tuple, _merged(matrix, shown, rest).tolist())))
        for arm, matrix in zip(classes.arms, matrices, strict=True)
    )
    counts = matrices[0].copy()
    np.fill_diagonal(counts, 0.0)
    right, answered = np.unravel_index(int(counts.argmax()), counts.shape)
    most, of = float(counts[right, answered]), float(matrices[0][right].sum())
    lead = f"Right class against answered class of {_arms([panel.label for panel in panels])}"
    pair = f"{shortened(classes.labels[right])} for {shortened(classes.labels[answered])}"
    message = f"{shortened(panels[0].label)} most often takes {pair}: {most / of:.0%} of them" if most > 0 else ""
    return Chart(
        name=CONFUSION,
        kind="matrix",
        title=messages.title(message, lead, report),
        x=ChartAxis("answered"),
        y=ChartAxis("right class"),
        series=(),
        baseline=None,
        caption=f"{lead}. Numbers: test examples, mean over seeds; shades: share of the right class."
        + (f" The {len(shown)} classes with the most errors, and the {len(rest)} others together." if rest else ""),
        alt=f"{lead}. {message or 'No test example is answered wrongly'}.",
        names=(*names, *([OTHERS] if rest else [])),
        panels=panels,
    )


def _most_confused(counts: Counts) -> list[int]:
    """Returns the classes of the matrix to show, in order of their numbers."""
    count = len(counts)
    if count <= CELLS_SHOWN:
        return list(range(count))
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diagonal(counts)
    return sorted(np.argsort(-errors, kind="stable")[: CELLS_SHOWN - 1].tolist())


def _merged(counts: Counts, shown: list[int], rest: list[int]) -> Counts:
    """Returns the matrix of these classes and, last, of the rest together."""
    if not rest:
        return counts
    groups = [*([place] for place in shown), rest]
    return np.array([[counts[np.ix_(rows, columns)].sum() for columns in groups] for rows in groups])


def _residuals(report: Report) -> Chart | None:
    if not report.residuals:
        return None
    styles = assign_styles(arm.method for arm in report.methods)
    series = tuple(
        PlotSeries(each.method, styles[each.method], each.targets, each.errors, each.errors, each.errors)
        for each in report.residuals
        if len(each.targets) > 1
    )
    if not series:
        return None
    lead = f"Error of single test examples of {_arms([s.label for s in series])}"
    slope = float(np.corrcoef(series[0].x, series[0].y)[0, 1]) if np.ptp(series[0].x) and np.ptp(series[0].y) else 0.0
    message = f"{shortened(series[0].label)} answers too near the middle: large numbers too low" if slope < -0.3 else ""
    spreads = "; ".join(f"{s.label} {np.mean(np.abs(s.y)):.3g}" for s in series)
    return Chart(
        name=RESIDUALS,
        kind="residuals",
        title=messages.title(message, lead, report),
        x=ChartAxis("right number"),
        y=ChartAxis("answered less right"),
        series=series,
        baseline=None,
        caption=f"{lead}, each at its lowest completed seed. On the line an answer is right.",
        alt=f"{lead}. Mean distance: {spreads}.",
    )


def _hardest(report: Report) -> Chart | None:
    hardness = report.hardness
    if hardness is None or sum(hardness.examples) < 2:
        return None
    total, counts = sum(hardness.examples), hardness.examples
    metric = metric_name(report.study.primary_metric or "")
    if hardness.by_value:
        names = tuple(f"{1 - (step + 1) / 10:.1f}" for step in range(10))
        lead = f"Test examples by their mean {metric} over the {hardness.arms} arms that train"
        x, message = f"mean {metric}, from", f"{counts[-1]:,} of {total:,} test examples have under 0.1 of {metric}"
    else:
        names = tuple(map(str, range(len(counts))))
        lead = f"Test examples by how many of the {hardness.arms} arms that train answer them wrongly"
        x = "arms that answer wrongly"
        message = f"{counts[-1]:,} of {total:,} test examples are wrong in all {hardness.arms} arms that train"
    series = PlotSeries(
        "test examples", 0, tuple(float(at) for at in range(len(counts))), tuple(map(float, counts)), (0.0,), (0.0,)
    )
    return Chart(
        name=HARDEST,
        kind="counts",
        title=messages.title(message, lead, report),
        x=ChartAxis(x),
        y=ChartAxis("test examples"),
        series=(series,),
        baseline=None,
        caption=f"{lead}, each arm at its lowest completed seed.",
        alt=f"{lead}: " + ", ".join(f"{name}: {count:,}" for name, count in zip(names, counts, strict=True)) + ".",
        names=names,
    )
