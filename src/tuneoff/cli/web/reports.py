"""Reports of studies and series as pages, made anew when a record has changed; nothing is written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tuneoff.errors import StoreError
from tuneoff.report import html
from tuneoff.report.schema import JoinedReport, Report
from tuneoff.store import SeriesStore, StudyStore

KEPT = 8
"""How many pages are kept."""
_Mark = tuple[str, int, int]
_Stamp = tuple[_Mark, ...]


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
        marks = [mark for store in stores for mark in _marks(store)]
        return self._kept(tuple(store.root for store in stores), marks, lambda: _render(stores))

    def series_page(self, store: SeriesStore, addresses: Mapping[str, str]) -> str:
        """Returns the report of a series.

        Args:
            store: the series.
            addresses: member -> the address of its own report.

        Raises:
            StoreError: if it cannot be read, or nothing of it is completed.
        """
        members = [member.store for member in store.members if member.store.is_there]
        marks = [*_marks_of([store.root / store.MANIFEST]), *(mark for member in members for mark in _marks(member))]
        return self._kept((store.root,), marks, lambda: _render_series(store, addresses))

    def _kept(self, key: tuple[Path, ...], marks: Sequence[_Mark], render: Callable[[], str]) -> str:
        """Returns the page that is kept while its marks are the same, else a new one."""
        stamp = tuple(marks)
        with self._lock:
            kept = self._pages.pop(key, None)
            page = kept[1] if kept is not None and kept[0] == stamp else render()
            self._pages[key] = (stamp, page)
            while len(self._pages) > KEPT:
                del self._pages[next(iter(self._pages))]
            return page


def _marks(store: StudyStore) -> list[_Mark]:
    """Lists what tells that a report would be another: the study's file, every record, and what was measured later."""
    paths = [store.root / store.MANIFEST]
    with suppress(StoreError):  # the report tells what is damaged
        trials = [store.trial(each) for each in store.trial_ids()]
        paths += [path for trial in trials for path in (trial.record_path, trial.deployability.path)]
    return _marks_of(paths)


def _marks_of(paths: Sequence[Path]) -> list[_Mark]:
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


def _render_series(store: SeriesStore, addresses: Mapping[str, str]) -> str:
    from tuneoff.analysis.series.members import gather_series
    from tuneoff.report.charts.drawing import draw
    from tuneoff.report.series.builder import build_series
    from tuneoff.report.series.charts import build_series_charts
    from tuneoff.report.series.pages import html_page

    report = build_series(gather_series(store))
    drawings = [draw(chart) for chart in build_series_charts(report)]
    return html_page(report, drawings, str(store.root), addresses)
