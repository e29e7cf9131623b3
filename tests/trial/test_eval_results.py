"""What an export tells the hub of a registered benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hub_helpers import StandInHub, go_offline
from record_helpers import make_record, small_study
from tuneoff.config.data import DataSpec, SourceSpec
from tuneoff.planning.plan import plan
from tuneoff.records.record import TrialRecord
from tuneoff.trial.eval_results import write_eval_results

pytest_plugins = ("hub_fixtures",)

EVAL = "name: Bench\nevaluation_framework: inspect-ai\ntasks:\n- {id: topics, config: default, split: test}\n"


def scored(commit: str | None, test: SourceSpec | None = None, **protocol: Any) -> TrialRecord:
    """A record of a trial that was tested on rows of the hub."""
    spec = plan(small_study("lora", seeds=1))[0]
    source = test or SourceSpec(source="org/bench", split="test")
    data = DataSpec(train=SourceSpec(source="org/bench"), test=source)
    spec = spec.model_copy(
        update={
            "task": spec.task.model_copy(update={"data": data}),
            "protocol": spec.protocol.model_copy(update=protocol),
        }
    )
    record = make_record(spec)
    assert record.data is not None
    commits = {"test": commit} if commit else {}
    return record.model_copy(update={"data": record.data.model_copy(update={"commits": commits})})


def test_a_registered_benchmark_gets_its_score_as_the_hub_reads_it(hub: StandInHub, tmp_path: Path) -> None:
    from huggingface_hub import parse_eval_result_entries

    commit = hub.put("datasets", "org/bench", {"eval.yaml": EVAL, "README.md": "# Bench"})
    record = scored(commit)
    write_eval_results(record, tmp_path)
    written = yaml.safe_load((tmp_path / ".eval_results" / "bench.yaml").read_text(encoding="utf-8"))
    (entry,) = parse_eval_result_entries(written)
    assert (entry.dataset_id, entry.task_id, entry.dataset_revision) == ("org/bench", "topics", commit)
    assert entry.value == record.metric("accuracy")
    assert entry.notes is not None
    assert "one seed" in entry.notes


@pytest.mark.parametrize(
    ("content", "changes"),
    [
        (EVAL, {"test_rows": 100}),  # a part of the split
        (EVAL, {"test": SourceSpec(source="org/bench", split="validation")}),
        (EVAL, {"test": SourceSpec(source="org/bench", config="other", split="test")}),
        (EVAL.replace("{id: topics", "{id: a, config: default, split: test}\n- {id: b"), {}),  # which of the two?
        ("tasks: [broken", {}),
        ("tasks: 5", {}),
        ("- a list", {}),
    ],
)
def test_what_is_no_score_of_the_benchmark_is_not_written(
    content: str, changes: dict[str, Any], hub: StandInHub, tmp_path: Path
) -> None:
    commit = hub.put("datasets", "org/bench", {"eval.yaml": content})
    write_eval_results(scored(commit, **changes), tmp_path)
    assert not (tmp_path / ".eval_results").exists()


def test_without_a_benchmark_or_a_hub_there_is_no_file(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.put("datasets", "org/bench", {"README.md": "# no benchmark"})
    write_eval_results(scored(commit), tmp_path)
    write_eval_results(scored(None, SourceSpec(source="rows.csv")), tmp_path)
    go_offline(monkeypatch)
    write_eval_results(scored(None, SourceSpec(source="org/unknown", split="test")), tmp_path)
    assert not list(tmp_path.glob(".eval_results*"))
