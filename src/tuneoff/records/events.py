"""The events of a run: their schema, and functions that make them. Pure; docs/events.md describes every key.

A trial logs lines with a `kind` (`LOGGED`). `tuneoff run --json` and `tuneoff watch --json` print these, and what
becomes of trials and study, as lines with an `event`. The functions make the lines; the models say what they hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from tuneoff.config.base import Frozen
from tuneoff.config.spec import Purpose, StudySpec, TrialSpec
from tuneoff.records.record import Event, Finding, Metric, Status, TrialRecord

STREAM_VERSION = 2

Outcome = Literal["completed", "failed_trials", "interrupted", "stopped", "error"]


class _OfAll(Frozen):
    time: str | None = Field(description="when it happened: UTC, ISO 8601; null where nobody noted it")


class _OfTrial(_OfAll):
    trial: str = Field(description="the trial's id")


class Trials(Frozen):
    """How many trials a study has."""

    search: int = Field(description="trials of the search; one that grows adds to them")
    final: int = Field(description="final trials: arms × seeds")


class StudyStarted(_OfAll):
    """A run begins, or `watch` begins to follow one."""

    event: Literal["study_started"]
    stream_version: int = Field(description="version of these events: 2")
    study: str = Field(description="name of the study")
    folder: str = Field(description="where the results are")
    model: str = Field(description="the base model's source")
    task: str = Field(description="name of the task")
    arms: tuple[str, ...] = Field(description="labels of the arms")
    seeds: tuple[int, ...] = Field(description="seeds of the final trials")
    trials: Trials = Field(description="numbers of trials: `search` (one that grows adds to it) and `final`")


class TrialStarted(_OfTrial):
    """A trial's process runs."""

    event: Literal["trial_started"]
    label: str = Field(description="the arm")
    method: str = Field(description="the method's name")
    seed: int = Field(description="the trial's seed")
    purpose: Purpose = Field(description="`final` or `search`")
    learning_rate: float | None = Field(description="null for a method that does not train")
    options: dict[str, Any] = Field(description="the method's options, defaults filled in")


class Phase(_OfTrial):
    """The trial enters a phase."""

    event: Literal["phase"]
    phase: str = Field(
        description="load, tokenize, preflight, train, validation, checkpoint, test, inference, retention or rewind"
    )


class Step(_OfTrial):
    """Training goes on: at most two a second, and one before every validation."""

    event: Literal["step"]
    step: int = Field(description="optimizer steps done")
    steps: int = Field(description="of so many")
    epoch: float = Field(description="passes over the training rows so far")
    epochs: int = Field(description="of so many")
    loss: float | None = Field(description="of this step, in nats per example (generation: per target token)")
    gradient_norm: float | None = Field(None, description="of the whole gradient of this step, before clipping")
    learning_rate: float = Field(description="in force at this step")
    examples_per_second: float = Field(description="training speed so far")
    elapsed_seconds: float = Field(description="since training began, validations included")
    validations: int | None = Field(None, description="how many there are in all; null in logs of earlier versions")


class Resumed(_OfTrial):
    """The trial continues from a checkpoint; lines of kind `step` and `validation` that an earlier process told follow
    once more, some of many steps."""

    event: Literal["resumed"]
    step: int = Field(description="optimizer steps done")
    steps: int = Field(description="of so many")
    earlier_seconds: float = Field(description="what the trial's earlier processes took, up to the checkpoint")
    train_seconds: float = Field(description="of these, training")
    validation_seconds: float = Field(description="of these, scoring validation")


class WritingProgress(_OfTrial):
    """Texts are being written, of validation or test as the phase says: at most two a second."""

    event: Literal["writing"]
    texts: int = Field(description="texts written so far")
    of: int = Field(description="of so many")
    elapsed_seconds: float = Field(description="since the writing of this split began")


class Validation(_OfTrial):
    """Validation was scored."""

    event: Literal["validation"]
    step: int = Field(description="optimizer steps done")
    metrics: dict[str, float | None] = Field(description="metric -> value; null where it is not finite")


