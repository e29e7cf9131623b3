"""Weights & Biases: offline, unless the user's own WANDB_MODE says otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tuneoff.interfaces import StudyInfo, Tracker, TrialInfo
from tuneoff.records.record import Status

PROJECT = "tuneoff"
TAG_LENGTH = 64
"""W&B refuses longer ones."""
STEP = "step"
"""History key of the optimizer step. W&B's own step may not go back, which that of a repeated trial does."""
QUIET = {
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_SILENT": "true",
    "WANDB__DISABLE_META": "true",
    "WANDB__DISABLE_STATS": "true",
    "WANDB__SAVE_REQUIREMENTS": "false",
}
"""What W&B would look at beside what it is told; a user's own settings come first."""


class WeightsAndBiases(Tracker):
    """One run per trial in the project `tuneoff` (or WANDB_PROJECT), grouped by study; `wandb sync` uploads later."""

    title = "Weights & Biases"
    summary = "Runs of W&B, offline in the study's folder; online with WANDB_MODE=online."
    extra = "'tuneoff[wandb]'"
    requires: ClassVar[tuple[str, ...]] = ("wandb",)

    def start(self, study: StudyInfo, folder: Path) -> None:
        # A service of somebody else's, which that variable names, may end before this one.
        os.environ.pop("WANDB_SERVICE", None)
        settings = dict(QUIET)
        if not os.environ.get("WANDB_MODE"):
            settings |= {
                "WANDB_MODE": "offline",
                "WANDB_ERROR_REPORTING": "false",
                **{f"WANDB_{kind}_DIR": str(folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")},
            }
        for name, value in settings.items():
            os.environ[name] = os.environ.get(name) or value
        import wandb

        wandb.setup()
        self._study, self._folder = study, folder
        self._runs: dict[str, Any] = {}

    def begin_trial(self, trial: TrialInfo) -> None:
        self._runs[trial.id] = self._init(
            trial.id,
            trial.name,
            trial.purpose,
            {**trial.configuration, "attempt": trial.attempt},
            [trial.label[:TAG_LENGTH]],
        )

    def log(self, trial: TrialInfo, step: int, metrics: Mapping[str, float]) -> None:
        self._runs[trial.id].log({STEP: step, **metrics})

    def end_trial(
        self, trial: TrialInfo, step: int, status: str, metrics: Mapping[str, float], record: Path | None
    ) -> None:
        run = self._runs.pop(trial.id)
        run.summary.update({"status": status, STEP: step, **metrics})
        if record is not None:
            _log_artifact(run, f"record-{trial.id}", "record", [record])
        run.finish(exit_code=0 if status == Status.COMPLETED.value else 1)

    def artifacts(self, files: Sequence[Path]) -> None:
        import wandb

        study = self._study
        run = self._init(study.id, study.group, "study", dict(study.configuration), [])
        if plots := {f"report/{file.stem}": wandb.Image(str(file)) for file in files if file.suffix == ".png"}:
            run.log(plots)
        _log_artifact(run, f"report-{study.id}", "report", files)
        run.finish(exit_code=0)

    def finish(self) -> None:
        import wandb

        for run in self._runs.values():
            run.finish(exit_code=1)
        wandb.teardown()

    def _init(self, run_id: str, name: str, kind: str, configuration: dict[str, Any], tags: list[str]) -> Any:
        import wandb

        run = wandb.init(
            project=None if os.environ.get("WANDB_PROJECT") else PROJECT,
            dir=None if os.environ.get("WANDB_DIR") else str(self._folder),
            group=self._study.group,
            id=run_id,
            name=name,
            job_type=kind,
            config=configuration,
            tags=tags,
            resume="allow",
            reinit="create_new",
        )
        run.define_metric(STEP, hidden=True)
        run.define_metric("*", step_metric=STEP)
        return run


def _log_artifact(run: Any, name: str, kind: str, files: Sequence[Path]) -> None:
    import wandb

    artifact = wandb.Artifact(name, type=kind)
    for file in files:
        artifact.add_file(str(file), name=file.name)
    run.log_artifact(artifact)


plugin = WeightsAndBiases
