"""Every executor of the registry keeps an executor's promises."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from running_helpers import RAY_MISSING
from slurm_helpers import slurm_missing, start_slurm
from tuneoff import registry
from tuneoff.executors.base import Executor
from tuneoff.executors.slurm import SlurmExecutor
from tuneoff.testing import ExecutorContract


class TestExecutors(ExecutorContract):
    @classmethod
    def names(cls) -> Iterable[Any]:
        # Jobs and tasks import all libraries anew.
        return [
            name if name == "local" else pytest.param(name, marks=pytest.mark.slow) for name in registry.executors()
        ]

    def start(self, name: str) -> Executor:
        if name == "slurm":
            if reason := slurm_missing():
                pytest.skip(reason)
            start_slurm()
        if name == "ray" and importlib.util.find_spec("ray") is None:
            pytest.skip(RAY_MISSING)
        return super().start(name)

    def left(self, executor: Executor) -> list[str]:
        jobs = []
        if isinstance(executor, SlurmExecutor):
            command = ["squeue", "--me", "--noheader", "--format=%j"]
            jobs = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return [*super().left(executor), *jobs]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def environment(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """What trials run in: one thread, no network, no folder of the person's."""
        home = tmp_path_factory.mktemp("home")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", "1")
            patch.setenv("HF_HUB_OFFLINE", "1")
            patch.setenv("HF_HOME", str(home / "hub"))
            patch.setenv("TUNEOFF_CACHE", str(home / "cache"))
            yield
