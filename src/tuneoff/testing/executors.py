"""What every executor promises: a sealed record for each trial, whatever happens, and nothing left behind.

A tiny model is really trained. The contract is stated in `tuneoff.executors.base`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from tuneoff import registry
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import TuneoffError
from tuneoff.executors.base import Executor, Progress
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore

ARMS: dict[str, Any] = {"majority": {}, "full": {}, "diverges": {"method": "full", "learning_rate": 1e30}}
"""A baseline, an arm that trains, and one that fails."""


def save_parts(folder: Path) -> None:
    """Writes a tiny model (`model/`) and rows of two classes (`rows.csv`)."""
    import torch
    from transformers import AutoConfig, AutoModel

    from tuneoff.testing.models import HEADS
    from tuneoff.trial.modeling.tokenizer import byte_tokenizer

    config = AutoConfig.for_model("bert", vocab_size=300, max_position_embeddings=64, **HEADS)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder / "model")
    byte_tokenizer(config).save_pretrained(folder / "model")
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        lines = [(f"{'rrrr' if i % 2 else 'oooo'} number {i}", "cats" if i % 2 else "dogs") for i in range(48)]
        csv.writer(file).writerows([("text", "label"), *lines])


def tiny_study(folder: Path, arms: Mapping[str, Any] = ARMS, **protocol: Any) -> StudySpec:
    """Makes a study of what `save_parts` wrote."""
    return parse(
        {
            "name": "tiny",
            "model": str(folder / "model"),
            "task": {"data": {"train": str(folder / "rows.csv")}},
            "protocol": {"seeds": 1, "epochs": 1, "max_length": 24, **protocol},
            "execution": {"latency_examples": 2},
            "methods": dict(arms),
        }
    )


def prepare(study: StudySpec, root: Path) -> tuple[StudyStore, list[TrialSpec]]:
    """Creates the folder of a study that is to be run."""
    trials = plan(study)
    return StudyStore.create(root, study, trials), trials


def records(store: StudyStore) -> dict[str, TrialRecord]:
    """Returns label -> record."""
    return {record.spec.label: record for record in store.records()}


class ExecutorContract:
    """All that an executor promises.

    Attributes:
        executor: the executor's name, which is its entry point's.
        options: its options, as they stand in a study file below `executor`.
    """

    executor: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def names(cls) -> Iterable[Any]:
        """Returns the executors that are tried, as `pytest.mark.parametrize` takes them."""
        return [cls.executor]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Runs each test with every executor."""
        metafunc.parametrize("name", self.names())

    def start(self, name: str) -> Executor:
        """Makes an executor on the CPU."""
        executor = registry.executors()[name].create("cpu", self.options)
        assert isinstance(executor, Executor)
        return executor

    def left(self, executor: Executor) -> list[str]:
        """Describes what an executor that was closed has left running: processes below this one."""
        below = psutil.Process().children(recursive=True)
        return [" ".join(process.cmdline()) for process in below if process.status() != psutil.STATUS_ZOMBIE]

    @pytest.fixture(scope="class")
    @classmethod
    def parts(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The folder of the tiny model and its rows."""
        folder = tmp_path_factory.mktemp("parts")
        save_parts(folder)
        return folder

    @pytest.fixture(scope="class")
    @classmethod
    def started(cls) -> Iterator[dict[str, Executor]]:
        """Executors for several tests, by name: one may take seconds to start."""
        executors: dict[str, Executor] = {}
        yield executors
        for executor in executors.values():
            executor.close()

    @pytest.fixture
    def opened(self, name: str, started: dict[str, Executor]) -> Executor:
        """The executor, open."""
        if name not in started:
            started[name] = self.start(name)
        return started[name]

    def test_it_says_what_it_is_and_describes_its_options(self, name: str) -> None:
        executor = registry.executors()[name]
        assert executor.title
        assert executor.summary.endswith(".")
        assert all(field.description for field in executor.Options.model_fields.values())

    def test_each_trial_has_one_sealed_record_and_is_not_run_again(
        self, opened: Executor, parts: Path, tmp_path: Path
    ) -> None:
        store, trials = prepare(tiny_study(parts), tmp_path / "study")
        reports: list[Progress] = []
        opened.run(store, trials, reports.append)
        for trial in trials:
            kinds = [progress.kind for progress in reports if progress.trial.id == trial.id]
            assert kinds[0] == "started"
            assert kinds[-1] == "ended"
            assert set(kinds[1:-1]) == {"event"}, "it tells how a trial gets on"
        sealed = records(store)
        statuses = {label: record.status for label, record in sealed.items()}
        assert statuses == {"majority": Status.COMPLETED, "full": Status.COMPLETED, "diverges": Status.DIVERGED}
        assert sealed["diverges"].cause
        assert {p.trial.label: p.record for p in reports if p.kind == "ended"} == sealed

        reports.clear()
        opened.run(store, [trial for trial in trials if sealed[trial.label].status.finished], reports.append)
        assert [(progress.kind, progress.record) for progress in reports] == [
            ("skipped", sealed["majority"]),
            ("skipped", sealed["full"]),
        ]
        assert records(store) == sealed

    def test_an_interrupt_records_what_runs_as_cancelled_and_leaves_nothing(
        self, name: str, parts: Path, tmp_path: Path
    ) -> None:
        store, (trial,) = prepare(tiny_study(parts, {"full": {}}, epochs=10_000), tmp_path / "study")
        before = set(self.left(executor := self.start(name)))

        def interrupt(progress: Progress) -> None:
            if progress.event.get("phase") == "train":
                raise KeyboardInterrupt

        with executor:
            for attempts in (0, 1):
                with pytest.raises(KeyboardInterrupt):
                    executor.run(store, [trial], interrupt)
                assert store.trial(trial.id).attempts == attempts, "it is begun anew, and the attempt before is kept"
                assert records(store)["full"].status is Status.CANCELLED
        assert set(self.left(executor)) <= before

    def test_it_inspects_and_estimates(self, opened: Executor, parts: Path, tmp_path: Path) -> None:
        study = tiny_study(parts)
        trials = plan(study)
        inspection = opened.inspect(study, trials, True)
        assert inspection.labels == ("cats", "dogs")
        counts = inspection.trials[trials[1].id]
        assert sum(counts["trainable_parameters"].values()) == sum(counts["total_parameters"].values()) > 0
        (forecast,) = opened.estimate([(trials[1], None)])
        assert not isinstance(forecast, TuneoffError)
        assert forecast.stored_bytes

    def test_what_is_impossible_is_told_before_training(self, opened: Executor, parts: Path) -> None:
        study = tiny_study(parts, {"prefix": {"method": "prefix_tuning"}})
        with pytest.raises(TuneoffError, match="prefix"):
            opened.inspect(study, plan(study), True)

    def test_metrics_are_those_of_this_machine(self, name: str, opened: Executor, parts: Path, tmp_path: Path) -> None:
        study = tiny_study(parts, {"full": {}})
        results = []
        for number, executor in enumerate((opened, registry.executors()["local"].create("cpu", {}))):
            store, trials = prepare(study, tmp_path / str(number))
            executor.run(store, trials, lambda _: None)
            if executor is not opened:
                executor.close()
            results.append(records(store)["full"])
        assert results[0].metrics == results[1].metrics
        assert results[0].predictions["test"].sha256 == results[1].predictions["test"].sha256
