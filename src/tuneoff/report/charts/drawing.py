"""Draws charts as PNG and SVG, with matplotlib's objects (no pyplot, no state, no display)."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from tuneoff.encoding import chart_text
from tuneoff.report.charts.chart import BaselineLine, Chart, ChartAxis, Series
from tuneoff.report.charts.forest_drawing import draw_forest
from tuneoff.report.charts.placement import MARKER, Box, place, spread_out
from tuneoff.report.charts.style import COLOURS, DASHES, MARKERS

DPI = 150
BASELINE = "#444444"
MUTED = "#b5b5b5"
"""Colour of what has no label: arms of many, and the line of the front."""
LABEL_SIZE, TITLE_SIZE = 9.0, 11.0
FROM_START = 0.15
"""A curve whose first step is at most this share of its last begins at step 0."""
BASELINE_GAP = 2.0
"""A baseline further below the data than this many times the data's range is named, not drawn to scale."""


@dataclass(frozen=True)
class Drawing:
    """One chart, drawn once; `svg` keeps its text as text."""

    chart: Chart
    png: bytes
    svg: str


def draw(chart: Chart) -> Drawing:
    """Draws the chart; equal charts give equal drawings."""
    with _drawn(chart) as figure:
        return _drawing(chart, figure)


def draw_vectors(chart: Chart) -> tuple[bytes, str]:
    """Draws the chart once, as PDF and as SVG, whose text is text; equal charts give equal drawings."""
    with _drawn(chart) as figure:
        return _save(figure, "pdf"), _save(figure, "svg").decode()


@contextmanager
def _drawn(chart: Chart) -> Iterator[Figure]:
    """Gives the drawn figure, to save while matplotlib has our settings."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A label in a script that the font lacks is drawn as boxes; the tables have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcdefaults()
        # The salt makes names inside an SVG the same each time. Papers want PDFs whose fonts are of type 42.
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": chart.name, "pdf.fonttype": 42})
        figure = Figure(figsize=(8.0, 5.0), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)  # measures text
        _draw(figure, chart)
        yield figure


def _draw(figure: Figure, chart: Chart) -> None:
    if chart.kind == "search":
        _draw_search(figure, chart)
        return
    if chart.kind == "forest":
        _draw_title(draw_forest(figure, chart, LABEL_SIZE), chart)
        return
    right = 0.79 if chart.kind == "curve" else 0.97
    axes = figure.add_axes((0.105, 0.115, right - 0.105, 0.8))
    _draw_title(axes, chart)
    _style_axes(axes)
    axes.set_xlabel(chart_text(chart.x.label))
    axes.set_ylabel(chart_text(chart.y.label))
    _draw_muted(axes, chart)
    for series in chart.labelled:
        (_draw_curve if chart.kind == "curve" else _draw_point)(axes, series)
    _set_limits(axes, chart)
    if chart.kind == "scatter":
        _draw_bars(axes, chart)
    occupied = _draw_baseline(axes, chart)
    for line in chart.untrained:
        occupied += _draw_untrained(axes, chart, line, occupied)
    (_label_curves if chart.kind == "curve" else _label_points)(axes, chart, occupied)


# The version of matplotlib and the time in a file would make equal charts differ.
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Creator": None, "Date": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


def _drawing(chart: Chart, figure: Figure) -> Drawing:
    return Drawing(chart, _save(figure, "png"), _save(figure, "svg").decode())


def _save(figure: Figure, kind: str) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=kind, metadata=_METADATA[kind])
    return out.getvalue()


def _fraction(axes: Axes, pixels: tuple[float, float]) -> tuple[float, float]:
    """Returns a place on the figure that holds at any resolution; an SVG has another one than a PNG."""
    x, y = axes.get_figure(root=True).transFigure.inverted().transform(pixels)  # type: ignore[union-attr]
    return float(x), float(y)


def _draw_title(axes: Axes, chart: Chart) -> None:
    """Writes the title over the axes, on two lines where one is too narrow."""
    text = chart_text(chart.title)
    title = axes.set_title(text, loc="left", fontsize=TITLE_SIZE, fontweight="bold")
    figure = axes.get_figure(root=True)
    assert figure is not None  # axes are made by one
    room = figure.bbox.x1 - axes.get_window_extent().x0 - 10
    width = title.get_window_extent().width
    if width > room:
        title.set_text(textwrap.fill(text, int(len(text) * room / width) - 2, max_lines=2, placeholder=" …"))


def _style_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)


def _colour(series: Series) -> str:
    return COLOURS[series.style % len(COLOURS)]


def _text_colour(series: Series) -> str:
    """Returns the arm's colour for text, darker, because the paler colours are hard to read on white."""
    red, green, blue = (int(_colour(series)[at : at + 2], 16) for at in (1, 3, 5))
    return f"#{red * 7 // 10:02x}{green * 7 // 10:02x}{blue * 7 // 10:02x}"


