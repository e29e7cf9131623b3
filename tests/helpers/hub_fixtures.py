"""Fixtures of the tests of the hub: the real clients, sent to a stand-in on the loopback, with an empty cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants

from hub_helpers import StandInHub, send_to, serving


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the client libraries of this process keep what they fetch."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    # Counting how often a data set is loaded would ask another server.
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
    for switches in (constants, datasets.config):
        monkeypatch.setattr(switches, "HF_HUB_OFFLINE", False)
    return cache


@pytest.fixture
def hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """A hub that this process's client libraries ask."""
    with serving() as stand_in:
        send_to(stand_in.url, monkeypatch)
        yield stand_in
