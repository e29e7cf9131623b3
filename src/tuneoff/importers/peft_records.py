"""Turns runs of PEFT's `method_comparison` suite into a study and its records.

What a file does not hold is null, with the reason. Three of its figures are not what their names suggest:

- `train_time` is the time of all but validation: the test and the loading of data are in it. Our train time is the
  steps alone, which a file tells for the steps up to its last validation; it is null unless these are all steps.
- `accelerator_memory_max` is what the allocator reserved at most, in most files over the whole run.
- `file_size` is 99999999 where the suite could not save the weights, and computed for full fine-tuning.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from tuneoff.checksums import content_hash
from tuneoff.config.data import DataSpec, ModelSpec, SourceSpec, TaskSpec
from tuneoff.config.protocol import Protocol
from tuneoff.config.spec import MethodSpec, StudySpec, TrialSpec
from tuneoff.importers.peft_findings import IMPORTED, assumed_examples, findings_of
from tuneoff.importers.peft_run import METRICS, Run, finite, is_count
from tuneoff.records.record import (
    Finding,
    Memory,
    Metric,
    ModelInfo,
    Parameters,
    PrecisionInfo,
    RoleCounts,
    Status,
    Throughput,
    Timing,
    TrialRecord,
)

NOT_SAVED = 99_999_999
SIDE_METRICS: dict[str, tuple[str, Literal["higher", "lower"]]] = {
    "forgetting": ("nats", "lower"),
    "drift": ("as reported", "lower"),
}
TEST_EXAMPLES = {"accuracy": 1319}
"""Metric -> test examples of the suite's task (all of GSM8K's), which no file tells; taken only where every score is a
whole number of them."""
PRECISIONS: dict[str, Literal["fp32", "bf16"]] = {"float32": "fp32", "bfloat16": "bf16"}


def convert(runs: Sequence[Run], name: str) -> tuple[StudySpec, list[TrialRecord]]:
    """Returns the study that these runs are, and their records. All runs are of one base model and judged by one
    metric."""
    labels = _labels(runs)
    settings = [_settings(run) for run in runs]
    primary = next(run.primary for run in runs if run.primary)
    model = _model(runs)
    task = TaskSpec(name=METRICS[primary][0], data=_data(runs[0], primary))
    findings = findings_of(runs)
    most_common = Counter(json.dumps(item, sort_keys=True) for item in settings).most_common(1)[0][0]
    study = StudySpec(
        name=name,
        description=IMPORTED,
        model=model,
        task=task,
        protocol=Protocol.model_validate({**json.loads(most_common), "seeds": sorted({run.seed for run in runs})}),
        methods={label: _method(run) for label, run in zip(labels, runs, strict=True)},
    )
    records = []
    for run, label, run_settings in zip(runs, labels, settings, strict=True):
        protocol = Protocol.model_validate({**run_settings, "seeds": [run.seed]})
        records.append(_record(run, _trial(run, study, label, protocol), findings))
    return study, _with_examples(records, primary)


def _with_examples(records: list[TrialRecord], primary: str) -> list[TrialRecord]:
    """Adds the number of test examples to the primary metric, where the scores bear it out."""
    examples = TEST_EXAMPLES.get(primary)
    scores = [score for record in records if (score := record.metric(primary)) is not None]
    if examples is None or any(abs(score * examples - round(score * examples)) > 1e-6 for score in scores):
        return records
    # None and all are whole numbers of any test set, and tell nothing of this one.
    if not any(0 < score < 1 for score in scores):
        return records
    return [
        record.model_copy(
            update={
                "findings": (*record.findings, assumed_examples(examples)),
                "metrics": tuple(
                    metric.model_copy(update={"examples": examples})
                    if (metric.name, metric.split) == (primary, "test")
                    else metric
                    for metric in record.metrics
                ),
            }
        )
        for record in records
    ]


def _labels(runs: Sequence[Run]) -> list[str]:
    """Returns the experiments' names without the base model's name, which all share: `lora/rank64`."""
    labels = []
    for run in runs:
        method, slash, rest = run.experiment.partition("/")
        prefix = run.model.rpartition("/")[2].lower() + "-"
        rest = rest[len(prefix) :] if rest.lower().startswith(prefix) else rest
        labels.append(f"{method}{slash}{rest}")
    distinct = {label: run.experiment for label, run in zip(labels, runs, strict=True)}
    return labels if len(distinct) == len({run.experiment for run in runs}) else [run.experiment for run in runs]


def _method(run: Run) -> MethodSpec:
    options = {key: value for key, value in (run.run.get("peft_config") or {}).items() if value is not None}
    rate = float(run.settings["optimizer_kwargs"]["lr"])
    return MethodSpec(method=run.experiment.partition("/")[0], learning_rate=rate, options=options)


def _settings(run: Run) -> dict[str, Any]:
    """Returns the settings of the protocol that a run's file states."""
    config = run.settings
    settings: dict[str, Any] = {
        "epochs": 1,
        "schedule": "cosine" if config.get("lr_scheduler") == "cosine" else "constant",
    }
    for name, key in (("batch_size", "batch_size"), ("max_steps", "max_steps"), ("max_length", "max_seq_length")):
        if is_count(config.get(key)):
            settings[name] = config[key]
    if is_count(config.get("batch_size_eval")):
        settings["evaluation_batch_size"] = config["batch_size_eval"]
    decay = finite(config["optimizer_kwargs"].get("weight_decay"))
    if decay is not None and decay >= 0:
        settings["weight_decay"] = decay
    if "grad_norm_clip" in config:
        settings["clip_norm"] = finite(config["grad_norm_clip"]) or None
    if config.get("dtype") in PRECISIONS:
        settings["precision"] = PRECISIONS[config["dtype"]]
    return settings


