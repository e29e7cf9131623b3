"""Draws scatter charts and curves, with the baseline and with labels where they cover nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from tuneoff.encoding import chart_text
from tuneoff.report.charts.chart import BaselineLine, Chart, ChartAxis, PlotSeries
from tuneoff.report.charts.marks import (
    BASELINE,
    LABEL_SIZE,
    colour,
    draw_muted,
    draw_title,
    fraction,
    line_style,
    marker_style,
    style_axes,
    text_colour,
    text_size,
)
from tuneoff.report.charts.placement import MARKER, Box, place, spread_out

LEFT, BOTTOM, RIGHT = 0.13, 0.135, 0.97
"""Sides of the axes, as shares of the figure."""
NAME_GAP = 26.0
"""Pixels from the right end of the axes to the names of curves."""
FROM_START = 0.15
"""A curve whose first step is at most this share of its last begins at step 0."""
BASELINE_GAP = 2.0
"""A baseline further below the data than this many times the data's range is named, not drawn to scale."""


def draw_plane(figure: Figure, chart: Chart) -> None:
    """Draws a scatter chart or curves into a figure."""
    axes = figure.add_axes((LEFT, BOTTOM, RIGHT - LEFT, 0.97 - BOTTOM))
    if chart.kind == "curve":
        # Names stand at the right of the lines.
        names = max((text_size(axes, series.text)[0] for series in chart.labelled), default=0.0)
        axes.set_position((LEFT, BOTTOM, 0.99 - LEFT - (names + NAME_GAP) / figure.bbox.width, 0.97 - BOTTOM))
    draw_title(axes, chart)
    style_axes(axes)
    axes.set_xlabel(chart_text(chart.x.label))
    axes.set_ylabel(chart_text(chart.y.label))
    draw_muted(axes, chart)
    for series in chart.labelled:
        (_draw_curve if chart.kind == "curve" else _draw_point)(axes, series)
    if chart.crossings:
        places = zip(*chart.crossings, strict=True)
        axes.plot(
            *places, color=BASELINE, marker="D", markerfacecolor="white", markersize=6, linestyle="none", zorder=4
        )
    _set_limits(axes, chart)
    if chart.kind == "scatter":
        _draw_bars(axes, chart)
    occupied = _draw_baseline(axes, chart)
    for line in chart.untrained:
        occupied += _draw_untrained(axes, chart, line, occupied)
    (_label_curves if chart.kind == "curve" else _label_points)(axes, chart, occupied)


