"""A trial of regression on pairs of texts, from rows to predictions of another file."""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path

import pytest

from trial_helpers import MakePlace
from tuneoff.trial.inference import predict
from tuneoff.trial.run import run

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")


def write_rows(path: Path, count: int, header: str = "first\tsecond\tscore") -> list[float]:
    """Writes pairs whose score is how many words of the second text are `good`; returns the scores."""
    rng = random.Random(count)
    scores = [float(rng.randrange(5)) for _ in range(count)]
    pairs = [
        (f"text {number}", " ".join(["good"] * int(score) + ["bad"] * (4 - int(score))))
        for number, score in enumerate(scores)
    ]
    values = [f"{1000 + 50 * score}" for score in scores]
    lines = ["\t".join((*pair, value)[: header.count("\t") + 1]) for pair, value in zip(pairs, values, strict=True)]
    path.write_text("\n".join([header, *lines]) + "\n")
    return [float(value) for value in values]


def test_numbers_of_pairs_are_learned_recorded_and_predicted(make_place: MakePlace, tmp_path: Path) -> None:
    write_rows(tmp_path / "train.tsv", 160)
    place = make_place(
        "full",
        data=tmp_path / "train.tsv",
        task={
            "name": "regression",
            "text": ["first", "second"],
            "value": "score",
            "data": {"train": str(tmp_path / "train.tsv")},
        },
        protocol={"epochs": 6, "max_length": 48, "learning_rate": 3e-3},
    )
    record = run(place, "cpu", time.perf_counter())
    assert record.status == "completed"
    assert record.data is not None
    assert record.data.columns == {"text": "first", "text_pair": "second", "value": "score"}
    assert record.data.fitted["center"] == pytest.approx(1100, abs=25)
    metrics = {metric.name: metric.value for metric in record.metrics if metric.split == "test"}
    assert set(metrics) == {"rmse", "mae", "pearson", "spearman"}
    targets = [float(prediction.target) for prediction in place.predictions() or ()]
    assert metrics["rmse"] < 0.8 * statistics.pstdev(targets)
    scores = write_rows(tmp_path / "fresh.tsv", 40, "first\tsecond")
    answer = predict(place, str(tmp_path / "fresh.tsv"), "cpu")
    assert answer["columns"] == {"text": "first", "text_pair": "second"}
    outputs = [float(prediction["output"]) for prediction in answer["predictions"]]
    assert statistics.correlation(outputs, scores) > 0.6