def _model(runs: Sequence[Run]) -> ModelSpec:
    """Returns the base model, at the revision that most runs used."""
    revisions = Counter(sha for run in runs if (sha := run.model_sha))
    return ModelSpec(source=runs[0].model, revision=revisions.most_common(1)[0][0] if revisions else None)


def _data(run: Run, primary: str) -> DataSpec:
    """Returns the source of the rows: the one in the file, else the one that the suite's task of that metric uses."""
    dataset = run.settings.get("dataset_id")
    if isinstance(dataset, str) and dataset:
        return DataSpec(train=SourceSpec(source=dataset))
    if primary == "accuracy":
        train, test = SourceSpec(source="meta-math/MetaMathQA"), SourceSpec(source="openai/gsm8k")
        return DataSpec(train=train, validation=test.model_copy(update={"split": "train"}), test=test)
    return DataSpec(train=SourceSpec(source="not told"))


def _trial(run: Run, study: StudySpec, label: str, protocol: Protocol) -> TrialSpec:
    arm = study.methods[label]
    content = {"file": run.run, "model": study.model.model_dump(mode="json")}
    slug = "".join(c if c.isalnum() or c in "_." else "_" for c in label)
    return TrialSpec(
        id=f"{slug}-s{run.seed}-{content_hash(content)[:10]}",
        study=study.name,
        label=label,
        method=arm.method,
        options=arm.options,
        learning_rate=arm.learning_rate,
        seed=run.seed,
        model=study.model.model_copy(update={"revision": run.model_sha}),
        task=study.task,
        protocol=protocol,
    )


def _record(run: Run, spec: TrialSpec, findings: tuple[Finding, ...]) -> TrialRecord:
    """Returns a record of everything in the file; `missing` says what the file does not hold."""
    status, cause = _status(run)
    missing = {
        "curve": "the file tells neither epoch nor learning rate of its validations",
        "environment": "the file tells no cores, memory and threads of the machine",
        "data": "the file tells no counts and fingerprints of the rows",
        "inference": "the suite does not measure the speed of the trained model",
        "energy_joules": "the suite does not measure energy",
        "gradient_norm": "the suite does not keep gradient norms",
        "predictions": "the suite keeps no prediction of single examples",
        "retention": "the suite scores nothing before and after training but its own task",
        "model.checksum": "the file tells the revision of the base model, not a checksum of its weights",
    }
    if run.model_sha is None:
        missing["model.commit"] = "the file tells no revision of the base model"
    timing = _timing(run, missing)
    if status is not Status.COMPLETED:
        return TrialRecord(
            spec=spec,
            status=status,
            cause=cause,
            timing=timing,
            model=_model_info(run),
            findings=findings,
            missing=missing,
        )
    samples, tokens = finite(run.last.get("train samples")), finite(run.last.get("train total tokens"))
    seconds = timing.train_seconds
    if tokens is None:
        missing["throughput.tokens_per_second"] = "the file tells no number of tokens"
    if seconds is None:
        missing["throughput"] = missing["timing.train_seconds"]
    return TrialRecord(
        spec=spec,
        status=status,
        metrics=tuple(_metrics(run)),
        primary_metric=run.primary,
        steps=int(finite(run.last.get("step")) or 0),
        parameters=_parameters(run, missing),
        timing=timing,
        memory=_memory(run, missing),
        throughput=Throughput(
            examples_per_second=samples / seconds if samples and seconds else None,
            tokens_per_second=tokens / seconds if tokens and seconds else None,
        ),
        stored_bytes=_stored(run, missing),
        model=_model_info(run),
        precision=_precision(run, missing),
        findings=findings,
        missing=missing,
    )


def _status(run: Run) -> tuple[Status, str]:
    """Returns a run's status and cause. The suite calls a training canceled whenever it ended early, and says why."""
    cause = str(run.run.get("error_msg") or "")
    if run.train["status"] == "success":
        return Status.COMPLETED, ""
    if "out of memory" in cause.lower():
        return Status.OUT_OF_MEMORY, cause
    if run.train["status"] == "canceled" and cause in ("", "manually canceled"):
        return Status.CANCELLED, cause or "canceled"
    return Status.FAILED, cause or "the file gives no cause"


