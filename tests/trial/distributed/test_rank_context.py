"""A trial on several ranks: the same training and the same scores as on one."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rank_helpers import (
    assert_same_training,
    examples,
    features,
    forked_ranks,
    protocol,
    run_ranks,
    runner_for,
    trained,
)
from tuneoff import registry
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import ExecutorError, TrialError
from tuneoff.interfaces import Method
from tuneoff.trial.distributed.context import ALONE, RankContext, check_devices, is_loss, threads_each
from tuneoff.trial.distributed.gradient_sync import BUCKET_BYTES, GradientSync, _buckets
from tuneoff.trial.distributed.heartbeat import Beat, read
from tuneoff.trial.training.checkpoint import Checkpoint
from tuneoff.trial.training.evaluate import predict, write

pytest_plugins = ("trial_fixtures",)
pytestmark = [pytest.mark.usefixtures("one_thread"), forked_ranks]


# --- the same training, whatever the number

FAST = [
    ("full", "class", "bert"),
    ("lora", "text", "gpt2"),
    ("prompt_tuning", "class", "bert"),
    ("prefix_tuning", "text", "gpt2"),
    ("last_block", "text", "gpt2"),
]


def _settings() -> list[Any]:
    """Every method that trains, on a task and a model that it takes; the quick ones first."""
    methods = {n: m for n, m in registry.methods().items() if issubclass(m, Method) and m.trains}
    every = []
    for name, method in methods.items():
        every.append((name, "class", "gpt2" if method.needs == "decoder" else "bert"))
        if method.needs != "head":
            every += [(name, "text", architecture) for architecture in ("gpt2", "t5")]
    # A T5 has no biases.
    slow = [setting for setting in every if setting not in (*FAST, ("bitfit", "text", "t5"))]
    slow += [(f"peft:{kind}", "class", "bert") for kind in ("vera", "boft", "hra")]
    return [*FAST, *(pytest.param(*setting, marks=pytest.mark.slow) for setting in slow)]


@pytest.mark.parametrize(("name", "kind", "architecture"), _settings())
def test_two_ranks_train_as_one(name: str, kind: str, architecture: str, tmp_path: Path) -> None:
    """With accumulation, a last batch that does not divide, and micro-batches of which a rank has no share."""
    if name == "qlora":
        pytest.importorskip("bitsandbytes")
    one = trained(name, kind, architecture)
    several = run_ranks(lambda ranks: trained(name, kind, architecture, ranks), tmp_path)
    for result in several:
        assert_same_training(result, one)
    for parameter, weight in several[0].weights.items():
        assert torch.equal(weight, several[1].weights[parameter]), parameter
    assert several[0].norms == several[1].norms
    assert several[0].predictions == several[1].predictions


@pytest.mark.parametrize(
    ("name", "kind", "architecture"), [("lora", "class", "bert"), ("full", "text", "gpt2"), FAST[3]]
)
def test_so_do_they_when_activations_are_computed_again(
    name: str, kind: str, architecture: str, tmp_path: Path
) -> None:
    one = trained(name, kind, architecture)
    work = partial(_recomputed, name, kind, architecture)
    for result in run_ranks(work, tmp_path):
        assert_same_training(result, one)


def _recomputed(name: str, kind: str, architecture: str, ranks: RankContext) -> Any:
    return trained(name, kind, architecture, ranks, gradient_checkpointing=True)


def test_three_ranks_share_batches_of_four(tmp_path: Path) -> None:
    one = trained("full", "class", "bert", gradient_accumulation_steps=1, max_steps=4)
    work = partial(_three, gradient_accumulation_steps=1, max_steps=4)
    for result in run_ranks(work, tmp_path, size=3):
        assert_same_training(result, one)


def _three(ranks: RankContext, **options: Any) -> Any:
    return trained("full", "class", "bert", ranks, **options)


def test_ranks_draw_dropout_of_their_own() -> None:
    draws = []
    for number in range(2):
        RankContext(number, 2).seed(7)
        draws.append(torch.rand(3))
    assert not torch.equal(*draws)
    ALONE.seed(7)
    alone = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(alone, torch.rand(3))


# --- shares


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 7, 12])
def test_shares_are_neighbours_and_the_whole(size: int, count: int) -> None:
    shares = [RankContext(number, size).share(range(count)) for number in range(size)]
    assert [i for share in shares for i in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_batches_are_dealt_once_and_sharded_ranks_compute_equally_often(count: int) -> None:
    dealt = [list(RankContext(number, 3).deal(range(count))) for number in range(3)]
    assert sorted(batch for own in dealt for batch, _ in own) == list(range(count))
    sharded = [list(RankContext(number, 3, sharded=True).deal(range(count))) for number in range(3)]
    assert len({len(own) for own in sharded}) == 1
    assert sorted(batch for own in sharded for batch, counts in own if counts) == list(range(count))


@pytest.mark.parametrize("count", [1, 4, 10])
def test_an_evaluation_neither_repeats_nor_drops_an_example(count: int, tmp_path: Path) -> None:
    rows, texts = features("text", tuple(range(3, 3 + count))), examples("text", count)

    def score(ranks: RankContext) -> Any:
        runner, _ = runner_for("lora", "text", "gpt2", ranks)
        made = predict(runner, rows, texts)
        return made, write(runner, rows, texts, made)

    made, (written, speed) = score(ALONE)
    for ours, (answers, writing) in run_ranks(score, tmp_path):
        assert [p.index for p in ours] == list(range(count))
        assert [p.loss for p in ours] == pytest.approx([p.loss for p in made], rel=1e-5)
        assert [(p.index, p.output, p.values) for p in answers] == [(p.index, p.output, p.values) for p in written]
        assert (writing.tokens, writing.examples) == (speed.tokens, speed.examples)


# --- the reduction


class Branches(nn.Module):
    """Weights that some ranks use and others do not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.common = nn.Linear(4, 4)
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.never = nn.Linear(4, 4)

    def loss(self, number: int) -> torch.Tensor:
        x = torch.full((2, 4), 1.0 + number)
        own = self.first if number == 0 else self.second
        squares: torch.Tensor = own(self.common(x)) ** 2
        return squares.sum()


