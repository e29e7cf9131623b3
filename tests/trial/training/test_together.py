"""Trials that are trained at once are trained as each is alone, and one that diverges leaves the others as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from trial_helpers import context_of, runner_of, some_features
from tuneoff import registry
from tuneoff.config.protocol import Protocol
from tuneoff.errors import CannotTrainTogether, Diverged
from tuneoff.interfaces import Features, Method
from tuneoff.measure.timing import Stopwatch
from tuneoff.tasks.generation import Generation
from tuneoff.trial.training import stacked_model
from tuneoff.trial.training.dropout import DropoutMasks
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.progress import Trained
from tuneoff.trial.training.stacked_model import StackedModel, share_frozen
from tuneoff.trial.training.together import Member, check_together, train_together
from tuneoff.trial.training.trainer import Trainer, train

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = (3, 9, 5, 12, 7, 4, 10, 6, 8, 11, 14, 3, 5, 9, 9, 16)
TRAINED = [name for name, method in registry.methods().items() if method.trains]
APART = {"full", "qlora"}
"""Methods that share no frozen float weights."""
NEEDS_CAUSAL = {"prefix_tuning"}
SEEDS_AND_RATES = ((0, 1e-3), (1, 3e-3), (2, 1e-2))
DIVERGES = 1e30


@dataclass
class Training:
    """A trial that trains: alone or beside others."""

    trainer: Trainer
    validated: list[int]
    trained: Trained | None = None
    error: Diverged | None = None

    @property
    def runner(self) -> ModelRunner:
        return self.trainer.runner

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return {n: p.detach() for n, p in self.runner.attached.module.named_parameters()}

    def validate(self, step: int) -> dict[str, float]:
        """Scores by the model itself, so that the weights of that step count; refuses outputs that are not finite, as
        predictions are made."""
        self.validated.append(step)
        total = float(self.logits().sum())
        if not math.isfinite(total):
            raise Diverged("the model's outputs are not finite")
        return {"accuracy": total}

    def logits(self) -> torch.Tensor:
        with self.runner.evaluating():
            return self.runner.logits(self.trainer.features)

    def end(self, error: Diverged) -> None:
        self.error = error


def training(name: str, architecture: str, seed: int, rate: float, writes: bool = False, **protocol: Any) -> Training:
    options = {"epochs": 5, "batch_size": 5, "warmup_steps": 2, "adam_epsilon": 1e-3}
    runner, method = runner_of(name, architecture, Generation({}) if writes else None)
    runner = replace(runner, masks=DropoutMasks(seed))
    context = context_of(runner, Protocol.model_validate({**options, **protocol}), rate, seed)
    return Training(Trainer(context, runner, method, rows_of(writes)), [])


def rows_of(writes: bool) -> list[Features]:
    """Examples to train on, with targets of unlike lengths where the task writes."""
    rows = some_features(SIZES)
    targets = some_features([1 + size % 5 for size in SIZES])
    return [replace(f, label=0, target_ids=t.input_ids) for f, t in zip(rows, targets, strict=True)] if writes else rows


def train_alone(one: Training) -> Training:
    """Trains as a trial in a process of its own does."""
    trainer = one.trainer
    try:
        while not trainer.is_done:
            trainer.train_until(lambda step: False)
            trainer.progress.note_validation(one.validate(trainer.step))
        one.trained = trainer.finish()
    except Diverged as error:
        one.error = error
    return one


def train_group(group: Sequence[Training]) -> Sequence[Training]:
    for one in group[1:]:
        share_frozen(one.runner, group[0].runner)
    check_together(group[0].trainer, group[1].trainer)
    members = [Member(one.trainer, one.validate, one.end) for one in group]
    train_together(members)
    for one, member in zip(group, members, strict=True):
        one.trained = member.trained
    return group


def some(name: str, architecture: str, rates: Sequence[float] = (), **protocol: Any) -> list[Training]:
    pairs = [(seed, rates[i] if rates else rate) for i, (seed, rate) in enumerate(SEEDS_AND_RATES)]
    return [training(name, architecture, seed, rate, **protocol) for seed, rate in pairs]


@pytest.fixture
def much_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large share of a tiny model may be each trial's own: its last block is half of it."""
    monkeypatch.setattr(stacked_model, "MOST_STACKED", 0.9)


