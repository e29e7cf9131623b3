"""Tasks on tiny models of the real architectures, and methods attached to them: what a contract is tried on."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import nn

from tuneoff import registry
from tuneoff.interfaces import Attached, Batch, Features, Method, Task, TaskView
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation
from tuneoff.testing.models import random_model, shape

LABELS = ["a", "b", "c"]
END = 90
"""Id of the end-of-text token."""
SIZES: dict[str, dict[str, Any]] = {
    **{name: shape(name, 64) for name in ("bert", "roberta", "llama")},
    **{name: {**shape(name, 64), "bos_token_id": END, "eos_token_id": END} for name in ("gpt2", "gpt_neo")},
    "t5": {**shape("t5", 64), "num_decoder_layers": 3, "decoder_start_token_id": 0},
    "bart": {
        **shape("bart", 64),
        "decoder_layers": 3,
        "bos_token_id": 90,
        "pad_token_id": 1,
        "eos_token_id": 91,
        "decoder_start_token_id": 91,
        "forced_eos_token_id": None,
    },
}
"""Configuration keys of the tiny models, by transformers' name of the architecture."""


def build(task: Task, architecture: str, device: str = "cpu", noise: float = 0.05, **changes: Any) -> nn.Module:
    """Builds a tiny model for a task; the same weights every time. On the meta device it has shapes only."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(architecture, **{"vocab_size": 96, **SIZES[architecture], **changes})
    with torch.device(device):
        return random_model(config, task, noise)


@dataclass(frozen=True)
class Setting:
    """A task on an architecture, with examples: what a method is attached to. Written `class-bert`, `text-gpt2`, …"""

    kind: Literal["class", "text"]
    architecture: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.architecture}"

    @property
    def rate(self) -> float:
        """Returns a learning rate that moves the weights enough; writers start from larger ones."""
        return 0.05 if self.kind == "class" else 0.2

    @cached_property
    def task(self) -> Task:
        return Classification({"labels": LABELS}) if self.kind == "class" else Generation({})

    def model(self, device: str = "cpu", **changes: Any) -> nn.Module:
        """Returns a fresh model with the same weights every time; `changes` are keys of its configuration."""
        noise = 0.05 if self.kind == "class" else 0.15
        if changes or device != "cpu":
            return build(self.task, self.architecture, device, noise, **changes)
        if "model" not in self._built:
            self._built["model"] = build(self.task, self.architecture, device, noise)
        return copy.deepcopy(self._built["model"])

    @cached_property
    def _built(self) -> dict[str, nn.Module]:
        """Keeps the model: building takes longer than copying."""
        return {}

    def view(self, model: nn.Module) -> TaskView:
        return replace(self.task.view(model), tokenize=lambda text: [ord(letter) % 80 + 5 for letter in text])

    @cached_property
    def rows(self) -> list[Features]:
        inputs = features()
        if self.kind == "class":
            return inputs
        targets = features(seed=1, sizes=(4, 2, 6, 3))
        return [replace(f, label=0, target_ids=[*t.input_ids, END]) for f, t in zip(inputs, targets, strict=True)]

    @cached_property
    def batch(self) -> Batch:
        return self.task.collate(self.rows, 0)

    def logits(self, attached: Attached, rows: Sequence[Features] = ()) -> torch.Tensor:
        """Returns logits of these rows in one batch, by default of all."""
        return logits(self.task, attached, self.task.collate(rows, 0) if rows else self.batch)


CLASSIFIERS = tuple(Setting("class", name) for name in ("bert", "gpt2", "gpt_neo", "llama", "roberta"))
GENERATORS = tuple(Setting("text", name) for name in ("bart", "gpt2", "gpt_neo", "llama", "t5"))


def attach(name: str, options: Mapping[str, Any], setting: Setting, **changes: Any) -> tuple[Method[Any], Attached]:
    """Attaches a method to a fresh model; what it draws is drawn from the same seed every time."""
    model = setting.model(**changes)
    method = create(name, options)
    torch.manual_seed(1)
    return method, method.attach(model, setting.view(model))


def create(name: str, options: Mapping[str, Any]) -> Method[Any]:
    """Creates a method that has a model, by its name."""
    method = registry.methods()[name].create(dict(options))
    assert isinstance(method, Method)
    return method


def step(setting: Setting, method: Method[Any], attached: Attached, rate: float = 0.05) -> None:
    """Takes a few steps of plain gradient descent on the mean loss, so that every trained tensor moves."""
    task, loss_terms = setting.task, setting.task.loss_terms(setting.rows)
    for _ in range(3):
        attached.module.train()
        loss = task.loss(task.forward(attached, setting.batch), setting.batch)
        (4 * loss / loss_terms).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for group in method.parameter_groups(attached, 0.0):
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter -= rate * parameter.grad
                    parameter.grad = None


def features(seed: int = 0, sizes: tuple[int, ...] = (3, 9, 5, 12)) -> list[Features]:
    """Draws token ids that keep clear of special ones."""
    generator = torch.Generator().manual_seed(seed)
    return [
        Features(torch.randint(5, 80, (size,), generator=generator).tolist(), i % len(LABELS), size)
        for i, size in enumerate(sizes)
    ]


@torch.no_grad()
def logits(task: Task, attached: Attached, batch: Batch) -> torch.Tensor:
    """Computes a batch's logits as an evaluation does."""
    attached.module.eval()
    return task.forward(attached, batch)


@contextmanager
def single_thread() -> Iterator[None]:
    """Computes with one thread: tiny models gain nothing by more, and sums come in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
