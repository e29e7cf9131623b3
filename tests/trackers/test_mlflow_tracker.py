"""MLflow's database, read back with its client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tracker_helpers import play, read_back
from tuneoff.store import StudyStore
from tuneoff.testing.trackers import EVENTS, failed_record, follow, make_study, skip_without, tracked

pytest_plugins = ("tracker_fixtures",)
pytestmark = pytest.mark.usefixtures("no_outlets")

READ = """
import json, sys
from mlflow.tracking import MlflowClient
client = MlflowClient(tracking_uri=f"sqlite:///{sys.argv[1]}")
found = []
for experiment in client.search_experiments():
    for run in client.search_runs([experiment.experiment_id]):
        history = {
            name: [[p.step, p.value] for p in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
        files = [file.path for folder in (None, "report") for file in client.list_artifacts(run.info.run_id, folder)]
        found.append({
            "experiment": experiment.name, "name": run.info.run_name, "status": run.info.status,
            "params": run.data.params, "tags": run.data.tags, "history": history, "files": files,
        })
print(json.dumps(found))
"""


def _read(store: StudyStore) -> dict[str, dict[str, Any]]:
    """name -> run."""
    found = read_back(READ, store.trackers.folder("mlflow") / "mlflow.db")
    assert len({run["name"] for run in found}) == len(found)
    return {run["name"]: run for run in found}


@pytest.fixture(autouse=True)
def _installed() -> None:
    skip_without("mlflow")


def test_curves_figures_configuration_and_files_are_there(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    assert follow(store, ["mlflow"], lambda listener: play(store, trial, listener)) == []
    runs = _read(store)
    run = runs.pop(trial.id)
    ((group, study),) = runs.items()
    assert run["experiment"] == study["experiment"] == group
    assert run["status"] == "FINISHED"
    assert run["history"]["train/loss"] == [[2, 1.5], [4, 0.5]]
    assert run["history"]["validation/accuracy"] == [[2, 0.5], [4, 0.75]]
    assert run["history"]["system/cpu_percent"] == [[0, 99.0]]
    assert run["history"]["final/test/accuracy"] == [[126, 0.94]]
    assert float(run["params"]["learning_rate"]) == trial.learning_rate
    assert run["params"]["protocol.batch_size"] == str(trial.protocol.batch_size)
    assert (run["tags"]["tuneoff.label"], run["tags"]["tuneoff.status"]) == ("lora", "completed")
    assert run["files"] == ["record.json"]
    assert study["files"] == ["report", "report/pareto.png", "report/report.json", "report/report.md"]


def test_a_repeated_trial_continues_its_run(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    follow(store, ["mlflow"], lambda listener: play(store, trial, listener, record=failed_record(trial)))
    assert _read(store)[trial.id]["status"] == "FAILED"
    follow(store, ["mlflow"], lambda listener: play(store, trial, listener, events=EVENTS[:4]))
    run = _read(store)[trial.id]
    assert run["status"] == "FINISHED"
    assert run["tags"]["tuneoff.attempt"] == "2"
    assert sorted(step for step, _ in run["history"]["train/loss"]) == [2, 2, 4]


def test_a_study_that_was_moved_is_not_written_to_where_it_was(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "here")
    follow(store, ["mlflow"], lambda listener: play(store, trial, listener, record=failed_record(trial)))
    store.root.rename(tmp_path / "there")
    moved = StudyStore.open(tmp_path / "there")
    follow(moved, ["mlflow"], lambda listener: play(moved, trial, listener))
    assert "the study was moved" in tracked(moved, "mlflow")["reason"]
    assert not (tmp_path / "here").exists()
