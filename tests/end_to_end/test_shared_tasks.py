"""Every task on real rows, where their samples lie beside the repository: what is trained beats what is not, and scores
are those of the libraries that others count with."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    cohen_kappa_score,
    f1_score,
    matthews_corrcoef,
    mean_absolute_error,
    root_mean_squared_error,
)

from tuneoff import registry
from tuneoff.config.data import ModelSpec, SourceSpec
from tuneoff.errors import SourceUnreachable
from tuneoff.interfaces import read_labels
from tuneoff.records.record import Prediction, Status, TrialRecord
from tuneoff.sources import find_model, read_rows
from tuneoff.store.study import StudyStore
from tuneoff.study.study import Study

DATA = Path(__file__).parents[3] / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.package_index,
    pytest.mark.skipif(not (DATA / "sick_train.tsv").is_file(), reason="no samples of real data beside the repository"),
]

Scores = dict[str, float]


def of_classes(rows: Sequence[Prediction], labels: Sequence[str]) -> Scores:
    targets, outputs = [row.target for row in rows], [row.output for row in rows]
    return {
        "accuracy": float(accuracy_score(targets, outputs)),
        "macro_f1": float(f1_score(targets, outputs, average="macro", zero_division=0)),
        "mcc": float(matthews_corrcoef(targets, outputs)),
    }


def of_ordered_classes(rows: Sequence[Prediction], labels: Sequence[str]) -> Scores:
    targets, outputs = ([labels.index(getattr(row, side)) for row in rows] for side in ("target", "output"))
    return {
        "weighted_kappa": float(cohen_kappa_score(targets, outputs, weights="quadratic")),
        "rank_error": float(mean_absolute_error(targets, outputs)),
    }


def of_label_sets(rows: Sequence[Prediction], labels: Sequence[str]) -> Scores:
    targets, outputs = (
        np.array([[label in read_labels(getattr(row, side)) for label in labels] for row in rows])
        for side in ("target", "output")
    )
    scored = {
        "micro_f1": float(f1_score(targets, outputs, average="micro")),
        "macro_f1": float(f1_score(targets, outputs, average="macro", zero_division=np.nan)),
        "exact_match": float(accuracy_score(targets, outputs)),
    }
    if rows[0].scores:
        there = targets.any(axis=0)
        probabilities = np.exp([row.scores for row in rows])
        scored["map"] = float(average_precision_score(targets[:, there], probabilities[:, there], average="macro"))
    return scored


def of_tags(rows: Sequence[Prediction], labels: Sequence[str]) -> Scores:
    if find_spec("seqeval") is None:
        return {}
    metrics = import_module("seqeval.metrics")
    targets, outputs = ([getattr(row, side).split(" ") for row in rows] for side in ("target", "output"))
    return {
        "entity_f1": float(metrics.f1_score(targets, outputs, zero_division=0)),
        "precision": float(metrics.precision_score(targets, outputs, zero_division=0)),
        "recall": float(metrics.recall_score(targets, outputs, zero_division=0)),
    }


def of_numbers(rows: Sequence[Prediction], labels: Sequence[str]) -> Scores:
    targets, outputs = ([float(getattr(row, side)) for row in rows] for side in ("target", "output"))
    scored = {
        "rmse": float(root_mean_squared_error(targets, outputs)),
        "mae": float(mean_absolute_error(targets, outputs)),
    }
    if len(set(outputs)) > 1:
        scored |= {"pearson": float(pearsonr(targets, outputs)[0]), "spearman": float(spearmanr(targets, outputs)[0])}
    return scored


def of_texts(rows: Sequence[Prediction], labels: Sequence[str]) -> Scores:
    nats = sum(row.loss or 0.0 for row in rows)
    return {
        "loss": nats / sum(row.target_tokens or 0 for row in rows),
        "bits_per_byte": nats / math.log(2) / sum(row.target_bytes or 0 for row in rows),
    }


def run(folder: Path, study: Mapping[str, Any], scored: Callable[..., Scores]) -> dict[str, TrialRecord]:
    """Runs a study; its scores must be those that `scored` counts from its predictions."""
    try:
        find_model(registry.sources(), ModelSpec(source=study["model"]))
    except SourceUnreachable as error:
        pytest.skip(f"no model: {error.message}")
    ran = Study({"name": "real", **study})
    records = {record.spec.label: record for record in ran.run(folder / "study").records()}
    assert {label: record.status for label, record in records.items()} == dict.fromkeys(records, Status.COMPLETED)
    store = StudyStore.open(folder / "study")
    for label, record in records.items():
        print({metric.name: round(metric.value, 4) for metric in record.metrics if metric.split == "test"}, label)
        assert record.data is not None
        rows = store.trial(record.spec.id).predictions() or []
        assert rows
        if rows[0].loss is None and scored is of_texts:
            continue  # a baseline that writes without a model has no likelihoods
        for name, value in scored(rows, record.data.labels).items():
            assert record.metric(name) == pytest.approx(value, abs=1e-6), (label, name)
    assert ran.report(plots=False).is_file()
    return records


def require_lead(records: Mapping[str, TrialRecord], metric: str, lead: float, lower: bool = False) -> None:
    """Fails unless every trained arm is better than every baseline by `lead`."""
    scores = {label: record.metric(metric) for label, record in records.items()}
    known = {label: -score if lower else score for label, score in scores.items() if score is not None}
    baselines = {label for label in known if not registry.methods()[records[label].spec.method].trains}
    assert baselines
    assert baselines < set(known)
    best_baseline = max(known[label] for label in baselines)
    assert min(known[label] for label in known if label not in baselines) > best_baseline + lead, scores


PAIRS = ["sentence_A", "sentence_B"]
ORDER = ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"]
PROTOCOL = {
    "seeds": 1,
    "epochs": 3,
    "max_length": 48,
    "train_rows": 700,
    "validation_rows": 100,
    "test_rows": 300,
    "dropout": 0,
}
SICK = ("sick_train.tsv", "sick_test.tsv")


@pytest.mark.parametrize(
    ("task", "files", "methods", "protocol", "metric", "lead", "scored"),
    [
        pytest.param(
            {"name": "multi_label"},
            ("goemotions_train.jsonl", "goemotions_test.jsonl"),
            {"label_set": {}, "label_prior": {}, "head": {"learning_rate": 1e-2}},
            {"epochs": 4, "train_rows": 2500, "validation_rows": 300, "test_rows": 400, "max_length": 32},
            "micro_f1",
            0.01,
            of_label_sets,
            id="several labels a row",
        ),
        pytest.param(
            {"name": "multi_label"},
            ("goemotions_train.jsonl", "goemotions_test.jsonl"),
            {
                "label_set": {},
                "label_prior": {},
                "head": {"learning_rate": 1e-2},
                "full": {"learning_rate": 2e-4},
                "lora": {"learning_rate": 2e-3},
            },
            {"batch_size": 8, "train_rows": 400},
            "micro_f1",
            0.01,
            of_label_sets,
            id="several labels of few rows",
        ),
        pytest.param(
            {"name": "token_classification"},
            ("wnut17_train.conll", "wnut17_dev.conll"),
            {"majority_tag": {}, "entity_dictionary": {}, "full": {"learning_rate": 3e-4}},
            {},
            "entity_f1",
            0.03,
            of_tags,
            id="tags",
        ),
        pytest.param(
            {"name": "regression", "value": "relatedness_score"},
            SICK,
            {"mean": {}, "median": {}, "lora": {"learning_rate": 2e-3}},
            {},
            "rmse",
            0.2,
            of_numbers,
            id="numbers",
        ),
        pytest.param(
            {
                "name": "classification",
                "text": PAIRS,
                "label": "entailment_judgment",
                "labels": ORDER,
                "metrics": ["weighted_kappa", "rank_error"],
            },
            SICK,
            {"majority": {}, "median_class": {}, "lora": {"learning_rate": 2e-3}},
            {},
            "weighted_kappa",
            0.2,
            lambda rows, labels: of_classes(rows, labels) | of_ordered_classes(rows, labels),
            id="pairs of texts, classes in an order",
        ),
    ],
)
def test_an_encoder_learns_every_task_of_real_rows(
    task: dict[str, Any],
    files: tuple[str, str],
    methods: dict[str, Any],
    protocol: dict[str, int],
    metric: str,
    lead: float,
    scored: Callable[..., Scores],
    tmp_path: Path,
) -> None:
    train, test = (str(DATA / name) for name in files)
    study = {
        "model": "minilm",
        "task": {**task, "data": {"train": train, "test": test}},
        "methods": methods,
        "protocol": {**PROTOCOL, **protocol},
    }
    require_lead(run(tmp_path, study, scored), metric, lead, lower=metric == "rmse")


def write_choices(split: str, folder: Path) -> str:
    """Makes multiple choice of news: which of four second halves goes on with this first half."""
    rows = read_rows(registry.sources(), SourceSpec(source=str(DATA / f"ag_news_{split}.csv")), split)
    texts = [words for words in (str(text).split() for text in rows.columns["text"]) if len(words) >= 16]
    halves = [(" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])) for words in texts]
    lines = []
    for i, (start, right) in enumerate(halves):
        endings = [halves[(i + step) % len(halves)][1] for step in (1, 2, 3)]
        endings.insert(i % 4, right)
        lines.append(json.dumps({"ctx": start, "endings": endings, "label": i % 4}))
    path = folder / f"choices_{split}.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def test_an_encoder_learns_to_choose_the_second_half_of_real_news(tmp_path: Path) -> None:
    study = {
        "model": "minilm",
        "task": {
            "name": "multiple_choice",
            "scoring": "head",
            "data": {split: write_choices(split, tmp_path) for split in ("train", "test")},
        },
        "methods": {"majority_position": {}, "longest_option": {}, "lora": {"learning_rate": 2e-3}},
        "protocol": {
            **PROTOCOL,
            "epochs": 2,
            "max_length": 64,
            "train_rows": 300,
            "validation_rows": 40,
            "test_rows": 100,
        },
    }

    def accuracy(rows: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"accuracy": float(accuracy_score([row.target for row in rows], [row.output for row in rows]))}

    require_lead(run(tmp_path, study, accuracy), "accuracy", 0.2)


def write_chats(folder: Path) -> str:
    """Makes conversations of word problems: the user asks, the assistant answers."""
    lines = (DATA / "gsm8k_train.jsonl").read_text(encoding="utf-8").splitlines()
    said = [
        {"messages": [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]}
        for row in map(json.loads, lines)
    ]
    path = folder / "chats.jsonl"
    path.write_text("\n".join(map(json.dumps, said)), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("task", ["chat", "instruction"])
def test_a_decoder_learns_to_answer_as_real_answers_do(task: str, tmp_path: Path) -> None:
    rows = write_chats(tmp_path) if task == "chat" else str(DATA / "instructions.jsonl")
    study = {
        "model": "smollm2-135m",
        "task": {"name": task, "data": {"train": rows}, "max_target_length": 48, "long_targets": "cut"},
        "methods": {"lead": {}, "zero_shot": {}, "lora": {"learning_rate": 2e-3}},
        "protocol": {
            **PROTOCOL,
            "epochs": 1,
            "batch_size": 4,
            "max_length": 112,
            "train_rows": 40,
            "validation_rows": 8,
            "test_rows": 12,
        },
        "execution": {"latency_examples": 1},
    }
    require_lead(run(tmp_path, study, of_texts), "bits_per_byte", 0.02, lower=True)
