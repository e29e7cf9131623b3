"""Made-up records and studies, for tests of what is said about them."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tuneoff.analysis.search_data import recorded, recorded_choices, search_data
from tuneoff.analysis.search_rounds import Search
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan, search_studies
from tuneoff.records.record import (
    CurvePoint,
    DataInfo,
    Environment,
    Finding,
    GradientNorm,
    Inference,
    Memory,
    Metric,
    ModelInfo,
    Noise,
    Parameters,
    PrecisionInfo,
    Prediction,
    RoleCounts,
    SplitInfo,
    Status,
    Throughput,
    Timing,
    TrialRecord,
)
from tuneoff.search.space import spaces
from tuneoff.store import StudyStore

CLASSES = ("acq", "crude", "earn", "grain")
GROUP_SIZE = 8
"""Test rows of a group, in a study that has them."""


def small_study(
    *labels: str,
    seeds: int = 2,
    model: Any = "minilm",
    arms: Mapping[str, Any] | None = None,
    search: Any = None,
    group: str | None = None,
) -> StudySpec:
    """A checked study of these methods, or of arms with options; `search` as in a study file, and so `group`."""
    methods = {**{label: {} for label in labels}, **(arms or {})}
    return parse(
        {
            "name": "small",
            "model": model,
            "task": {"data": "reuters-r8", **({"group": group} if group else {})},
            "methods": methods,
            "protocol": {"seeds": seeds, "search": search},
        }
    )


@dataclass(frozen=True)
class Level:
    """What a made-up arm is like: its accuracy (before noise) and costs."""

    accuracy: float
    train_seconds: float = 10.0
    memory: int = 600 << 20
    adapter: int = 0
    base: int = 0
    head: int = 1540
    stored: int = 1 << 20


QUICKSTART: Mapping[str, Level] = {
    "majority": Level(0.52, head=0, stored=0),
    "head": Level(0.71, 4.1, 420 << 20, stored=7000),
    "full": Level(0.945, 31.0, 900 << 20, base=22_565_376, stored=90 << 20),
    "last_block": Level(0.944, 11.0, 520 << 20, base=1_774_464, stored=7 << 20),
    "bitfit": Level(0.931, 24.0, 640 << 20, base=35_000, stored=150_000),
    "lora": Level(0.94, 25.0, 660 << 20, adapter=147_456),
    "adapter": Level(0.938, 26.0, 655 << 20, adapter=300_000, stored=1_200_000),
    "ia3": Level(0.936, 25.5, 650 << 20, adapter=18_432, stored=80_000),
    "prompt_tuning": Level(0.91, 29.0, 710 << 20, adapter=7_680, stored=40_000),
}


@dataclass
class World:
    """Knobs of a made-up study; each test turns the one it is about."""

    levels: Mapping[str, Level] = field(default_factory=lambda: QUICKSTART)
    test_rows: int = 400
    accuracies: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """(label, seed) -> its accuracy, where it is not its arm's."""
    fail: Mapping[tuple[str, int], Status] = field(default_factory=dict)
    skip: frozenset[tuple[str, int]] = frozenset()
    contended: frozenset[str] = frozenset()
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """label -> fields of the record to replace."""


WRITERS: Mapping[str, Level] = {
    "lead": Level(0.20, head=0, stored=0),
    "zero_shot": Level(0.12, memory=500 << 20, head=0, stored=0),
    "lora": Level(0.31, 25.0, 660 << 20, adapter=147_456, head=0),
    "prompt_tuning": Level(0.24, 29.0, 710 << 20, adapter=7_680, head=0, stored=40_000),
    "full": Level(0.315, 60.0, 1800 << 20, base=22_565_376, head=0, stored=540 << 20),
}
"""Arms of a study of generation; a level's accuracy is its ROUGE-L."""


def writing_study(*labels: str, seeds: int = 2, arms: Mapping[str, Any] | None = None) -> StudySpec:
    """A checked study of generation."""
    return parse(
        {
            "name": "writing",
            "model": "smollm2-135m",
            "task": {"name": "generation", "data": "somebody/pairs", "template": "{source}\n\nSummary: "},
            "methods": {**{label: {} for label in labels}, **(arms or {})},
            "protocol": {"seeds": seeds},
        }
    )


