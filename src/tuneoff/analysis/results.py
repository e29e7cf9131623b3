"""A study's trials gathered into arms: what was planned, what there is, and what is still missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneoff.analysis.money import with_money
from tuneoff.analysis.search_data import recorded
from tuneoff.checksums import content_hash
from tuneoff.collection import without_collection
from tuneoff.config.spec import PricesSpec, StudySpec, TrialSpec
from tuneoff.errors import CorruptRecord, StudyError
from tuneoff.planning.problems import margin_problem
from tuneoff.records.record import MemoryKind, Metric, Status, TrialRecord
from tuneoff.store import StudyStore, TrialStore


@dataclass(frozen=True)
class Arm:
    """One arm of the table: a method with one configuration, over its seeds.

    Attributes:
        label: the arm's label; where a label was run with several configurations, what differs is added.
        trials: its planned trials, by seed.
        records: the records there are, by seed; any status.
        unfinished: statuses of the trials that have no record yet.
    """

    label: str
    trials: tuple[TrialSpec, ...]
    records: tuple[TrialRecord, ...]
    unfinished: tuple[Status, ...]

    @property
    def method(self) -> str:
        """Returns the name of the method (the plug-in)."""
        return self.trials[0].method

    @property
    def learning_rate(self) -> float | None:
        return self.trials[0].learning_rate

    @property
    def trains(self) -> bool:
        """Returns False for a baseline: an arm without training."""
        return self.learning_rate is not None

    @property
    def completed(self) -> tuple[TrialRecord, ...]:
        return tuple(record for record in self.records if record.status is Status.COMPLETED)

    @property
    def diverged(self) -> tuple[int, ...]:
        """Returns the seeds at which training diverged."""
        return tuple(record.spec.seed for record in self.records if record.status is Status.DIVERGED)

    @property
    def contended(self) -> bool:
        """Returns whether any timing of this arm was taken on a busy machine."""
        return any(record.noise.contended for record in self.completed)

    @property
    def memory_kind(self) -> MemoryKind | None:
        """Returns what the peak memory of its trials is the peak of; None where no trial tells it."""
        return next((record.memory.kind for record in self.completed if record.memory.kind), None)

    @property
    def statuses(self) -> dict[str, int]:
        """Counts trials by status, planned ones included."""
        counts = Counter([*(record.status for record in self.records), *self.unfinished])
        return {status.value: counts[status] for status in Status if counts[status]}

    def scores(self, metric: str, split: str = "test") -> dict[int, float]:
        """Maps each seed to its value, over completed trials."""
        values = {record.spec.seed: record.metric(metric, split) for record in self.completed}
        return {seed: value for seed, value in values.items() if value is not None}


@dataclass(frozen=True)
class Results:
    """A study's trials in arms, which is all that a report describes.

    Attributes:
        study: the study that was asked for.
        arms: in the study's order.
        superseded: ids of trials that a later trial of the same arm and seed replaced (their data changed).
        search: what the search tried, found and chose, derived from its records; None where there was none.
        search_trouble: why the search cannot be derived here; else empty.
        others: trials of the folder that were not asked for.
        left_out: trial -> why its record is not used: something of it is damaged, or it saw other contents than the
            rest of its arm. Such a trial counts as one that has not been run.
    """

    store: StudyStore
    study: StudySpec
    arms: tuple[Arm, ...]
    superseded: tuple[str, ...]
    search: dict[str, Any] | None = None
    others: tuple[TrialSpec, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    search_trouble: str = ""

    @property
    def report_folder(self) -> Path:
        """Returns the folder of the report; one of its own where the study's folder holds trials of other runs too."""
        if not self.others:
            return self.store.report_folder
        positions = sorted(_position(trial) for arm in self.arms for trial in arm.trials)
        return self.store.report_folder.with_name(f"report-{content_hash(positions)[:6]}")

    @property
    def records(self) -> list[TrialRecord]:
        return [record for arm in self.arms for record in arm.records]

    @property
    def completed(self) -> list[TrialRecord]:
        return [record for arm in self.arms for record in arm.completed]

    @property
    def planned_count(self) -> int:
        return sum(len(arm.trials) for arm in self.arms)

    @property
    def primary(self) -> Metric | None:
        """Returns name, unit and direction of the primary metric, as recorded; None while nothing is completed."""
        for record in self.completed:
            for metric in record.metrics:
                if metric.name == record.primary_metric and metric.split == "test":
                    return metric
        return None

    @property
    def random_weights(self) -> bool:
        return self.study.model.random_weights or any(
            record.model is not None and record.model.random_weights for record in self.records
        )

    def arm(self, label: str) -> Arm:
        """Finds the arm of that label. Raises KeyError if there is none."""
        for arm in self.arms:
            if arm.label == label:
                return arm
        raise KeyError(label)

    def label_of(self, record: TrialRecord) -> str:
        """Finds the label of the arm that a record belongs to. Raises KeyError if there is none."""
        for arm in self.arms:
            if any(trial.id == record.spec.id for trial in arm.trials):
                return arm.label
        raise KeyError(record.spec.id)


