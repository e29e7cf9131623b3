"""Every task of the registry keeps a task's promises."""

from __future__ import annotations

from tuneoff import registry
from tuneoff.testing import TaskContract

TEXTS = [
    "a goal",
    "the price of oil goes up again",
    "two goals and a match",
    "oil",
    "a team that wins",
    "tariffs on wheat",
]
LABELS = ["sport", "trade"] * 3


class TestClassification(TaskContract):
    task = "classification"
    columns = {"text": TEXTS, "label": LABELS}
    architectures = ("bert", "gpt2", "t5")


class TestClassificationByLikelihood(TaskContract):
    task = "classification"
    options = {"scoring": "likelihood", "words": {"sport": " sport", "trade": " trade"}}
    columns = {"text": TEXTS, "label": LABELS}
    architectures = ("gpt2", "llama")


class TestGeneration(TaskContract):
    task = "generation"
    options = {"template": "{source}: ", "max_target_length": 6}
    columns = {"article": TEXTS, "summary": ["goal", "oil up", "match", "oil is", "a win", "wheat"]}
    architectures = ("gpt2", "llama", "t5")


def test_every_task_has_a_suite() -> None:
    assert {suite.task for suite in TaskContract.__subclasses__()} >= set(registry.tasks())
