"""trackio's database, read back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tracker_helpers import play
from tuneoff.store import StudyStore
from tuneoff.testing.trackers import EVENTS, failed_record, follow, make_study, skip_without, tracked

pytest_plugins = ("tracker_fixtures",)
pytestmark = pytest.mark.usefixtures("no_outlets")


@contextmanager
def _open(store: StudyStore) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(store.trackers.folder("trackio") / "tuneoff.db")
    try:
        yield connection
    finally:
        connection.close()


def _arms(store: StudyStore, table: str, *columns: str) -> list[tuple[Any, ...]]:
    with _open(store) as connection:
        return connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid").fetchall()


def _logged(store: StudyStore, name: str) -> list[tuple[str, int, Any]]:
    """(run, step, value) of a metric."""
    arms = [(run, step, json.loads(metrics)) for run, step, metrics in _arms(store, "metrics", *METRICS)]
    return [(run, step, metrics[name]) for run, step, metrics in arms if name in metrics]


METRICS = ("run_name", "step", "metrics")


@pytest.fixture(autouse=True)
def _installed() -> None:
    skip_without("trackio")


def test_curves_figures_configuration_and_files_are_there(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    assert follow(store, ["trackio"], lambda listener: play(store, trial, listener)) == []
    (name,) = {run for run, _, _ in _logged(store, "train/loss")}
    assert name.startswith(trial.id)
    assert _logged(store, "train/loss") == [(name, 2, 1.5), (name, 4, 0.5)]
    assert _logged(store, "validation/accuracy") == [(name, 2, 0.5), (name, 4, 0.75)]
    assert _logged(store, "final/test/accuracy") == [(name, 126, 0.94)]
    assert _logged(store, "final/status") == [(name, 126, "completed")]
    ((system, metrics),) = _arms(store, "system_metrics", "run_name", "metrics")
    assert (system, json.loads(metrics)) == (name, {"cpu_percent": 99.0, "resident_bytes": 512 << 20})
    configs = {run: json.loads(config) for run, config in _arms(store, "configs", "run_name", "config")}
    assert configs[name]["learning_rate"] == trial.learning_rate
    assert configs[name]["protocol.batch_size"] == trial.protocol.batch_size
    assert len({config["_Group"] for config in configs.values()}) == 1
    assert _logged(store, "report/files")[0][2] == 3
    assert _logged(store, "report/pareto")


def test_record_and_report_are_artifacts(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    follow(store, ["trackio"], lambda listener: play(store, trial, listener))
    kept = {path.read_bytes() for path in (store.trackers.folder("trackio") / "artifacts").rglob("*") if path.is_file()}
    assert store.trial(trial.id).record_path.read_bytes() in kept
    assert (store.report_folder / "report.md").read_bytes() in kept


def test_a_repeated_trial_continues_its_run(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    follow(store, ["trackio"], lambda listener: play(store, trial, listener, record=failed_record(trial)))
    follow(store, ["trackio"], lambda listener: play(store, trial, listener, events=EVENTS[:4]))
    runs = {(name, run_id) for name, run_id in _arms(store, "metrics", "run_name", "run_id") if trial.id in name}
    assert len(runs) == 1
    assert [step for _, step, _ in _logged(store, "train/loss")] == [2, 4, 2]


def test_what_cannot_be_written_is_no_silence(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    # The database's place is taken.
    (store.trackers.folder("trackio") / "tuneoff.db").mkdir(parents=True)
    follow(store, ["trackio"], lambda listener: play(store, trial, listener))
    assert tracked(store, "trackio")["state"] == "failed"
