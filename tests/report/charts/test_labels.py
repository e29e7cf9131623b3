"""What holds of the texts of every chart of very different studies: no text lies over another or a point, all stand
within the picture, and all can be read where the picture is one column of a paper wide."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

from page_helpers import classified_store, many_arms_store
from peft_helpers import result, write
from record_helpers import QUICKSTART, WRITERS, Level, World, build_store, small_study, writing_study
from tuneoff.analysis.results import gather
from tuneoff.importers.peft_benchmark import import_folder
from tuneoff.report.builder import build_report
from tuneoff.report.charts import drawing
from tuneoff.report.charts.chart import Chart
from tuneoff.report.charts.definitions import build_charts
from tuneoff.report.charts.drawing import draw
from tuneoff.store import StudyStore

COLUMN = 8 / 2.54
"""Inches of one column of a paper."""
LEAST_POINTS = 5.0
"""Least size of a text in print: what journals ask for."""


def quickstart(folder: Path) -> StudyStore:
    return build_store(folder / "s", small_study(*QUICKSTART, seeds=3, search=6), World())


def writing(folder: Path) -> StudyStore:
    return build_store(folder / "s", writing_study(*WRITERS), World(levels=WRITERS, test_rows=30))


def equals(folder: Path) -> StudyStore:
    """Twelve arms at nearly one place, with long names."""
    levels = {f"an arm with a long name {at:02}": Level(0.9, 10.0 + 0.01 * at, adapter=1000 + at) for at in range(12)}
    arms = {label: {"method": "lora", "r": 1 + at} for at, label in enumerate(levels)}
    return build_store(folder / "s", small_study(arms=arms), World(levels=levels, test_rows=60))


def imported(folder: Path) -> StudyStore:
    """Sixty-three arms with one seed each, as PEFT's comparison has."""
    random = np.random.default_rng(3)
    files = {
        f"run{at}": result(
            f"method{at:02}/base-1b-rank{2 ** (at % 7)}-target-mlp",
            float(random.uniform(0.0, 0.55)),
            peak=int(random.uniform(15, 40) * 2**30),
            trained=int(10 ** random.uniform(2, 9)),
            step_seconds=float(10 ** random.uniform(1.3, 2.5)),
        )
        for at in range(63)
    }
    return import_folder(write(folder / "in", **files), folder / "out").store


def many(folder: Path) -> StudyStore:
    return many_arms_store(folder, arms=30, seeds=3)


@pytest.fixture(scope="module", params=[quickstart, writing, classified_store, equals, imported, many])
def charts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Chart, Any]]:
    """Every chart of a study with its figure, drawn."""
    store = request.param(tmp_path_factory.mktemp("labels"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "_drawing", lambda _, figure: figure)
        figures: list[tuple[Chart, Any]] = [(chart, draw(chart)) for chart in build_charts(build_report(gather(store)))]
    for _, figure in figures:
        figure.canvas.draw()  # puts annotations in their places
    assert len(figures) >= 4
    return figures


def texts_of(figure: Any) -> Iterator[Text]:
    for axes in figure.axes:
        ticks = [*axes.get_xticklabels(), *axes.get_yticklabels(), *axes.get_xticklabels(minor=True)]
        within = [tick for tick in ticks if is_in_view(tick, axes)]
        yield from (t for t in (*axes.texts, axes._left_title, axes.xaxis.label, axes.yaxis.label, *within))
    yield from figure.texts


def is_in_view(tick: Text, axes: Any) -> bool:
    """A locator makes ticks beyond the ends of an axis, too, which are not drawn."""
    box, frame = Text.get_window_extent(tick), axes.get_window_extent()
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    return bool(frame.x0 - 1 <= x <= frame.x1 + 1 or frame.y0 - 1 <= y <= frame.y1 + 1)


def shown(figure: Any) -> list[tuple[str, Any]]:
    return [(t.get_text(), Text.get_window_extent(t)) for t in texts_of(figure) if t.get_visible() and t.get_text()]


def test_no_text_lies_over_another(charts: list[tuple[Chart, Any]]) -> None:
    for chart, figure in charts:
        for (one, a), (other, b) in combinations(shown(figure), 2):
            assert not a.padded(-1).overlaps(b.padded(-1)), f"{chart.name}: {one!r} and {other!r}"


def test_every_text_stands_within_the_picture(charts: list[tuple[Chart, Any]]) -> None:
    for chart, figure in charts:
        for text, box in shown(figure):
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
            assert inside, f"{chart.name}: {text!r} {box}"


def test_no_text_lies_over_a_point(charts: list[tuple[Chart, Any]]) -> None:
    for chart, figure in charts:
        axes = figure.axes[0]
        if chart.kind in ("classes", "matrix", "counts"):
            continue  # their points stand in rows of their own
        points = [axes.transData.transform(point) for s in chart.series for point in zip(s.x, s.y, strict=True)]
        frame = axes.get_window_extent()
        in_view = [point for point in points if frame.contains(*point)]
        for text, box in shown(figure):
            assert not any(box.contains(*point) for point in in_view), f"{chart.name}: {text!r}"


def test_every_text_can_be_read_in_one_column_of_a_paper(charts: list[tuple[Chart, Any]]) -> None:
    for chart, figure in charts:
        scale = COLUMN / figure.get_figwidth()
        for text in texts_of(figure):
            if text.get_text():
                assert text.get_fontsize() * scale >= LEAST_POINTS, f"{chart.name}: {text.get_text()!r}"