def environment(**changes: Any) -> Environment:
    facts: dict[str, Any] = {
        "platform": "Linux",
        "python": "3.11.2",
        "processor": "Xeon",
        "cores": 2,
        "memory_bytes": 8 << 30,
        "device": "cpu",
        "device_name": "",
        "threads": 2,
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
        "started_at": "2026-01-01T00:00:00Z",
    }
    return Environment(**{**facts, **changes})


def data(seed: int, test_rows: int) -> DataInfo:
    rows = {"train": 1000, "validation": 200, "test": test_rows}
    classes = dict.fromkeys(CLASSES, 1)
    splits = {s: SplitInfo(rows=n, fingerprint=f"{s}-print", classes=classes, truncated=7) for s, n in rows.items()}
    return DataInfo(
        splits=splits,
        labels=CLASSES,
        columns={"text": "text", "label": "topic"},
        overlap={"train/test": 3},
        train_order_fingerprint=f"order-{seed}",
        examples_trained=2000,
    )


def predictions(spec: TrialSpec, accuracy: float, rows: int) -> list[Prediction]:
    """Targets are equal for all trials; hard examples are hard for every method, as in life."""
    targets = random.Random(0)
    noise = random.Random(f"{spec.label}-{spec.seed}")
    found = []
    for index in range(rows):
        target = targets.choice(CLASSES)
        hardness = targets.random()
        right = hardness * 0.9 + noise.random() * 0.1 < accuracy
        wrong = CLASSES[(CLASSES.index(target) + 1) % len(CLASSES)]
        group = index // GROUP_SIZE if spec.task.options.get("group") else None
        found.append(Prediction(index=index, target=target, output=target if right else wrong, group=group))
    return found


def written_predictions(spec: TrialSpec, level: Level, rows: int) -> list[Prediction]:
    """Texts with their scores. Like `predictions`: equal targets, and examples as hard for every method."""
    examples, noise = random.Random(0), random.Random(f"{spec.label}-{spec.seed}")
    loss_noise = random.Random(f"loss of {spec.label}-{spec.seed}")
    found = []
    for index in range(rows):
        ease = examples.uniform(0.5, 1.5)
        rouge = min(1.0, max(0.0, level.accuracy * ease + noise.gauss(0, 0.02)))
        # A baseline without a model knows neither the source's place in the report nor any loss.
        source = f"Article {index} tells of many things." if index < 20 and spec.label != "lead" else ""
        found.append(
            Prediction(
                index=index,
                target=f"Reference {index}.",
                output=f"{spec.label} of seed {spec.seed} writes text {index}.",
                values={"rouge_l": rouge, "rouge_1": min(1.0, rouge * 1.2)},
                # Some nine nats a token, so that perplexities are in the thousands.
                loss=None
                if spec.label == "lead"
                else 12 * math.log(700) + 40.0 * ease * (1 - level.accuracy) + loss_noise.gauss(0, 0.5),
                target_tokens=None if spec.label == "lead" else 12,
                generated_tokens=None if spec.label == "lead" else 15,
                source=source,
            )
        )
    return found


def written(record: TrialRecord, outcomes: list[Prediction]) -> TrialRecord:
    """A completed record made over into one of generation, as such a trial leaves it."""
    count = len(outcomes)
    means = {name: sum(p.values[name] for p in outcomes) / count for name in outcomes[0].values}
    known = [(p.loss, p.target_tokens) for p in outcomes if p.loss is not None and p.target_tokens is not None]
    losses = {}
    if known:
        loss = sum(nats for nats, _ in known) / sum(tokens for _, tokens in known)
        losses = {"loss": loss, "perplexity": math.exp(loss)}
    metrics = [
        Metric.model_validate(
            {
                "name": name,
                "value": value,
                "unit": {"loss": "nats", "perplexity": "perplexity"}.get(name, "fraction"),
                "direction": "lower" if name in losses else "higher",
                "split": split,
            }
        )
        for split, values in (("test", {**means, **losses}), ("validation", losses or means))
        for name, value in values.items()
    ]
    curve = [
        point.model_copy(update={"validation": {"loss": point.validation["loss"], "perplexity": 9.0}})
        for point in record.curve
    ]
    data = record.data
    assert data is not None
    splits = {name: split.model_copy(update={"classes": {}}) for name, split in data.splits.items()}
    speed = {"generated_tokens_per_second": 55.0, "generated_tokens_mean": 15.0} if known else {}
    trains = record.spec.learning_rate is not None
    memory = record.memory if trains else Memory(peak_memory_bytes=500 << 20, kind="resident")
    return record.model_copy(
        update={
            "metrics": tuple(metrics),
            "primary_metric": "rouge_l",
            "curve": tuple(curve),
            "data": data.model_copy(
                update={"labels": (), "columns": {"source": "body", "target": "summary"}, "splits": splits}
            ),
            "inference": record.inference.model_copy(
                update={**speed, "latency_seconds_median": 1.2 if known else None}
            ),
            "memory": memory if known else Memory(),
            "model": record.model if known else None,
            "precision": record.precision if known else None,
        }
    )


