"""Tiny models and tables of rows for the tests of trials."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tuneoff import registry
from tuneoff.config.data import ModelSpec, TaskSpec
from tuneoff.config.protocol import Protocol
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.interfaces import Attached, Batch, Features, Method, Task
from tuneoff.measure.utilisation import Sampler
from tuneoff.planning.loading import parse
from tuneoff.records.forecast import ArmForecast
from tuneoff.records.record import Event
from tuneoff.store import TrialStore
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation
from tuneoff.testing.models import pretraining_model, random_model, shape
from tuneoff.trial.context import TrialContext
from tuneoff.trial.estimate.estimator import estimate_arms
from tuneoff.trial.estimate.profiler import profile_arm
from tuneoff.trial.inference import restore
from tuneoff.trial.modeling.precision import apply_policy
from tuneoff.trial.modeling.tokenizer import byte_tokenizer
from tuneoff.trial.phases import Phases
from tuneoff.trial.training.evaluate import ModelRunner

ENDS = {"bos_token_id": 299, "eos_token_id": 299}
SIZES: dict[str, dict[str, Any]] = {
    "bert": {**shape("bert", 64), "max_position_embeddings": 64},
    **{name: {**shape(name, 64), **ENDS} for name in ("gpt2", "gpt_neo")},
    **{name: shape(name, 64) for name in ("albert", "bart", "llama", "pegasus", "t5", "xlnet")},
}
WORDS = {"sport": ("goal", "match", "team", "score"), "trade": ("oil", "price", "export", "tariff")}

Rows = Sequence[tuple[str, str]]
MakePlace = Callable[..., TrialStore]
Trained = Callable[..., TrialStore]
Written = Callable[[str], TrialStore]


def write_csv(path: Path, rows: Rows, header: tuple[str, str] = ("text", "label")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def news(count: int, start: int = 0) -> list[tuple[str, str]]:
    """Texts of two topics and many lengths, none twice."""
    rows = []
    for i in range(start, start + count):
        topic = ("sport", "trade", "sport")[i % 3]
        words = [WORDS[topic][(i * k) % 4] for k in range(1, 2 + i % 5)]
        rows.append((f"{' '.join(words)} {i}", topic))
    return rows


PAIRS = [(text, " ".join(text.split()[:2])) for text, _ in news(24)]


def tiny_config(architecture: str, **changes: Any) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(architecture, **{"vocab_size": 300, **SIZES[architecture], **changes})


def tiny_model(architecture: str, task: Task, **changes: Any) -> nn.Module:
    """The same weights every time, far enough from zero to tell mistakes."""
    return random_model(tiny_config(architecture, **changes), task)


def save_folder(folder: Path, architecture: str, labels: Sequence[str], **changes: Any) -> Path:
    """A model folder as users have them: configuration, safetensors and tokenizer."""
    model: Any = tiny_model(architecture, Classification({"labels": list(labels)}), **changes)
    model.save_pretrained(str(folder))
    byte_tokenizer(model.config).save_pretrained(str(folder))
    return folder


def save_pretrained(folder: Path, architecture: str) -> Path:
    """The same as pretraining leaves it, without a classifier and what belongs to one."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(architecture, vocab_size=300, **shape(architecture, 64))
    if config.is_encoder_decoder:
        config.decoder_start_token_id = 0
    model: Any = pretraining_model(config)
    model.save_pretrained(str(folder))
    byte_tokenizer(model.config).save_pretrained(str(folder))
    return folder


def save_writer(folder: Path, architecture: str, **changes: Any) -> Path:
    """The same of a model that writes text, with its initial weights, the same every time."""
    config = tiny_config(architecture, **changes)
    torch.manual_seed(3)
    Generation({}).model_class(config).from_config(config).save_pretrained(str(folder))
    byte_tokenizer(config).save_pretrained(str(folder))
    return folder


def some_features(sizes: Sequence[int] = (3, 9, 5, 12), classes: int = 2) -> list[Features]:
    generator = torch.Generator().manual_seed(0)
    return [
        Features(torch.randint(105, 290, (size,), generator=generator).tolist(), i % classes, size)
        for i, size in enumerate(sizes)
    ]


def runner_of(
    name: str, architecture: str = "bert", task: Task | None = None, batch_size: int = 64, **changes: Any
) -> tuple[ModelRunner, Method[Any]]:
    """A method attached to a tiny model, as a trial has it, in plain float32."""
    task = task or Classification({"labels": ["a", "b"]})
    method = registry.methods()[name].create({})
    assert isinstance(method, Method)
    model = tiny_model(architecture, task, **changes)
    torch.manual_seed(1)
    attached: Attached = method.attach(model, task.view(model))
    device = torch.device("cpu")
    policy = apply_policy("fp32", device)
    return ModelRunner(task, attached, device, policy.autocast, 0, batch_size), method


def context_of(
    runner: ModelRunner,
    protocol: Protocol,
    rate: float = 1e-3,
    seed: int = 0,
    emit: Callable[[Event], None] = lambda event: None,
) -> TrialContext:
    """The context of a trial that trains `runner`, without a folder."""
    spec = TrialSpec(
        id="tiny",
        study="tiny",
        label="tiny",
        method="full",
        options={},
        learning_rate=rate,
        seed=seed,
        model=ModelSpec(source="tiny"),
        task=TaskSpec.model_validate({"name": "classification", "data": "tiny.csv"}),
        protocol=protocol,
    )
    phases = Phases(runner.device, Sampler(device=runner.device), emit)
    return TrialContext(spec, runner.task, runner.device, phases, emit, runner.ranks)


def make_study(model: Path, data: Path, methods: Any, /, **changes: Any) -> StudySpec:
    raw: dict[str, Any] = {
        "name": "tiny",
        "model": {"source": str(model)},
        "task": {"data": str(data)},
        "protocol": {"seeds": 1, "epochs": 2, "batch_size": 8, "max_length": 24, "precision": "fp32"},
        "execution": {"latency_examples": 3},
        "methods": methods,
    }
    for key, value in changes.items():
        raw[key] = {**raw[key], **value} if isinstance(raw.get(key), dict) else value
    return parse(raw)


def forecast_of(
    spec: TrialSpec, profile: bool = False, limit: int | None = None, search: TrialSpec | None = None
) -> ArmForecast:
    """A row's forecast on the CPU: an estimate, or a profile."""
    if profile:
        return profile_arm(spec, search, "cpu", limit)
    (row,) = estimate_arms([(spec, search)], "cpu", limit)
    if isinstance(row, Exception):
        raise row
    return row


def batch_of(tokenizer: Any, texts: list[str]) -> Batch:
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return dict(tokenizer(texts, truncation=True, max_length=24, padding=True, return_tensors="pt"))


@torch.no_grad()
def our_logits(place: TrialStore, texts: list[str]) -> torch.Tensor:
    task, attached, tokenizer, _ = restore(place, torch.device("cpu"))
    return task.forward(attached, batch_of(tokenizer, texts))


def run_cards(asked: Mapping[Path, Sequence[Mapping[str, Any]]]) -> dict[Path, list[tuple[str, dict[str, float]]]]:
    """What the code of each export's card gives for rows of texts, in a fresh process: outputs and scores."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).with_name("card_script.py"))],
        input=json.dumps({str(folder): rows for folder, rows in asked.items()}),
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {Path(folder): [tuple(one) for one in outputs] for folder, outputs in json.loads(done.stdout).items()}