@dataclass(frozen=True)
class Asked:
    """The arms and trials that one run asked for; its folder may hold more, of earlier runs."""

    study: StudySpec
    trials: Sequence[TrialSpec]


@without_collection()
def gather(
    store: StudyStore,
    asked: Asked | None = None,
    margin: float | None = None,
    prices: PricesSpec | None = None,
) -> Results:
    """Reads a study's folder.

    Leaves out, and names, trials of which something is damaged and those that saw other rows or base weights than the
    newest of their arm.

    Args:
        store: the folder.
        asked: leave out the arms and seeds that are not among these; everything is read where unset.
        margin: in place of the study's own.
        prices: likewise.

    Raises:
        StoreError: if it is of another version.
        CorruptRecord: if what it says of the whole study is damaged.
        StudyError: if the margin cannot be one of the primary metric.
    """
    searched = store.study().protocol.search
    # Where every seed is searched by itself, an arm has a configuration for each.
    per_seed = searched is not None and bool(searched.per_seed)
    asked_positions = {_position(trial) for trial in asked.trials} if asked is not None else None
    others: list[TrialSpec] = []
    groups: dict[tuple[str, str], dict[int, TrialSpec]] = {}
    records: dict[str, TrialRecord] = {}
    left_out: dict[str, str] = {}
    superseded: list[str] = []
    for trial_id in store.trial_ids():
        spec, record, damage = _read(store.trial(trial_id))
        if spec is not None and asked_positions is not None and _position(spec) not in asked_positions:
            others.append(spec)
            continue
        if damage:
            left_out[trial_id] = damage.replace(f"{store.root}/", "")
        elif record is not None:
            records[trial_id] = record
        if spec is None:
            continue
        by_seed = groups.setdefault((spec.label, "" if per_seed else _configuration(spec)), {})
        if spec.seed in by_seed:
            superseded.append(by_seed[spec.seed].id)
        by_seed[spec.seed] = spec
    # Where everything was asked for, the study is the folder's, which has the seeds of earlier runs too.
    study = asked.study if asked is not None and others else store.study()
    if margin is not None:
        study = study.model_copy(update={"margin": margin})
    if prices is not None:
        study = study.model_copy(update={"prices": prices})
    records = {trial_id: with_money(record, study.prices) for trial_id, record in records.items()}
    order = list(study.methods)
    keys = sorted(groups, key=lambda key: order.index(key[0]) if key[0] in order else len(order))
    names = _labels([next(iter(groups[key].values())) for key in keys])
    for by_seed in groups.values():
        mismatched = _mismatched_contents([records[trial.id] for trial in by_seed.values() if trial.id in records])
        left_out |= mismatched
        records = {trial_id: record for trial_id, record in records.items() if trial_id not in mismatched}
    arms = tuple(_arm(store, name, groups[key], records, left_out) for key, name in zip(keys, names, strict=True))
    for trial_id in store.search_ids():
        if damage := store.trial(trial_id).damage():
            left_out[trial_id] = damage.replace(f"{store.root}/", "")
    try:
        search, search_problem = recorded(store), ""
    except StudyError as error:
        search, search_problem = None, error.message
    results = Results(store, study, arms, tuple(superseded), search, tuple(others), left_out, search_problem)
    metric = results.primary
    if margin is not None and metric and (problem := margin_problem(margin, metric.name, metric.unit)):
        raise StudyError(f"--margin: {problem}")
    return results


