"""A small study on disk, and an executor that makes records without training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from forecast_helpers import ForecastExecutor
from running_helpers import OneExecutor
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import TuneoffError
from tuneoff.executors.base import Executor, Inspection, Listener, Progress
from tuneoff.records.record import DataInfo, Metric, Parameters, RoleCounts, SplitInfo, Status, Timing, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

STUDY = """\
name: small
description: A small study.
model: minilm
task:
  data: {{train: {data}}}
  text: text
  label: label
protocol: {{seeds: 2, epochs: 1}}
methods: [majority, full, lora]
"""


WRITING = """\
name: writing
model: smollm2-135m
task:
  name: generation
  data: {train: pairs.csv}
  template: "{source}\\n\\nIn short: "
  max_target_length: 16
protocol: {seeds: 1, epochs: 1, max_length: 64}
methods: [lead, lora]
"""


def make_record(trial: TrialSpec, status: Status = Status.COMPLETED, accuracy: float = 0.9) -> TrialRecord:
    """A record as a trial would leave it, with few figures."""
    if status is not Status.COMPLETED:
        return TrialRecord(
            spec=trial, status=status, cause="the loss is not finite at step 3\nmore", log_tail=("boom",)
        )
    return TrialRecord(
        spec=trial,
        status=status,
        metrics=(Metric(name="accuracy", value=accuracy, unit="fraction", direction="higher", split="test"),),
        primary_metric="accuracy",
        parameters=Parameters(total=RoleCounts(base=100, head=10), trainable=RoleCounts(head=10)),
        timing=Timing(train_seconds=1.0, total_seconds=2.0),
        data=DataInfo(
            splits={"train": SplitInfo(rows=8, fingerprint="a"), "test": SplitInfo(rows=2, fingerprint="b")},
            labels=("bad", "good"),
            columns={"text": "text", "label": "label"},
        ),
    )


@dataclass
class FakeExecutor(ForecastExecutor):
    """Makes records and forecasts at once.

    Attributes:
        fail: labels whose trials diverge.
        raise_at: trials to run before `error` is raised.
        answers: verb -> answer of `call`.
        calls: (verb, payload) of every `call`.
    """

    fail: set[str] = field(default_factory=set)
    raise_at: int | None = None
    error: BaseException = field(default_factory=KeyboardInterrupt)
    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    warnings: tuple[dict[str, str], ...] = ()
    labels: tuple[str, ...] = ("bad", "good")
    columns: dict[str, str] = field(default_factory=dict)
    inspect_error: TuneoffError | None = None
    closed: bool = False
    device: str = ""

    def close(self) -> None:
        self.closed = True

    def inspect(self, study: StudySpec, trials: Sequence[TrialSpec], require_data: bool) -> Inspection:
        if self.inspect_error:
            raise self.inspect_error
        counts = {
            trial.id: {
                "trainable_parameters": {"head": 10, "adapter": 5 if trial.label == "lora" else 0, "base": 0},
                "total_parameters": {"head": 10, "adapter": 5 if trial.label == "lora" else 0, "base": 1000},
            }
            for trial in trials
            if trial.learning_rate is not None
        }
        splits = {"train": {"rows": 1234, "truncated": 3}}
        data = {"splits": splits, "labels": list(self.labels), "columns": self.columns}
        return Inspection(trials=counts, labels=self.labels, data=data, warnings=self.warnings)

    def run(self, store: StudyStore, trials: Sequence[TrialSpec], listener: Listener) -> None:
        ran = 0
        for trial in trials:
            place = store.trial(trial.id)
            before = place.record()
            if before is not None and before.status.finished:
                listener(Progress("skipped", trial, record=before))
                continue
            if self.raise_at == ran:
                raise self.error
            listener(Progress("started", trial))
            listener(Progress("event", trial, {"kind": "phase", "phase": "train"}))
            event = {"kind": "step", "step": 2, "steps": 4, "epoch": 0.5, "epochs": 1, "loss": 0.7}
            listener(Progress("event", trial, event | {"examples_per_second": 45.2, "elapsed_seconds": 1.0}))
            record = make_record(trial, Status.DIVERGED if trial.label in self.fail else Status.COMPLETED)
            place.begin_attempt()
            place.write_record(record)
            listener(Progress("ended", trial, record=record))
            ran += 1

    def call(self, verb: str, payload: dict[str, Any]) -> Any:
        self.calls.append((verb, payload))
        return self.answers[verb]


class Fake(OneExecutor):
    """Gives one fake executor, which notes the device that was asked for."""

    def create(self, device: str, options: Mapping[str, Any]) -> Executor:
        """The one."""
        self.executor.device = device
        return self.executor


@pytest.fixture
def fake_executor() -> Iterator[FakeExecutor]:
    """Stands in for every executor that a study would start."""
    fake = FakeExecutor()
    with Fake(fake).registered():
        yield fake


@pytest.fixture
def small_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study file beside its data, in the folder that is current."""
    monkeypatch.chdir(tmp_path)
    rows = [f"row number {i} is {'good' if i % 2 else 'bad'},{'good' if i % 2 else 'bad'}" for i in range(20)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    path = tmp_path / "small.yaml"
    path.write_text(STUDY.format(data="rows.csv"), encoding="utf-8")
    return path


@pytest.fixture
def writing_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study file of generation beside its data, in the folder that is current."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.csv").write_text("body,summary\n" + "a long text,short\n" * 20, encoding="utf-8")
    path = tmp_path / "writing.yaml"
    path.write_text(WRITING, encoding="utf-8")
    return path


@pytest.fixture
def small_trials(small_study: Path) -> list[TrialSpec]:
    """The trials of the small study."""
    return Study(small_study).plan()


@pytest.fixture
def fake_record() -> Callable[..., TrialRecord]:
    """Makes a trial's record."""
    return make_record
