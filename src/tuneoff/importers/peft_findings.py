"""What holds of all runs of an import together: where they are from, and in what they are not alike."""

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
ONE_SEED = "Every row has one seed: there are no intervals, and nothing can be called significant."


def findings_of(runs: Sequence[Run]) -> tuple[Finding, ...]:
    """What holds of the whole folder; every record carries it, in the same words."""
    found = [Finding(name="imported", message=IMPORTED)]
    if len({run.experiment for run in runs}) == len(runs):
        found.append(Finding(name="one_seed", message=ONE_SEED))
    machines = _unlike(runs, [run.machine for run in runs])
    if machines:
        message = f"Runs are from different machines, so times and memory are not comparable: {machines}."
        found.append(Finding(name="different_hardware", message=message))
    versions = []
    for package in ("torch", "transformers", "peft"):
        told = [run.version(package) for run in runs]
        if unlike := _unlike(runs, told):
            versions.append(f"{package} {unlike}")
    if versions:
        message = f"Runs are with different software: {'; '.join(versions)}."
        found.append(Finding(name="different_versions", message=message))
    if unlike := _unlike(runs, [run.model_sha for run in runs]):
        message = f"Runs started from different revisions of the base model: {unlike}."
        found.append(Finding(name="different_model", message=message))
    settings = []
    for key in EQUAL:
        told = [json.dumps(run.settings[key], sort_keys=True) if key in run.settings else None for run in runs]
        if unlike := _unlike(runs, told):
            settings.append(f"{key} {unlike}")
    if settings:
        message = f"Not all were trained alike: {'; '.join(settings)}."
        found.append(Finding(name="different_protocol", message=message))
    return tuple(found)


def _unlike(runs: Sequence[Run], told: Sequence[str | None]) -> str:
    """`A in most (38 runs), B in lora/rank32`; empty where all that is told is the same."""
    counts = Counter(value for value in told if value is not None)
    if len(counts) < 2:
        return ""
    (usual, number), *others = counts.most_common()
    texts = [f"{usual} in {number} run{'s' if number > 1 else ''}"]
    for value, _ in others:
        names = [run.experiment for run, own in zip(runs, told, strict=True) if own == value]
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        texts.append(f"{value} in {', '.join(names[:2])}{more}")
    return ", ".join(texts)
