"""Metrics that a study adds, in a trial: computed, selected by, and kept per example where they are means."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from trial_helpers import MakePlace, news, write_csv
from tuneoff.trial.run import run

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")


def test_added_metrics_are_recorded_and_means_are_kept_per_example(make_place: MakePlace, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "news.csv", news(60))
    task = {
        "name": "classification",
        "data": {"train": str(data)},
        "metrics": ["kappa", "auc", "brier"],
        "primary_metric": "kappa",
    }
    for method in ("head", "majority"):
        place = make_place(method, data=data, task=task, protocol={"epochs": 1})
        record = run(place, "cpu", time.perf_counter())
        assert record.status == "completed"
        assert record.primary_metric == "kappa"
        for split in ("validation", "test"):
            names = [metric.name for metric in record.metrics if metric.split == split]
            assert names[0] == "kappa"
            assert {"accuracy", "auc", "brier"} <= set(names)
        predictions = place.predictions() or []
        values = [prediction.values["brier"] for prediction in predictions]
        brier = next(m.value for m in record.metrics if (m.name, m.split) == ("brier", "test"))
        assert brier == pytest.approx(sum(values) / len(values))
        assert all(set(prediction.values) == {"brier"} for prediction in predictions)
