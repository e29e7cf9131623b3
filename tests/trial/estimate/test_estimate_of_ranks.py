"""What one rank of a trial on several devices will hold, by counting."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trial_tools import forecast_of, make_study, tiny_model
from tuneoff.config.spec import TrialSpec
from tuneoff.methods._modules import blocks
from tuneoff.planning.plan import plan
from tuneoff.records.forecast import ArmForecast
from tuneoff.tasks.classification import Classification
from tuneoff.trial.distributed.fsdp import gathered_bytes
from tuneoff.trial.distributed.gradient_sync import BUCKET_BYTES, copied_bytes
from tuneoff.trial.estimate import time_model, topology
from tuneoff.trial.estimate.time_model import Speed
from tuneoff.trial.estimate.topology import NO_TIME, NOT_PROFILED, START_SECONDS

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")


def trial(model: Path, data: Path, method: str, devices: int = 1, shard: bool = False, **protocol: Any) -> TrialSpec:
    equal = {"seeds": 1, "epochs": 1, "batch_size": 8, "max_length": 48, "precision": "fp32", **protocol}
    (spec,) = plan(make_study(model, data, {method: {}}, protocol=equal))
    return spec.model_copy(update={"devices": devices, "shard": shard})


def forecast(*given: Any, profile: bool = False, limit: int | None = None, **options: Any) -> ArmForecast:
    return forecast_of(trial(*given, **options), profile, limit)


@pytest.mark.parametrize("profile", [True, False])
def test_memory_is_that_of_a_share(profile: bool, bert_folder: Path, news_csv: Path) -> None:
    row = forecast(bert_folder, news_csv, "lora", 2, profile=profile)
    one = forecast(bert_folder, news_csv, "lora")
    assert row.how == "estimate"
    assert row.profiled_steps == ()
    assert row.missing == {"profile": NOT_PROFILED}
    assert row.seconds.keys() == one.seconds.keys()
    assert row.train_seconds == row.seconds["train"]
    assert row.peak_memory_bytes == sum(row.memory.values())
    assert row.memory.keys() == one.memory.keys()
    for part in ("weights", "gradients", "optimizer"):
        assert row.memory[part] == one.memory[part]
    assert row.memory["activations"] == pytest.approx(one.memory["activations"] / 2, rel=0.1)
    assert row.largest is not None
    assert row.largest.examples == 4
    assert (row.stored_bytes, row.predictions_bytes) == (one.stored_bytes, one.predictions_bytes)
    assert row.fits is True


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of a known speed: all time goes into operations, and the test's one thread takes one of two cores."""
    monkeypatch.setattr(time_model, "measure", lambda *_: Speed(1e9, math.inf, 0.0))
    monkeypatch.setattr(topology, "core_count", lambda: 2)
    monkeypatch.setattr(topology, "SUM_BYTES_PER_SECOND", {"cpu": math.inf})


@pytest.mark.usefixtures("two_cores")
def test_two_ranks_with_a_core_each_take_half_the_time(bert_folder: Path, news_csv: Path) -> None:
    one, two = (forecast(bert_folder, news_csv, "lora", n, evaluation_batch_size=1).seconds for n in (1, 2))
    assert two["train"] == pytest.approx(one["train"] / 2, rel=0.15)
    # The first rank has one batch more where there is an odd number, and the longest of all.
    for phase in ("validation", "test"):
        assert one[phase] / 2 <= two[phase] < 0.7 * one[phase], phase
    # Every rank checks itself, and the first alone is timed.
    for phase in ("preflight", "inference"):
        assert two[phase] == pytest.approx(one[phase], rel=0.1), phase
    assert two["load"] > START_SECONDS > one["load"]


@pytest.mark.usefixtures("two_cores")
def test_ranks_that_share_a_core_are_no_faster(
    bert_folder: Path, news_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "core_count", lambda: 1)
    one, two = (forecast(bert_folder, news_csv, "lora", n).seconds["train"] for n in (1, 2))
    assert two == pytest.approx(one, rel=0.15)


@pytest.mark.usefixtures("two_cores")
def test_a_step_takes_as_long_as_its_slowest_rank(bert_folder: Path, news_csv: Path) -> None:
    """Of one example per step, one rank has all."""
    one, two = (forecast(bert_folder, news_csv, "lora", n, batch_size=1).seconds["train"] for n in (1, 2))
    assert two == pytest.approx(one)


