"""The card of an export: what it is, how good it was, and Python that uses it with transformers and PEFT alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from tuneoff.encoding import code, markdown
from tuneoff.interfaces import PlainCode, Task
from tuneoff.records.record import TrialRecord
from tuneoff.trial.modeling.load import BASE_SEED

_HUB_TASKS = {
    "class": "text-classification",
    "choice": "multiple-choice",
    "labels": "text-classification",
    "tags": "token-classification",
    "text": "text-generation",
}
"""What a task produces -> the hub's name of such tasks."""
Kind = Literal["plain model", "merged model", "PEFT adapter", "trained weights"]


@dataclass(frozen=True)
class Base:
    """Where a reader of an export finds its base model.

    Attributes:
        name: a hub id, or else the folder that it was read from; empty where its weights are random.
        at_hub: whether `name` is a hub id.
        revision: commit at the hub.
        gguf_file: name of the GGUF file in the folder, where the weights are one.
        checksums: of a folder, file of weights -> its SHA-256.
    """

    name: str = ""
    at_hub: bool = False
    revision: str | None = None
    gguf_file: str | None = None
    checksums: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Exported:
    """What was written, and all that a card says of it.

    Attributes:
        kind: what it is.
        record: the trial's.
        task, model, tokenizer: as they were restored.
        base: where the base model is found; every kind but a plain or merged model needs it.
        attaching: how the method is attached; needed by the same kinds.
        notes: further lines of Markdown.
    """

    kind: Kind
    record: TrialRecord
    task: Task
    model: nn.Module
    tokenizer: Any
    base: Base
    attaching: PlainCode
    notes: Sequence[str] = ()


