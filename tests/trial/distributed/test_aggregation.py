"""One record of a trial on several ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from rank_helpers import forked_ranks, run_ranks
from tuneoff.records.record import TrialRecord
from tuneoff.store import TrialStore
from tuneoff.trial.distributed.aggregation import OnlookerTrialStore, combine
from tuneoff.trial.distributed.context import ALONE, RankContext
from tuneoff.trial.phases import Measured
from tuneoff.trial.run import run

if TYPE_CHECKING:
    from trial_helpers import MakePlace

pytest_plugins = ("trial_fixtures",)
pytestmark = [pytest.mark.usefixtures("one_thread"), forked_ranks]

NO_DROPOUT: dict[str, Any] = {"dropout": 0, "batch_size": 5, "gradient_accumulation_steps": 2, "epochs": 2}


def _both(make_place: MakePlace, tmp_path: Path, method: str, **changes: Any) -> tuple[TrialRecord, TrialStore]:
    """The record of a trial on one device, and the place of the same on two."""
    one = make_place(method, protocol=NO_DROPOUT, **changes)
    two = make_place(method, protocol=NO_DROPOUT, devices=2, **changes)
    run_ranks(lambda ranks: _run(two, ranks), tmp_path / "ranks")
    return run(one, "cpu", 0.0), two


def _run(place: TrialStore, ranks: RankContext) -> None:
    run(place, "cpu", 0.0, ranks=ranks)


def test_a_trial_on_two_ranks_is_the_trial_on_one(make_place: MakePlace, tmp_path: Path) -> None:
    one, place = _both(make_place, tmp_path, "lora")
    two = place.record()
    assert two is not None
    for ours, theirs in zip(two.metrics, one.metrics, strict=True):
        assert (ours.name, ours.split) == (theirs.name, theirs.split)
        assert ours.value == pytest.approx(theirs.value, abs=1e-4)
    assert [p.train_loss for p in two.curve] == pytest.approx([p.train_loss for p in one.curve], rel=1e-4)
    assert two.gradient_norm.per_step == pytest.approx(one.gradient_norm.per_step, rel=1e-3)
    assert two.data == one.data
    assert (two.parameters, two.selected_step, two.steps) == (one.parameters, one.selected_step, one.steps)
    made, expected = place.predictions(), one.predictions["test"].rows
    assert made is not None
    assert [p.index for p in made] == list(range(expected))
    assert two.spec.devices == 2
    assert one.ranks == ()


def test_one_rank_writes_and_all_are_measured(make_place: MakePlace, tmp_path: Path) -> None:
    _, place = _both(make_place, tmp_path, "full")
    record = place.record()
    assert record is not None
    assert [figures.rank for figures in record.ranks] == [0, 1]
    for figures in record.ranks:
        assert figures.peak_memory_bytes is not None
        assert figures.cpu_percent_mean is not None
        assert figures.cpu_percent_mean > 0
        assert (figures.device, figures.threads, figures.gpu_percent_mean) == ("cpu", 1, None)
    assert record.missing["ranks.gpu_percent_mean"] == "the trial ran on the CPU"
    assert record.memory.peak_memory_bytes == max(f.peak_memory_bytes or 0 for f in record.ranks)
    assert record.timing.data_wait_seconds == max(f.data_wait_seconds or 0 for f in record.ranks)
    assert record.timing.train_seconds == max(f.train_seconds or 0 for f in record.ranks)
    parts = (record.timing.train_step_seconds, record.timing.data_wait_seconds)
    assert sum(part or 0 for part in parts) == pytest.approx(record.timing.train_seconds)
    assert record.data is not None
    speed = record.throughput.examples_per_second
    assert speed == pytest.approx(record.data.examples_trained / (record.timing.train_seconds or 0))
    steps = [event for event in place.events()[0] if event["kind"] == "step"]
    assert len({event["step"] for event in steps}) == len(steps), "told once, by one rank"
    assert (place.weights / "trained.safetensors").is_file()


def test_a_floor_that_uses_the_model_is_dealt_over_the_ranks(
    make_place: MakePlace, gpt_folder: Path, tmp_path: Path
) -> None:
    task = {"scoring": "likelihood"}
    one, place = _both(make_place, tmp_path, "zero_shot", folder=gpt_folder, task=task)
    two = place.record()
    assert two is not None
    assert [m.value for m in two.metrics] == pytest.approx([m.value for m in one.metrics], abs=1e-4)
    assert two.missing["ranks.train_seconds"] == "this method does not train"


@pytest.mark.slow
def test_a_sharded_trial_keeps_weights_that_one_process_reads(make_place: MakePlace, tmp_path: Path) -> None:
    from tuneoff.trial.inference import restore

    one = make_place("full", protocol=NO_DROPOUT)
    two = make_place("full", protocol=NO_DROPOUT, devices=2, shard=True)
    run_ranks(lambda ranks: _run(two, ranks), tmp_path / "ranks", sharded=True)
    alone, record = run(one, "cpu", 0.0), two.record()
    assert record is not None
    assert [m.value for m in record.metrics] == pytest.approx([m.value for m in alone.metrics], abs=1e-4)
    assert record.parameters == alone.parameters
    assert record.stored_bytes == alone.stored_bytes
    weights = [dict(restore(place, torch.device("cpu"))[1].module.named_parameters()) for place in (one, two)]
    for name, weight in weights[0].items():
        assert torch.allclose(weight, weights[1][name], atol=1e-4), name


def test_a_trial_of_one_process_is_left_as_it_is(make_place: MakePlace) -> None:
    record = run(make_place("head", protocol=NO_DROPOUT), "cpu", 0.0)
    measured = Measured(record.timing, record.memory, {})
    assert combine(measured, ALONE, torch.device("cpu"), 1.0) is measured
    assert "ranks" not in " ".join(record.missing)


def test_an_onlooker_writes_nothing(tmp_path: Path) -> None:
    onlooker = OnlookerTrialStore(tmp_path)
    onlooker.append_event({"kind": "phase", "phase": "train"})
    assert onlooker.write_predictions("test", []).rows == 0
    assert not list(tmp_path.iterdir())
    TrialStore(tmp_path).append_event({"kind": "phase", "phase": "train"})
    assert json.loads((tmp_path / "events.jsonl").read_text())["phase"] == "train"
