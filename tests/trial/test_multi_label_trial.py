"""A trial of multi-label classification: thresholds chosen on validation, recorded, and used wherever it predicts."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from trial_helpers import MakePlace
from tuneoff.trial.inference import predict
from tuneoff.trial.run import run

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")


def write_rows(path: Path, count: int) -> list[list[str]]:
    """Writes texts whose words say which labels they have; returns the labels."""
    rng = random.Random(count)
    sets = [[name for name in ("red", "big", "odd") if rng.random() < 0.3] for _ in range(count)]
    texts = [" ".join(4 * [name[0] * 3 for name in names]) + f" {i}" for i, names in enumerate(sets)]
    lines = [json.dumps({"text": text, "labels": names}) for text, names in zip(texts, sets, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return sets


def test_labels_are_learned_and_thresholds_recorded_and_used(make_place: MakePlace, tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", 160)
    place = make_place(
        "full",
        data=tmp_path / "train.jsonl",
        task={"name": "multi_label", "threshold": "per_label", "data": {"train": str(tmp_path / "train.jsonl")}},
        protocol={"epochs": 8, "max_length": 32, "learning_rate": 3e-3},
    )
    record = run(place, "cpu", time.perf_counter())
    assert record.data is not None
    assert record.data.labels == ("big", "odd", "red")
    assert sum(record.data.splits["train"].classes.values()) > 0
    thresholds = record.chosen["threshold"]
    assert isinstance(thresholds, dict)
    assert set(thresholds) == {"big", "odd", "red"}
    metrics = {metric.name: metric.value for metric in record.metrics if metric.split == "test"}
    assert metrics["micro_f1"] > 0.7
    names = write_rows(tmp_path / "fresh.jsonl", 40)
    answers = predict(place, str(tmp_path / "fresh.jsonl"), "cpu")["predictions"]
    for answer in answers:
        above = [label for label, share in answer["scores"].items() if share >= thresholds[label]]
        assert json.loads(answer["output"]) == above
    assert sum(json.loads(answer["output"]) == sorted(own) for answer, own in zip(answers, names, strict=True)) > 20
