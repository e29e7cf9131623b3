"""A CSV of final figures, one line each."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from tuneoff.interfaces import StudyInfo, Tracker, TrialInfo


class Table(Tracker):
    """Writes `figures.csv`: study, trial, figure, value."""

    title = "Table"
    summary = "A CSV of all final figures."

    def start(self, study: StudyInfo, folder: Path) -> None:
        self.group = study.group
        self.file = (folder / "figures.csv").open("a", newline="", encoding="utf-8")
        self.writer = csv.writer(self.file)

    def begin_trial(self, trial: TrialInfo) -> None:
        """Nothing to open: a trial's lines are written when it ends."""

    def log(self, trial: TrialInfo, step: int, metrics: Mapping[str, float]) -> None:
        """Curves have no place in this table."""

    def end_trial(
        self, trial: TrialInfo, step: int, status: str, metrics: Mapping[str, float], record: Path | None
    ) -> None:
        self.writer.writerows([self.group, trial.name, name, value] for name, value in metrics.items())
        self.file.flush()

    def artifacts(self, files: Sequence[Path]) -> None:
        """The report lies in the study's folder already."""

    def finish(self) -> None:
        self.file.close()


plugin = Table
