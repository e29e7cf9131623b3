"""The results of a study, for people and programs: one `Report`, and its files in `report/` inside the study's folder.

Made anew from the records at any time; equal records give equal files. Everything heavy is imported on use.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuneoff.analysis.results import Asked
    from tuneoff.report.schema import Report
    from tuneoff.store import StudyStore


def build(store: StudyStore, asked: Asked | None = None, margin: float | None = None) -> Report:
    """Builds the report of a study; docs/report-schema.md describes it key by key.

    Args:
        store: the study's folder.
        asked: the arms and seeds to tell of; all that the folder holds where unset.
        margin: within which an arm counts as as good as the best, in place of the study's own.

    Raises:
        StoreError: if the study cannot be read.
    """
    from tuneoff.analysis.results import gather
    from tuneoff.report.builder import build_report

    return build_report(gather(store, asked, margin))


def write(store: StudyStore, plots: bool = True, asked: Asked | None = None, margin: float | None = None) -> Path:
    """Writes report.html, report.md, report.json, results.csv, methods.csv, pairs.csv, study.yaml and the charts.

    Without the charts where `plots` is false. A `margin` stands in place of the study's own.

    Works on a study in progress too, and says what is missing. Where the folder holds more than was `asked`, the report
    goes to a folder beside `report/`, which stays as it is.

    Returns:
        The path of report.md.

    Raises:
        StoreError: if the study cannot be read or the report cannot be written.
    """
    from tuneoff.analysis.results import gather
    from tuneoff.report.builder import build_report
    from tuneoff.report.files import write_built

    results = gather(store, asked, margin)
    return write_built(results, build_report(results), plots)


def write_latex(store: StudyStore, asked: Asked | None = None, margin: float | None = None) -> Path:
    """Writes what a paper takes into `latex/` in the report's folder: report.tex, which shows table.tex, methods.tex,
    references.bib and the charts (PDF and SVG).

    Returns:
        The path of report.tex.

    Raises:
        StoreError: if the study cannot be read or a file cannot be written.
    """
    from tuneoff.analysis.results import gather
    from tuneoff.report.builder import build_report
    from tuneoff.report.latex import write_built

    results = gather(store, asked, margin)
    return write_built(results, build_report(results))


def add_comparison(store: StudyStore, folder: Path) -> None:
    """Adds the comparison with the study's other arms to the card of a model that was exported into a folder.

    Raises:
        StoreError: if the card cannot be written.
    """
    from tuneoff.report import comparison

    comparison.add_comparison(store, folder)