def _reduced(ranks: RankContext) -> Any:
    model = Branches()
    reducer = GradientSync(model.parameters(), ranks)
    found = []
    for _ in range(2):
        reducer.arm()
        loss = model.loss(ranks.rank)
        loss.backward()  # type: ignore[no-untyped-call]
        total = reducer.finish(float(loss.detach()))
        found.append((total, {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}))
        model.zero_grad(set_to_none=True)
    reducer.close()
    return found


def test_gradients_are_sums_and_a_weight_nobody_used_has_none(tmp_path: Path) -> None:
    model = Branches()
    losses = [model.loss(number) for number in range(2)]
    sum(losses, torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    expected = {name: p.grad for name, p in model.named_parameters()}
    first, second = run_ranks(_reduced, tmp_path)
    for found in (*first, *second):
        assert found[0] == pytest.approx(sum(float(loss.detach()) for loss in losses))
        for name, gradient in found[1].items():
            wanted = expected[name]
            if name.startswith("never"):
                assert gradient is None
            else:
                assert wanted is not None
                assert torch.allclose(gradient, wanted, rtol=1e-6), name


def _idle(ranks: RankContext) -> Any:
    """The second rank has no share of the step, and never computes."""
    model = nn.Linear(3, 2, bias=False)
    nn.init.ones_(model.weight)
    reducer = GradientSync(model.parameters(), ranks)
    loss = 0.0
    if ranks.is_main:
        reducer.arm()
        value = model(torch.ones(1, 3)).sum()
        value.backward()
        loss = float(value.detach())
    total = reducer.finish(loss)
    assert model.weight.grad is not None
    return total, model.weight.grad.tolist()


def test_a_rank_without_a_share_gets_the_sum_all_the_same(tmp_path: Path) -> None:
    assert run_ranks(_idle, tmp_path) == [(6.0, [[1.0] * 3] * 2)] * 2


def test_buckets_hold_all_in_reverse_and_no_more_than_they_may() -> None:
    sizes = [10, BUCKET_BYTES, 20, 30, BUCKET_BYTES // 4]
    parameters = [nn.Parameter(torch.empty(size, device="meta")) for size in sizes]
    parameters.append(nn.Parameter(torch.empty(5, device="meta", dtype=torch.float64)))
    buckets = _buckets(parameters)
    sent = [p for bucket in buckets for p in bucket.parameters if p.dtype == torch.float32]
    assert [p.numel() for p in sent] == sizes[::-1]
    for bucket in buckets:
        assert len({p.dtype for p in bucket.parameters}) == 1
        size = sum(p.numel() * p.element_size() for p in bucket.parameters)
        assert len(bucket.parameters) == 1 or size <= BUCKET_BYTES


def _different(ranks: RankContext) -> str:
    weight = torch.ones(3) + ranks.rank * 1e-7
    try:
        ranks.check_equal([weight], "before training")
    except TrialError as error:
        return error.message
    return ""


def test_ranks_with_different_weights_are_refused(tmp_path: Path) -> None:
    assert all("differ before training" in said for said in run_ranks(_different, tmp_path))


# --- sharded weights


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("class", "bert"),
        ("text", "gpt2"),
        pytest.param("class", "gpt2", marks=pytest.mark.slow),
        pytest.param("class", "llama", marks=pytest.mark.slow),
        pytest.param("text", "llama", marks=pytest.mark.slow),
        pytest.param("text", "t5", marks=pytest.mark.slow),
    ],
)
def test_sharded_training_is_unsharded_training(kind: str, architecture: str, tmp_path: Path) -> None:
    one = trained("full", kind, architecture)
    for result in run_ranks(lambda r: trained("full", kind, architecture, r), tmp_path, sharded=True):
        assert_same_training(result, one)


