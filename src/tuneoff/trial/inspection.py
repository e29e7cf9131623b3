"""Checks data, model and methods before anything is trained."""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tuneoff import registry
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import TuneoffError, UnsupportedModel
from tuneoff.interfaces import Method, ModelFiles, Task
from tuneoff.measure import parameters
from tuneoff.records.record import Finding, Parameters, key_of_held
from tuneoff.trial.assembly import refuse_several_devices
from tuneoff.trial.data import load as trial_data
from tuneoff.trial.data.commits import commit_of_held, commit_of_rows
from tuneoff.trial.data.lengths import check_length
from tuneoff.trial.data.load import TrialData
from tuneoff.trial.early import misfits, refuse_arms
from tuneoff.trial.exhaustion import loading
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling import start
from tuneoff.trial.modeling.activation_checkpointing import checkpoint_activations
from tuneoff.trial.retention.held import HeldSet, check_held, tokenize_held


def inspect_study(study: StudySpec, trials: Sequence[TrialSpec], require_data: bool) -> dict[str, Any]:
    """Reads the rows, builds the model without weights and attaches every method to it.

    With `require_data` false, data that cannot be read is left out where the study declares its labels.

    Returns:
        The fields of `executors.base.Inspection` as plain data.

    Raises:
        SourceError, DataError: if rows or model cannot be loaded, or inputs are too long for the model.
        StudyError: naming every method that cannot take the model, or all that is held and that the model cannot do.
    """
    task = registry.create_task(study.task)
    loaded, findings = _look_at_data(task, study, require_data or not task.fitted)
    data = loaded.info.model_dump(mode="json") if loaded is not None else None
    counts_by_trial: dict[str, Any] = {}
    counts_by_arm: dict[str, dict[str, Any]] = {}
    problems: dict[str, list[str]] = defaultdict(list, misfits(task, trials))
    unsuited_labels = {label for labels in problems.values() for label in labels}
    files = None
    if require_data and not problems:
        # Weights are fetched now, so that a hub that is out of reach stops the study before the first trial.
        _, files = trial_model.fetch(study.model)
    for trial in trials:
        if trial.label in unsuited_labels:
            continue
        if trial.label not in counts_by_arm:
            counts_by_arm[trial.label] = {}
            try:
                with loading("the model without its weights"):
                    counts_by_arm[trial.label] = _count(task, trial)
            except UnsupportedModel as error:
                problems[str(error)].append(trial.label)
            except TuneoffError:
                raise
            except Exception as error:
                # A fault in a method, perhaps a third party's: name the row, keep the rest for the log.
                traceback.print_exc()
                problems[f"{trial.method} cannot be attached: {type(error).__name__}: {error}"].append(trial.label)
        counts_by_trial[trial.id] = counts_by_arm[trial.label]
    refuse_arms(study, problems, [label for label in study.methods if counts_by_arm.get(label)])
    if require_data and loaded is not None:
        for trial in {trial.label: trial for trial in trials}.values():
            start.trace(trial, task, loaded.splits["test"], None)
    check_held(study.model, task, trials, reads=not require_data)
    contents = _contents(study, data, files)
    if require_data and any(issubclass(registry.methods()[trial.method], Method) for trial in trials):
        # So that a tokenizer that does not fit, and held rows that cannot be used, stop the study before any trial.
        tokenizer = trial_model.load_tokenizer(study.model, task)
        if (retention := next((trial.retention for trial in trials if trial.retention is not None), None)) is not None:
            config, _ = trial_model.load_config(study.model)
            tokenized = tokenize_held(retention, study.protocol, study.model, tokenizer, config)
            contents |= _contents_held([one.held for one in tokenized])
    return {
        "trials": counts_by_trial,
        "labels": list(task.labels),
        "data": data,
        "warnings": [finding.model_dump() for finding in findings],
        "contents": contents,
    }


def _contents(study: StudySpec, data: dict[str, Any] | None, files: ModelFiles | None) -> dict[str, str]:
    """Returns what trials must load too, as `TrialSpec.contents`: all splits, or where training and validation rows are
    drawn per seed, the test rows."""
    contents = {}
    if data is not None:
        contents = {name: split["fingerprint"] for name, split in data["splits"].items() if study.protocol.shares(name)}
        contents |= {commit_of_rows(role): commit for role, commit in data["commits"].items()}
    if files is not None and files.commit is not None:
        contents["model"] = files.commit
    return contents


def _contents_held(sets: Sequence[HeldSet]) -> dict[str, str]:
    """Returns what trials must find in what is held, as `TrialSpec.contents`."""
    contents = {key_of_held(held.label): held.info.fingerprint for held in sets}
    for held in sets:
        contents |= {commit_of_held(held.label, role): commit for role, commit in held.commits.items()}
    return contents


def _look_at_data(task: Task, study: StudySpec, required: bool) -> tuple[TrialData | None, list[Finding]]:
    try:
        data = trial_data.load(task, study.task, study.protocol)
    except TuneoffError as error:
        if required:
            raise
        return None, [Finding(name="data_not_seen", message=f"the rows were not looked at: {error.message}")]
    return data, list(data.findings)


def _count(task: Task, trial: TrialSpec) -> dict[str, dict[str, int]]:
    """Counts the parameters of one trial by role, on the meta device.

    Raises:
        UnsupportedModel: if the method does not fit the task or the model, or leaves too few of its positions.
    """
    method = registry.methods()[trial.method].create(trial.options)
    counts = Parameters()
    if isinstance(method, Method):
        import torch

        refuse_several_devices(trial, method)
        model, view = trial_model.build_empty(trial.model, task)
        check_length(model, task, trial.protocol.max_length, method, trial.label)
        base_identity = parameters.BaseIdentity.of(model, view)
        with torch.device("meta"):
            attached = method.attach(model, view)
        start.refuse_misfit(trial, method, attached)
        if trial.protocol.gradient_checkpointing:
            checkpoint_activations(attached.model)
        counts = parameters.count(attached.module, base_identity)
    return {
        "trainable_parameters": counts.trainable.model_dump(),
        "total_parameters": counts.total.model_dump(),
    }
