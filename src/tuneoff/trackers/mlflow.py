"""MLflow: a local SQLite database, unless the user's own MLFLOW_TRACKING_URI names another place."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tuneoff.interfaces import StudyInfo, Tracker, TrialInfo, flatten
from tuneoff.records.record import Status

RUN_TAG = "tuneoff.run"
PARAMETERS_AT_ONCE = 100
PARAMETER_LENGTH = 6000
NAME_LENGTH = 250
_FORBIDDEN_CHARACTERS = re.compile(r"[^\w.\-/ :]")
"""What MLflow allows in no parameter's name; an arm's label, which is part of some, may hold it."""
METRICS_AT_ONCE = 500
WRITE_SECONDS = 5.0
"""Points are written together, at most so often: a transaction for each would take 2 % of a core."""
ENDINGS = {Status.COMPLETED.value: "FINISHED", Status.CANCELLED.value: "KILLED"}
"""What MLflow calls the ends of runs; all others are FAILED."""


class MLflow(Tracker):
    """One run per trial, an experiment per study; `mlflow ui --backend-store-uri sqlite:///…/mlflow.db` shows it."""

    title = "MLflow"
    summary = "A database in the study's folder, one experiment; a server with MLFLOW_TRACKING_URI."
    extra = "'tuneoff[mlflow]'"
    requires: ClassVar[tuple[str, ...]] = ("mlflow",)

    def start(self, study: StudyInfo, folder: Path) -> None:
        for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
            os.environ.setdefault(name, "true")
        tracking_uri = os.environ.get("MLFLOW_TRACKING_URI")
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient(tracking_uri=tracking_uri or f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
        self._study = study
        self._runs: dict[str, str] = {}
        self._waiting: dict[str, list[Any]] = {}
        self._written = time.monotonic()
        location = None if tracking_uri else (folder / "artifacts").as_uri()
        experiment = self._client.get_experiment_by_name(study.group)
        if experiment is None:
            self._experiment = self._client.create_experiment(study.group, artifact_location=location)
        elif location is not None and experiment.artifact_location != location:
            # It keeps absolute paths, and would write to where the study was.
            raise RuntimeError(f"the study was moved after MLflow began to follow it; remove {folder} to begin anew")
        else:
            self._experiment = experiment.experiment_id

    def begin_trial(self, trial: TrialInfo) -> None:
        properties = {"label": trial.label, "purpose": trial.purpose, "seed": trial.seed, "attempt": trial.attempt}
        self._runs[trial.id] = self._open(trial.id, trial.name, properties, trial.configuration)

    def log(self, trial: TrialInfo, step: int, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = self._waiting.setdefault(self._runs[trial.id], [])
        points += [Metric(name, value, now, step) for name, value in metrics.items()]
        if len(points) >= METRICS_AT_ONCE or time.monotonic() - self._written > WRITE_SECONDS:
            self._write()

    def end_trial(
        self, trial: TrialInfo, step: int, status: str, metrics: Mapping[str, float], record: Path | None
    ) -> None:
        if metrics:
            self.log(trial, step, metrics)
        self._write()
        run = self._runs.pop(trial.id)
        self._client.set_tag(run, "tuneoff.status", status)
        if record is not None:
            self._client.log_artifact(run, str(record))
        self._client.set_terminated(run, ENDINGS.get(status, "FAILED"))

    def artifacts(self, files: Sequence[Path]) -> None:
        study = self._study
        run = self._open(study.id, study.group, {"purpose": "study"}, study.configuration)
        for file in files:
            self._client.log_artifact(run, str(file), "report")
        self._client.set_terminated(run, "FINISHED")

    def finish(self) -> None:
        self._write()
        for run in self._runs.values():
            self._client.set_terminated(run, "KILLED")

    def _write(self) -> None:
        for run, points in self._waiting.items():
            for start in range(0, len(points), METRICS_AT_ONCE):
                self._client.log_batch(run, metrics=points[start : start + METRICS_AT_ONCE])
        self._waiting.clear()
        self._written = time.monotonic()

    def _open(self, run_id: str, name: str, properties: Mapping[str, Any], configuration: Mapping[str, Any]) -> str:
        """Returns MLflow's own id of a run: of the run that has this tag, or of a new one."""
        from mlflow.entities import Param

        tags = {RUN_TAG: run_id, **{f"tuneoff.{key}": str(value) for key, value in properties.items()}}
        runs = self._client.search_runs([self._experiment], f"tags.`{RUN_TAG}` = '{run_id}'", max_results=1)
        run = runs[0] if runs else self._client.create_run(self._experiment, tags=tags, run_name=name)
        mlflow_id: str = run.info.run_id
        if runs:
            self._client.update_run(mlflow_id, status="RUNNING")
            for key, value in tags.items():
                self._client.set_tag(mlflow_id, key, value)
        # A parameter may be written once.
        parameters = [item for item in _parameters(configuration) if item[0] not in run.data.params]
        for start in range(0, len(parameters), PARAMETERS_AT_ONCE):
            batch = parameters[start : start + PARAMETERS_AT_ONCE]
            self._client.log_batch(mlflow_id, params=[Param(*item) for item in batch])
        return mlflow_id


def _parameters(configuration: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    # Of two names that become the same here, MLflow takes one.
    parameters = {
        _FORBIDDEN_CHARACTERS.sub("_", key)[:NAME_LENGTH]: value for key, value in flatten(configuration).items()
    }
    for key, value in parameters.items():
        # An empty value is none to MLflow's servers.
        if text := str(value)[:PARAMETER_LENGTH]:
            yield key, text


plugin = MLflow
