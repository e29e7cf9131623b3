"""Real steps of a profile: which shapes are run, what is learnt from them, and what is left as it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from trial_helpers import make_study, save_writer
from tuneoff import registry
from tuneoff.config.protocol import Batching, Protocol
from tuneoff.interfaces import Features, Method
from tuneoff.measure.utilisation import Sampler
from tuneoff.planning.plan import plan
from tuneoff.trial.assembly import Assembled, assemble
from tuneoff.trial.context import TrialContext
from tuneoff.trial.data import batching
from tuneoff.trial.data.batching import EVALUATION_TOKENS, row_lengths
from tuneoff.trial.estimate import real_steps, time_model
from tuneoff.trial.estimate.phase_seconds import TrainingTime
from tuneoff.trial.estimate.real_steps import StepProfiler
from tuneoff.trial.estimate.schedule import (
    Lengths,
    MicroBatch,
    batch_schedule,
    candidates,
    evaluation_batches,
    representatives,
    writing_batches,
)
from tuneoff.trial.estimate.step_cost import StepCost
from tuneoff.trial.estimate.time_model import Curve, Speed, TimeModel
from tuneoff.trial.estimate.topology import Topology
from tuneoff.trial.phases import Phases
from tuneoff.trial.randomness import seed_all

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SPEED = Speed(operations=1e9, traffic=1e9, call=1e-5)
Open = Callable[..., Any]


def rows_of(*lengths: int, targets: int = 0) -> list[Features]:
    return [Features([7] * n, 0, n, target_ids=[8] * targets) for n in lengths]


def by_tokens(micro: MicroBatch) -> StepCost:
    """A count that grows with the padded tokens, a hundredth of a second for each by `SPEED`."""
    return StepCost(1000 * micro.padded_tokens, 10_000_000 * micro.padded_tokens, 0, 0)


@pytest.fixture
def assembled(bert_folder: Path, news_csv: Path) -> Open:
    """A trial ready to train, as a context manager that ends its sampler."""

    @contextmanager
    def make(method: str = "lora", **protocol: Any) -> Iterator[tuple[Assembled, Phases]]:
        settings = {"seeds": 1, "epochs": 1, "batch_size": 8, "max_length": 24, "precision": "fp32", **protocol}
        (spec,) = plan(make_study(bert_folder, news_csv, {method: {}}, protocol=settings))
        made = registry.methods()[method].create(spec.options)
        assert isinstance(made, Method)
        seed_all(0)
        with Sampler() as sampler:
            context = TrialContext.of(spec, CPU, sampler)
            yield assemble(context, made), context.phases

    return make


# --- the batch schedule


@pytest.mark.parametrize("batches", ["length", "random"])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_batch_schedule_is_that_of_the_loop(batches: Batching, parts: int) -> None:
    protocol = Protocol(batch_size=8, batching=batches, epochs=2, gradient_accumulation_steps=parts, max_steps=7)
    lengths = Lengths(rows_of(*range(1, 38)), apart=False)
    steps = batch_schedule(lengths, protocol, 3)
    assert len(steps) == protocol.total_steps(37) == 7
    seen = [row for step in steps[:5] for micro in step for row in micro.rows]
    assert sorted(seen) == list(range(37))
    for micro in steps[0]:
        assert micro.padded_tokens == len(micro.rows) * (max(micro.rows) + 1)
    # The last batch of an epoch holds the five that are left.
    assert [len(micro.rows) for micro in steps[4]] == ([5] if parts == 1 else [2, 2, 1])


def test_targets_widen_a_batch_together_or_apart() -> None:
    features = [*rows_of(10, targets=1), *rows_of(3, targets=6)]
    assert Lengths(features, apart=False).micro_batch([0, 1]) == MicroBatch((0, 1), 2 * 11, 7)
    assert Lengths(features, apart=True).micro_batch([0, 1]) == MicroBatch((0, 1), 2 * 16, 7)


def test_representatives_are_full_batches_from_the_least_to_the_greatest() -> None:
    protocol = Protocol(batch_size=4, epochs=1)
    steps = batch_schedule(Lengths(rows_of(*range(1, 43)), apart=False), protocol, 0)
    chosen = representatives(steps)
    every = [micro for step in steps for micro in step if len(micro.rows) == 4]
    assert chosen[0].padded_tokens == min(micro.padded_tokens for micro in every)
    assert chosen[-1].padded_tokens == max(micro.padded_tokens for micro in every)
    assert [micro.padded_tokens for micro in chosen] == sorted({micro.padded_tokens for micro in chosen})
    # Where all are alike, one stands for all.
    alike = batch_schedule(Lengths(rows_of(*[5] * 12), apart=False), protocol, 0)
    assert len(representatives(alike)) == 1


def test_what_takes_the_most_memory_is_the_widest_or_has_the_most_targets() -> None:
    features = [*rows_of(30, 30, targets=1), *rows_of(5, 5, targets=20)]
    steps = [[Lengths(features, apart=False).micro_batch([0, 1])], [Lengths(features, apart=False).micro_batch([2, 3])]]
    assert [micro.rows for micro in candidates(steps)] == [(0, 1), (2, 3)]
    assert len(candidates(steps[:1])) == 1


def test_evaluations_read_like_with_like() -> None:
    lengths = Lengths(rows_of(3, 9, 5, 12, 1), apart=False)
    assert [(micro.rows, micro.padded_tokens) for micro in evaluation_batches(lengths, 2, "cpu")] == [
        ((3, 1), 24),
        ((2, 0), 10),
        ((4,), 1),
    ]
    assert [micro.padded_tokens for micro in writing_batches(lengths, 2, [1, 1, 1, 1, 8])] == [16, 2, 1]


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_a_forecast_reads_and_writes_in_the_batches_of_the_trial(
    device_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EVALUATION_TOKENS, device_type, 60)
    features = rows_of(*range(1, 38), targets=3)
    lengths = row_lengths(features, apart=False)
    read = evaluation_batches(Lengths(features, apart=False), 4, device_type)
    assert [list(micro.rows) for micro in read] == list(batching.evaluation_batches(lengths, 4, 60))
    assert all(micro.padded_tokens <= 60 for micro in read)
    prompts = [len(f.input_ids) for f in features]
    written = writing_batches(Lengths(features, apart=False), 4, prompts)
    assert [list(micro.rows) for micro in written] == list(batching.evaluation_batches([(n,) for n in prompts], 4))


# --- from counts to seconds


def test_costs_go_through_what_was_seen_and_keep_its_factor_beyond() -> None:
    times = TimeModel(SPEED)
    small, middle, large, huge = (StepCost(0, 10**9 * n, 0, 0) for n in (1, 10, 100, 1000))
    assert times.seconds(small) == pytest.approx(1 / time_model.EFFICIENCY)
    times.observe(small, 4.0)
    assert times.seconds(huge) == pytest.approx(4000)
    times.observe(large, 100.0)
    assert times.seconds(small) == pytest.approx(4.0)
    assert times.seconds(large) == pytest.approx(100.0)
    assert times.seconds(middle) == pytest.approx(20.0)
    assert times.seconds(huge) == pytest.approx(1000.0)


def test_calls_and_work_are_told_apart_by_steps_of_several_sizes() -> None:
    times = TimeModel(SPEED)
    assert times.call_seconds(100_000) == pytest.approx(1.0 / time_model.EFFICIENCY)
    # A call takes a third of what it was put at, products and traffic four fifths.
    for size in (1, 2, 4, 8, 16):
        step = StepCost(0, size * 10**8, size * 10**8, 100_000)
        times.observe(step, 1 / 3 + 0.8 * SPEED.work_seconds(step))
    assert times.call_seconds(100_000) == pytest.approx(1 / 3, rel=0.2)


@pytest.mark.parametrize("seconds", [1.0, 9.0])
def test_one_size_tells_calls_and_work_apart_by_nothing(seconds: float) -> None:
    times, step = TimeModel(SPEED), StepCost(0, 10**9, 10**9, 100_000)
    times.observe(step, seconds)
    times.observe(step, seconds)
    assert times.call_seconds(100_000) == pytest.approx(seconds / 3, rel=0.01)


def test_calls_take_no_less_than_nothing() -> None:
    times = TimeModel(SPEED)
    for operations, seconds in ((10**9, 1.0), (40 * 10**9, 100.0)):
        times.observe(StepCost(0, operations, 0, 100_000), seconds)
    assert times.call_seconds(100_000) == 0


def test_kernels_of_a_width_that_comes_back_late_are_prepared_again() -> None:
    def seconds(*widths: int) -> float:
        curve = Curve([(1, 0.0), (100, 0.0)])
        time = TrainingTime(curve, 0.0, Topology(1, False, "cpu"), 0, first=1.0)
        return time([[MicroBatch((0,), width, 0)] for width in widths])

    assert seconds(5, 5, 6, 5, 6, 7) == 3
    assert seconds(5, 6, 7, 5, 8, 5) == 4
    assert seconds(5, 6, 7, 8, 5) == 5


def test_a_curve_goes_on_in_proportion() -> None:
    curve = Curve([(10, 1.0), (30, 5.0)])
    assert [curve(tokens) for tokens in (5, 10, 20, 30, 60)] == pytest.approx([0.5, 1.0, 3.0, 5.0, 10.0])


def test_a_machine_is_faster_than_a_pocket_calculator() -> None:
    from contextlib import nullcontext

    found = time_model.measure(CPU, nullcontext)
    assert 1e8 < found.operations < 1e15
    assert 1e7 < found.traffic < 1e13


# --- real steps


def test_a_profiler_runs_every_shape_that_it_can_pay_for(assembled: Open) -> None:
    with assembled() as (trial, phases):
        steps = batch_schedule(Lengths(trial.features["train"], apart=False), trial.spec.protocol, 0)
        shapes = representatives(steps)
        profiler = StepProfiler(trial, phases, by_tokens, TimeModel(Speed(1e15, 1e15, 1e-9)), 0)
        profiler.run(shapes, 60.0)
        assert [profile.micro for profile in profiler.profiles] == shapes
        assert all(1 <= profile.steps <= real_steps.MOST_REPEATS for profile in profiler.profiles)
        assert all(profile.seconds > 0 and profile.update_seconds > 0 for profile in profiler.profiles)
        assert profiler.unfit is None
        for profile in profiler.profiles:
            assert profile.peak_bytes is not None
            assert profile.peak_bytes > 100e6


def test_what_is_too_dear_is_cut_to_fewer_examples_of_the_same_width(assembled: Open) -> None:
    with assembled() as (trial, phases):
        lengths = Lengths(trial.features["train"], apart=False)
        shape = lengths.micro_batch(range(8))
        # By these costs a step of eight takes 0.08 s a token.
        times = TimeModel(SPEED)
        profiler = StepProfiler(trial, phases, by_tokens, times, 0)
        price = 2 * times.seconds(by_tokens(shape))
        profiler.run([shape], price / 3, for_last=0.0)
        (profile,) = profiler.profiles
        assert len(profile.micro.rows) == 2
        assert profile.micro.padded_tokens * 4 == shape.padded_tokens
        assert max(lengths.inputs[list(profile.micro.rows)]) * 2 == profile.micro.padded_tokens


def test_the_largest_shape_may_take_longer_than_the_rest(assembled: Open) -> None:
    with assembled() as (trial, phases):
        shape = Lengths(trial.features["train"], apart=False).micro_batch(range(8))
        profiler = StepProfiler(trial, phases, by_tokens, TimeModel(SPEED), 0)
        profiler.run([shape], 1e-9, for_last=1000.0)
        assert [profile.micro for profile in profiler.profiles] == [shape]


def test_a_process_grows_with_every_new_shape_that_it_can_pay_for(assembled: Open) -> None:
    with assembled() as (trial, phases):
        lengths = Lengths(trial.features["train"], apart=False)
        profiler = StepProfiler(trial, phases, by_tokens, TimeModel(Speed(1e15, 1e15, 1e-9)), 0)
        assert profiler.growth([lengths.micro_batch([0])], 1.0) == 0.0
        profiler.run([lengths.micro_batch(range(8))], 1.0)
        grown = profiler.growth([lengths.micro_batch(range(count)) for count in range(1, 8)], 5.0)
        assert grown is not None
        assert 0 <= grown < 50e6
        assert profiler.growth([lengths.micro_batch(range(3))], 0.0) is None


def test_one_example_is_run_whatever_it_costs(assembled: Open) -> None:
    with assembled() as (trial, phases):
        lengths = Lengths(trial.features["train"], apart=False)
        profiler = StepProfiler(trial, phases, by_tokens, TimeModel(SPEED), 0)
        profiler.run([lengths.micro_batch(range(8)), lengths.micro_batch(range(8, 16))], 1e-9, for_last=0.0)
        assert [len(profile.micro.rows) for profile in profiler.profiles] == [1]


def test_nothing_is_run_that_does_not_fit_into_memory(assembled: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_steps, "free_bytes", lambda device: 5_000)
    with assembled() as (trial, phases):
        lengths = Lengths(trial.features["train"], apart=False)
        profiler = StepProfiler(trial, phases, by_tokens, TimeModel(SPEED), 0)
        profiler.run([lengths.micro_batch([0]), lengths.micro_batch(range(8))], 60.0)
        assert profiler.profiles == []
        assert profiler.unfit is not None
        assert "were not run" in profiler.unfit


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_climb_changes_no_weight(method: str, assembled: Open) -> None:
    with assembled(method, gradient_accumulation_steps=2) as (trial, phases):
        module = trial.runner.attached.module
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        profiler = StepProfiler(trial, phases, by_tokens, TimeModel(Speed(1e15, 1e15, 1e-9)), 0)
        profiler.run([Lengths(trial.features["train"], apart=False).micro_batch(range(4))], 1.0)
        assert profiler.profiles
        assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
        assert all(parameter.grad is None for parameter in module.parameters())


def test_an_evaluation_a_single_example_and_what_is_kept(assembled: Open) -> None:
    with assembled("full") as (trial, _):
        lengths = Lengths(trial.features["validation"], apart=False)
        read = real_steps.evaluate(trial, "validation", lengths.micro_batch([0, 1, 2]))
        assert read.seconds > 0
        assert read.first_seconds > 0
        assert real_steps.single(trial, trial.features["test"][:2]) > 0
        seconds, stored = real_steps.keep(trial)
        assert seconds > 0
        assert stored == pytest.approx(4 * trial.counts.trainable.total, rel=0.05)


def test_writing_is_timed_by_a_few_tokens(tmp_path: Path) -> None:
    import json

    save_writer(tmp_path / "gpt2", "gpt2", n_positions=128)
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps({"text": f"say {i} " * 4, "title": f"{i}"}) + "\n" for i in range(40)))
    task = {"name": "generation", "data": str(data), "source": "text", "target": "title", "max_target_length": 30}
    protocol = {"max_length": 64, "precision": "fp32"}
    (spec,) = plan(make_study(tmp_path / "gpt2", data, {"lora": {}}, task=task, protocol=protocol))
    method = registry.methods()["lora"].create(spec.options)
    assert isinstance(method, Method)
    with Sampler() as sampler:
        trial = assemble(TrialContext.of(spec, CPU, sampler), method)
        lengths: list[int] = []
        original = trial.task.generate

        def watched(*args: Any, **kwargs: Any) -> Any:
            made = original(*args, **kwargs)
            lengths.extend(map(len, made))
            return made

        trial.task.generate = watched  # type: ignore[method-assign]
        written = real_steps.write(trial, trial.features["test"][:3])
    assert written.examples == 3
    assert written.read_seconds > 0
    assert written.token_seconds > 0
    assert max(lengths) <= 1 + real_steps.WRITTEN
    assert not math.isnan(written.token_seconds)
