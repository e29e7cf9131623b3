"""A trial of token classification: tags learned, and entities predicted with their places in the text."""

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


def write_sentences(path: Path, count: int) -> None:
    """Writes sentences whose words of x are entities."""
    rng = random.Random(count)
    sentences = [[rng.choice(["aaa", "bb", "xxx", "c"]) for _ in range(rng.randrange(3, 7))] for _ in range(count)]
    lines = ["\n".join(f"{word}\t{'B-x' if 'x' in word else 'O'}" for word in words) for words in sentences]
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")


def test_tags_are_learned_recorded_and_predicted(make_place: MakePlace, tmp_path: Path) -> None:
    write_sentences(tmp_path / "train.conll", 120)
    place = make_place(
        "full",
        data=tmp_path / "train.conll",
        task={"name": "token_classification", "data": {"train": str(tmp_path / "train.conll")}},
        protocol={"epochs": 6, "max_length": 48, "learning_rate": 3e-3},
    )
    record = run(place, "cpu", time.perf_counter())
    assert record.data is not None
    assert record.data.labels == ("O", "B-x")
    assert record.data.columns == {"text": "tokens", "tags": "tags"}
    metrics = {metric.name: metric.value for metric in record.metrics if metric.split == "test"}
    assert set(metrics) == {"entity_f1", "precision", "recall", "macro_entity_f1", "word_accuracy", "loss"}
    assert metrics["entity_f1"] > 0.8
    (tmp_path / "fresh.jsonl").write_text(json.dumps({"tokens": "aaa, xxx bb"}) + "\n", encoding="utf-8")
    (answer,) = predict(place, str(tmp_path / "fresh.jsonl"), "cpu")["predictions"]
    assert answer["words"] == ["aaa", ",", "xxx", "bb"]
    assert len(answer["output"].split()) == 4
    assert {"label": "x", "start": 5, "end": 8, "text": "xxx"} in answer["entities"]
