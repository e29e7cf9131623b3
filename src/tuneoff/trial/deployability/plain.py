"""A trained model used as its export's card says, by a process that has transformers and PEFT and cannot import
tuneoff."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tuneoff.errors import ExecutorError, StoreError
from tuneoff.interfaces import Example, Task, write_labels, write_tags
from tuneoff.records.record import Inference, Prediction, TrialRecord
from tuneoff.trial.deployability import plain_script
from tuneoff.trial.parentage import die_with
from tuneoff.trial.training.evaluate import WARM_UP


@dataclass(frozen=True)
class PlainAnswers:
    """What such a process answered.

    Attributes:
        predictions: one for each example.
        inference: its speed, one example after the other.
        peak_memory_bytes: while it answered; None where it cannot be measured.
    """

    predictions: list[Prediction]
    inference: Inference
    peak_memory_bytes: int | None


def answer(
    folder: Path, task: Task, record: TrialRecord, examples: Sequence[Example], tokenizer: Any, base: str
) -> PlainAnswers:
    """Runs the card's code on every example's texts.

    Args:
        folder: the export.
        task, record: of the trial.
        examples: its test rows.
        tokenizer: the model's.
        base: folder of the base model, which the card names by its hub id where it has one; empty where there is none.

    Raises:
        StoreError: if the card has no code that predicts.
        ExecutorError: if the code fails, with its last line.
    """
    if "\ndef predict(" not in (folder / "README.md").read_text(encoding="utf-8"):
        raise StoreError("the export's card has no code that predicts for this task")
    assert record.data is not None
    roles = [role for role in record.data.columns if role != task.target_role]
    rows = [_row(task, example, roles) for example in examples]
    result = _run(folder, rows, base)
    found = result["answers"]
    predictions = [
        _prediction(task, example, one["output"], one["scores"]) for example, one in zip(examples, found, strict=True)
    ]
    if task.produces == "text":
        references = task.references(examples, tokenizer)
        predictions = [
            task.answer(own, replace(example, target=reference), own.output, 0).model_copy(
                update={"generated_tokens": None}
            )
            for own, example, reference in zip(predictions, examples, references, strict=True)
        ]
    seconds = [one["seconds"] for one in found][WARM_UP:] or [one["seconds"] for one in found]
    inference = Inference(
        latency_seconds_median=median(seconds),
        latency_seconds_p95=float(np.quantile(seconds, 0.95)),
        latency_examples=len(seconds),
    )
    return PlainAnswers(predictions, inference, result["peak_memory_bytes"])


def _row(task: Task, example: Example, roles: Sequence[str]) -> dict[str, Any]:
    """Returns the arguments of the card's `predict` for an example."""
    words = [example.text[start:end] for start, end in example.words]
    # Rows that were lists of words are given as such: a text would be split again.
    text = words if words and " ".join(words) == example.text else example.text
    # A question is the text itself, or where that is a context a field beside it.
    same = dict.fromkeys(("source", "question", "context"), example.text)
    others = {"text_pair": example.text_pair, "choices": example.choices, **example.fields}
    given: dict[str, Any] = {"text": text, **same, **others}
    return {role: given[role] for role in roles}


def _run(folder: Path, rows: list[dict[str, Any]], base: str) -> dict[str, Any]:
    # The script works in the export's folder.
    base = os.path.abspath(base) if base else ""
    with tempfile.TemporaryDirectory() as scratch:
        asked, answered = Path(scratch) / "asked.json", Path(scratch) / "answered.json"
        asked.write_text(json.dumps(rows), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", plain_script.__file__, str(folder), str(asked), str(answered), base],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TRANSFORMERS_VERBOSITY": "error"},
            preexec_fn=partial(die_with, os.getpid()) if os.name == "posix" else None,
        )
        if done.returncode or not answered.is_file():
            print(done.stderr, file=sys.stderr)
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            reason = lines[-1] if lines else f"exit status {done.returncode}"
            raise ExecutorError(f"the code of the export's card fails without tuneoff: {reason}")
        result: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
        return result


def _prediction(task: Task, example: Example, output: Any, shares: dict[str, float]) -> Prediction:
    """Returns what the card's code answered as a trial's prediction."""
    texts = {"labels": write_labels, "tags": write_tags, "number": repr}
    # Options of a row's own stand in their order.
    names = task.labels or tuple(shares)
    scores = tuple(round(math.log(max(shares[name], 1e-300)), 6) for name in names) if shares else ()
    return Prediction(
        index=example.index,
        target=example.target,
        output=texts[task.produces](output) if task.produces in texts else output,
        scores=scores,
    )
