"""Loads a form of a trained model as what `predict` and the timing of a trial take."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tuneoff.config.deployability import AS_TRAINED, Form
from tuneoff.interfaces import Attached, Task
from tuneoff.methods._peft_import import show_bitsandbytes
from tuneoff.store import TrialStore
from tuneoff.trial import early
from tuneoff.trial.assembly import load_model
from tuneoff.trial.data.commits import as_recorded
from tuneoff.trial.deployability.loading import load_folder
from tuneoff.trial.inference import restore
from tuneoff.trial.modeling.precision import apply_policy
from tuneoff.trial.training.evaluate import ModelRunner


@dataclass(frozen=True)
class Subject:
    """What is scored.

    Attributes:
        task: as the trial had it.
        runner: computes what it answers.
    """

    task: Task
    runner: ModelRunner


def load(place: TrialStore, form: Form, folder: Path, device: torch.device) -> Subject:
    """Loads a form from its files.

    Args:
        place: the trial.
        form: any but `plain`, whose process is another.
        folder: its files, as `build` wrote them.
        device: where it computes; of ONNX the CPU.

    Raises:
        TuneoffError: if it cannot be loaded.
    """
    if form == AS_TRAINED:
        task, _, _, runner = restore(place, device)
        return Subject(task, runner)
    spec, record = early.finished(place)
    task = early.task_of(spec, record)
    model: Any
    if form == "onnx":
        from tuneoff.trial.deployability.onnx_graph import load_graph

        model, tokenizer = load_graph(folder)
    elif form == "lora":
        model, tokenizer = _load_adapter(place, task, folder, device)
    else:
        model, tokenizer = load_folder(task, folder, device)
    packed = bool(getattr(model, "is_loaded_in_8bit", False) or getattr(model, "is_loaded_in_4bit", False))
    policy = apply_policy(spec.protocol.precision, device)
    # Packed layers choose the type of their products themselves.
    autocast = nullcontext if packed or form == "onnx" else policy.autocast
    kernel = record.model.evaluation_attention if record.model and form != "onnx" else ""
    attached = Attached(model, model)
    attached.module.eval()
    size = spec.protocol.evaluation_batch_size
    pad = model.config.pad_token_id
    runner = ModelRunner(task, attached, device, autocast, pad, size, tokenizer, attention=kernel)
    return Subject(task, runner)


def _load_adapter(place: TrialStore, task: Task, folder: Path, device: torch.device) -> tuple[nn.Module, Any]:
    """Loads the base model and has PEFT put the adapter on it; returns the model and its tokenizer."""
    from peft import PeftModel

    spec, record = early.finished(place)
    policy = apply_policy(spec.protocol.precision, device)
    loaded = load_model(as_recorded(spec, record), task, device, policy.name)
    show_bitsandbytes()
    model: Any = PeftModel.from_pretrained(loaded.model, str(folder))
    return model.get_base_model().to(device), loaded.tokenizer
