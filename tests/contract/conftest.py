"""Tiny random models of the real architectures, and a batch for each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

import pytest
import torch
from torch import nn

from tiny_shapes import random_model, shape
from tuneoff import registry
from tuneoff.methods.base import Attached, Method, TaskView
from tuneoff.tasks.base import Batch, Features, Task
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation

SIZES: dict[str, dict[str, Any]] = {
    **{name: shape(name, 64) for name in ("bert", "roberta", "llama")},
    **{name: {**shape(name, 64), "bos_token_id": 90, "eos_token_id": 90} for name in ("gpt2", "gpt_neo")},
}
ARCHITECTURES = sorted(SIZES)
SIZES["t5"] = {**shape("t5", 64), "num_decoder_layers": 3, "decoder_start_token_id": 0}
SIZES["bart"] = {
    **shape("bart", 64),
    "decoder_layers": 3,
    "bos_token_id": 90,
    "pad_token_id": 1,
    "eos_token_id": 91,
    "decoder_start_token_id": 91,
    "forced_eos_token_id": None,
}
WRITERS = ("bart", "gpt2", "gpt_neo", "llama", "t5")
DECODERS = ("gpt2", "gpt_neo", "llama")
LABELS = ["a", "b", "c"]
END = 90


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def task() -> Classification:
    return Classification({"labels": LABELS})


@pytest.fixture
def tiny(task: Classification) -> Callable[..., nn.Module]:
    """Builds a tiny classifier of an architecture; the same weights every time."""
    return partial(build, task)


def build(task: Task, architecture: str, device: str = "cpu", noise: float = 0.05, **changes: Any) -> nn.Module:
    """A tiny model of an architecture for a task; the same weights every time. On the meta device shapes only."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(architecture, **{"vocab_size": 96, **SIZES[architecture], **changes})
    with torch.device(device):
        return random_model(config, task, noise)


@dataclass(frozen=True)
class Setting:
    """A task on an architecture, with examples: what a method is attached to."""

    kind: Literal["class", "text"]
    architecture: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.architecture}"

    @cached_property
    def task(self) -> Task:
        return Classification({"labels": LABELS}) if self.kind == "class" else Generation({})

    def model(self, device: str = "cpu", **changes: Any) -> nn.Module:
        """A fresh model with the same weights every time."""
        noise = 0.05 if self.kind == "class" else 0.15
        if changes or device != "cpu":
            return build(self.task, self.architecture, device, noise, **changes)
        if "built" not in self.kept:
            self.kept["built"] = build(self.task, self.architecture, device, noise)
        return copy.deepcopy(self.kept["built"])

    @cached_property
    def kept(self) -> dict[str, nn.Module]:
        """Building takes longer than copying."""
        return {}

    def view(self, model: nn.Module) -> TaskView:
        return replace(self.task.view(model), tokenize=lambda text: [ord(letter) % 80 + 5 for letter in text])

    @cached_property
    def rows(self) -> list[Features]:
        plain = features()
        if self.kind == "class":
            return plain
        targets = features(seed=1, sizes=(4, 2, 6, 3))
        return [replace(f, label=0, target_ids=[*t.input_ids, END]) for f, t in zip(plain, targets, strict=True)]

    @cached_property
    def batch(self) -> Batch:
        return self.task.collate(self.rows, 0)

    def logits(self, attached: Attached, rows: Sequence[Features] = ()) -> torch.Tensor:
        return logits(self.task, attached, self.task.collate(rows, 0) if rows else self.batch)


CLASSIFIERS = [Setting("class", architecture) for architecture in ARCHITECTURES]
GENERATORS = [Setting("text", architecture) for architecture in WRITERS]


def attach(name: str, options: dict[str, Any], setting: Setting, **changes: Any) -> tuple[Method[Any], Attached]:
    """A method on a fresh model, drawn from the same seed every time."""
    model = setting.model(**changes)
    method = registry.methods()[name].create(options)
    assert isinstance(method, Method)
    torch.manual_seed(1)
    return method, method.attach(model, setting.view(model))


def step(setting: Setting, method: Method[Any], attached: Attached, rate: float = 0.05) -> None:
    """A few steps of plain gradient descent on the mean loss, so that every trained tensor moves."""
    task, units = setting.task, setting.task.units(setting.rows)
    for _ in range(3):
        attached.module.train()
        loss = task.loss(task.forward(attached, setting.batch), setting.batch)
        (4 * loss / units).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for group in method.parameter_groups(attached, 0.0):
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter -= rate * parameter.grad
                    parameter.grad = None


def features(seed: int = 0, sizes: tuple[int, ...] = (3, 9, 5, 12)) -> list[Features]:
    """Random token ids that keep clear of special ones."""
    generator = torch.Generator().manual_seed(seed)
    return [
        Features(torch.randint(5, 80, (size,), generator=generator).tolist(), i % len(LABELS), size)
        for i, size in enumerate(sizes)
    ]


@torch.no_grad()
def logits(task: Task, attached: Attached, batch: Batch) -> torch.Tensor:
    attached.module.eval()
    return task.forward(attached, batch)