def _metrics(run: Run) -> list[Metric]:
    """Returns test metrics, the metrics of the last validation, and the training loss at the end."""
    metrics = []
    validations = [entry for entry in run.train["metrics"] if any(f"valid {name}" in entry for name in METRICS)]
    for name, (_, unit, direction) in METRICS.items():
        last = validations[-1].get(f"valid {name}") if validations else None
        for split, value in (("test", finite(run.last.get(f"test {name}"))), ("validation", finite(last))):
            if value is not None:
                metrics.append(
                    Metric.model_validate(
                        {"name": name, "value": value, "unit": unit, "direction": direction, "split": split}
                    )
                )
    for name, (unit, direction) in SIDE_METRICS.items():
        if (value := finite(run.last.get(name))) is not None:
            metrics.append(Metric(name=name, value=value, unit=unit, direction=direction, split="test"))
    if (loss := finite(run.last.get("train loss"))) is not None:
        unit = "nats" if run.primary == "accuracy" else "as reported"
        metrics.append(Metric(name="loss", value=loss, unit=unit, direction="lower", split="train"))
    return metrics


def _timing(run: Run, missing: dict[str, str]) -> Timing:
    entries = [entry for entry in run.train["metrics"] if finite(entry.get("train time")) is not None]
    steps = max((finite(entry.get("step")) or 0 for entry in entries), default=0)
    max_steps = finite(run.settings.get("max_steps"))
    suite_seconds = finite(run.train.get("train_time"))
    note = (
        ""
        if suite_seconds is None
        else f"; its train_time of {suite_seconds:.1f} s also holds the test and the loading of data"
    )
    seconds = None
    if not entries:
        missing["timing.train_seconds"] = f"the file tells no duration of the steps{note}"
    elif max_steps is None or steps < max_steps:
        limit = "" if max_steps is None else f" of {max_steps:.0f}"
        missing["timing.train_seconds"] = (
            f"the file tells the duration of the first {steps:.0f} steps{limit} only{note}"
        )
    else:
        seconds = sum(finite(entry["train time"]) or 0.0 for entry in entries)
    validation = [value for entry in entries if (value := finite(entry.get("eval time"))) is not None]
    total = finite(run.run.get("total_time"))
    if total is None:
        missing["timing.total_seconds"] = "the file tells no total_time"
    missing["timing"] = "the file does not split its times further"
    return Timing(
        train_seconds=seconds,
        train_step_seconds=seconds,
        validation_seconds=sum(validation) if validation else None,
        total_seconds=total,
    )


def _memory(run: Run, missing: dict[str, str]) -> Memory:
    missing["memory.base_bytes"] = missing["memory.peak_over_base_bytes"] = "the file tells no memory before training"
    peak = next((v for key in ("accelerator", "cuda") if (v := finite(run.train.get(f"{key}_memory_max")))), None)
    if peak is None or peak <= 0:
        missing["memory.peak_memory_bytes"] = "the file tells no peak of memory"
        return Memory()
    return Memory(peak_memory_bytes=int(peak), kind="cuda_reserved")


def _stored(run: Run, missing: dict[str, str]) -> int | None:
    size = finite(run.train.get("file_size"))
    if size is None or size <= 0:
        missing["stored_bytes"] = "the file tells no file_size"
    elif size == NOT_SAVED:
        missing["stored_bytes"] = "the suite could not save the weights"
    else:
        return int(size)
    return None


def _parameters(run: Run, missing: dict[str, str]) -> Parameters | None:
    """Counts parameters. Trained ones count as the adapter's, or without an adapter as the base model's: the file knows
    no finer roles."""
    trained = finite(run.train.get("num_trainable_params"))
    total = finite(run.train.get("num_total_params"))
    if trained is None or total is None or not 0 <= trained <= total:
        missing["parameters"] = "the file tells no numbers of parameters"
        return None
    if run.run.get("peft_config") is None:
        return Parameters(total=RoleCounts(base=int(total)), trainable=RoleCounts(base=int(trained)))
    return Parameters(
        total=RoleCounts(adapter=int(trained), base=int(total - trained)), trainable=RoleCounts(adapter=int(trained))
    )


def _model_info(run: Run) -> ModelInfo:
    dtype = run.settings.get("dtype")
    return ModelInfo(source=run.model, commit=run.model_sha, dtype=dtype if isinstance(dtype, str) else "")


def _precision(run: Run, missing: dict[str, str]) -> PrecisionInfo | None:
    dtype = run.settings.get("dtype")
    if not isinstance(dtype, str):
        missing["precision"] = "the file tells no dtype"
        return None
    missing["precision.matmul_relative_error"] = "the suite does not measure it"
    amp = " with autocast" if run.settings.get("use_amp") else ""
    return PrecisionInfo(policy=f"{dtype}{amp}", description=f"base weights in {dtype}{amp}, as the file says")
