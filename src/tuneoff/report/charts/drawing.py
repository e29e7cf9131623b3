"""Draws charts as PNG, SVG and PDF, with matplotlib's objects (no pyplot, no state, no display)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tuneoff.report.charts.answer_drawing import draw_classes, draw_counts, draw_matrix, draw_residuals
from tuneoff.report.charts.chart import Chart
from tuneoff.report.charts.marks import DPI, WIDTH
from tuneoff.report.charts.plane_drawing import draw_plane
from tuneoff.report.charts.row_drawing import draw_forecast, draw_forest, draw_ties
from tuneoff.report.charts.search_drawing import draw_search

HEIGHT = 3.9
"""Inches, of a chart whose height does not follow from what it shows."""


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
        figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)  # measures text
        _DRAW[chart.kind](figure, chart)
        yield figure


_DRAW: dict[str, Callable[[Figure, Chart], None]] = {
    "curve": draw_plane,
    "scatter": draw_plane,
    "search": draw_search,
    "forest": draw_forest,
    "ties": draw_ties,
    "forecast": draw_forecast,
    "classes": draw_classes,
    "matrix": draw_matrix,
    "counts": draw_counts,
    "residuals": draw_residuals,
}
"""Kind of a chart -> what draws it."""

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
