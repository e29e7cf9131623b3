"""A trained model put to use: built again, exported, or asked for predictions."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tuneoff import registry
from tuneoff.errors import DataError, StoreError
from tuneoff.methods.base import Attached, Method
from tuneoff.record import Prediction, TrialRecord
from tuneoff.sources import Rows, read_rows
from tuneoff.spec import SourceSpec, TrialSpec
from tuneoff.store import TrialStore
from tuneoff.tasks.base import Example, Task
from tuneoff.trial import data as trial_data
from tuneoff.trial import model as trial_model
from tuneoff.trial.evaluate import Bench
from tuneoff.trial.evaluate import predict as predict_examples
from tuneoff.trial.evaluate import write as write_texts
from tuneoff.trial.narrowing import narrow
from tuneoff.trial.precision import apply_policy, choose_device
from tuneoff.trial.worker import demonstrations, load_model


def go_to_origin(spec: TrialSpec, origin: str | None) -> None:
    """Goes to the folder that the study was run from, which the paths that it names are meant from; for a process of
    its own.

    Stays where it is if they are found here and not there: that folder may have been moved, or be another by now.
    """
    if origin is None:
        return
    data = spec.task.data
    sources = [part.source for part in (data.train, data.validation, data.test) if part is not None]
    paths = [name.removeprefix("file:") for name in (spec.model.source, *sources)]
    there, here = (any(os.path.exists(os.path.join(folder, path)) for path in paths) for folder in (origin, os.curdir))
    if there or not here:
        with suppress(OSError):
            os.chdir(origin)


def restore(place: TrialStore, device: torch.device, whole: bool = False) -> tuple[Task, Attached, Any, Bench]:
    """Rebuilds a finished trial's trained model; returns its task, model, tokenizer and bench.

    Args:
        place: the trial.
        device: where the model is put.
        whole: keeps all weights in float32, for merging; otherwise they are as they were in training.

    Raises:
        StoreError: if its weights were not kept.
    """
    spec, record = place.spec(), place.record()
    if record is None or not record.status.finished or record.data is None:
        raise StoreError(f"trial {spec.id} is not completed", hint="Run the study again to complete it.")
    place.verify(record)
    method = registry.methods()[spec.method].create(spec.options)
    if not isinstance(method, Method):
        raise StoreError(f"{spec.label} uses no model")
    if method.trains and spec.purpose == "search":
        raise StoreError(f"trial {spec.id} belongs to the search, which keeps no weights", hint="Name another trial.")
    if method.trains and not place.weights.is_dir():
        raise StoreError(
            f"trial {spec.id} kept no weights",
            hint=f"Move {place.folder} away and run the study again with --set execution.keep_weights=true.",
        )
    labels = {"labels": list(record.data.labels)} if record.data.labels else {}
    task = registry.tasks()[spec.task.name]({**spec.task.options, **labels})
    policy = apply_policy(spec.protocol.precision, device)
    loaded = load_model(spec, task, device, policy.name)
    if record.model and record.model.checksum != loaded.info.checksum:
        raise StoreError(
            f"{spec.model.source} now holds other weights than trial {spec.id} was trained on",
            hint="Name the revision that was used, or restore the folder.",
        )
    attached = method.attach(loaded.model, trial_model.view(task, loaded))
    if method.trains:
        method.load(attached, place.weights)
    if policy.name == "bf16" and not whole:
        narrow(attached)
    attached.module.to(device).eval()
    size = spec.protocol.evaluation_batch_size
    kernel = loaded.info.evaluation_attention
    bench = Bench(
        task, attached, device, policy.autocast, loaded.pad_token_id, size, loaded.tokenizer, attention=kernel
    )
    return task, attached, loaded.tokenizer, bench


def export(place: TrialStore, out: Path, merged: bool, device: str) -> dict[str, Any]:
    """Writes what a trial trained, or the whole merged model, into a new folder with a card.

    Methods that PEFT implements are written in PEFT's layout, head included.

    Raises:
        StoreError: if `out` is not empty, nothing was trained, no weights were kept, or the method cannot be merged.
    """
    spec, record = place.spec(), place.record()
    kind_of = registry.methods()[spec.method]
    if not kind_of.trains:
        raise StoreError(
            f"{spec.method} trains nothing, so there is nothing to export",
            hint="Export a trial of a row that trains.",
        )
    if merged and not kind_of.mergeable:
        mergeable = [name for name in registry.methods() if registry.methods()[name].mergeable]
        raise StoreError(
            f"{spec.method} cannot be merged into the base model's weights",
            hint=f"Export it without --merged. Mergeable methods: {', '.join(mergeable)}.",
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out} is there already and not an empty folder", hint="Name another folder.")
    task, attached, tokenizer, _ = restore(place, choose_device(device), whole=True)
    assert record is not None
    model: Any = attached.model
    four_bits = bool(getattr(model, "is_loaded_in_4bit", False))
    loader = task.model_class(model.config).__name__
    out.mkdir(parents=True, exist_ok=True)
    if merged:
        method = kind_of.create(spec.options)
        assert isinstance(method, Method)
        model = method.merge(attached)
        model.save_pretrained(str(out))
        tokenizer.save_pretrained(str(out))
    else:
        shutil.copytree(place.weights, out, dirs_exist_ok=True)
    peft_layout = (out / "adapter_config.json").is_file()
    if peft_layout:
        config = json.loads((out / "adapter_config.json").read_text(encoding="utf-8"))
        source = spec.model.source.removeprefix("file:")
        # Whoever loads the adapter may stand anywhere.
        config["base_model_name_or_path"] = os.path.abspath(source) if os.path.exists(source) else spec.model.source
        (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    kind = "merged model" if merged else "PEFT adapter" if peft_layout else "trained weights"
    lines = [*_usage(task, spec, record, model), *_loading(kind, loader, four_bits, bool(task.labels))]
    (out / "README.md").write_text(_card(record, kind, lines), encoding="utf-8")
    (out / "tuneoff-trial.json").write_text(spec.model_dump_json(indent=1), encoding="utf-8")
    files = sorted(str(f.relative_to(out)) for f in out.rglob("*") if f.is_file())
    return {"files": files, "folder": str(out), "kind": kind}


def _usage(task: Task, spec: TrialSpec, record: TrialRecord, model: Any) -> list[str]:
    """What the card says of inputs and outputs."""
    length = spec.protocol.max_length
    if task.produces == "class":
        labels = ", ".join(record.data.labels) if record.data else ""
        return [f"Classes, in order: {labels}", f"At most {length} tokens; pad on the right."]
    side = "right" if model.config.is_encoder_decoder else "left"
    settings = {key: value for key, value in spec.task.options.items() if value is not None}
    told = ", ".join(f"{key} `{json.dumps(value, ensure_ascii=False)}`" for key, value in settings.items())
    return [f"Writes text. Settings of the task: {told}", f"At most {length} tokens of prompt; pad on the {side}."]


def _loading(kind: str, loader: str, four_bits: bool, labels: bool) -> list[str]:
    """How the card says it is loaded."""
    built = ", the base model built with this many labels" if labels else ""
    lines = {
        "merged model": f"Load with: {loader}.from_pretrained(FOLDER)",
        "PEFT adapter": f"Load with: PeftModel.from_pretrained(base_model, FOLDER){built}; base_model is an {loader}",
        "trained weights": "Load with: `tuneoff predict`, or copy the tensors of trained.safetensors into the base "
        f"model (an {loader}) by name",
    }
    if not four_bits:
        return [lines[kind]]
    if kind == "merged model":
        return [
            lines[kind],
            "Trained on a base model in 4 bits, whose weights were turned back to full precision here.",
        ]
    return [
        lines[kind],
        "The base model was loaded in 4 bits while this was trained; load it so too (bitsandbytes' BitsAndBytesConfig "
        "with the options above), or outputs differ slightly.",
    ]


def _card(record: TrialRecord, kind: str, lines: Sequence[str]) -> str:
    spec = record.spec
    scores = "\n".join(f"| {m.name} | {m.value:.4f} | {m.unit} |" for m in record.metrics if m.split == "test")
    options = ", ".join(f"{key} {value}" for key, value in spec.options.items() if value is not None)
    told = "\n".join(f"- {line}" for line in ([f"Method options: {options}"] if options else []) + list(lines))
    random = (
        "\n**The base model has random weights: these predictions mean nothing.**\n"
        if (record.model and record.model.random_weights)
        else ""
    )
    return f"""---
