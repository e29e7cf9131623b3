"""From a study to its trials; pure.

A trial's id says what it is and names its content: two trials with the same id are the same trial, whatever
study, folder or machine they come from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tuneoff import registry
from tuneoff.errors import Problem, StudyError
from tuneoff.spec import SPEC_VERSION, MethodSpec, StudySpec, TrialSpec


def content_hash(content: Any) -> str:
    """SHA-256 (hex) of plain data, independent of key order."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def plan(study: StudySpec, fingerprints: Mapping[str, str] | None = None) -> list[TrialSpec]:
    """The trials of a study: every method at every seed, seeds first, in the study's order.

    Args:
        study: a checked study.
        fingerprints: source name -> fingerprint of what it holds now (see `sources.base`). They enter the
            ids, so that a changed file is a different trial.

    Raises:
        StudyError: if two rows are the same method with the same configuration.
    """
    task = study.task.model_copy(update={"options": task_options(study)})
    trials: list[TrialSpec] = []
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for seed in study.protocol.seeds:
        for label, row in study.methods.items():
            method = registry.methods()[row.method]
            options = method.Options.model_validate(row.options).model_dump(mode="json")
            rate = _learning_rate(study, row) if method.trains else None
            protocol = study.protocol.model_copy(update={"seeds": (seed,), "learning_rate": None})
            content = {
                "version": SPEC_VERSION,
                "model": study.model.model_dump(mode="json"),
                "task": task.model_dump(mode="json"),
                "protocol": protocol.model_dump(mode="json"),
                "method": row.method,
                "options": options,
                "learning_rate": rate,
                "fingerprints": dict(fingerprints or {}),
            }
            trial_id = f"{_slug(label)}-s{seed}-{content_hash(content)[:10]}"
            short = trial_id.removeprefix(_slug(label))
            if short in seen:
                problems.append(
                    Problem(f"methods.{label}", f"has the same method and configuration as {seen[short]!r}")
                )
            seen[short] = label
            trials.append(
                TrialSpec(
                    id=trial_id,
                    study=study.name,
                    label=label,
                    method=row.method,
                    options=options,
                    learning_rate=rate,
                    seed=seed,
                    model=study.model,
                    task=task,
                    protocol=protocol,
                    execution=study.execution,
                )
            )
    if problems:
        raise StudyError(dict.fromkeys(problems))
    return trials


def _slug(label: str) -> str:
    return "".join(c if c.isalnum() or c in "_." else "_" for c in label)


def _learning_rate(study: StudySpec, row: MethodSpec) -> float:
    """The protocol's one rate for all if it sets one, else the row's, else the method's default."""
    rate = study.protocol.learning_rate or row.learning_rate
    return rate if rate is not None else registry.methods()[row.method].learning_rate.center


def task_options(study: StudySpec) -> dict[str, Any]:
    """The task's options with defaults filled in."""
    task = registry.tasks()[study.task.name]
    options: dict[str, Any] = task.Options.model_validate(study.task.options).model_dump(mode="json")
    return options


def question(study: StudySpec) -> dict[str, Any]:
    """What a study asks apart from which methods and how many seeds: studies with equal questions may share
    a folder and a table."""
    protocol = study.protocol.model_dump(mode="json", exclude={"seeds"})
    return {
        "model": study.model.model_dump(mode="json"),
        "task": {**study.task.model_dump(mode="json"), "options": task_options(study)},
        "protocol": protocol,
    }
