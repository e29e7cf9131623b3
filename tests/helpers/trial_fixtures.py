"""Fixtures of the tests of trials: model folders, a file of arms, and trials that lie ready to run."""

from __future__ import annotations

import gc
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from resume_helpers import PROTOCOL, finish, outcome
from trial_helpers import PAIRS, MakePlace, Trained, Written, make_study, news, save_folder, write_csv
from tuneoff.planning.plan import plan
from tuneoff.store import TrialStore
from tuneoff.trial import interruption, phases
from tuneoff.trial.run import run
from tuneoff.trial.training import resume


@pytest.fixture(scope="session", autouse=True)
def frozen_libraries() -> Iterator[None]:
    """What is imported so far is not looked through for garbage, which every trial in this process does often."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread, and the precision of products put back: a trial sets it for its whole process."""
    threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(products)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints come as often as `checkpoint_minutes` says, however long they take. Nothing is freed between."""
    monkeypatch.setattr(resume, "SAVING_SHARE", math.inf)
    monkeypatch.setattr(phases, "TRIMMED", ())


@pytest.fixture
def heeded() -> Iterator[None]:
    """This process heeds requests to stop, as a trial's does."""
    handlers = {name: signal.getsignal(getattr(signal, name)) for name in interruption.SIGNALS}
    interruption.heed_signals()
    yield
    for name, handler in handlers.items():
        signal.signal(getattr(signal, name), handler)


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


@pytest.fixture(scope="session")
def whole(make_place: MakePlace) -> dict[str, Any]:
    """The outcome of a trial of lora under `PROTOCOL` that nothing ended, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    place = make_place("lora", protocol=PROTOCOL, execution={"checkpoint_minutes": None, "latency_examples": 1})
    done = outcome(place, finish(place))
    torch.set_num_threads(threads)
    return done


@pytest.fixture(scope="session")
def trained(make_place: MakePlace, bert_folder: Path, gpt_folder: Path) -> Trained:
    """A finished trial of a method on a model; each runs once."""
    done: dict[tuple[str, str], TrialStore] = {}

    def get(method: str, architecture: str = "bert") -> TrialStore:
        if (method, architecture) not in done:
            folder = bert_folder if architecture == "bert" else gpt_folder
            # Fast enough learning for the head and what is attached to leave their start.
            options = {"learning_rate": 0.02, "epochs": 1}
            place = make_place(method, folder=folder, protocol=options)
            run(place, "cpu", time.perf_counter())
            done[method, architecture] = place
        return done[method, architecture]

    return get


@pytest.fixture(scope="session")
def written(make_place: MakePlace, gpt_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A finished trial of a method on a task that writes; each runs once."""
    data = write_csv(tmp_path_factory.mktemp("pairs") / "pairs.csv", PAIRS, header=("article", "summary"))
    done: dict[str, TrialStore] = {}

    def get(method: str) -> TrialStore:
        if method not in done:
            task = {"name": "generation", "template": "{source} => ", "max_target_length": 6, "num_beams": 2}
            protocol = {"learning_rate": 0.02, "epochs": 1}
            options = {"examples": 1} if method == "few_shot" else {}
            place = make_place(method, options, folder=gpt_folder, data=data, task=task, protocol=protocol)
            run(place, "cpu", time.perf_counter())
            done[method] = place
        return done[method]

    return get