def _draw_curve(axes: Axes, series: PlotSeries) -> None:
    axes.plot(
        series.x,
        series.y,
        **marker_style(series),
        markersize=4.5,
        markevery=max(1, len(series.x) // 12),
        linewidth=1.6,
        linestyle=line_style(series),
    )
    if series.law:
        axes.plot(*zip(*series.law, strict=True), color=colour(series), linewidth=1.0, linestyle=(0, (1, 1.5)))
    if series.low != series.high:
        axes.fill_between(series.x, series.low, series.high, color=colour(series), alpha=0.12, linewidth=0)


def _draw_point(axes: Axes, series: PlotSeries) -> None:
    if series.dots:
        axes.plot(
            series.x * len(series.dots),
            series.dots,
            color=colour(series),
            marker="o",
            markersize=3,
            markeredgewidth=0,
            alpha=0.55,
            linestyle="none",
            zorder=2,
        )
    axes.plot(
        series.x,
        series.y,
        **marker_style(series),
        markersize=8,
        alpha=0.9,
        markeredgecolor="white",
        markeredgewidth=0.8,
        linestyle="none",
        zorder=3,
    )


def _draw_bars(axes: Axes, chart: Chart) -> None:
    """Draws light error bars within the view; one that goes on ends in a small triangle at the frame."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for series in chart.labelled:
        x, y = series.x[0], series.y[0]
        for low, high, least, most, across in (
            (x - series.x_error, x + series.x_error, left, right, True),
            (series.low[0], series.high[0], bottom, top, False),
        ):
            if low == high:
                continue
            ends = [max(low, least), min(high, most)]
            line = (ends, [y, y]) if across else ([x, x], ends)
            axes.plot(*line, color=colour(series), linewidth=1.2, alpha=0.4, solid_capstyle="butt", zorder=2)
            for end, is_cut, marker in (
                (least, low < least, "<" if across else "v"),
                (most, high > most, ">" if across else "^"),
            ):
                if is_cut:
                    place = (end, y) if across else (x, end)
                    axes.plot(*place, color=colour(series), marker=marker, markersize=4, alpha=0.6, clip_on=False)


def _set_limits(axes: Axes, chart: Chart) -> None:
    """Sets room around the points. The baseline is in view unless that would squeeze the arms together."""
    low, high = _quality_range(chart)
    if chart.baseline and not _out_of_view(chart):
        low, high = min(low, chart.baseline.value), max(high, chart.baseline.value)
    reach = (high - low) * BASELINE_GAP / 4
    for line in chart.untrained:
        if low - reach <= line.value <= high + reach:
            low, high = min(low, line.value), max(high, line.value)
    margin = (high - low) * 0.08 or abs(high) * 0.05 or 0.05
    axes.set_ylim(low - margin, high + margin)
    if chart.kind == "curve" and chart.x.scale == "log":
        _log_width(axes, chart)
        return
    if chart.kind == "curve":
        last = max(s.x[-1] for s in chart.series)
        first = min(s.x[0] for s in chart.series)
        # What was told nearly from the beginning is shown from there.
        first = 0.0 if first <= FROM_START * last else first
        # A single evaluation is a point: it needs a width to stand in.
        axes.set_xlim((first - 1, last + 1) if first == last else (first - (last - first) * 0.03, last * 1.015))
        # There is no half a step, but half of a trained change.
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=last > 1))
        return
    _scatter_width(axes, chart.x, [s.x[0] for s in chart.series])


def _log_width(axes: Axes, chart: Chart) -> None:
    """Shows numbers of rows by their logarithm, with a tick at each that was measured."""
    measured = sorted({x for series in chart.series for x in series.x})
    ends = measured[0], max(series.end[0] for series in chart.series)
    axes.set_xscale("log")
    axes.set_xlim(ends[0] / (ends[1] / ends[0]) ** 0.03, ends[1] * (ends[1] / ends[0]) ** 0.015)
    axes.xaxis.set_major_locator(FixedLocator(measured))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: chart.x.tick(value) if chart.x.tick else f"{value:g}")
    )
    axes.xaxis.set_minor_locator(NullLocator())


def _quality_range(chart: Chart) -> tuple[float, float]:
    """Returns the least and the greatest value to show. Bars of a scatter chart widen it by no more than the points
    themselves lie apart on either side, so that one wide bar does not squeeze all else together."""
    lows = [value for s in chart.series for value in s.low if not (s.muted and chart.kind == "scatter")]
    highs = [value for s in chart.series for value in s.high if not (s.muted and chart.kind == "scatter")]
    values = [value for s in chart.series for value in (*s.y, *s.dots, *(y for _, y in s.law))]
    low, high = min([*lows, *values]), max([*highs, *values])
    reach = max(values) - min(values)
    if chart.kind == "scatter" and reach > 0:
        low, high = max(low, min(values) - reach), min(high, max(values) + reach)
    return low, high


def _scatter_width(axes: Axes, axis: ChartAxis, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    axes.set_xscale(axis.scale)
    if axis.scale == "linear":
        margin = (high - low) * 0.15 or abs(high) * 0.5 or 0.05
        axes.set_xlim(low - margin, high + margin)
        return
    axes.set_xlim(low / (1.6 * (high / low) ** 0.06), high * 1.6 * (high / low) ** 0.06)
    axes.xaxis.set_minor_formatter(NullFormatter())
    if math.log10(high / low) > 2:
        axes.xaxis.set_minor_locator(NullLocator())
    if axis.tick is not None:
        text = axis.tick
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
        if math.log10(high / low) < 1.5:
            axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: text(value) if _has_label(value) else ""))


def _has_label(value: float) -> bool:
    """Returns whether a minor tick of a narrow log axis gets a label (2 and 5 of each decade)."""
    return round(value / 10 ** math.floor(math.log10(value))) in (2, 5)


def _out_of_view(chart: Chart) -> bool:
    if chart.baseline is None:
        return False
    low, high = _quality_range(chart)
    threshold = (high - low or abs(high) * 0.05) * BASELINE_GAP
    return chart.baseline.value < low - threshold or chart.baseline.value > high + threshold


def _draw_baseline(axes: Axes, chart: Chart) -> list[Box]:
    """Draws the dashed line and its label. Returns the pixels that the label takes."""
    if chart.baseline is None:
        return []
    text = f"baseline ({chart.baseline.label}): {chart.baseline.text}"
    bottom, top = axes.get_ylim()
    height = chart.baseline.value
    if _out_of_view(chart):
        above = height > top
        height = top if above else bottom
        text += ", above this axis" if above else ", below this axis"
    axes.axhline(height, color=BASELINE, linestyle=(0, (5, 3)), linewidth=1.4, zorder=1, clip_on=False)
    return _label_line(axes, chart, text, height, [])


def _draw_untrained(axes: Axes, chart: Chart, line: BaselineLine, occupied: Sequence[Box]) -> list[Box]:
    """Draws a dotted line where it is in view. Returns the pixels that it and its label take."""
    bottom, top = axes.get_ylim()
    if not bottom <= line.value <= top:
        return []
    axes.axhline(line.value, color=BASELINE, linestyle=(0, (1, 2)), linewidth=1.2, zorder=1)
    return _label_line(axes, chart, f"{line.label}: {line.text}", line.value, occupied)


def _label_line(axes: Axes, chart: Chart, text: str, height: float, occupied: Sequence[Box]) -> list[Box]:
    """Writes beside a horizontal line what it is. Returns the pixels that both take."""
    label = axes.text(0, 0, chart_text(text), color=BASELINE, fontsize=LABEL_SIZE, transform=None, va="bottom")
    extent = label.get_window_extent()
    line = float(axes.transData.transform((0, height))[1])
    frame = axes.get_window_extent()
    box = _place_baseline_label(axes, chart, (extent.width, extent.height), line, occupied)
    label.set_transform(axes.figure.transFigure)
    label.set_position(fraction(axes, (box.x0, box.y0)))
    return [box, Box(frame.x0, line - 2, frame.x1, line + 2)]


def _place_baseline_label(
    axes: Axes, chart: Chart, size: tuple[float, float], line: float, occupied: Sequence[Box]
) -> Box:
    """Chooses the label's place above or below the line, left or right: inside the axes, where fewest points are."""
    frame = axes.get_window_extent()
    room = Box(frame.x0, frame.y0, frame.x1, frame.y1)
    points = [axes.transData.transform(point) for s in chart.series for point in _along(chart, s)]
    markers = [*occupied, *(Box(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in points)]
    lefts = (frame.x0 + 8, frame.x1 - size[0] - 8, (frame.x0 + frame.x1 - size[0]) / 2)
    boxes = [
        Box(left, bottom, left + size[0], bottom + size[1])
        for bottom in (line + 6, line - 6 - size[1])
        for left in lefts
    ]
    return min(boxes, key=lambda box: (box.area - box.overlap(room) > 1, sum(box.overlap(m) for m in markers)))


def _along(chart: Chart, series: PlotSeries) -> list[tuple[float, float]]:
    """Returns a series' points; of a curve places between them, too."""
    points = list(zip(series.x, series.y, strict=True))
    if chart.kind != "curve":
        return points
    between = [
        (x0 + (x1 - x0) * part / 8, y0 + (y1 - y0) * part / 8)
        for (x0, y0), (x1, y1) in pairwise(points)
        for part in range(1, 8)
    ]
    return points + between


def _label_curves(axes: Axes, chart: Chart, _: list[Box]) -> None:
    """Writes names at the right ends of the lines, moved apart where lines end close together."""
    frame = axes.get_window_extent()
    ends = [axes.transData.transform(s.end) for s in chart.labelled]
    height = max((text_size(axes, s.text)[1] for s in chart.labelled), default=0.0) + 3
    heights = spread_out([end[1] for end in ends], height, frame.y0, frame.y1)
    for series, end, at in zip(chart.labelled, ends, heights, strict=True):
        axes.annotate(
            chart_text(series.text),
            fraction(axes, (end[0], end[1])),
            xycoords="figure fraction",
            xytext=fraction(axes, (frame.x1 + NAME_GAP, at)),
            textcoords="figure fraction",
            color=text_colour(series),
            fontsize=LABEL_SIZE,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour(series),
                "linewidth": 0.8,
                "shrinkA": 2,
                "shrinkB": 3,
                # From the text's left edge, or the line would run through the names above and below.
                "relpos": (0.0, 0.5),
            },
        )


def _label_points(axes: Axes, chart: Chart, occupied: list[Box]) -> None:
    """Writes a name beside each point where it covers nothing, with a thin line where it had to go further away."""
    frame = axes.get_window_extent()
    points, bars = [], []
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for s in chart.labelled:
        x, y = axes.transData.transform((s.x[0], s.y[0]))
        points.append((x, y))
        bars.append(_box(axes, (s.x[0], max(s.low[0], bottom)), (s.x[0], min(s.high[0], top)), 3))
        ends = max(s.x[0] - s.x_error, left), min(s.x[0] + s.x_error, right)
        bars.append(_box(axes, (ends[0], s.y[0]), (ends[1], s.y[0]), 3))
        bars += [_box(axes, (s.x[0], dot), (s.x[0], dot), 3) for dot in s.dots]
    bars += [_box(axes, (s.x[0], s.y[0]), (s.x[0], s.y[0]), 5) for s in chart.series if s.muted]
    sizes = [text_size(axes, s.text) for s in chart.labelled]
    room = Box(frame.x0, frame.y0, frame.x1 + 20, frame.y1 + 5)
    drawn = [_box(axes, (s.x[0], s.y[0]), (s.x[0], s.y[0]), 2) for s in chart.series]
    for series, point, box in zip(chart.labelled, points, place(points, sizes, [*occupied, *bars], room), strict=True):
        # Where there is no free place at all, the colour and the marker alone tell the arm.
        if any(box.overlap(other) > 1 for other in (*drawn, *occupied)):
            continue
        drawn.append(box)
        centre = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        nearest = (min(max(point[0], box.x0), box.x1), min(max(point[1], box.y0), box.y1))
        is_far = math.dist(point, nearest) > 20
        axes.annotate(
            chart_text(series.text),
            fraction(axes, point),
            xycoords="figure fraction",
            xytext=fraction(axes, centre),
            textcoords="figure fraction",
            color=text_colour(series),
            fontsize=LABEL_SIZE,
            ha="center",
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour(series), "linewidth": 0.7, "shrinkA": 0, "shrinkB": 5}
            if is_far
            else None,
        )


def _box(axes: Axes, first: tuple[float, float], second: tuple[float, float], margin: float) -> Box:
    (x0, y0), (x1, y1) = axes.transData.transform(first), axes.transData.transform(second)
    return Box(x0 - margin, y0 - margin, x1 + margin, y1 + margin)
