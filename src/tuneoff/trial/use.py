"""A trained model put to use: exported, or asked for predictions."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from tuneoff import registry
from tuneoff.errors import DataError, StoreError
from tuneoff.methods.base import Method
from tuneoff.record import TrialRecord
from tuneoff.sources import read_rows
from tuneoff.spec import SourceSpec
from tuneoff.store import TrialStore
from tuneoff.tasks.base import Example, has_lone_surrogate, is_missing
from tuneoff.trial.evaluate import predict as predict_examples
from tuneoff.trial.precision import choose_device
from tuneoff.trial.worker import restore


def export(place: TrialStore, out: Path, merged: bool, device: str) -> dict[str, Any]:
    """Writes what a trial trained, or the whole merged model, into a new folder with a card.

    Methods that PEFT implements are written in PEFT's layout, head included.

    Raises:
        StoreError: if `out` is not empty, no weights were kept, or the method cannot be merged.
    """
    spec, record = place.spec(), place.record()
    kind_of = registry.methods()[spec.method]
    if merged and not kind_of.mergeable:
        mergeable = [name for name in registry.methods() if registry.methods()[name].mergeable]
        raise StoreError(
            f"{spec.method} cannot be merged into the base model's weights",
            hint=f"Export it without --merged. Mergeable methods: {', '.join(mergeable)}.",
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out} is there already and not an empty folder", hint="Name another folder.")
    _, attached, tokenizer, _ = restore(place, choose_device(device))
    assert record is not None
    out.mkdir(parents=True, exist_ok=True)
    if merged:
        method = kind_of.create(spec.options)
        assert isinstance(method, Method)
        model: Any = method.merge(attached)
        model.save_pretrained(str(out))
        tokenizer.save_pretrained(str(out))
    else:
        shutil.copytree(place.weights, out, dirs_exist_ok=True)
    peft_layout = (out / "adapter_config.json").is_file()
    if peft_layout:
        config = json.loads((out / "adapter_config.json").read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = spec.model.source
        (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    kind = "merged model" if merged else "PEFT adapter" if peft_layout else "trained weights"
    (out / "README.md").write_text(_card(record, kind), encoding="utf-8")
    (out / "tuneoff-trial.json").write_text(spec.model_dump_json(indent=1), encoding="utf-8")
    files = sorted(str(f.relative_to(out)) for f in out.rglob("*") if f.is_file())
    return {"files": files, "folder": str(out), "kind": kind}


def _card(record: TrialRecord, kind: str) -> str:
    spec = record.spec
    scores = "\n".join(f"| {m.name} | {m.value:.4f} | {m.unit} |" for m in record.metrics if m.split == "test")
    loading = {
        "merged model": "AutoModelForSequenceClassification.from_pretrained(FOLDER)",
        "PEFT adapter": "PeftModel.from_pretrained(base_model, FOLDER), the base model built with this many labels",
        "trained weights": "`tuneoff predict`, or copy the tensors of trained.safetensors into the base model by name",
    }[kind]
    labels = ", ".join(record.data.labels) if record.data else ""
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
- Classes, in order: {labels}
- At most {spec.protocol.max_length} tokens; pad on the right.
- Load with: {loading}

| test metric | value | unit |
|---|---|---|
{scores}

One trial of one seed; the study's report says how sure these figures are.
"""


def predict(place: TrialStore, file: str, device: str) -> dict[str, Any]:
    """One prediction per row of a file; the label column need not be there.

    Raises:
        SourceError, DataError: if the file cannot be read or has no text column.
    """
    task, _, tokenizer, bench = restore(place, choose_device(device))
    record = place.record()
    assert record is not None
    assert record.data is not None
    rows = read_rows(SourceSpec(source=file), "test")
    column = record.data.columns["text"]
    if column not in rows.columns:
        if len(rows.columns) != 1:
            raise DataError(
                f"{rows.origin} has no column {column!r}, the text that trial {record.spec.id} was trained on",
                hint=f"Its columns: {', '.join(rows.columns)}.",
            )
        column = next(iter(rows.columns))
    texts = rows.columns[column]
    empty = [i for i, text in enumerate(texts) if is_missing(text)]
    if not len(rows) or empty:
        what = f"{rows.place(empty[0])} has no text" if empty else f"{rows.origin} has no rows"
        raise DataError(what)
    broken = next((i for i, text in enumerate(texts) if has_lone_surrogate(text)), None)
    if broken is not None:
        raise DataError(f"{rows.place(broken)}: column {column!r} holds text that is not valid Unicode")
    examples = [Example(str(text), task.labels[0], i, rows.place(i)) for i, text in enumerate(texts)]
    features = task.encode(examples, tokenizer, place.spec().protocol.max_length)
    made = predict_examples(bench, features, examples)
    return {
        "columns": {"text": column},
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