def _mismatched_contents(records: Sequence[TrialRecord]) -> dict[str, str]:
    """Maps completed trials of one arm that saw other contents than the latest one to the difference.

    Contents that are not recorded differ from nothing.
    """
    completed = [record for record in records if record.status is Status.COMPLETED]
    if not completed:
        return {}
    newest = max(completed, key=lambda record: record.environment.started_at if record.environment else "")
    reasons = {}
    for record in completed:
        differing = [
            name
            for name, newest_content, content in _contents(newest, record)
            if None not in (newest_content, content) and newest_content != content
        ]
        if differing:
            reasons[record.spec.id] = (
                f"it saw other {' and other '.join(differing)} than {newest.spec.id}, which ran later"
            )
    return reasons


def _contents(first: TrialRecord, second: TrialRecord) -> list[tuple[str, object, object]]:
    """Lists what two trials loaded, with a name for each kind of content."""

    def rows(record: TrialRecord) -> object:
        if record.data is None:
            return None
        shares = record.spec.protocol.shares
        return {name: split.fingerprint for name, split in record.data.splits.items() if shares(name)}

    def weights(record: TrialRecord) -> object:
        return record.model.checksum if record.model else None

    return [("rows", rows(first), rows(second)), ("base weights", weights(first), weights(second))]


def _read(trial_store: TrialStore) -> tuple[TrialSpec | None, TrialRecord | None, str]:
    """Reads a trial's specification and record, each None where it cannot be read, and what of it is damaged (else
    empty)."""
    spec = record = None
    problem = ""
    try:
        record = trial_store.record()
    except CorruptRecord as error:
        problem = error.message
    try:
        spec = trial_store.spec()
        if record is not None:
            trial_store.verify(record, weights=False)
    except CorruptRecord as error:
        problem = problem or error.message
    return spec or (record.spec if record is not None else None), record, problem


def _arm(
    store: StudyStore,
    label: str,
    by_seed: dict[int, TrialSpec],
    records: Mapping[str, TrialRecord],
    left_out: Mapping[str, str],
) -> Arm:
    trials = tuple(by_seed[seed] for seed in sorted(by_seed))
    missing = [trial.id for trial in trials if trial.id not in records]
    running = {trial for trial in missing if trial not in left_out and store.trial(trial).events_path.exists()}
    return Arm(
        label,
        trials,
        tuple(records[trial.id] for trial in trials if trial.id in records),
        tuple(Status.RUNNING if trial in running else Status.PLANNED for trial in missing),
    )


def _settings(spec: TrialSpec) -> dict[str, object]:
    devices = {**({"devices": spec.devices} if spec.devices > 1 else {}), **({"shard": True} if spec.shard else {})}
    rate = {"learning_rate": spec.learning_rate}
    return {"method": spec.method, **rate, **spec.options, **spec.protocol.searchable, **devices}


def _position(spec: TrialSpec) -> tuple[str, str, int]:
    """Returns where a trial stands in the table: its arm and its seed."""
    return spec.label, _configuration(spec), spec.seed


def _configuration(spec: TrialSpec) -> str:
    return json.dumps(_settings(spec), sort_keys=True)


def _labels(arms: list[TrialSpec]) -> list[str]:
    """Returns a label per arm; arms with equal labels get their differing settings added, so that no average mixes
    them."""
    labels = []
    for arm in arms:
        namesakes = [_settings(other) for other in arms if other.label == arm.label]
        settings = _settings(arm)
        differing = [key for key in settings if any(other.get(key) != settings[key] for other in namesakes)]
        suffix = ", ".join(f"{key}={settings[key]}" for key in differing)
        labels.append(f"{arm.label} ({suffix})" if suffix else arm.label)
    return labels