def completed(spec: TrialSpec, level: Level, accuracy: float, world: World) -> TrialRecord:
    """A record of a trial that went well, with every figure an arm like this has."""
    trains = spec.learning_rate is not None
    noise = random.Random(f"{spec.label}/{spec.seed}")
    seconds = level.train_seconds * noise.uniform(0.97, 1.03)
    steps = (20, 40, 60, 80, 100, 126)
    curve = tuple(
        CurvePoint(
            step=step,
            epoch=step / 63,
            train_seconds=seconds * step / 126,
            learning_rate=1e-3,
            train_loss=1.9 * (1 - level.accuracy) + 1.4 / (1 + step / 20),
            validation={
                "accuracy": level.accuracy - 0.4 / (1 + step / 15) + noise.uniform(-0.01, 0.01),
                "loss": 2 * (1 - level.accuracy) + 1.2 / (1 + step / 20) + noise.uniform(-0.02, 0.02),
            },
        )
        for step in steps
    )
    total = RoleCounts(head=1540, adapter=level.adapter, base=22_565_376)
    busy = spec.label in world.contended
    body: dict[str, Any] = {
        "spec": spec,
        "status": Status.COMPLETED,
        "metrics": tuple(
            Metric(name=name, value=value, unit=unit, direction=direction, split=split)
            for split in ("test", "validation")
            for name, value, unit, direction in (
                ("accuracy", accuracy, "fraction", "higher"),
                ("macro_f1", accuracy * 0.9, "fraction", "higher"),
                ("mcc", accuracy * 0.8, "fraction", "higher"),
                ("loss", 2 * (1 - accuracy), "nats", "lower"),
            )
        ),
        "primary_metric": "accuracy",
        "steps": 126 if trains else 0,
        "parameters": Parameters(
            total=total, trainable=RoleCounts(head=level.head, adapter=level.adapter, base=level.base)
        ),
        "stored_bytes": level.stored,
        "data": data(spec.seed, world.test_rows),
        "model": ModelInfo(source="minilm", architecture="BertModel", checksum="abc", dtype="float32"),
        "precision": PrecisionInfo(policy="fp32-medium", description="fp32 by oneDNN", matmul_relative_error=1.2e-4),
        "environment": environment(),
        "noise": Noise(contended=busy, reason="other processes used 80 % of a core" if busy else ""),
        "timing": Timing(total_seconds=seconds + 9),
        "missing": {"energy_joules": "this machine does not report energy"},
    }
    if trains:
        body |= {
            "timing": Timing(train_seconds=seconds, total_seconds=seconds + 9),
            "memory": Memory(peak_memory_bytes=level.memory + spec.seed * 3_000_000, kind="resident"),
            "gradient_norm": GradientNorm(per_step=(1.0, 3.0), mean=2.0, max=3.0),
            "throughput": Throughput(examples_per_second=2000 / seconds, tokens_per_second=160_000 / seconds),
            "inference": Inference(latency_seconds_median=0.012, batched_examples_per_second=210.0, batch_size=64)
            if spec.times_inference
            else Inference(),
            "curve": curve,
        }
    return TrialRecord(**{**body, **world.changes.get(spec.label, {})})


def make_record(spec: TrialSpec, **changes: Any) -> TrialRecord:
    """One completed record, with fields replaced."""
    level = QUICKSTART.get(spec.label, Level(0.9))
    return completed(spec, level, level.accuracy, World()).model_copy(update=changes)