class MachineUse(_OfTrial):
    """What the trial and others use of the machine: the first within a second, then every 5 s, means since the last.

    A figure that the machine does not tell is left out.
    """

    event: Literal["machine"]
    cpu_percent: float = Field(description="of the trial; 100 is one core")
    other_cpu_percent: float | None = Field(None, description="of all other processes; 100 is one core")
    resident_bytes: int = Field(description="resident set of the trial's process; on several devices of the first")
    gpu_percent: float | None = Field(None, description="of the GPU's time, all processes")
    gpu_memory_bytes: int | None = Field(None, description="in use on the GPU, by all processes")


class FindingEvent(_OfTrial):
    """Something a reader must know before trusting the figures."""

    event: Literal["finding"]
    name: str = Field(description="as in the record's findings")
    message: str = Field(description="for a person")


class Costs(Frozen):
    """A trial's costs, named as in the report; null where the record's `missing` says why."""

    train_seconds: float | None = None
    total_seconds: float | None = None
    peak_memory_bytes: int | None = None
    stored_bytes: int | None = None
    trainable_parameters: int | None = None
    latency_seconds: float | None = None
    energy_joules: float | None = None


class TrialEnded(_OfTrial):
    """A trial has its record."""

    event: Literal["trial_ended"]
    label: str = Field(description="the arm")
    seed: int = Field(description="the trial's seed")
    purpose: Purpose = Field(description="`final` or `search`")
    earlier: bool = Field(description="whether it was finished before this run, and not run again")
    status: Status = Field(description="what became of it; `completed` alone is a result")
    cause: str | None = Field(description="why it did not complete; null where it did")
    metrics: tuple[Metric, ...] = Field(
        description="the scores, as in the record; of a search those of validation alone"
    )
    costs: Costs = Field(
        description="`train_seconds`, `total_seconds`, `peak_memory_bytes`, `stored_bytes`, `trainable_parameters`, "
        "`latency_seconds` and `energy_joules`; null where the record's `missing` says why"
    )
    findings: tuple[Finding, ...] = Field(description="all findings, as in the record")


class StudyEnded(_OfAll):
    """The last line: the run is over."""

    event: Literal["study_ended"]
    outcome: Outcome = Field(
        description="`completed`; `failed_trials`: some did not complete; `interrupted`; `error`: the run broke off; "
        "`stopped` (`watch` alone): nobody runs it any more though trials are missing"
    )
    error: str | None = Field(description="what was wrong, after `error`; else null")
    report: dict[str, Any] | None = Field(
        description="the report (report-schema.md) after `completed` and `failed_trials`; else null"
    )


class SeriesStarted(_OfAll):
    """A run of a series of studies begins; for each member follow the lines of a study."""

    event: Literal["series_started"]
    stream_version: int = Field(description="version of these events: 2")
    study: str = Field(description="name of the series")
    folder: str = Field(description="where the results are")
    axis: str = Field(description="what the members differ in: `train_rows`, `model` or `data`")
    members: tuple[str, ...] = Field(description="names of the members, in the order in which they run")


class SeriesEnded(_OfAll):
    """The last line of a series: the run is over."""

    event: Literal["series_ended"]
    outcome: Outcome = Field(description="as of `study_ended`; `failed_trials` also where a member could not be run")
    error: str | None = Field(description="what was wrong, after `error`; else null")
    problems: dict[str, str] = Field(description="member -> why it could not be run")
    report: dict[str, Any] | None = Field(
        None,
        description="of `run`: the report of the series (series-report.md) after `completed` and `failed_trials`, "
        "where a member has a result; else null",
    )


StreamEvent = Annotated[
    StudyStarted
    | TrialStarted
    | Phase
    | Resumed
    | Step
    | Validation
    | WritingProgress
    | MachineUse
    | FindingEvent
    | TrialEnded
    | StudyEnded
    | SeriesStarted
    | SeriesEnded,
    Field(discriminator="event"),
]
"""One line of the stream."""

