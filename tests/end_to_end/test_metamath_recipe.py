"""The published comparison on MetaMathQA and GSM8K, from the hub to its report: a small model takes Llama's place, and
few rows and steps that of all. What it scores means nothing; that every phase works does."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from hub_helpers import StandInHub
from tuneoff import registry
from tuneoff.config.data import ModelSpec
from tuneoff.errors import SourceUnreachable
from tuneoff.planning.loading import load
from tuneoff.records.record import Status
from tuneoff.sources import find_model
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

DATA = Path(__file__).parents[3] / "shared" / "data"
RECIPE = "llama-metamath-gsm8k"
ROOM = 24
SMALLER = [
    "model=smollm2-135m",
    "protocol.max_steps=3",
    "protocol.validation_rows=4",
    "protocol.test_rows=4",
    f"task.max_target_length={ROOM}",
    "execution.latency_examples=0",
]

pytest_plugins = ("hub_fixtures",)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.package_index,
    pytest.mark.skipif(not (DATA / "gsm8k_train.jsonl").is_file(), reason="no sample of GSM8K beside the repository"),
]


def problems(split: str, count: int) -> pd.DataFrame:
    with (DATA / f"gsm8k_{split}.jsonl").open(encoding="utf-8") as file:
        return pd.DataFrame([json.loads(line) for line in file][:count])


def put_rows(hub: StandInHub) -> None:
    """Puts both data sets at the hub, in files and columns like the real ones."""
    rows = problems("train", 40)
    train = [
        {"type": "GSM_AnsAug", "query": row.question, "original_question": row.question, "response": row.answer}
        for row in rows.iloc[:32].itertuples()
    ]
    hub.put("datasets", "meta-math/MetaMathQA", {"MetaMathQA-395K.json": json.dumps(train)})
    files = {"main/train.parquet": rows.iloc[32:], "main/test.parquet": problems("test", 8)}
    splits = [{"split": name, "path": f"main/{name}.parquet"} for name in ("train", "test")]
    card = yaml.safe_dump({"configs": [{"config_name": "main", "data_files": splits}]})
    packed: dict[str, bytes | str] = {"README.md": f"---\n{card}---\n"}
    for path, table in files.items():
        buffer = io.BytesIO()
        table.to_parquet(buffer)
        packed[path] = buffer.getvalue()
    hub.put("datasets", "openai/gsm8k", packed)


def last_number(text: str) -> float | None:
    """The last number as a reader sees it, written without the metric's own code."""
    numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    return float(numbers[-1].replace(",", "")) if numbers else None


def test_every_phase_of_the_recipe_works_on_a_small_model(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        find_model(registry.sources(), ModelSpec(source="smollm2-135m"))
    except SourceUnreachable as error:
        pytest.skip(f"no model: {error.message}")
    put_rows(hub)
    # Of the processes that trials run in.
    for name, value in {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}.items():
        monkeypatch.setenv(name, value)
    study = Study(RECIPE, overrides=SMALLER)
    records = {record.spec.label: record for record in study.run(tmp_path / "study", profile=False).records()}
    assert {label: record.status for label, record in records.items()} == dict.fromkeys(
        load(RECIPE).methods, Status.COMPLETED
    )
    store = StudyStore(tmp_path / "study")
    for record in records.values():
        data = record.data
        assert data is not None
        assert set(data.commits) == {"train", "validation", "test"}
        assert data.columns == {"source": "query", "target": "response"}
        assert {name: split.rows for name, split in data.splits.items()} == {"train": 32, "validation": 4, "test": 4}
        assert (record.primary_metric, record.steps) == ("exact:number", 3)
        rows: list[Any] = store.trial(record.spec.id).predictions() or []
        right = [last_number(row.output) == last_number(row.target) is not None for row in rows]
        assert record.metric("exact:number") == pytest.approx(sum(right) / 4)
        assert all("####" in row.target for row in rows), "answers are compared whole, whatever training had room for"
        assert all(row.generated_tokens <= ROOM for row in rows)
    study.report(plots=False)
    text = (tmp_path / "study" / "report" / "report.md").read_text(encoding="utf-8")
    section = text.partition("## Published figures beside ours\n")[2].partition("\n## ")[0]
    assert "theirs are of meta-llama/Llama-3.2-3B and ours of smollm2-135m" in section
    published = study.spec.published
    assert published is not None
    cells = {line.split(" | ")[0].removeprefix("| "): line for line in section.splitlines() if line.startswith("| ")}
    for label, record in records.items():
        figures, counts = published.figures[label], record.parameters
        assert counts is not None
        assert f"/ {figures['exact:number_percent']:.4g} |" in cells[label]
        assert f"{counts.trainable.total:,} / {figures['trainable_parameters']:,.0f} |" in cells[label]
