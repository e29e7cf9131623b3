"""What each rank of a trial on several devices computes and holds, and how long a step takes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trial_helpers import forecast_of, make_study, tiny_model
from tuneoff.config.spec import TrialSpec
from tuneoff.methods._modules import blocks
from tuneoff.planning.plan import plan
from tuneoff.records.forecast import ArmForecast
from tuneoff.tasks.classification import Classification
from tuneoff.trial.distributed.fsdp import gathered_bytes
from tuneoff.trial.distributed.gradient_sync import BUCKET_BYTES, copied_bytes
from tuneoff.trial.estimate import time_model, topology
from tuneoff.trial.estimate.schedule import MicroBatch
from tuneoff.trial.estimate.time_model import Speed
from tuneoff.trial.estimate.topology import NO_TIME, NOT_PROFILED, START_SECONDS, Topology

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
    arm = forecast(bert_folder, news_csv, "lora", 2, profile=profile)
    one = forecast(bert_folder, news_csv, "lora")
    assert arm.how == "estimate"
    assert arm.profiled_steps == ()
    assert arm.missing == {"profile": NOT_PROFILED}
    assert arm.seconds.keys() == one.seconds.keys()
    assert arm.train_seconds == arm.seconds["train"]
    assert arm.peak_memory_bytes == sum(arm.memory.values())
    assert arm.memory.keys() == one.memory.keys()
    for part in ("weights", "gradients", "optimizer"):
        assert arm.memory[part] == one.memory[part]
    assert arm.memory["activations"] == pytest.approx(one.memory["activations"] / 2, rel=0.1)
    assert arm.largest is not None
    assert arm.largest.examples == 4
    assert (arm.stored_bytes, arm.predictions_bytes) == (one.stored_bytes, one.predictions_bytes)
    assert arm.fits is True


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
    arm = forecast_of(spec, search=spec)
    assert arm.search_seconds["train"] == pytest.approx(arm.seconds["train"])


def test_each_rank_has_its_part_of_the_machine(bert_folder: Path, news_csv: Path) -> None:
    found = {n: forecast(bert_folder, news_csv, "lora", n).available_bytes for n in (2, 4)}
    assert found[2] is not None
    assert found[4] == pytest.approx(found[2] / 2, rel=0.2)


def test_a_micro_batch_is_divided_and_not_the_batch(bert_folder: Path, news_csv: Path) -> None:
    """Three parts of eight are three, three and two examples; of three a rank of two gets two at most."""
    arm = forecast(bert_folder, news_csv, "lora", 2, gradient_accumulation_steps=3)
    assert arm.largest is not None
    assert arm.largest.examples == 2


def test_copies_of_gradients_count_where_they_are_more_than_activations(bert_folder: Path, news_csv: Path) -> None:
    small: dict[str, Any] = {"batch_size": 2, "max_length": 8}
    arm, one = (forecast(bert_folder, news_csv, "full", n, **small) for n in (2, 1))
    assert one.memory["activations"] < one.memory["gradients"]
    # All gradients of a tiny model go together, in one copy.
    assert arm.memory["activations"] == arm.memory["gradients"]


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


def test_a_step_is_that_of_the_rank_that_takes_longest() -> None:
    short, long, none = [MicroBatch((0,), 4, 0)], [MicroBatch((1, 2), 20, 0)], list[MicroBatch]()
    ranks = [long, short, short, none]
    seconds: Any = lambda step: sum(micro.padded_tokens for micro in step)  # noqa: E731
    assert Topology(2, False, "cpu").slowest(ranks, seconds) == [long, short]
    assert Topology(1, False, "cpu").slowest(ranks, seconds) == ranks


def test_one_device_is_a_trial_of_its_own() -> None:
    one, speed = Topology(1, False, "cpu"), Speed(1e9, 1e9, 1e-5)
    assert (one.process_bytes, one.start_seconds, one.sum_seconds(10**9)) == (0, 0.0, 0.0)
    assert (one.rank_speed(speed), one.rank_memory(10**9), one.missing(searches=True)) == (speed, 10**9, {})


def test_each_rank_on_a_gpu_has_it_to_itself() -> None:
    two, speed = Topology(2, False, "cuda"), Speed(1e9, 1e9, 1e-5)
    assert (two.rank_speed(speed), two.rank_memory(10**9)) == (speed, 10**9)