LOGGED = frozenset({"phase", "resumed", "step", "validation", "writing", "machine", "finding"})
"""Kinds of lines in a trial's event log."""


def utc(at: datetime | float | None = None) -> str:
    """Formats a moment as events write it; now where none is given. A number is seconds since 1970."""
    moment = at if isinstance(at, datetime) else datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="milliseconds")


def study_started(study: StudySpec, folder: str, searched: int, final: int, time: str | None = None) -> Event:
    """Returns the first line of a stream.

    Args:
        study: what is run.
        folder: where the results are.
        searched, final: numbers of trials.
        time: when it happened; now where it is not given.
    """
    return {
        "event": "study_started",
        "time": time or utc(),
        "stream_version": STREAM_VERSION,
        "study": study.name,
        "folder": folder,
        "model": study.model.source,
        "task": study.task.name,
        "arms": list(study.methods),
        "seeds": list(study.protocol.seeds),
        "trials": {"search": searched, "final": final},
    }


def trial_started(trial: TrialSpec, time: str | None = None) -> Event:
    """Returns the event that a trial's process runs since `time` (now where it is not given)."""
    keys = ("label", "method", "seed", "purpose", "learning_rate", "options")
    values = trial.model_dump(mode="json", include=set(keys))
    return {"event": "trial_started", "time": time or utc(), "trial": trial.id, **{key: values[key] for key in keys}}


def logged(trial: TrialSpec, line: Event, time: str | None = None) -> Event | None:
    """Converts a line of a trial's event log to an event; None for a line of a kind that is not known.

    Args:
        trial: the trial.
        line: a line that `TrialStore.events` returns.
        time: when it happened, for a line without a time.
    """
    if line.get("kind") not in LOGGED:
        return None
    rest = {key: _finite(value) for key, value in line.items() if key not in ("kind", "time")}
    return {"event": line["kind"], "time": line.get("time", time), "trial": trial.id, **rest}


def trial_ended(record: TrialRecord, earlier: bool, time: str | None = None) -> Event:
    """Returns the event that a trial has its record since `time` (now where it is not given)."""
    spec = record.spec
    costs = Costs(
        train_seconds=record.timing.train_seconds,
        total_seconds=record.timing.total_seconds,
        peak_memory_bytes=record.memory.peak_memory_bytes,
        stored_bytes=record.stored_bytes,
        trainable_parameters=record.parameters.trainable.total if record.parameters else None,
        latency_seconds=record.inference.latency_seconds_median,
        energy_joules=record.energy_joules,
    )
    return {
        "event": "trial_ended",
        "time": time or utc(),
        "trial": spec.id,
        "label": spec.label,
        "seed": spec.seed,
        "purpose": spec.purpose,
        "earlier": earlier,
        "status": record.status.value,
        "cause": record.cause or None,
        "metrics": [metric.model_dump(mode="json") for metric in record.metrics],
        "costs": costs.model_dump(),
        "findings": [finding.model_dump() for finding in record.findings],
    }


def study_ended(
    outcome: Outcome, report: dict[str, Any] | None = None, error: str | None = None, time: str | None = None
) -> Event:
    """Returns the last line of a stream."""
    return {"event": "study_ended", "time": time or utc(), "outcome": outcome, "error": error, "report": report}


def series_started(study: str, folder: str, axis: str, members: Iterable[str]) -> Event:
    """Returns the first line of the stream of a series."""
    return {
        "event": "series_started",
        "time": utc(),
        "stream_version": STREAM_VERSION,
        "study": study,
        "folder": folder,
        "axis": axis,
        "members": list(members),
    }


def series_ended(
    outcome: Outcome,
    problems: Mapping[str, str] | None = None,
    report: dict[str, Any] | None = None,
    error: str | None = None,
) -> Event:
    """Returns the last line of the stream of a series."""
    return {
        "event": "series_ended",
        "time": utc(),
        "outcome": outcome,
        "error": error,
        "problems": dict(problems or {}),
        "report": report,
    }


def _finite(value: Any) -> Any:
    """Replaces numbers that are not finite by None, because JSON has no infinity and no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value