@pytest.mark.usefixtures("much_of_it")
@pytest.mark.parametrize(
    ("name", "architecture", "writes"),
    [
        *((name, "gpt2" if name in NEEDS_CAUSAL else "bert", False) for name in TRAINED if name not in APART),
        ("lora", "llama", False),
        ("lora", "gpt2", True),
        ("prefix_tuning", "gpt2", True),
    ],
)
def test_every_method_trains_as_it_does_alone(name: str, architecture: str, writes: bool) -> None:
    """Twenty steps with dropout, seeds and rates unlike, batches of unlike widths, the last of an epoch smaller."""
    alone = [train_alone(one) for one in some(name, architecture, writes=writes)]
    group = train_group(some(name, architecture, writes=writes))
    lead = group[0].runner.attached.module
    for one, other in zip(alone, group, strict=True):
        assert one.trained is not None
        assert other.trained is not None
        assert other.trained.steps == 20
        assert other.validated == one.validated
        assert other.trained.gradient_norms == pytest.approx(one.trained.gradient_norms, rel=1e-4)
        for point, other_point in zip(one.trained.curve, other.trained.curve, strict=True):
            assert other_point.train_loss == pytest.approx(point.train_loss, rel=1e-5)
            assert other_point.validation == pytest.approx(point.validation, rel=1e-3, abs=1e-4)
        for parameter, weight in one.weights.items():
            assert (other.weights[parameter] - weight).abs().max() <= 2e-5, parameter
        torch.testing.assert_close(other.logits(), one.logits(), rtol=1e-4, atol=1e-4)
        counted = ("order", "examples", "tokens", "computed_tokens")
        assert [getattr(other.trained, key) for key in counted] == [getattr(one.trained, key) for key in counted]
        frozen = [n for n, p in lead.named_parameters() if not p.requires_grad]
        shared = dict(other.runner.attached.module.named_parameters())
        assert all(shared[n].data_ptr() == lead.get_parameter(n).data_ptr() for n in frozen), "one base"
    assert len({one.trained.order for one in group if one.trained}) == 3, "each has batches of its own"


def test_a_step_of_a_group_waits_for_the_device_once_and_each_trial_is_told_its_time() -> None:
    group, waits = some("lora", "bert"), []
    for one in group:
        one.trainer.phases.watch = Stopwatch(lambda: waits.append(1))
    train_group(group)
    assert len(waits) == group[0].trainer.steps
    seconds = [one.trainer.phases.watch.seconds for one in group]
    for name in ("train_step", "data_wait"):
        assert seconds[0][name] > 0
        assert [own[name] for own in seconds] == pytest.approx([seconds[0][name]] * 3)


@pytest.mark.parametrize("parts", [2, 5])
def test_accumulated_gradients_are_those_of_each_alone(parts: int) -> None:
    options: dict[str, Any] = {"gradient_accumulation_steps": parts, "max_steps": 6}
    alone = [train_alone(one) for one in some("lora", "bert", **options)]
    for one, other in zip(alone, train_group(some("lora", "bert", **options)), strict=True):
        assert one.trained is not None
        assert other.trained is not None
        assert other.trained.gradient_norms == pytest.approx(one.trained.gradient_norms, rel=1e-4)


@pytest.mark.parametrize("place", [0, 1])
def test_one_that_diverges_ends_as_alone_and_leaves_the_others_bit_for_bit(place: int) -> None:
    rates = [rate for _, rate in SEEDS_AND_RATES]
    sound = train_group(some("lora", "bert", rates, max_steps=8))
    rates[place] = DIVERGES
    group = train_group(some("lora", "bert", rates, max_steps=8))
    alone = train_alone(some("lora", "bert", rates, max_steps=8)[place])
    assert group[place].trained is None
    error, expected = group[place].error, alone.error
    assert error is not None
    assert expected is not None
    assert error.hint == expected.hint
    assert error.message.rpartition(" at ")[2] == expected.message.rpartition(" at ")[2], "which step"
    for number, (one, other) in enumerate(zip(sound, group, strict=True)):
        if number != place:
            assert one.trained is not None
            assert other.trained is not None
            assert other.trained.gradient_norms == one.trained.gradient_norms
            assert all(torch.equal(other.weights[name], weight) for name, weight in one.weights.items())


