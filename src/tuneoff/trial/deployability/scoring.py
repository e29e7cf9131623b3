"""Scores and times one form of a trained model on the trial's test rows, as the trial did its test."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from tuneoff.config.deployability import Form
from tuneoff.interfaces import Task
from tuneoff.measure import environment
from tuneoff.measure.memory import MemoryMeter
from tuneoff.records.deployability import FormResult
from tuneoff.records.record import Inference
from tuneoff.store import TrialStore
from tuneoff.trial import early
from tuneoff.trial.data.groups import with_groups
from tuneoff.trial.deployability import plain
from tuneoff.trial.deployability.building import Built
from tuneoff.trial.deployability.loading import as_in_training, base_files, test_examples
from tuneoff.trial.deployability.subjects import Subject, load
from tuneoff.trial.modeling.precision import choose_device
from tuneoff.trial.training.evaluate import latency_budget, measure_inference, predict, write

ON_CPU = ("plain", "onnx")
"""Forms that compute on the CPU whatever the device is: memory and machine are those of it."""
PLAIN_NOTE = "one row at a time on the CPU, by the code of the export's card; latency without the tokenizer"


def score(place: TrialStore, form: Form, folder: Path, built: Built, device: str) -> FormResult:
    """Scores a form, writes its predictions into the trial's folder and returns the result.

    Args:
        place: the trial.
        form: which form.
        folder: its files, as `build` wrote them.
        built: what `build` said of them.
        device: auto, cpu or cuda; of `ON_CPU` the CPU whatever it is.

    Raises:
        TuneoffError: whatever keeps it from being loaded or scored.
    """
    chosen = choose_device("cpu" if form in ON_CPU else device)
    result = FormResult(
        form=form,
        works=True,
        weights_bytes=built.weights_bytes,
        base_bytes=built.base_bytes,
        notes=built.notes,
        missing={} if built.base_bytes is not None else {"base_bytes": "the base model's weights are random: no file"},
        environment=environment.describe(chosen, torch.get_num_threads()),
    )
    return _score_plain(place, folder, result) if form == "plain" else _score(place, form, folder, chosen, result)


def _score(place: TrialStore, form: Form, folder: Path, device: torch.device, result: FormResult) -> FormResult:
    started = time.perf_counter()
    spec, record = early.finished(place)
    meter = MemoryMeter(device)
    subject: Subject = load(place, form, folder, device)
    task, runner = subject.task, subject.runner
    # Reading the rows fits the task again, as the trial's own was.
    examples = test_examples(place, task)
    features = task.encode(examples, runner.tokenizer, spec.protocol.max_length)
    writing = None
    with meter.phase("test"):
        predictions = predict(runner, features, examples)
        if runner.writes:
            predictions, writing = write(runner, features, examples, predictions)
    predictions = task.judge(task.decide(predictions, record.chosen), examples)
    budget = latency_budget(time.perf_counter() - started)
    inference = measure_inference(runner, features, spec.execution.latency_examples, writing, budget)
    memory = meter.memory("test")
    missing = {**result.missing, **_untimed(inference)}
    if memory.peak_memory_bytes is None:
        missing["peak_memory_bytes"] = meter.missing.get("memory.peak_memory_bytes", "not measured")
    return result.model_copy(
        update={
            "metrics": tuple(task.score(predictions, "test")),
            "predictions": place.write_predictions(f"test-{form}", with_groups(predictions, examples)),
            "inference": inference,
            "peak_memory_bytes": memory.peak_memory_bytes,
            "missing": missing,
        }
    )


def _score_plain(place: TrialStore, folder: Path, result: FormResult) -> FormResult:
    spec, record = early.finished(place)
    task = early.task_of(spec, record)
    examples = test_examples(place, task)
    tokenizer = _prepared_tokenizer(task, folder)
    base = base_files(place)
    answers = plain.answer(folder, task, record, examples, tokenizer, base.path if base is not None else "")
    predictions = task.judge(task.decide(answers.predictions, record.chosen), examples)
    missing = dict(result.missing)
    if answers.peak_memory_bytes is None:
        missing["peak_memory_bytes"] = "this system does not tell the peak of a process"
    return result.model_copy(
        update={
            "metrics": tuple(task.score(predictions, "test")),
            "predictions": place.write_predictions(f"test-{result.form}", with_groups(predictions, examples)),
            "inference": answers.inference,
            "peak_memory_bytes": answers.peak_memory_bytes,
            "notes": (*result.notes, PLAIN_NOTE),
            "missing": missing,
        }
    )


def _prepared_tokenizer(task: Task, folder: Path) -> object:
    """Loads the export's tokenizer and tells the task which model it is for."""
    from transformers import AutoConfig, AutoTokenizer

    task.model_class(AutoConfig.from_pretrained(str(folder)))
    return as_in_training(AutoTokenizer.from_pretrained(str(folder)))


def _untimed(inference: Inference) -> dict[str, str]:
    if inference.latency_seconds_median is not None:
        return {}
    return {"inference.latency_seconds_median": "the study times no single examples (execution.latency_examples: 0)"}
