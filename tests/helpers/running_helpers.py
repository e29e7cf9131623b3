"""What tests that really run trials share; the fixtures are in running_fixtures.py."""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tuneoff import registry
from tuneoff.config.execution import ExecutorSpec
from tuneoff.config.spec import TrialSpec
from tuneoff.executors.base import Executor, Progress
from tuneoff.executors.local import LocalExecutor
from tuneoff.store import StudyStore

RAY_MISSING = "Ray is not installed (tuneoff[ray])"
WORDS = {"cats": "rrrrrrrr", "dogs": "oooooooo", "fish": "bbbbbbbb"}


@dataclass(frozen=True)
class Tiny:
    """Where the tiny things lie.

    Attributes:
        root: of all of them.
        model: folder of a BERT with two layers, hidden size 32 and 64 positions.
        llama: folder of a Llama of that size.
        train: CSV of 90 rows in three classes, told apart by a word each.
        test: CSV of 30 more.
        plugins: folder with the method `faulty`, for the path of Python.
        wheels: folder in which wheels are looked for before the package index is asked; empty.
    """

    root: Path

    @property
    def model(self) -> Path:
        return self.root / "bert"

    @property
    def llama(self) -> Path:
        return self.root / "llama"

    @property
    def train(self) -> Path:
        return self.root / "train.csv"

    @property
    def test(self) -> Path:
        return self.root / "test.csv"

    @property
    def plugins(self) -> Path:
        return self.root / "plugins"

    @property
    def wheels(self) -> Path:
        return self.root / "wheels"

    def study(self, methods: Any = ("majority", "full"), /, **protocol: Any) -> dict[str, Any]:
        """A study of the tiny model on the tiny rows, as plain data."""
        return {
            "name": "tiny",
            "model": str(self.model),
            "task": {"data": {"train": str(self.train), "test": str(self.test)}},
            "methods": list(methods) if isinstance(methods, tuple) else methods,
            "protocol": {"seeds": 1, "epochs": 1, "max_length": 24, "learning_rate": 1e-2, **protocol},
            "execution": {"latency_examples": 2},
        }


def write_rows(path: Path, rows: list[tuple[str, str]], header: tuple[str, str] = ("text", "label")) -> Path:
    """A CSV of texts and labels."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def tiny_rows(count: int, seed: int) -> list[tuple[str, str]]:
    """Rows whose class is told by one word; no two alike."""
    shuffle = random.Random(seed)
    labels = sorted(WORDS)
    return [(f"{WORDS[labels[i % 3]]} {seed}{i} {shuffle.randint(0, 99)}", labels[i % 3]) for i in range(count)]


class SharedExecutor(LocalExecutor):
    """A local executor that outlives the studies that use it, because a warm parent takes seconds to start."""

    def close(self) -> None:
        """Left open for the next test."""

    def end(self) -> None:
        """Ends its processes."""
        super().close()


class OneExecutor:
    """A plug-in that gives one executor, whatever device and options a study asks for."""

    title = "One executor"
    summary = "The executor of a test."

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.Options = executor.Options

    def create(self, device: str, options: Mapping[str, Any]) -> Executor:
        """The one."""
        return self.executor

    def registered(self) -> AbstractContextManager[None]:
        """Studies run on it until the block ends: it takes the place of the default."""
        return registry.executors().registered(ExecutorSpec().name, self)


@dataclass
class Prepared:
    """A study's folder and trials, ready for an executor, and what it told of them."""

    store: StudyStore
    trials: list[TrialSpec]
    told: list[Progress]

    def kinds(self) -> list[tuple[str, str]]:
        """(kind, label) of all but the events."""
        return [(p.kind, p.trial.label) for p in self.told if p.kind != "event"]


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str


def starter_of(executor: LocalExecutor) -> psutil.Process:
    """The process that starts its trials."""
    scratch = executor.children.scratch.name
    return next(process for process in psutil.Process().children() if scratch in process.cmdline())


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Waits for something to become true and returns it.

    Raises:
        AssertionError: if it does not.
    """
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.05)
    return found
