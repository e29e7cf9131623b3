"""`execution.release_memory` reaches the processes that train, is disclosed, and changes no result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from running_helpers import Prepared, SharedExecutor
from tuneoff.records.record import TrialRecord
from tuneoff.trial.modeling import allocator

pytest_plugins = ("running_fixtures",)
pytestmark = pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")

Prepare = Callable[..., Prepared]
WANTED = {"release_memory": True}


def run(executor: SharedExecutor, prepared: Prepared) -> dict[str, TrialRecord]:
    executor.run(prepared.store, prepared.trials, prepared.told.append)
    return {record.spec.label: record for record in prepared.store.records()}


def released(record: TrialRecord) -> bool:
    assert record.environment is not None, record.cause
    return record.environment.release_memory


def test_a_trial_with_it_is_the_same_trial_and_says_so(executor: SharedExecutor, prepare: Prepare) -> None:
    usual, asked = prepare(("full",), "usual"), prepare(("full",), "asked", execution=WANTED)
    assert [trial.id for trial in usual.trials] == [trial.id for trial in asked.trials]
    without, with_it = run(executor, usual)["full"], run(executor, asked)["full"]
    assert (released(without), released(with_it)) == (False, True)
    assert with_it.predictions["test"].sha256 == without.predictions["test"].sha256
    assert with_it.gradient_norm == without.gradient_norm


@pytest.mark.slow
def test_every_rank_has_it(executor: SharedExecutor, prepare: Prepare) -> None:
    arms: dict[str, Any] = {"full": {"devices": 2}}
    assert released(run(executor, prepare(arms, execution=WANTED))["full"])