def render(card: Exported) -> str:
    """Returns the text of README.md, with metadata that the hub reads."""
    record, spec = card.record, card.record.spec
    random_weights = bool(record.model and record.model.random_weights)
    rows = [f"| {markdown(m.name)} | {m.value:.4f} | {markdown(m.unit)} |" for m in record.metrics if m.split == "test"]
    code_lines = _python(card)
    sections = [
        f"---\n{_metadata(card)}\n---",
        f"# {markdown(spec.label)} on {markdown(spec.model.source)}",
        f"A {card.kind} made by tuneoff: study {code(spec.study)}, trial {code(spec.id)}, method {code(spec.method)}, "
        f"seed {spec.seed}.",
        "**The base model has random weights: these predictions mean nothing.**" if random_weights else "",
        "\n".join(f"- {line}" for line in [*_facts(card), *card.notes]),
        "## Use",
        "Run this in the folder of this page, or set `FOLDER`. It needs torch, transformers"
        f"{' and PEFT' if card.kind == 'PEFT adapter' else ''}, not tuneoff.",
        "\n".join(["```python", *code_lines, "```"]),
        "## Quality",
        "\n".join(["| test metric | value | unit |", "|---|---|---|", *rows]),
        "One trial of one seed; the study's report says how sure these figures are.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _metadata(card: Exported) -> str:
    """Returns what the hub reads of a card, YAML checked by the hub's own classes; scores of random weights are
    none."""
    from huggingface_hub import EvalResult, ModelCardData

    record, spec = card.record, card.record.spec
    source = spec.task.data.test or spec.task.data.train
    # A file's folder is this machine's.
    name = Path(source.source.removeprefix("file:")).name if Path(source.source).suffix else source.source
    task_type = _HUB_TASKS.get(card.task.produces, "other")
    random_weights = bool(record.model and record.model.random_weights)
    scores = [
        EvalResult(
            task_type=task_type,
            dataset_type=name,
            dataset_name=name,
            dataset_config=source.config,
            dataset_split=source.split or "test",
            dataset_revision=record.data.commits.get("test") if record.data else None,
            metric_type=metric.name,
            metric_name=f"test {metric.name}, one seed",
            metric_value=metric.value,
        )
        for metric in record.metrics
        if metric.split == "test" and not random_weights
    ]
    data = ModelCardData(
        library_name="peft" if card.kind == "PEFT adapter" else "transformers",
        base_model=card.base.name if card.base.at_hub else None,
        pipeline_tag=task_type if task_type != "other" else None,
        model_name=f"{spec.label} on {spec.model.source}" if scores else None,
        eval_results=scores or None,
    )
    return data.to_yaml().rstrip()


def _facts(card: Exported) -> list[str]:
    """Returns what the card says of the method, inputs and outputs, as lines of Markdown."""
    spec = card.record.spec
    method_options = {key: value for key, value in spec.options.items() if value is not None}
    facts = (
        [f"Method options: {', '.join(f'{key} {markdown(str(value))}' for key, value in method_options.items())}"]
        if method_options
        else []
    )
    if (start := card.record.start) is not None:
        earlier = f"trial {code(start.trial)} of study {code(start.study or '')}" if start.trial else code(start.source)
        weights = ", ".join(f"{code(name)} {digest[:16]}…" for name, digest in start.files.items())
        facts.append(f"Training went on from {earlier} ({start.train_rows or 'unknown'} rows; SHA-256: {weights})")
    if card.task.labels:
        facts.append(f"Classes, in order: {', '.join(map(markdown, card.task.labels))}")
    settings = {key: value for key, value in spec.task.options.items() if value is not None}
    if settings:
        task_settings = ", ".join(
            f"{key} {code(json.dumps(value, ensure_ascii=False))}" for key, value in settings.items()
        )
        facts.append(f"Settings of the task: {task_settings}")
    input_kind = "prompt" if card.task.produces == "text" else "text"
    facts.append(f"At most {spec.protocol.max_length} tokens of {input_kind}")
    if card.kind in ("PEFT adapter", "trained weights") and not card.base.at_hub and card.base.name:
        facts.append(
            f"The base model is no model of the hub: `BASE` below is the folder where it was, {code(card.base.name)}; "
            "set it to where yours is"
            + (
                ", here and in `adapter_config.json`, whose `base_model_name_or_path` can name none."
                if card.kind == "PEFT adapter"
                else "."
            )
        )
    return facts


def _python(card: Exported) -> list[str]:
    """Returns the code block: `model` and `tokenizer`, and `predict` where the task says how."""
    loader = card.task.model_class(card.model.config).__name__
    plain = card.kind in ("plain model", "merged model")
    attaching = PlainCode((), ()) if plain else card.attaching
    names = ["AutoTokenizer", loader] if plain else ["AutoConfig", "AutoTokenizer", loader]
    imports = ["import torch", *attaching.imports, f"from transformers import {', '.join(sorted(names))}"]
    loading = [f"model = {loader}.from_pretrained(FOLDER, dtype=torch.float32)"] if plain else _base(card, loader)
    if card.base.checksums and not plain:
        imports.insert(0, "import hashlib")
    usage = card.task.plain_code(
        card.model,
        card.tokenizer,
        dict(card.record.data.columns) if card.record.data else {},
        card.record.spec.protocol.max_length,
    )
    return [
        *imports,
        "",
        'FOLDER = "."  # the folder of this page',
        *loading,
        *attaching.lines,
        "model.eval()",
        "tokenizer = AutoTokenizer.from_pretrained(FOLDER)",
        "torch.set_grad_enabled(False)",
        *usage,
        *_in_bf16(card, usage),
    ]


def _in_bf16(card: Exported, usage: Sequence[str]) -> list[str]:
    """Returns the lines that make `predict` compute in bfloat16, if the trial did."""
    if not usage or card.record.precision is None or card.record.precision.policy != "bf16":
        return []
    return ["", "", "predict = torch.autocast(model.device.type, torch.bfloat16)(predict)  # as it was tested"]


def _base(card: Exported, loader: str) -> list[str]:
    """Returns the lines that load the base model with the task's head."""
    base = card.base
    config = "config = AutoConfig.from_pretrained(FOLDER)"
    if not base.name:
        return [
            config,
            f"torch.manual_seed({BASE_SEED})  # its random weights, drawn again by the same release of torch",
            f"model = {loader}.from_config(config)",
        ]
    arguments = ["BASE", "config=config", "dtype=torch.float32"]
    arguments += [f"revision={base.revision!r}"] if base.revision else []
    arguments += [f"gguf_file={base.gguf_file!r}"] if base.gguf_file else []
    # The base model's own head, if it has one, may have another size.
    arguments += ["ignore_mismatched_sizes=True"] if card.task.view(card.model).head else []
    lines = [f"BASE = {base.name!r}" + ("" if base.at_hub else "  # the folder of the base model")]
    for name, checksum in base.checksums:
        lines += [
            f'with open(BASE + {f"/{name}"!r}, "rb") as file:',
            f'    assert hashlib.file_digest(file, "sha256").hexdigest() == "{checksum}", "another base model"',
        ]
    return [*lines, config, f"model = {loader}.from_pretrained({', '.join(arguments)})"]
