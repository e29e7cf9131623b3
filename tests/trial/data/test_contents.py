"""Contents that no id tells of, a hub's: what a run saw before its first trial is what every trial must load."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tuneoff.config.data import ModelSpec
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import ContentChanged
from tuneoff.records.record import DataInfo, ModelInfo, SplitInfo
from tuneoff.store import TrialStore
from tuneoff.trial.data.contents import verify_model, verify_rows

pytest_plugins = ("trial_fixtures",)

MakePlace = Callable[..., TrialStore]


@pytest.fixture
def spec(make_place: MakePlace) -> TrialSpec:
    """A trial of a run that saw rows `a` and commit `c1`."""
    seen = {"contents": {"train": "a", "model": "c1"}, "model": ModelSpec(source="org/name")}
    return make_place("lora").spec().model_copy(update=seen)


def test_rows_that_moved_on_are_named_by_their_split(spec: TrialSpec) -> None:
    verify_rows(spec, DataInfo(splits={"train": SplitInfo(rows=1, fingerprint="a")}))
    with pytest.raises(ContentChanged, match="the train rows are not those that this run saw before its first trial"):
        verify_rows(spec, DataInfo(splits={"train": SplitInfo(rows=1, fingerprint="b")}))


def test_a_base_model_that_moved_on_is_named_with_both_commits(spec: TrialSpec) -> None:
    verify_model(spec, ModelInfo(source="org/name", commit="c1"))
    verify_model(spec, ModelInfo(source="org/name"))
    with pytest.raises(ContentChanged, match="org/name moved from commit c1 to c2 since this run began"):
        verify_model(spec, ModelInfo(source="org/name", commit="c2"))