def failed(spec: TrialSpec, status: Status) -> TrialRecord:
    """A record of a trial that ended early."""
    return TrialRecord(
        spec=spec,
        status=status,
        cause="the loss became NaN at step 12",
        log_tail=("step 11 loss 9.1", "step 12 loss nan"),
        environment=environment(),
    )


def build_store(root: Path, study: StudySpec, world: World | None = None, **search: Any) -> StudyStore:
    """A study's folder with made-up results; where the study searches, of its search too (see `build_search`)."""
    world = world or World()
    trials = plan(study)
    store = StudyStore.create(root, study, trials)
    if study.protocol.search is not None:
        trials = plan(study, chosen=recorded_choices(recorded(build_search(store, **search)) or {"arms": {}}))
        store = StudyStore.create(root, study, trials)
    for spec in trials:
        key = (spec.label, spec.seed)
        place = store.trial(spec.id)
        if key in world.skip or place.record_path.exists():
            continue
        if key in world.fail:
            place.write_record(failed(spec, world.fail[key]))
            continue
        complete(store, spec, world)
    return store


def complete(store: StudyStore, spec: TrialSpec, world: World) -> TrialRecord:
    """Writes the made-up result of a trial that went well; returns its record."""
    place = store.trial(spec.id)
    level = world.levels[spec.label]
    level = replace(level, accuracy=world.accuracies.get((spec.label, spec.seed), level.accuracy))
    writes = spec.task.name == "generation"
    made = written_predictions(spec, level, world.test_rows) if writes else None
    outcomes = made or predictions(spec, level.accuracy, world.test_rows)
    info = place.write_predictions("test", outcomes)
    accuracy = sum(p.output == p.target for p in outcomes) / len(outcomes)
    record = completed(spec, level, accuracy, world)
    if writes:
        record = written(record, outcomes).model_copy(update=world.changes.get(spec.label, {}))
    record = record.model_copy(update={"predictions": {"test": info}})
    place.write_record(record)
    return record


def build_search(
    store: StudyStore,
    peaks: Mapping[str, float] | None = None,
    broken: frozenset[tuple[str, int]] = frozenset(),
    rounds: int | None = None,
) -> StudyStore:
    """Runs the search of a study's folder on made-up records, before its verdict.

    An arm's validation accuracy has one peak, of 0.9, over the range of its first dimension.

    Args:
        store: the folder, there or not yet, of `study`.
        peaks: label -> where (0 to 1) on the first range its peak stands; 0.6 where not named.
        broken: (label, how many trials before) of search trials that diverged.
        rounds: rounds to run; all where unset.
    """
    study = store.study()
    for number, each in enumerate(search_studies(study).values()):
        # Where every seed is searched by itself, each finds something else.
        shifted = {label: (peaks or {}).get(label, 0.6) + 0.1 * number for label in study.methods}
        _build_one_search(store, each, shifted, broken, rounds)
    store.write_search(search_data(study, {}, store))
    return store


def _build_one_search(
    store: StudyStore,
    study: StudySpec,
    peaks: Mapping[str, float],
    broken: frozenset[tuple[str, int]],
    rounds: int | None,
) -> None:
    search = Search(study, {}, store)
    done: Counter[str] = Counter()
    while (trials := search.missing()) and (rounds is None or done.total() < rounds * len(search.arms)):
        StudyStore.create(store.root, store.study(), trials)
        for spec in trials:
            first = spaces(study)[spec.label][0]
            tried = spec.learning_rate if first.name == "learning_rate" else spec.options[first.name]
            score = 0.9 - 0.5 * (first.share(tried) - peaks[spec.label]) ** 2
            record = make_record(spec, metrics=_validated(score), timing=Timing(train_seconds=2.0, total_seconds=3.0))
            if study.protocol.search is not None and study.protocol.search.prune != "none":
                record = record.model_copy(update={"steps": spec.protocol.max_steps})
            lost = (spec.label, done[spec.label]) in broken
            store.trial(spec.id).write_record(failed(spec, Status.DIVERGED) if lost else record)
            done[spec.label] += 1


def _validated(score: float) -> tuple[Metric, ...]:
    return (
        Metric(name="accuracy", value=score, unit="fraction", direction="higher", split="validation"),
        Metric(name="loss", value=1 - score, unit="nats", direction="lower", split="validation"),
    )


def finding(name: str, message: str) -> tuple[Finding, ...]:
    return (Finding(name=name, message=message),)
