"""Fixtures of tests that start trackers: doubles that come through entry points, an environment without outlets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tracker_helpers import DOUBLES, announce


@pytest.fixture(scope="session")
def doubles_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the path of Python that announces `recorder`, `troublemaker` and `lacking`."""
    folder = tmp_path_factory.mktemp("doubles")
    announce(folder, "tracker_doubles", DOUBLES, {name: name for name in ("recorder", "troublemaker", "lacking")})
    return folder


@pytest.fixture
def doubles(doubles_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The doubles are known here and to processes started from here."""
    monkeypatch.syspath_prepend(str(doubles_folder))
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(part for part in (str(doubles_folder), before) if part))
    return doubles_folder


@pytest.fixture
def no_outlets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the environment sends trackers elsewhere."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "TRACKIO_", "MLFLOW_")):
            monkeypatch.delenv(name)