def test_one_that_diverges_in_its_validation_ends_there_and_all_may() -> None:
    group = some("head", "bert")

    def diverge(step: int) -> dict[str, float]:
        raise Diverged("the model's outputs are not finite")

    members = [Member(one.trainer, one.validate, one.end) for one in group]
    members[1].validate = diverge
    train_together(members)
    assert [member.trained is None for member in members] == [False, True, False]
    assert group[1].error is not None
    assert group[1].trainer.step == min(group[1].trainer.validation_steps)
    everyone = train_group(some("head", "bert", [DIVERGES] * 3))
    assert all(one.error is not None and one.trained is None for one in everyone)


# --- what cannot be trained together says so before the first step


def test_a_method_that_trains_most_of_the_model_is_trained_apart() -> None:
    with pytest.raises(CannotTrainTogether, match="most of the model is each trial's own"):
        train_group(some("full", "bert"))


def test_a_method_over_quantised_weights_is_trained_apart() -> None:
    with pytest.raises(CannotTrainTogether, match="quantised weights"):
        train_group(some("qlora", "gpt2"))


def test_a_method_that_changes_the_model_between_steps_is_trained_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    method = registry.methods()["lora"]
    assert issubclass(method, Method)
    monkeypatch.setattr(method, "after_step", lambda *args: None, raising=False)
    with pytest.raises(CannotTrainTogether, match="between steps"):
        train_group(some("lora", "bert"))


def test_an_encoder_decoder_that_writes_is_trained_apart() -> None:
    with pytest.raises(CannotTrainTogether, match=r"padded apart|do not grow with the width"):
        train_group(some("lora", "t5", writes=True))


def test_activations_that_are_computed_again_are_trained_apart() -> None:
    with pytest.raises(CannotTrainTogether, match="computed again"):
        train_group(some("lora", "bert", gradient_checkpointing=True))


def test_a_model_that_computes_otherwise_at_once_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both a wrong result and an operation that `vmap` has not."""
    collate = StackedModel._collate

    def mixed(self: StackedModel, parts: Sequence[Sequence[Features]]) -> Any:
        batch, lengths = collate(self, parts)
        return {name: tensor.flip(0) for name, tensor in batch.items()}, lengths

    with monkeypatch.context() as patch:
        patch.setattr(StackedModel, "_collate", mixed)
        with pytest.raises(CannotTrainTogether, match=r"the loss is another by|the gradient of .* is another by"):
            train_group(some("lora", "bert"))
    group = some("lora", "bert")
    forward = group[0].runner.task.forward

    def branching(attached: Any, batch: Any) -> torch.Tensor:
        return forward(attached, batch) * (2.0 if float(batch["input_ids"].sum()) < 0 else 1.0)

    monkeypatch.setattr(group[0].runner.task, "forward", branching)
    with pytest.raises(CannotTrainTogether, match="RuntimeError: vmap"):
        train_group(group)


def test_masks_of_pytorch_are_drawn_of_each_alone() -> None:
    group = some("lora", "bert")
    for one in group:
        one.trainer.runner = replace(one.runner, masks=None)
    with pytest.raises(CannotTrainTogether, match="PyTorch draws their dropout masks") as caught:
        train_group(group)
    assert "protocol.dropout" in caught.value.hint


def test_different_dropout_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DropoutMasks, "begin", lambda self, step, micro_batch: None)
    with pytest.raises(CannotTrainTogether, match="is another by"):
        train_group(some("lora", "bert"))


def test_the_loop_alone_is_the_one_that_trains_a_trial() -> None:
    """What is compared with here is what `train` does."""
    one, again = (training("lora", "bert", 0, 1e-3) for _ in range(2))
    train_alone(one)
    context = context_of(again.runner, again.trainer.protocol, 1e-3, 0)
    trained = train(context, again.runner, again.trainer.method, some_features(SIZES), again.validate)
    assert one.trained is not None
    assert trained.gradient_norms == one.trained.gradient_norms
