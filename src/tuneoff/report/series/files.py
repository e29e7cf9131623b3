"""Writes the report of a series, each file whole or not at all, and the reports of its members."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from tuneoff.analysis.series.members import SeriesResults, gather_series
from tuneoff.collection import without_collection
from tuneoff.encoding import csv_table
from tuneoff.report import files
from tuneoff.report.series import pages
from tuneoff.report.series.builder import build_series
from tuneoff.report.series.charts import SERIES_FILES, build_series_charts
from tuneoff.report.series.schema import SeriesReport
from tuneoff.store import write_atomically
from tuneoff.store.series import SeriesStore


def write(store: SeriesStore, plots: bool = True) -> Path:
    """Writes the report of a series into `report/` of its folder, and those of its members into theirs.

    Returns:
        The path of index.html.

    Raises:
        StoreError: if no member has a completed trial, or a file cannot be written.
    """
    series = gather_series(store)
    return write_built(series, build_series(series), plots)


@without_collection()
def write_built(series: SeriesResults, report: SeriesReport, plots: bool = True) -> Path:
    """Writes the files of a report that is built already from these results; see `write`."""
    for member in series.members:
        files.write_built(member.results, report.reports[member.name], plots)
    folder = series.store.report_folder
    charts, drawings = build_series_charts(report) if plots else [], []
    if charts:
        from tuneoff.report.charts.drawing import draw

        drawings = [draw(chart) for chart in charts]
    for drawing in drawings:
        write_atomically(folder / drawing.chart.file, drawing.png)
    for name in set(SERIES_FILES) - {chart.file for chart in charts}:
        # A chart of an earlier report that this one has no points for would be out of date.
        (folder / name).unlink(missing_ok=True)
    write_atomically(folder / "members.csv", members_csv(report))
    if report.bases is not None:
        write_atomically(folder / "pairs.csv", files.pairs_csv(report.bases))
    text = json.dumps(report.as_data(), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "report.json", text + "\n")
    write_atomically(folder / "report.md", pages.markdown_page(report, charts))
    page = folder / "index.html"
    write_atomically(page, pages.html_page(report, drawings, _path_from_origin(series)))
    return page


def _path_from_origin(series: SeriesResults) -> str:
    """Returns the series' folder relative to where it was run, by a member's; empty where that is not known."""
    path = files.path_from_origin(series.members[0].results.store)
    return PurePosixPath(path).parents[1].as_posix() if path else ""


def members_csv(report: SeriesReport) -> str:
    """Returns a table with one line per member and arm, its figures as in a study's methods.csv."""
    lines = [
        {"member": member.name, "train_rows": member.train_rows, **files.flat(arm)}
        for member in report.members
        for arm in report.reports[member.name].methods
    ]
    columns = list(dict.fromkeys(key for line in lines for key in line))
    return csv_table([columns, *([line.get(column, "") for column in columns] for line in lines)])
