"""Fixtures of small studies and study files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuneoff.config.spec import StudySpec
from tuneoff.planning.loading import parse


def _study(**changes: Any) -> StudySpec:
    raw: dict[str, Any] = {
        "name": "small",
        "model": "minilm",
        "task": {"data": "reuters-r8"},
        "methods": {"lora": {"r": 4}, "full": {}},
        "protocol": {"seeds": 2},
    }
    return parse({**raw, **changes})


@pytest.fixture(scope="session")
def make_study() -> Callable[..., StudySpec]:
    """A small checked study; keyword arguments replace its top-level keys."""
    return _study


@pytest.fixture
def study_path(tmp_path: Path) -> Callable[..., Path]:
    """Writes a study file from text (or bytes) and returns its path."""

    def write(content: str | bytes, name: str = "study.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write