def _marker_style(series: Series) -> dict[str, Any]:
    """Returns an arm's colour and marker, the same in every chart."""
    return {"color": _colour(series), "marker": MARKERS[series.style % len(MARKERS)]}


def _line_style(series: Series) -> Any:
    """Returns the style of an arm's line, the same in every chart."""
    return DASHES[series.style % len(DASHES)]


def _draw_curve(axes: Axes, series: Series) -> None:
    axes.plot(
        series.x,
        series.y,
        **_marker_style(series),
        markersize=4.5,
        markevery=max(1, len(series.x) // 12),
        linewidth=1.6,
        linestyle=_line_style(series),
    )
    if series.low != series.high:
        axes.fill_between(series.x, series.low, series.high, color=_colour(series), alpha=0.12, linewidth=0)


def _draw_muted(axes: Axes, chart: Chart) -> None:
    """Draws what is grey and without labels: the front's line, and of many arms those that are not named."""
    if len(chart.front) > 1:
        xs, ys = zip(*chart.front, strict=True)
        axes.plot(xs, ys, color=MUTED, linewidth=1.0, zorder=1)
    muted = [series for series in chart.series if series.muted]
    if chart.kind == "curve":
        lines = [list(zip(series.x, series.y, strict=True)) for series in muted]
        axes.add_collection(LineCollection(lines, colors=MUTED, linewidths=0.6, zorder=1), autolim=False)
    elif muted:
        points = [(x, y) for s in muted for x, y in zip(s.x, s.y, strict=True)]
        axes.plot(*zip(*points, strict=True), color=MUTED, marker="o", markersize=4, linestyle="none", zorder=1)


def _draw_point(axes: Axes, series: Series) -> None:
    if series.dots:
        axes.plot(
            series.x * len(series.dots),
            series.dots,
            color=_colour(series),
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
        **_marker_style(series),
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
            axes.plot(*line, color=_colour(series), linewidth=1.2, alpha=0.4, solid_capstyle="butt", zorder=2)
            for end, is_cut, marker in (
                (least, low < least, "<" if across else "v"),
                (most, high > most, ">" if across else "^"),
            ):
                if is_cut:
                    place = (end, y) if across else (x, end)
                    axes.plot(*place, color=_colour(series), marker=marker, markersize=4, alpha=0.6, clip_on=False)


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
    if chart.kind == "curve":
        last = max(s.x[-1] for s in chart.series)
        first = min(s.x[0] for s in chart.series)
        # What was told nearly from the beginning is shown from there.
        first = 0.0 if first <= FROM_START * last else first
        # A single evaluation is a point: it needs a width to stand in.
        axes.set_xlim((first - 1, last + 1) if first == last else (first - (last - first) * 0.03, last * 1.015))
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))  # there is no half a step
        return
    _scatter_width(axes, chart.x, [s.x[0] for s in chart.series])


