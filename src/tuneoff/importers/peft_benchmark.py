"""Finds result files of PEFT's `method_comparison` suite and makes a study folder of them.

One JSON file is one run: `run_info` (what was run), `train_info` (what it gave), `meta_info` (with what).
`peft_records.py` says what becomes of its figures.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tuneoff.errors import DataError, StoreError, first_line
from tuneoff.files import read_text
from tuneoff.importers.peft_findings import ONE_SEED
from tuneoff.importers.peft_records import convert
from tuneoff.importers.peft_run import METRICS, Run, finite
from tuneoff.store import StudyStore

PARTS = ("run_info", "train_info", "meta_info")


@dataclass(frozen=True)
class Imported:
    """What was imported: the study's folder, the number of results, the files that a newer run of the same experiment
    and seed replaces, and a note where every arm has one seed (else empty)."""

    store: StudyStore
    results: int
    replaced: tuple[str, ...]
    one_seed: str


def import_folder(folder: Path, out: Path, model: str | None = None) -> Imported:
    """Reads every result file of a folder into a new study folder; all of it or nothing.

    Args:
        folder: holds the files (`*.json`), not its subfolders.
        out: where the study goes; must not be there yet, or be empty.
        model: import the runs of this base model alone.

    Raises:
        DataError: if a file is no result file (all are named), there is none, or they do not belong in one table.
        StoreError: if the study cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out} is there already", hint="Name a new folder with --out.")
    runs = _select_runs(read(folder), model)
    newest, replaced = _newest(runs)
    try:
        study, records = convert(newest, _study_name(folder))
    except (ValidationError, ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise DataError(
            f"the results in {folder} cannot be read as a study: {first_line(error, 300)}",
            hint="A file holds a setting that is none; nothing was imported.",
        ) from error
    partial = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        store = StudyStore.create(partial, study, [record.spec for record in records])
        for record in records:
            store.trial(record.spec.id).write_record(record)
        if out.exists():
            out.rmdir()
        os.replace(partial, out)
    except OSError as error:
        raise StoreError(f"cannot write to {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    one_seed = ONE_SEED if len(study.methods) == len(records) else ""
    return Imported(StudyStore.open(out), len(records), tuple(run.file for run in replaced), one_seed)


def read(folder: Path) -> list[Run]:
    """Reads every result file of a folder, in the order of their names.

    Raises:
        DataError: naming every file that is none, and why.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", hint="Name the folder that holds the result files.")
    files = sorted(folder.glob("*.json"))
    subfolder = folder / "results"
    hint = f"Result files are often in {subfolder}: name that folder." if subfolder.is_dir() else ""
    if not files:
        raise DataError(f"{folder} holds no result file (*.json)", hint=hint)
    runs: list[Run] = []
    errors: list[str] = []
    for path in files:
        try:
            body = json.loads(read_text(path), parse_constant=lambda _: None)
        except (OSError, ValueError, RecursionError) as error:
            errors.append(f"{path.name}: cannot be read as JSON ({error})")
            continue
        problems = _problems(body)
        if problems:
            errors.append(f"{path.name}: {'; '.join(problems)}")
        else:
            runs.append(Run(path.name, *(body[part] for part in PARTS)))
    if errors:
        lines = "".join(f"\n  - {line}" for line in errors)
        raise DataError(
            f"{len(errors)} of {len(files)} files in {folder} are no result files of PEFT's method comparison:{lines}",
            hint=hint or "Move them elsewhere; nothing was imported.",
        )
    return runs


def _problems(body: Any) -> list[str]:
    """Returns why this is no result file; empty where it is one."""
    if not isinstance(body, dict) or not all(isinstance(body.get(part), dict) for part in PARTS):
        return [f"not an object with {', '.join(PARTS)}"]
    problems = []
    checks: list[tuple[str, Callable[[Any], bool]]] = [
        ("run_info.experiment_name", lambda v: isinstance(v, str) and v != ""),
        ("run_info.train_config.model_id", lambda v: isinstance(v, str) and v != ""),
        ("run_info.train_config.seed", lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0),
        ("run_info.train_config.optimizer_kwargs.lr", lambda v: finite(v) is not None and v > 0),
        ("run_info.peft_config", lambda v: v is None or isinstance(v, dict)),
        ("train_info.status", lambda v: v in ("success", "failed", "canceled")),
        ("train_info.metrics", lambda v: isinstance(v, list) and all(isinstance(item, dict) for item in v)),
    ]
    for path, is_valid in checks:
        value: Any = body
        for step in path.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        if not is_valid(value):
            problems.append(f"{path} is {json.dumps(value)[:40]}")
    if problems or body["train_info"]["status"] != "success":
        return problems
    metrics = body["train_info"]["metrics"]
    if not metrics or not any(finite(metrics[-1].get(f"test {name}")) is not None for name in METRICS):
        return [f"the last entry of train_info.metrics has no {' and no '.join(f'test {name}' for name in METRICS)}"]
    return []


def _select_runs(runs: list[Run], model: str | None) -> list[Run]:
    """Returns the runs of one base model, all judged by one metric.

    Raises:
        DataError: if there are several models and none was named, or several metrics.
    """
    models = list(dict.fromkeys(run.model for run in runs))
    if model is not None and model not in models:
        raise DataError(f"no result is of the model {model!r}", hint=f"Models: {', '.join(models)}.")
    if model is None and len(models) > 1:
        raise DataError(
            f"the results are of {len(models)} base models, and a study has one: {', '.join(models)}",
            hint="Name one with --model, and import each into a folder of its own.",
        )
    selected = [run for run in runs if model in (None, run.model)]
    metrics = list(dict.fromkeys(run.primary for run in selected if run.primary))
    if len(metrics) > 1:
        files = [next(run.file for run in selected if run.primary == name) for name in metrics]
        raise DataError(
            f"the results are judged by different metrics: {metrics[0]} in {files[0]}, {metrics[1]} in {files[1]}",
            hint="Put the results of different tasks into different folders.",
        )
    if not metrics:
        raise DataError("no run came to its end, so there is no score to show")
    return selected


def _newest(runs: Iterable[Run]) -> tuple[list[Run], list[Run]]:
    """Returns the newest run of each experiment and seed, and the runs that it replaces."""
    newest: dict[tuple[str, int], Run] = {}
    replaced = []
    for run in sorted(runs, key=lambda run: (str(run.run.get("created_at", "")), run.file)):
        key = (run.experiment, run.seed)
        if key in newest:
            replaced.append(newest[key])
        newest[key] = run
    return sorted(newest.values(), key=lambda run: run.file), replaced


def _study_name(folder: Path) -> str:
    """Returns the study's name, after the suite's task, whose folder holds `results`: `peft-MetaMathQA`."""
    resolved = folder.resolve()
    name = resolved.parent.name if resolved.name == "results" else resolved.name
    return "peft-" + "".join(c if (c.isalnum() and c.isascii()) or c in "._-" else "_" for c in name)
