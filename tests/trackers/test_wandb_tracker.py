"""W&B's offline runs, read back from its transaction logs."""

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
import json, struct, sys
from pathlib import Path
from wandb.proto.wandb_internal_pb2 import Record

def records(data):
    # LevelDB's log format, after a header of seven bytes: blocks of 32 KiB, records whole or in pieces.
    at, whole = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole, at = whole + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):
            yield Record.FromString(whole)
            whole = b""

def values(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}

runs = []
for path in sorted(Path(sys.argv[1]).glob("wandb/*run-*/*.wandb")):
    run = {"folder": path.parent.name, "history": [], "summary": {}, "artifacts": {}, "files": []}
    for record in records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run |= {"id": record.run.run_id, "name": record.run.display_name, "group": record.run.run_group}
            run |= {"project": record.run.project, "job_type": record.run.job_type, "tags": list(record.run.tags)}
            run["config"] = values(record.run.config.update)
        elif kind == "history":
            run["history"].append({k: v for k, v in values(record.history.item).items() if not k.startswith("_")})
        elif kind == "summary":
            run["summary"] |= values(record.summary.update)
        elif kind == "artifact":
            run["artifacts"][record.artifact.type] = sorted(entry.path for entry in record.artifact.manifest.contents)
        elif kind == "exit":
            run["exit"] = record.exit.exit_code
    runs.append(run)
print(json.dumps(runs))
"""


def _read(store: StudyStore) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_back(READ, store.trackers.folder("wandb"))
    return found


@pytest.fixture(autouse=True)
def _installed() -> None:
    skip_without("wandb")


def test_curves_figures_configuration_and_files_are_there(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    assert follow(store, ["wandb"], lambda listener: play(store, trial, listener)) == []
    runs = {run["job_type"]: run for run in _read(store)}
    run, study = runs["final"], runs["study"]
    assert run["folder"].startswith("offline-run-")
    assert (run["project"], run["name"], run["tags"]) == ("tuneoff", trial.id, ["lora"])
    assert run["group"] == study["group"]
    assert run["group"].startswith("small-")
    assert run["config"]["learning_rate"] == trial.learning_rate
    assert run["config"]["protocol"]["batch_size"] == trial.protocol.batch_size
    losses = [(line["step"], line["train/loss"]) for line in run["history"] if "train/loss" in line]
    assert losses == [(2, 1.5), (4, 0.5)]
    assert [line["validation/accuracy"] for line in run["history"] if "validation/accuracy" in line] == [0.5, 0.75]
    assert [line["system/cpu_percent"] for line in run["history"] if "system/cpu_percent" in line] == [99.0]
    assert run["summary"]["final/test/accuracy"] == 0.94
    assert run["summary"]["status"] == "completed"
    assert run["artifacts"] == {"record": ["record.json"]}
    assert run["exit"] == 0
    assert study["artifacts"]["report"] == ["pareto.png", "report.json", "report.md"]


def test_a_repeated_trial_has_the_same_id(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    follow(store, ["wandb"], lambda listener: play(store, trial, listener, record=failed_record(trial)))
    follow(store, ["wandb"], lambda listener: play(store, trial, listener, events=EVENTS[:5]))
    first, second = [run for run in _read(store) if run["job_type"] == "final"]
    assert first["id"] == second["id"]
    assert (first["exit"], second["exit"]) == (1, 0)
    assert (first["config"]["attempt"], second["config"]["attempt"]) == (1, 2)
    assert second["history"][-1]["step"] < first["history"][-1]["step"], "steps begin anew, and are kept"


def test_it_goes_online_only_when_asked_and_needs_no_prompt_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    said = follow(store, ["wandb"], lambda listener: play(store, trial, listener))
    assert tracked(store, "wandb")["state"] == "failed"
    assert "tracker wandb was given up" in said[0]
