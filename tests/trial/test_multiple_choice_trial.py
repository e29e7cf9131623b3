"""Trials of multiple choice: options are learned, and predictions and exports choose as the test did."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from trial_helpers import MakePlace, run_cards, save_writer
from tuneoff.trial.export import export
from tuneoff.trial.inference import predict
from tuneoff.trial.run import run

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")


def write_rows(path: Path, count: int) -> list[str]:
    """Writes questions whose answer is the option of the same letters; returns the answers."""
    rng = random.Random(count)
    lines, answers = [], []
    for i in range(count):
        words = rng.sample(["aaaa", "bbb", "ccccc", "dd"], k=2 + i % 3)
        answers.append("ABCD"[i % len(words)])
        lines.append({"question": f"{words[i % len(words)]}?", "choices": words, "answerKey": answers[-1]})
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return answers


@pytest.mark.parametrize("scoring", ["likelihood", "head"])
def test_options_are_learned_predicted_and_exported(scoring: str, make_place: MakePlace, tmp_path: Path) -> None:
    train, fresh = tmp_path / "train.jsonl", tmp_path / "fresh.jsonl"
    write_rows(train, 120)
    answers = write_rows(fresh, 12)
    likelihood = scoring == "likelihood"
    if likelihood:
        save_writer(tmp_path / "model", "gpt2")
    place = make_place(
        "full",
        **({"folder": tmp_path / "model"} if likelihood else {}),
        data=train,
        task={"name": "multiple_choice", "scoring": scoring},
        protocol={"epochs": 6, "max_length": 48, "learning_rate": 3e-3},
    )
    record = run(place, "cpu", time.perf_counter())
    assert record.data is not None
    assert record.data.fitted["answer_is"] == "letter"
    metrics = {metric.name: metric.value for metric in record.metrics if metric.split == "test"}
    assert metrics["accuracy"] > 0.6
    assert ("accuracy_byte" in metrics) == likelihood
    found = predict(place, str(fresh), "cpu")["predictions"]
    assert sum(own["output"] == answer for own, answer in zip(found, answers, strict=True)) > 6
    rows = [json.loads(line) for line in fresh.read_text().splitlines()]
    for own, row in zip(found, rows, strict=True):
        assert own["choice"] == row["choices"]["ABCD".index(own["output"])]
        assert sum(own["scores"].values()) == pytest.approx(1, abs=1e-4)
        assert own["probability"] == max(own["scores"].values())
    folder = tmp_path / "export"
    export(place, folder, merged=False, device="cpu")
    asked = [{"question": row["question"], "choices": row["choices"]} for row in rows]
    plain = run_cards({folder: asked})[folder]
    for (output, scores), own in zip(plain, found, strict=True):
        assert output == own["output"]
        assert scores == pytest.approx(own["scores"], abs=1e-4)
