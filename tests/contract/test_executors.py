"""Every executor of the registry keeps an executor's promises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from tuneoff import registry
from tuneoff.testing import ExecutorContract


class TestExecutors(ExecutorContract):
    @classmethod
    def names(cls) -> Iterable[str]:
        return registry.executors()

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
