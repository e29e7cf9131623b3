"""Builds a trained model again, and predicts with it."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from typing import Any

import torch

from tuneoff import registry
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import StoreError
from tuneoff.interfaces import Attached, Example, Method, Task
from tuneoff.records.record import Prediction, TrialRecord
from tuneoff.store import TrialStore
from tuneoff.trial import early
from tuneoff.trial.assembly import demonstrations, load_model
from tuneoff.trial.data import contents
from tuneoff.trial.data import load as trial_data
from tuneoff.trial.data.commits import as_recorded
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.frozen_bf16 import keep_frozen_in_bf16
from tuneoff.trial.modeling.precision import apply_policy, choose_device
from tuneoff.trial.modeling.vocabulary import check_tokens
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.evaluate import predict as predict_examples
from tuneoff.trial.training.evaluate import write as write_texts


def go_to_origin(spec: TrialSpec, origin: str | None) -> None:
    """Changes to the folder that the study was run from, to which its relative paths refer.

    Call it in a process of its own. It stays where it is if they are found here and not there: that
    folder may have been moved, or be another by now.
    """
    if origin is None:
        return
    paths = [name.removeprefix("file:") for name in (spec.model.source, *spec.task.data.references)]
    at_origin, at_current = (
        any(os.path.exists(os.path.join(folder, path)) for path in paths) for folder in (origin, os.curdir)
    )
    if at_origin or not at_current:
        with suppress(OSError):
            os.chdir(origin)


def restore(place: TrialStore, device: torch.device, whole: bool = False) -> tuple[Task, Attached, Any, ModelRunner]:
    """Rebuilds a finished trial's trained model; returns its task, model, tokenizer and runner.

    Args:
        place: the trial.
        device: where the model is put.
        whole: keeps all weights in float32, for merging; otherwise they are as they were in training.

    Raises:
        StoreError: if its weights were not kept.
    """
    spec, record = early.finished(place)
    place.verify(record)
    method = registry.methods()[spec.method].create(spec.options)
    assert isinstance(method, Method)
    task = early.task_of(spec, record)
    policy = apply_policy(spec.protocol.precision, device)
    loaded = load_model(as_recorded(spec, record), task, device, policy.name)
    if record.model and record.model.checksum and record.model.checksum != loaded.info.checksum:
        raise StoreError(
            f"{spec.model.source} now holds other weights than trial {spec.id} was trained on",
            hint="Name the revision that was used, or restore the folder.",
        )
    contents.verify_model(spec, loaded.info)
    attached = method.attach(loaded.model, trial_model.view(task, loaded))
    if method.trains:
        method.load(attached, place.weights)
    if policy.name == "bf16" and not whole:
        keep_frozen_in_bf16(attached)
    attached.module.to(device).eval()
    size = spec.protocol.evaluation_batch_size
    # The implementation that it was tested with: where implementations did not agree, the one of training.
    kernel = (record.model.evaluation_attention if record.model else "") or loaded.info.evaluation_attention
    runner = ModelRunner(
        task, attached, device, policy.autocast, loaded.pad_token_id, size, loaded.tokenizer, attention=kernel
    )
    return task, attached, loaded.tokenizer, runner


def predict(place: TrialStore, file: str, device: str) -> dict[str, Any]:
    """Predicts every row of a file; the column of targets need not be there.

    Returns:
        `columns` (role -> column that was read) and `predictions`, in the file's order: `index` and `output`, and for
        classes `probability` and `scores` (class -> probability), for labels `scores`, for written text
        `generated_tokens`.

    Raises:
        SourceError, DataError: if the file cannot be read or has no text column.
    """
    task, _, tokenizer, runner = restore(place, choose_device(device))
    columns, examples = early.rows_to_predict(place, file)
    spec, record = place.spec(), place.record()
    assert record is not None
    solved_examples = _demonstrations(task, spec, record)
    features = task.encode(examples, tokenizer, spec.protocol.max_length, solved_examples)
    model: Any = runner.attached.model
    check_tokens(features, tokenizer, model.config, spec.model.source)
    if task.produces == "text":
        empty_predictions = [Prediction(index=e.index, target=e.target, output="") for e in examples]
        text_predictions, _ = write_texts(runner, features, examples, empty_predictions)
        outputs = [
            {"index": p.index, "output": p.output, "generated_tokens": p.generated_tokens} for p in text_predictions
        ]
        return {"columns": columns, "predictions": outputs}
    predictions = task.decide(predict_examples(runner, features, examples), record.chosen)
    return {
        "columns": columns,
        "predictions": [
            {**_described(task, p), **task.describe(p, example)}
            for p, example in zip(predictions, examples, strict=True)
        ],
    }


def _described(task: Task, prediction: Prediction) -> dict[str, Any]:
    """Returns a prediction as it is printed, with what the task knows of its probabilities."""
    described: dict[str, Any] = {"index": prediction.index, "output": prediction.output}
    if not prediction.scores or not task.labels:
        return described
    shares = {label: math.exp(score) for label, score in zip(task.labels, prediction.scores, strict=True)}
    if task.produces == "class":
        described["probability"] = max(shares.values())
    return {**described, "scores": shares}


def _demonstrations(task: Task, spec: TrialSpec, record: TrialRecord) -> list[Example]:
    """Reads again, from the training rows, the solved examples that the trial's method showed.

    Raises:
        StoreError: if those rows have changed since.
    """
    method = registry.methods()[spec.method].create(spec.options)
    if not isinstance(method, Method) or not method.demonstrations:
        return []
    data = trial_data.load(task, as_recorded(spec, record).task, spec.protocol)
    fingerprint = record.data.splits["train"].fingerprint if record.data else None
    if data.info.splits["train"].fingerprint != fingerprint:
        raise StoreError(
            f"the training rows that trial {spec.id} took its examples from have changed",
            hint="Restore them, or run the study again.",
        )
    return demonstrations(method, data.splits["train"], spec.seed)
