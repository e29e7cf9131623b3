"""What methods state of themselves before a run."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from tuneoff import registry
from tuneoff.interfaces import Prior

STUDY = Path(__file__).parents[2] / "benchmarks/studies/ag-news-minilm/searched/methods.csv"
TRAINED = [name for name, method in registry.methods().items() if method.trains]


@pytest.mark.parametrize("name", TRAINED)
def test_every_built_in_method_that_trains_states_a_prior_with_its_source(name: str) -> None:
    prior = registry.methods()[name].prior
    assert prior is not None
    assert 0 <= prior.low <= prior.high <= 1.1
    assert len(prior.source) > 10


def test_full_fine_tuning_is_the_yardstick_and_the_others_are_not_sure() -> None:
    priors = {name: registry.methods()[name].prior for name in TRAINED}
    full = priors.pop("full")
    assert full is not None
    assert (full.low, full.high) == (1, 1)
    assert all(prior is not None and prior.high - prior.low >= 0.2 for prior in priors.values())


def test_our_own_study_lies_within_every_prior() -> None:
    """The shares of full fine-tuning's gain that the committed study measured, after an equal search of rates."""
    lines = csv.DictReader(STUDY.read_text(encoding="utf-8").splitlines())
    accuracy = {line["method"]: float(line["accuracy_mean"]) for line in lines}
    baseline, full = accuracy.pop("majority"), accuracy["full"]
    assert len(accuracy) == 10
    for name, mean in accuracy.items():
        prior = registry.methods()[name].prior
        assert prior is not None
        assert prior.low <= (mean - baseline) / (full - baseline) <= prior.high, name


def test_floors_and_peft_types_state_none() -> None:
    assert {method.prior for method in registry.methods().values() if not method.trains} == {None}
    assert registry.methods()["peft:vera"].prior is None


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.5), (math.nan, 1.0), (0.5, math.inf)])
def test_what_is_no_interval_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="no interval"):
        Prior(low, high, "nowhere")