@pytest.mark.parametrize(
    ("kind", "architecture"), [("text", "gpt2"), pytest.param("text", "t5", marks=pytest.mark.slow)]
)
def test_so_is_sharded_training_that_computes_activations_again(kind: str, architecture: str, tmp_path: Path) -> None:
    one = trained("full", kind, architecture)
    work = partial(_recomputed, "full", kind, architecture)
    for result in run_ranks(work, tmp_path, sharded=True):
        assert_same_training(result, one)


def _kept(folder: Path, ranks: RankContext) -> Any:
    runner, method = runner_for("full", "text", "gpt2", ranks)
    rows, texts = features("text"), examples("text")
    folder.mkdir(exist_ok=True)
    checkpoint = Checkpoint(folder / "weights", method, runner.attached, ranks)
    before = predict(runner, rows, texts)
    checkpoint.save(1)
    with torch.no_grad():
        for parameter in runner.attached.module.parameters():
            parameter.mul_(0.5)
    between = predict(runner, rows, texts)
    checkpoint.restore()
    after = predict(runner, rows, texts)
    written, _ = write(runner, rows, texts, after)
    return [[p.loss for p in made] for made in (before, between, after)], [p.output for p in written], checkpoint.step


def test_sharded_weights_are_kept_and_put_back_as_one_file(tmp_path: Path) -> None:
    losses, texts, _ = _kept(tmp_path / "one", ALONE)
    found = run_ranks(partial(_kept, tmp_path / "two"), tmp_path / "ranks", sharded=True)
    for (before, between, after), outputs, step in found:
        assert before == after != between
        assert before == pytest.approx(losses[0], rel=1e-5)
        assert outputs == texts
        assert step == 1
    # A single process reads what the ranks wrote.
    runner, method = runner_for("full", "text", "gpt2")
    with torch.no_grad():
        for parameter in runner.attached.module.parameters():
            parameter.zero_()
    method.load(runner.attached, tmp_path / "two" / "weights")
    read = predict(runner, features("text"), examples("text"))
    assert [p.loss for p in read] == pytest.approx(losses[0], rel=1e-5)


