"""Fixtures of the tests of trials: model folders, a file of rows, and trials that lie ready to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from trial_tools import make_study, news, save_folder, write_csv

from tuneoff.plan import plan
from tuneoff.store import TrialStore

MakePlace = Callable[..., TrialStore]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread, and the precision of products put back: a trial sets it for its whole process."""
    threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(products)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tmp_path_factory.mktemp("models") / "bert", "bert", ["x", "y", "z"])


@pytest.fixture(scope="session")
def gpt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tmp_path_factory.mktemp("models") / "gpt2", "gpt2", ["x", "y", "z"])


@pytest.fixture(scope="session")
def news_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "news.csv", news(48))


@pytest.fixture(scope="session")
def make_place(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path, news_csv: Path) -> MakePlace:
    """A fresh trial folder with its specification; keyword arguments change the study's keys."""

    def make(
        method: str,
        options: dict[str, Any] | None = None,
        *,
        folder: Path = bert_folder,
        data: Path = news_csv,
        seed: int = 0,
        **changes: Any,
    ) -> TrialStore:
        protocol = {**changes.pop("protocol", {}), "seeds": [seed]}
        study = make_study(folder, data, {method: options or {}}, protocol=protocol, **changes)
        (spec,) = plan(study)
        place = TrialStore(tmp_path_factory.mktemp("trial") / spec.id)
        place.write_spec(spec)
        return place

    return make
