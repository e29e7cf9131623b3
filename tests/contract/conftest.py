"""What the contract tests share beside the suites of `tuneoff.testing`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from torch import nn

from tuneoff.tasks.classification import Classification
from tuneoff.testing.settings import LABELS, build, single_thread


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with single_thread():
        yield


@pytest.fixture
def task() -> Classification:
    return Classification({"labels": LABELS})


@pytest.fixture
def tiny(task: Classification) -> Callable[..., nn.Module]:
    """Builds a tiny classifier of an architecture; the same weights every time."""
    return partial(build, task)