def _checkpoints(folder: Path, ranks: RankContext) -> Any:
    runner, method = runner_for("lora", "class", "bert", ranks)
    folder.mkdir(exist_ok=True)
    checkpoint = Checkpoint(folder / "weights", method, runner.attached, ranks)
    checkpoint.save(3)
    with torch.no_grad():
        for parameter in runner.attached.module.parameters():
            parameter.zero_()
    checkpoint.restore()
    return [p.scores for p in predict(runner, features("class"), examples("class"))], checkpoint.step


def test_the_first_rank_writes_and_all_read(tmp_path: Path) -> None:
    runner, _ = runner_for("lora", "class", "bert")
    expected = [p.scores for p in predict(runner, features("class"), examples("class"))]
    with torch.no_grad():
        for parameter in runner.attached.module.parameters():
            if not parameter.requires_grad:
                parameter.zero_()
    zeroed = [p.scores for p in predict(runner, features("class"), examples("class"))]
    assert zeroed != expected
    for scores, step in run_ranks(partial(_checkpoints, tmp_path / "kept"), tmp_path / "ranks"):
        assert (scores, step) == (zeroed, 3)


# --- what is asked for


def _trials(*devices: int) -> list[TrialSpec]:
    base = {
        "id": "x",
        "study": "s",
        "label": "full",
        "method": "full",
        "options": {},
        "learning_rate": 1e-3,
        "seed": 0,
        "model": "m",
        "task": {"data": "d"},
        "protocol": protocol().model_dump(),
    }
    return [TrialSpec.model_validate({**base, "devices": count}) for count in devices]


def test_more_devices_than_there_are_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneoff.trial.distributed.context.core_count", lambda: 2)
    check_devices(_trials(1, 2), "cpu")
    with pytest.raises(ExecutorError, match="3 devices are asked for, and this machine has 2 cores") as caught:
        check_devices(_trials(1, 3, 2), "cpu")
    assert "--devices 2" in caught.value.hint


def test_gpus_are_counted_where_gpus_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneoff.trial.distributed.context.choose_device", lambda wanted: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ExecutorError, match="2 devices are asked for, and this machine has 1 GPU"):
        check_devices(_trials(2), "cuda")


@pytest.mark.parametrize(
    ("cores", "size", "asked", "threads"), [(8, 2, "", 4), (8, 3, "", 2), (2, 4, "", 1), (8, 2, "1", 1), (8, 4, "6", 2)]
)
def test_cores_are_divided_over_the_ranks(
    cores: int, size: int, asked: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneoff.trial.distributed.context.core_count", lambda: cores)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert threads_each(size) == threads


def _left_alone(ranks: RankContext) -> bool:
    """The second rank goes away; whether the first knows it for what it is."""
    import os

    if not ranks.is_main:
        os._exit(0)
    try:
        ranks.sum([1.0])
    except RuntimeError as error:
        return is_loss(error)
    return False


def test_phases_and_collectives_are_noted_while_they_last(tmp_path: Path) -> None:
    told: list[Any] = []
    ranks = RankContext(0, 2, beat=Beat(tmp_path / "0.beat"))
    emit = ranks.noting(told.append)
    emit({"kind": "phase", "phase": "train"})
    emit({"kind": "step", "step": 1})
    assert [event["kind"] for event in told] == ["phase", "step"]
    with contextlib.suppress(ValueError), ranks.inside("all_reduce", 5):
        pulse = read(tmp_path / "0.beat")
        assert (pulse.phase, pulse.collective, pulse.sending) == ("train", "all_reduce", 5)
        raise ValueError
    assert read(tmp_path / "0.beat").collective == ""
    # A trial of one process notes nothing.
    assert ALONE.noting(told.append) == told.append


def test_the_loss_of_a_rank_is_told_from_an_error_of_ones_own(tmp_path: Path) -> None:
    assert not is_loss(RuntimeError("size mismatch"))
    with pytest.raises(FileNotFoundError):
        # The second rank answers nothing.
        run_ranks(_left_alone, tmp_path)
    import pickle

    assert pickle.loads((tmp_path / "0.pickle").read_bytes()) is True
