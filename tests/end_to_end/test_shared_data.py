"""Every method on a real model and real news, where the sample of AG News lies beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneoff import registry
from tuneoff.config.data import ModelSpec
from tuneoff.errors import SourceUnreachable
from tuneoff.interfaces import Baseline
from tuneoff.records.record import Status
from tuneoff.sources import find_model
from tuneoff.study.study import Study

DATA = Path(__file__).parents[3] / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.package_index,
    pytest.mark.skipif(not (DATA / "ag_news_train.csv").is_file(), reason="no sample of AG News beside the repository"),
]


PRODUCES = registry.tasks()["classification"].produces

METHODS = [
    name
    for name, method in registry.methods().items()
    if name not in ("endpoint", "few_shot", "prefix_tuning", "zero_shot")
    and not (issubclass(method, Baseline) and method.produces != PRODUCES)
]
"""All that fit an encoder with a head for classes."""


def test_every_method_learns_ag_news(tmp_path: Path) -> None:
    try:
        find_model(registry.sources(), ModelSpec(source="minilm"))
    except SourceUnreachable as error:
        pytest.skip(f"no model: {error.message}")
    study = Study(
        {
            "name": "ag-news-sample",
            "model": "minilm",
            "task": {
                "data": {"train": str(DATA / "ag_news_train.csv"), "test": str(DATA / "ag_news_test.csv")},
            },
            "methods": METHODS,
            "protocol": {"seeds": 1, "epochs": 4, "train_rows": 200, "validation_rows": 100, "test_rows": 200},
        }
    )
    records = {record.spec.label: record for record in study.run(tmp_path / "study").records()}
    assert {label: record.status for label, record in records.items()} == dict.fromkeys(records, Status.COMPLETED)
    assert set(records) == set(METHODS)
    accuracy = {label: record.metric("accuracy") or 0.0 for label, record in records.items()}
    print({label: round(value, 3) for label, value in accuracy.items()})
    baseline = accuracy["majority"]
    accuracy = {
        label: value for label, value in accuracy.items() if not issubclass(registry.methods()[label], Baseline)
    }
    assert max(accuracy.values()) > 0.75
    weak = {label: value for label, value in accuracy.items() if value < baseline + 0.1}
    assert not weak
    shown = study.report(plots=False).read_text(encoding="utf-8")
    assert all(label in shown for label in records)