base_model: {spec.model.source}
library_name: {"peft" if kind == "PEFT adapter" else "transformers"}
---

# {spec.label} on {spec.model.source}

A {kind} made by tuneoff: study `{spec.study}`, trial `{spec.id}`, method `{spec.method}`, seed {spec.seed}.
{random}
{told}

| test metric | value | unit |
|---|---|---|
{scores}

One trial of one seed; the study's report says how sure these figures are.
"""


def predict(place: TrialStore, file: str, device: str) -> dict[str, Any]:
    """One prediction per row of a file; the column of the right answers need not be there.

    Returns:
        `columns` (role -> column that was read) and `predictions`, in the file's order: `index` and `output`, and for
        classes `probability` and `scores` (class -> probability), for written text `generated_tokens`.

    Raises:
        SourceError, DataError: if the file cannot be read or has no text column.
    """
    task, _, tokenizer, bench = restore(place, choose_device(device))
    spec, record = place.spec(), place.record()
    assert record is not None
    rows, columns = _columns(task, read_rows(SourceSpec(source=file), "test"), record)
    examples = _unanswered(task, rows, columns)
    shown = _demonstrations(task, spec, record)
    features = task.encode(examples, tokenizer, spec.protocol.max_length, shown)
    if task.produces == "text":
        blank = [Prediction(index=e.index, target=e.target, output="") for e in examples]
        written, _ = write_texts(bench, features, examples, blank)
        found = [{"index": p.index, "output": p.output, "generated_tokens": p.generated_tokens} for p in written]
        return {"columns": columns, "predictions": found}
    made = predict_examples(bench, features, examples)
    return {
        "columns": columns,
        "predictions": [
            {
                "index": p.index,
                "output": p.output,
                "probability": math.exp(max(p.scores)),
                "scores": {label: math.exp(score) for label, score in zip(task.labels, p.scores, strict=True)},
            }
            for p in made
        ],
    }


def _columns(task: Task, rows: Rows, record: TrialRecord) -> tuple[Rows, dict[str, str]]:
    """The columns that are put in, by role. A file of one column holds what is put in, whatever it is called."""
    assert record.data is not None
    columns = {role: column for role, column in record.data.columns.items() if role != task.target_role}
    absent = [column for column in columns.values() if column not in rows.columns]
    if absent and len(columns) == len(rows.columns) == 1:
        return rows, dict.fromkeys(columns, next(iter(rows.columns)))
    if absent:
        role = next(role for role, column in columns.items() if column == absent[0])
        raise DataError(
            f"{rows.origin} has no column {absent[0]!r}, the {role} that trial {record.spec.id} was trained on",
            hint=f"Its columns: {', '.join(rows.columns)}.",
        )
    return rows, columns


def _unanswered(task: Task, rows: Rows, columns: dict[str, str]) -> list[Example]:
    """The rows as examples, checked by the task as in training; a stand-in fills the column of the right answers."""
    target = "answer"
    while target in rows.columns:
        target += "_"
    stand_in = task.labels[0] if task.labels else "?"
    filled = replace(rows, columns={**rows.columns, target: [stand_in] * len(rows)}, class_names={})
    return task.examples(filled, {**columns, task.target_role: target}, "to predict")


def _demonstrations(task: Task, spec: TrialSpec, record: TrialRecord) -> list[Example]:
    """The solved examples that the trial's method showed, read again from its training rows.

    Raises:
        StoreError: if those rows have changed since.
    """
    method = registry.methods()[spec.method].create(spec.options)
    if not isinstance(method, Method) or not method.demonstrations:
        return []
    data = trial_data.load(task, spec.task, spec.protocol)
    before = record.data.splits["train"].fingerprint if record.data else None
    if data.info.splits["train"].fingerprint != before:
        raise StoreError(
            f"the training rows that trial {spec.id} took its examples from have changed",
            hint="Restore them, or run the study again.",
        )
    return demonstrations(method, data.splits["train"], spec.seed)
