"""Reports of studies as pages, made anew when a record has changed; nothing is written."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from tuneoff.report import html
from tuneoff.report.schema import JoinedReport, Report
from tuneoff.store import StudyStore

KEPT = 8
"""How many pages are kept."""
_Stamp = tuple[tuple[str, int, int], ...]


class Reports:
    """Makes pages one at a time, and keeps the last ones while no record changes."""

    def __init__(self) -> None:
        self._pages: dict[tuple[Path, ...], tuple[_Stamp, str]] = {}
        self._lock = threading.Lock()

    def page(self, stores: Sequence[StudyStore]) -> str:
        """Returns the report of a study, or of several side by side.

        Raises:
            StudyError: if they do not answer the same question.
            StoreError: if one cannot be read.
        """
        key = tuple(store.root for store in stores)
        stamp = tuple(mark for store in stores for mark in _marks(store))
        with self._lock:
            kept = self._pages.pop(key, None)
            page = kept[1] if kept is not None and kept[0] == stamp else _render(stores)
            self._pages[key] = (stamp, page)
            while len(self._pages) > KEPT:
                del self._pages[next(iter(self._pages))]
            return page


def _marks(store: StudyStore) -> list[tuple[str, int, int]]:
    """Lists what tells that a report would be another: the study's file and every record."""
    paths = [store.root / "study.json", *(store.trial(each).record_path for each in store.trial_ids())]
    found = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # none yet
            continue
        found.append((str(path), status.st_ino, status.st_mtime_ns))
    return found


def _render(stores: Sequence[StudyStore]) -> str:
    from tuneoff.analysis.results import gather
    from tuneoff.analysis.side_by_side import join
    from tuneoff.report.builder import build_report
    from tuneoff.report.charts.definitions import build_charts
    from tuneoff.report.charts.drawing import draw

    if len(stores) == 1:
        report: Report = build_report(gather(stores[0]))
    else:
        joined = join([store.root for store in stores])
        report = JoinedReport.of(build_report(joined.results), joined.studies, joined.notes)
    folder = str(stores[0].root) if len(stores) == 1 else ""
    return html.render(report, [draw(chart) for chart in build_charts(report)], folder)
