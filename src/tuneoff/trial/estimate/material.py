"""What trials work on, tokenized, and the machine's speed: what the arms of a study share is found once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tuneoff import registry
from tuneoff.config.spec import TrialSpec
from tuneoff.interfaces import Example, Features, Method, Task
from tuneoff.trial.assembly import demonstrations
from tuneoff.trial.data import load as trial_data
from tuneoff.trial.data.batching import pads_targets_apart
from tuneoff.trial.data.lengths import check_length
from tuneoff.trial.estimate import time_model
from tuneoff.trial.estimate.schedule import Lengths, MicroBatch, evaluation_batches, writing_batches
from tuneoff.trial.estimate.time_model import Speed
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.precision import Policy
from tuneoff.trial.retention.held import TokenizedSet, tokenize_held


@dataclass(frozen=True)
class Material:
    """What a trial works on, tokenized.

    Attributes:
        spec: the trial.
        task: its task.
        examples, features: of every split.
        trains: whether its method trains.
        held: what is scored before and after training; empty where nothing is.
    """

    spec: TrialSpec
    task: Task
    examples: dict[str, list[Example]]
    features: dict[str, list[Features]]
    trains: bool
    held: Sequence[TokenizedSet] = ()

    def lengths(self, split: str) -> Lengths:
        """Returns the lengths of a split's examples."""
        return Lengths(self.features[split], pads_targets_apart(self.task, self.features[split]))

    @property
    def writes(self) -> bool:
        """Returns whether the task's answers are generated text."""
        return self.task.produces == "text"

    def evaluation_batches(self, split: str, device_type: str) -> list[MicroBatch]:
        """Returns the batches in which an evaluation on such a device reads a split, the longest first."""
        return evaluation_batches(self.lengths(split), self.spec.protocol.evaluation_batch_size, device_type)

    def writing_batches(self, split: str) -> list[MicroBatch]:
        """Returns the batches of a split's prompts that texts are written for, the longest first."""
        prompts = [len(f.prompt_ids or f.input_ids) for f in self.features[split]]
        return writing_batches(self.lengths(split), self.spec.protocol.evaluation_batch_size, prompts)

    def test_candidates(self, device_type: str) -> list[list[Features]]:
        """Returns the batches of the test of which one takes the most memory: the largest that is read, and the one of
        the longest prompts."""
        batches = [max(self.evaluation_batches("test", device_type), key=lambda batch: batch.padded_tokens)]
        batches += self.writing_batches("test")[:1] if self.writes else []
        return [self.chosen("test", batch.rows) for batch in batches]

    def chosen(self, split: str, rows: Sequence[int]) -> list[Features]:
        """Returns the features of some examples of a split."""
        return [self.features[split][row] for row in rows]


class StudyCache:
    """Loads the data of a study's trials and measures the machine's speed, each once."""

    def __init__(self) -> None:
        self._materials: dict[str, tuple[Material, Any, Any, dict[str, float]]] = {}
        self._held: dict[str, Sequence[TokenizedSet]] = {}
        self._speeds: dict[str, Speed] = {}

    def material(self, spec: TrialSpec, method: Method[Any]) -> tuple[Material, dict[str, float]]:
        """Returns what a trial works on, and the seconds that loading and tokenizing take.

        Raises:
            TuneoffError: if data or model cannot be loaded, or inputs are too long for the model.
        """
        # Demonstrations are drawn by a trial's own seed and are part of every prompt.
        demonstration_key = (method.demonstrations, spec.seed) if method.demonstrations else None
        key = repr((spec.model, spec.task, spec.protocol.model_copy(update={"seeds": (0,)}), demonstration_key))
        if key not in self._materials:
            self._materials[key] = _load(spec, method)
        material, model, tokenizer, startup_seconds = self._materials[key]
        check_length(model, material.task, spec.protocol.max_length, method, spec.label)
        held = self._tokenize_held(spec, model, tokenizer)
        return replace(material, spec=spec, trains=method.trains, held=held), startup_seconds

    def _tokenize_held(self, spec: TrialSpec, model: Any, tokenizer: Any) -> Sequence[TokenizedSet]:
        if spec.retention is None:
            return ()
        key = repr((spec.model, spec.retention, spec.protocol.model_copy(update={"seeds": (0,)})))
        if key not in self._held:
            self._held[key] = tokenize_held(spec.retention, spec.protocol, spec.model, tokenizer, model.config)
        return self._held[key]

    def speed(self, device: torch.device, policy: Policy) -> Speed:
        """Returns how fast the device computes under a policy."""
        key = f"{device} {policy.name}"
        if key not in self._speeds:
            self._speeds[key] = time_model.measure(device, policy.autocast)
        return self._speeds[key]


def _load(spec: TrialSpec, method: Method[Any]) -> tuple[Material, Any, Any, dict[str, float]]:
    """Loads what a trial works on, its model without weights and its tokenizer; returns these, and the seconds of
    loading and tokenizing."""
    task = registry.create_task(spec.task)
    started = time.perf_counter()
    data = trial_data.load(task, spec.task, spec.protocol)
    model: Any = trial_model.build_empty(spec.model, task)[0]
    tokenizer = trial_model.load_tokenizer(spec.model, task)
    loaded = time.perf_counter()
    solved_examples = demonstrations(method, data.splits["train"], spec.seed)
    features = {
        split: task.encode(rows, tokenizer, spec.protocol.max_length, solved_examples)
        for split, rows in data.splits.items()
    }
    startup_seconds = {"load": loaded - started, "tokenize": time.perf_counter() - loaded}
    return Material(spec, task, data.splits, features, method.trains), model, tokenizer, startup_seconds
