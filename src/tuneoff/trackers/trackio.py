"""trackio: a local SQLite database, unless the user's own TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says otherwise."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tuneoff.interfaces import StudyInfo, Tracker, TrialInfo, flatten

PROJECT = "tuneoff"
ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
PACKAGE = "trackio"
SYSTEM = "system/"


class Trackio(Tracker):
    """One run per trial in the project `tuneoff`, grouped by study; `trackio show` opens it."""

    title = "trackio"
    summary = "A database in the study's folder, shown by `trackio show`; a Space with TRACKIO_SPACE_ID."
    extra = "'tuneoff[trackio]'"
    requires: ClassVar[tuple[str, ...]] = ("trackio",)

    def start(self, study: StudyInfo, folder: Path) -> None:
        # Both are read when the package is imported.
        os.environ.setdefault("TRACKIO_DIR", str(folder))
        if not any(os.environ.get(name) for name in ELSEWHERE):
            os.environ["HF_HUB_OFFLINE"] = "1"
        self._mishaps: list[str] = []
        self._listen_to_warnings()
        import trackio

        self._trackio, self._study = trackio, study
        self._runs: dict[str, Any] = {}

    def begin_trial(self, trial: TrialInfo) -> None:
        # Its names are unique in a project, which may hold other studies.
        name = f"{trial.name}-{trial.id[:6]}"
        self._runs[trial.id] = self._init(name, {**trial.configuration, "attempt": trial.attempt})

    def log(self, trial: TrialInfo, step: int, metrics: Mapping[str, float]) -> None:
        run = self._runs[trial.id]
        system = {name.removeprefix(SYSTEM): v for name, v in metrics.items() if name.startswith(SYSTEM)}
        if system:
            run.log_system(system)
        if curves := {name: v for name, v in metrics.items() if not name.startswith(SYSTEM)}:
            run.log(curves, step=step)
        self._check()

    def end_trial(
        self, trial: TrialInfo, step: int, status: str, metrics: Mapping[str, float], record: Path | None
    ) -> None:
        run = self._runs.pop(trial.id)
        run.log({"final/status": status, **metrics}, step=step)
        if record is not None:
            self._log_artifact(run, f"record-{trial.id}", "record", [record])
        run.finish()
        self._check()

    def artifacts(self, files: Sequence[Path]) -> None:
        run = self._init(self._study.group, self._study.configuration)
        plots = {f"report/{f.stem}": self._trackio.Image(str(f)) for f in files if f.suffix == ".png"}
        run.log({"report/files": len(files), **plots}, step=0)
        self._log_artifact(run, f"report-{self._study.id}", "report", files)
        run.finish()
        self._check()

    def finish(self) -> None:
        for run in self._runs.values():
            run.finish()
        self._check()

    def _init(self, name: str, configuration: Mapping[str, Any]) -> Any:
        run = self._trackio.init(
            project=PROJECT,
            name=name,
            group=self._study.group,
            config=flatten(configuration),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        self._check()
        return run

    def _log_artifact(self, run: Any, name: str, kind: str, files: Sequence[Path]) -> None:
        artifact = self._trackio.Artifact(name=name, type=kind)
        for file in files:
            artifact.add_file(str(file), name=file.name)
        run.log_artifact(artifact)

    def _listen_to_warnings(self) -> None:
        """Collects trackio's warnings: its errors raise no exception but warn, perhaps in another thread."""
        original_show = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: Any, **others: Any
        ) -> None:
            if issubclass(category, UserWarning) and PACKAGE in Path(filename).parts:
                self._mishaps.append(str(message))
            original_show(message, category, filename, lineno, *more, **others)

        warnings.showwarning = show
        warnings.filterwarnings("always", category=UserWarning)

    def _check(self) -> None:
        if self._mishaps:
            raise RuntimeError(self._mishaps[0])


plugin = Trackio