@pytest.mark.usefixtures("two_cores")
def test_the_sum_of_gradients_is_part_of_every_step(
    bert_folder: Path, news_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: dict[str, Any] = {"max_steps": 3}
    free = forecast(bert_folder, news_csv, "full", 2, **changed)
    monkeypatch.setattr(topology, "SUM_BYTES_PER_SECOND", {"cpu": 1000.0})
    summed = forecast(bert_folder, news_csv, "full", 2, **changed)
    more = summed.seconds["train"] - free.seconds["train"]
    assert more == pytest.approx(3 * summed.memory["gradients"] / 1000)


@pytest.mark.usefixtures("two_cores")
def test_a_trial_of_the_search_is_shared_too(bert_folder: Path, news_csv: Path) -> None:
    spec = trial(bert_folder, news_csv, "lora", 2)
    row = forecast_of(spec, search=spec)
    assert row.search_seconds["train"] == pytest.approx(row.seconds["train"])


def test_each_rank_has_its_part_of_the_machine(bert_folder: Path, news_csv: Path) -> None:
    found = {n: forecast(bert_folder, news_csv, "lora", n).available_bytes for n in (2, 4)}
    assert found[2] is not None
    assert found[4] == pytest.approx(found[2] / 2, rel=0.2)


def test_a_micro_batch_is_divided_and_not_the_batch(bert_folder: Path, news_csv: Path) -> None:
    """Three parts of eight are three, three and two examples; of three a rank of two gets two at most."""
    row = forecast(bert_folder, news_csv, "lora", 2, gradient_accumulation_steps=3)
    assert row.largest is not None
    assert row.largest.examples == 2


def test_copies_of_gradients_count_where_they_are_more_than_activations(bert_folder: Path, news_csv: Path) -> None:
    small: dict[str, Any] = {"batch_size": 2, "max_length": 8}
    row, one = (forecast(bert_folder, news_csv, "full", n, **small) for n in (2, 1))
    assert one.memory["activations"] < one.memory["gradients"]
    # All gradients of a tiny model go together, in one copy.
    assert row.memory["activations"] == row.memory["gradients"]


def test_a_sharded_model_is_held_in_parts(bert_folder: Path, news_csv: Path) -> None:
    whole, parts = (forecast(bert_folder, news_csv, "full", 2, shard=shard) for shard in (False, True))
    for part in ("gradients", "optimizer"):
        assert parts.memory[part] == pytest.approx(whole.memory[part] / 2, abs=1)
    assert parts.memory["weights"] > whole.memory["weights"] / 2, "and what is gathered"
    assert parts.stored_bytes == whole.stored_bytes, "one file, whole"
    assert (parts.seconds, parts.train_seconds) == ({}, None)
    assert parts.missing == {"train_seconds": NO_TIME, "seconds": NO_TIME, "profile": NOT_PROFILED}


def test_what_would_make_a_rank_fit_a_gpu(bert_folder: Path, news_csv: Path) -> None:
    spec = (bert_folder, news_csv, "lora", 2)
    whole = forecast(*spec, limit=8 * 10**9)
    assert whole.fits is True
    assert "process" not in whole.memory
    assert whole.peak_memory_bytes is not None
    limit = whole.peak_memory_bytes - whole.memory["activations"] // 3
    tight = forecast(*spec, limit=limit)
    assert tight.fits is False
    same = next(remedy for remedy in tight.remedies if "accumulation" in remedy.change)
    assert same.peak_memory_bytes <= limit
    # Two parts of eight examples are four, of which a rank has two: the half of what it had.
    assert same.change == "protocol.gradient_accumulation_steps=2"


def test_copies_are_of_buckets_and_not_of_what_is_sent_alone() -> None:
    sizes = [BUCKET_BYTES, 10, 20, BUCKET_BYTES]
    parameters = [nn.Parameter(torch.empty(size, device="meta")) for size in sizes]
    assert copied_bytes(parameters) == 4 * 30


def test_gathered_are_the_outer_parts_and_the_largest_unit_twice() -> None:
    model: Any = tiny_model("bert", Classification({"labels": ["a", "b"]}))

    def size(module: nn.Module) -> int:
        return sum(p.numel() * p.element_size() for p in module.parameters())

    within = [size(block) for block in blocks(model)]
    around = size(model) - sum(within)
    encoder = around - size(model.classifier)
    assert gathered_bytes(model) == around + 2 * max(*within, encoder)
