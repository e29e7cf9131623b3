"""Findings about all runs of an import together: where they come from, and in what they differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from tuneoff.importers.peft_run import Run
from tuneoff.records.record import Finding

EQUAL = (
    *("dtype", "max_seq_length", "resolution", "batch_size", "max_steps", "compile", "use_gc", "query_template"),
    *("grad_norm_clip", "optimizer_type", "lr_scheduler", "use_amp", "generation_kwargs", "autocast_adapter_dtype"),
)
"""Settings of a run that should be the same for all methods."""
IMPORTED = (
    "Imported from result files of PEFT's method comparison; tuneoff measured none of it. Train time is the steps "
    "alone (the suite's own train_time holds the test and the loading too), peak memory what the allocator reserved at "
    "most, validation and test included. Settings that the files do not tell are shown at tuneoff's defaults and mean "
    "nothing."
)
ONE_SEED = (
    "Every arm has one seed, which does not show how much seeds differ: nothing can be called significant. Intervals, "
    "where there are any, are over test examples alone."
)


def findings_of(runs: Sequence[Run]) -> tuple[Finding, ...]:
    """Returns the findings about the whole folder; every record carries them, in the same words."""
    findings = [Finding(name="imported", message=IMPORTED)]
    if len({run.experiment for run in runs}) == len(runs):
        findings.append(Finding(name="one_seed", message=ONE_SEED))
    machines = _describe_differences(runs, [run.machine for run in runs])
    if machines:
        message = f"Runs are from different machines, so times and memory are not comparable: {machines}."
        findings.append(Finding(name="different_hardware", message=message))
    versions = []
    for package in ("torch", "transformers", "peft"):
        values = [run.version(package) for run in runs]
        if differences := _describe_differences(runs, values):
            versions.append(f"{package} {differences}")
    if versions:
        message = f"Runs are with different software: {'; '.join(versions)}."
        findings.append(Finding(name="different_versions", message=message))
    if differences := _describe_differences(runs, [run.model_sha for run in runs]):
        message = f"Runs started from different revisions of the base model: {differences}."
        findings.append(Finding(name="different_model", message=message))
    settings = []
    for key in EQUAL:
        values = [json.dumps(run.settings[key], sort_keys=True) if key in run.settings else None for run in runs]
        if differences := _describe_differences(runs, values):
            settings.append(f"{key} {differences}")
    if settings:
        message = f"Not all were trained alike: {'; '.join(settings)}."
        findings.append(Finding(name="different_protocol", message=message))
    return tuple(findings)


def assumed_examples(examples: int) -> Finding:
    """Returns the finding about the number of test examples, which the files do not tell."""
    message = (
        f"The files tell no number of test examples. {examples:,} are assumed, which are all of GSM8K's, because every "
        "score is a whole number of them; intervals and ties over test examples rest on it."
    )
    return Finding(name="assumed_examples", message=message)


def _describe_differences(runs: Sequence[Run], values: Sequence[str | None]) -> str:
    """Returns which values differ: `A in 38 runs, B in lora/rank32`; empty where all known values are equal."""
    counts = Counter(value for value in values if value is not None)
    if len(counts) < 2:
        return ""
    (common_value, count), *others = counts.most_common()
    texts = [f"{common_value} in {count} run{'s' if count > 1 else ''}"]
    for value, _ in others:
        names = [run.experiment for run, run_value in zip(runs, values, strict=True) if run_value == value]
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        texts.append(f"{value} in {', '.join(names[:2])}{more}")
    return ", ".join(texts)