def _quality_range(chart: Chart) -> tuple[float, float]:
    """Returns the least and the greatest value to show. Bars of a scatter chart widen it by no more than the points
    themselves lie apart on either side, so that one wide bar does not squeeze all else together."""
    lows = [value for s in chart.series for value in s.low if not (s.muted and chart.kind == "scatter")]
    highs = [value for s in chart.series for value in s.high if not (s.muted and chart.kind == "scatter")]
    values = [value for s in chart.series for value in (*s.y, *s.dots)]
    low, high = min([*lows, *values]), max([*highs, *values])
    reach = max(values) - min(values)
    if chart.kind == "scatter" and reach > 0:
        low, high = max(low, min(values) - reach), min(high, max(values) + reach)
    return low, high


def _scatter_width(axes: Axes, axis: ChartAxis, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    axes.set_xscale(axis.scale)
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
    label.set_position(_fraction(axes, (box.x0, box.y0)))
    return [box, Box(frame.x0, line - 2, frame.x1, line + 2)]


def _place_baseline_label(
    axes: Axes, chart: Chart, size: tuple[float, float], line: float, occupied: Sequence[Box]
) -> Box:
    """Chooses the label's place above or below the line, left or right: inside the axes, where fewest points are."""
    frame = axes.get_window_extent()
    room = Box(frame.x0, frame.y0, frame.x1, frame.y1)
    points = [axes.transData.transform(point) for s in chart.series for point in zip(s.x, s.y, strict=True)]
    markers = [*occupied, *(Box(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in points)]
    lefts = (frame.x0 + 8, frame.x1 - size[0] - 8, (frame.x0 + frame.x1 - size[0]) / 2)
    boxes = [
        Box(left, bottom, left + size[0], bottom + size[1])
        for bottom in (line + 6, line - 6 - size[1])
        for left in lefts
    ]
    return min(boxes, key=lambda box: (box.area - box.overlap(room) > 1, sum(box.overlap(m) for m in markers)))


def _text_size(axes: Axes, text: str) -> tuple[float, float]:
    """Returns width and height of a label in pixels."""
    sample = axes.text(0, 0, chart_text(text), fontsize=LABEL_SIZE)
    extent = sample.get_window_extent()
    sample.remove()
    return extent.width, extent.height


def _label_curves(axes: Axes, chart: Chart, _: list[Box]) -> None:
    """Writes names at the right ends of the lines, moved apart where lines end close together."""
    frame = axes.get_window_extent()
    ends = [axes.transData.transform((s.x[-1], s.y[-1])) for s in chart.labelled]
    height = max((_text_size(axes, s.text)[1] for s in chart.labelled), default=0.0) + 3
    heights = spread_out([end[1] for end in ends], height, frame.y0, frame.y1)
    for series, end, at in zip(chart.labelled, ends, heights, strict=True):
        axes.annotate(
            chart_text(series.text),
            _fraction(axes, (end[0], end[1])),
            xycoords="figure fraction",
            xytext=_fraction(axes, (frame.x1 + 26, at)),
            textcoords="figure fraction",
            color=_text_colour(series),
            fontsize=LABEL_SIZE,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": _colour(series),
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
    sizes = [_text_size(axes, s.text) for s in chart.labelled]
    room = Box(frame.x0, frame.y0, frame.x1 + 20, frame.y1 + 5)
    for series, point, box in zip(chart.labelled, points, place(points, sizes, [*occupied, *bars], room), strict=True):
        centre = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        nearest = (min(max(point[0], box.x0), box.x1), min(max(point[1], box.y0), box.y1))
        is_far = math.dist(point, nearest) > 20
        axes.annotate(
            chart_text(series.text),
            _fraction(axes, point),
            xycoords="figure fraction",
            xytext=_fraction(axes, centre),
            textcoords="figure fraction",
            color=_text_colour(series),
            fontsize=LABEL_SIZE,
            ha="center",
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": _colour(series), "linewidth": 0.7, "shrinkA": 0, "shrinkB": 5}
            if is_far
            else None,
        )


def _box(axes: Axes, first: tuple[float, float], second: tuple[float, float], margin: float) -> Box:
    (x0, y0), (x1, y1) = axes.transData.transform(first), axes.transData.transform(second)
    return Box(x0 - margin, y0 - margin, x1 + margin, y1 + margin)


def _draw_search(figure: Figure, chart: Chart) -> None:
    """Draws the scores over what was tried and, below on the same scale, each arm's range with its name at the
    right."""
    score_height, range_height, label_height = 4.0, 0.19 * len(chart.labelled) + 0.08, 0.5
    height = 0.42 + score_height + 0.12 + range_height + label_height
    score_axes = figure.add_axes((0.1, 0.5, 0.7, 0.4))
    # As wide as the longest name needs.
    names = max((_text_size(score_axes, series.text)[0] for series in chart.labelled), default=0.0) / DPI
    width = max(8.0, 0.84 + 5.48 + names + 0.25)
    figure.set_size_inches(width, height)
    score_axes.set_position(
        (0.84 / width, (label_height + range_height + 0.12) / height, 5.48 / width, score_height / height)
    )
    range_axes = figure.add_axes(
        (0.84 / width, label_height / height, 5.48 / width, range_height / height), sharex=score_axes
    )
    _draw_title(score_axes, chart)
    for axes in (score_axes, range_axes):
        _style_axes(axes)
        axes.set_xscale(chart.x.scale)
    score_axes.set_ylabel(chart_text(chart.y.label))
    if chart.y.scale == "log":
        score_axes.set_yscale("log", subs=(1.5, 2, 3, 5, 7))
        score_axes.grid(True, which="minor", axis="y", color="#e4e4e4", linewidth=0.7)
        for axis in (score_axes.yaxis.set_major_formatter, score_axes.yaxis.set_minor_formatter):
            axis(FuncFormatter(lambda value, _: f"{value:g}"))
    score_axes.tick_params(axis="x", labelbottom=False)
    range_axes.set_xlabel(chart_text(chart.x.label))
    range_axes.set_ylim(-len(chart.labelled) + 0.4, 0.6)
    range_axes.set_yticks([])
    range_axes.spines["left"].set_visible(False)
    ends = [end for series in chart.series for end in series.span or ()]
    margin = (max(ends) / min(ends)) ** 0.03 * 1.1
    score_axes.set_xlim(min(ends) / margin, max(ends) * margin)
    _draw_muted(score_axes, chart)
    for index, series in enumerate(chart.labelled):
        _draw_trials(score_axes, series)
        _draw_range(range_axes, series, -index)


def _draw_trials(axes: Axes, series: Series) -> None:
    axes.plot(
        series.x,
        series.y,
        **_marker_style(series),
        markersize=5.5,
        linewidth=1.4,
        linestyle=_line_style(series) if series.joined else "none",
        alpha=0.9,
    )
    axes.plot(
        [x for x, _ in series.early],
        [y for _, y in series.early],
        **_marker_style(series),
        markersize=5.0,
        markerfacecolor="white",
        linestyle="none",
        alpha=0.7,
    )
    if series.chosen is not None:
        index = series.chosen
        _ring(axes, series, series.x[index], series.y[index], 8.5)


def _ring(axes: Axes, series: Series, x: float, y: float, size: float) -> None:
    axes.plot(
        [x],
        [y],
        **_marker_style(series),
        markersize=size,
        markeredgecolor="black",
        markeredgewidth=1.3,
        zorder=5,
    )


def _draw_range(axes: Axes, series: Series, height: float) -> None:
    """Draws a bar from end to end, what was tried on it, and the arm's name beside it."""
    axes.plot(series.span or (), [height] * 2, color=_colour(series), marker="|", markersize=9, linewidth=1.2)
    rates = [*series.x, *(x for x, _ in series.early)]
    axes.plot(rates, [height] * len(rates), **_marker_style(series), markersize=3.5, lw=0)
    axes.plot(series.failed, [height] * len(series.failed), color="black", marker="x", markersize=5.5, lw=0, zorder=6)
    if series.chosen is not None:
        _ring(axes, series, series.x[series.chosen], height, 5.5)
    at_right = axes.get_yaxis_transform()
    axes.text(
        1.015,
        height,
        chart_text(series.text),
        color=_text_colour(series),
        fontsize=LABEL_SIZE,
        va="center",
        transform=at_right,
    )
