"""What a run tells: lines that are as their schema says, and a page that describes every key."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.planning.plan import plan
from tuneoff.records import events
from tuneoff.records.record import Finding, Metric, Status, TrialRecord

pytest_plugins = ("study_fixtures",)

PAGE = Path(__file__).parents[2] / "docs" / "events.md"
STREAM: TypeAdapter[Any] = TypeAdapter(events.StreamEvent)
MODELS: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["event"].annotation)[0]: model for model in get_args(get_args(events.StreamEvent)[0])
}
COMMON = {"event", "time", "trial"}
STEP = {"kind": "step", "step": 3, "steps": 9, "epoch": 0.5, "epochs": 2, "loss": 0.7, "learning_rate": 1e-3}
STEP |= {"examples_per_second": 45.2, "elapsed_seconds": 5.0}


@pytest.fixture
def study(make_study: Callable[..., StudySpec]) -> StudySpec:
    return make_study()


@pytest.fixture
def trial(study: StudySpec) -> TrialSpec:
    return plan(study)[0]


def record_of(trial: TrialSpec, status: Status = Status.COMPLETED, **more: Any) -> TrialRecord:
    metric = Metric(name="accuracy", value=0.75, unit="fraction", direction="higher", split="test")
    return TrialRecord(spec=trial, status=status, metrics=(metric,), **more)


def check(event: dict[str, Any] | None) -> dict[str, Any]:
    """The event as a reader gets it, once it is known to be as documented."""
    line = json.loads(json.dumps(event, allow_nan=False))
    STREAM.validate_python(line)
    assert isinstance(line, dict)
    return line


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_is_described_as_in_the_schema(kind: str) -> None:
    section = PAGE.read_text(encoding="utf-8").partition(f"\n### {kind}\n")[2].partition("\n#")[0]
    assert section.partition("<!--")[0].split() == (MODELS[kind].__doc__ or "").split()
    assert f"<!-- keys: {MODELS[kind].__module__}.{MODELS[kind].__name__} " in section


def test_a_study_begins_and_ends(study: StudySpec) -> None:
    begun = check(events.study_started(study, "runs/small", 8, 4))
    assert (begun["arms"], begun["trials"]) == (["lora", "full"], {"search": 8, "final": 4})
    assert begun["stream_version"] == events.STREAM_VERSION
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", begun["time"])
    ended = check(events.study_ended("completed", {"schema_version": 3}))
    assert (ended["report"], ended["error"]) == ({"schema_version": 3}, None)
    assert check(events.study_ended("error", error="disk full"))["report"] is None


def test_a_trial_begins_and_ends(trial: TrialSpec) -> None:
    begun = check(events.trial_started(trial, "2026-01-02T03:04:05.000+00:00"))
    assert (begun["trial"], begun["label"], begun["options"]["r"]) == (trial.id, "lora", 4)
    assert begun["time"] == "2026-01-02T03:04:05.000+00:00"
    found = Finding(name="collapsed", message="all one class")
    ended = check(events.trial_ended(record_of(trial, stored_bytes=12, findings=(found,)), earlier=False))
    assert (ended["status"], ended["cause"], ended["earlier"]) == ("completed", None, False)
    assert ended["metrics"][0]["value"] == 0.75
    assert (ended["costs"]["stored_bytes"], ended["costs"]["train_seconds"]) == (12, None)
    assert ended["findings"] == [{"name": "collapsed", "message": "all one class"}]
    failed = check(events.trial_ended(record_of(trial, Status.DIVERGED, cause="the loss is nan"), earlier=True))
    assert (failed["cause"], failed["earlier"]) == ("the loss is nan", True)


@pytest.mark.parametrize(
    "line",
    [
        {"kind": "phase", "phase": "train"},
        STEP,
        STEP | {"gradient_norm": 1.5},
        {"kind": "validation", "step": 3, "metrics": {"accuracy": 0.5}},
        {"kind": "machine", "cpu_percent": 100.0, "resident_bytes": 5},
        {"kind": "machine", "cpu_percent": 1.0, "resident_bytes": 5, "gpu_percent": 3.0, "gpu_memory_bytes": 7},
        {"kind": "finding", "name": "overlap", "message": "7 arms"},
    ],
    ids=lambda line: line["kind"],
)
def test_a_line_of_a_trials_log_becomes_an_event(line: dict[str, Any], trial: TrialSpec) -> None:
    told = check(events.logged(trial, {**line, "time": "2026-01-02T03:04:05.000+00:00"}))
    assert told == {
        "event": line["kind"],
        "time": "2026-01-02T03:04:05.000+00:00",
        "trial": trial.id,
        **{key: value for key, value in line.items() if key != "kind"},
    }


def test_what_json_has_no_word_for_is_null(trial: TrialSpec) -> None:
    line = {"kind": "validation", "step": 3, "metrics": {"perplexity": math.inf, "loss": 2.0}}
    assert check(events.logged(trial, line))["metrics"] == {"perplexity": None, "loss": 2.0}
    assert check(events.logged(trial, STEP | {"loss": math.nan}))["loss"] is None


def test_a_line_of_an_unknown_kind_is_no_event(trial: TrialSpec) -> None:
    assert events.logged(trial, {"kind": "heartbeat"}) is None
    assert events.logged(trial, {}) is None


def test_a_key_that_is_not_documented_is_noticed(trial: TrialSpec) -> None:
    with pytest.raises(ValidationError):
        check(events.logged(trial, {"kind": "phase", "phase": "train", "new": 1}))
