"""Loads the files of a form, and the rows that it is scored on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tuneoff import registry
from tuneoff.errors import StoreError
from tuneoff.interfaces import Example, ModelFiles, Task
from tuneoff.sources import find_model
from tuneoff.store import TrialStore
from tuneoff.trial import early
from tuneoff.trial.data import load as trial_data
from tuneoff.trial.data.commits import as_recorded
from tuneoff.trial.exhaustion import loading
from tuneoff.trial.modeling.load import quiet


@loading("the model")
def load_folder(task: Task, folder: Path, device: torch.device, **options: Any) -> tuple[Any, Any]:
    """Loads a plain model of transformers and its tokenizer; returns both. Packed weights are found by themselves."""
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(str(folder))
    packed = options or hasattr(config, "quantization_config")
    if packed:
        # Without it bitsandbytes takes a GPU wherever there is one; later it cannot be moved.
        options["device_map"] = {"": str(device)}
    with quiet():
        model = task.model_class(config).from_pretrained(str(folder), config=config, dtype=torch.float32, **options)
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
    return (model if packed else model.to(device)), as_in_training(tokenizer)


def test_examples(place: TrialStore, task: Task) -> list[Example]:
    """Reads the trial's test rows again.

    Raises:
        StoreError: if they have changed since.
        SourceError, DataError: if they cannot be read.
    """
    spec, record = early.finished(place)
    assert record.data is not None
    data = trial_data.load(task, as_recorded(spec, record).task, spec.protocol)
    if data.info.splits["test"].fingerprint != record.data.splits["test"].fingerprint:
        raise StoreError(
            f"the test rows that trial {spec.id} was scored on have changed",
            hint="Restore them, or run the study again.",
        )
    return data.splits["test"]


def base_files(place: TrialStore) -> ModelFiles | None:
    """Finds the files of the trial's base model on this machine; None where its weights are random."""
    spec, record = early.finished(place)
    model = as_recorded(spec, record).model
    return None if model.random_weights else find_model(registry.sources(), model)


def as_in_training(tokenizer: Any) -> Any:
    """Returns a tokenizer that pads and cuts on the right, as those of trials do."""
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return tokenizer
