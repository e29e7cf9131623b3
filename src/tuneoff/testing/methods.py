"""What every method promises, on tiny models of seven architectures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import pytest
import torch
from torch import nn

from tuneoff import registry
from tuneoff.config.data import ModelSpec, TaskSpec
from tuneoff.config.protocol import Protocol
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import StoreError, UnsupportedModel
from tuneoff.interfaces import Attached, Method
from tuneoff.measure.parameters import BaseIdentity, count
from tuneoff.measure.utilisation import Sampler
from tuneoff.records.record import Event
from tuneoff.store import TrialStore
from tuneoff.testing.settings import (
    CLASSIFIERS,
    GENERATORS,
    Setting,
    attach,
    create,
    single_thread,
    step,
)
from tuneoff.trial import phases
from tuneoff.trial.context import TrialContext
from tuneoff.trial.estimate.step_cost import MemoryTracker
from tuneoff.trial.modeling.activation_checkpointing import checkpoint_activations
from tuneoff.trial.modeling.frozen_bf16 import NARROW, keep_frozen_in_bf16
from tuneoff.trial.phases import Phases
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.resume import TrialCheckpointer
from tuneoff.trial.training.selection import Selection
from tuneoff.trial.training.trainer import train as train_trial


@dataclass(frozen=True, eq=False)
class Case:
    """A method with options in a setting."""

    method: str
    options: Mapping[str, Any]
    setting: Setting


class MethodSuite:
    """Which methods a suite is about, and where each is tried.

    Attributes:
        method: the method's name in study files, which is its entry point's.
        options: sets of options; the suite runs with each.
        settings: tasks on architectures.
        refuses: pattern of settings (`class-bert`, `text-*`) -> regular expression of the reason that `attach` gives.
    """

    method: ClassVar[str]
    options: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    settings: ClassVar[Sequence[Setting]] = (*CLASSIFIERS, *GENERATORS)
    refuses: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def names(cls) -> Iterable[str]:
        """Returns the methods that are tried."""
        return [cls.method]

    @classmethod
    def refusal(cls, method: str, setting: Setting) -> str | None:
        """Returns a regular expression of the reason why a method does not take a setting; None where it does."""
        reasons = (reason for pattern, reason in cls.refuses.items() if fnmatchcase(str(setting), pattern))
        return next(reasons, None)

    @classmethod
    def cases(cls) -> Iterable[Any]:
        """Returns the cases, each a `pytest.param` with its id, of all that is not refused."""
        return [
            pytest.param(Case(name, options, setting), id=f"{name}-{number}-{setting}")
            for name in cls.names()
            for number, options in enumerate(cls.options)
            for setting in cls.settings
            if cls.refusal(name, setting) is None
        ]

    @classmethod
    def attempts(cls) -> Iterable[tuple[str, Setting]]:
        """Returns methods and settings whose attachment is tried: refused or not, as `refusal` says."""
        return [(name, setting) for name in cls.names() for setting in cls.settings]

    @classmethod
    def adds_frozen(cls, case: Case) -> bool:
        """Tells whether the method keeps a part of what it adds to the model frozen."""
        return False

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Runs each test with what its argument names."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", self.cases())
        if "mergeable_case" in metafunc.fixturenames:
            cases = [c for c in self.cases() if registry.methods()[c.values[0].method].mergeable]
            metafunc.parametrize("mergeable_case", cases)
        if "converted_case" in metafunc.fixturenames:
            cases = [*self.cases()]
            # Any other method says why in one way, so one of them is enough.
            own = [c for c in cases if registry.methods()[c.values[0].method].write_lora is not Method.write_lora]
            metafunc.parametrize("converted_case", own or cases[:1])
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", self.names())
        if "attempt" in metafunc.fixturenames:
            metafunc.parametrize("attempt", self.attempts(), ids=lambda pair: f"{pair[0]}-{pair[1]}")

    @pytest.fixture(autouse=True)
    def one_thread(self) -> Iterator[None]:
        with single_thread():
            yield


class AttachmentContract(MethodSuite):
    """Attaching, training, saving, loading, merging and counting."""

    def test_it_says_what_it_is(self, name: str) -> None:
        method = registry.methods()[name]
        assert method.title
        assert method.summary
        assert method.paper
        for reference in method.references:
            assert reference.key.isalnum()
            assert reference.key.isascii()
            assert reference.authors
            assert reference.title
            assert 1900 < reference.year < 2100
        undescribed = [key for key, field in method.Options.model_fields.items() if not field.description]
        assert not undescribed
        if not any(field.is_required() for field in method.Options.model_fields.values()):
            method.create({})
        if method.trains:
            rate = method.learning_rate
            assert 0 < rate.low < rate.center < rate.high

    def test_training_changes_only_what_is_declared(self, case: Case) -> None:
        setting = case.setting
        method, attached = attach(case.method, case.options, setting)
        before = {n: p.detach().clone() for n, p in attached.module.named_parameters()}
        grouped = [id(p) for group in method.parameter_groups(attached, 0.1) for p in group["params"]]
        declared = {n for n, p in attached.module.named_parameters() if p.requires_grad}
        assert sorted(grouped) == sorted({id(p) for p in attached.module.parameters() if p.requires_grad})
        step(setting, method, attached, setting.rate)
        changed = {n for n, p in attached.module.named_parameters() if not torch.equal(p, before[n])}
        assert changed <= declared
        # Keys' biases cannot change attention, and unused vocabulary gets no gradient: nearly all else must move.
        assert len(changed) >= 0.8 * len(declared)
        for head in setting.view(attached.model).head:
            assert any(head in n.split(".") for n in changed)

    def test_what_is_saved_gives_the_same_logits_in_a_fresh_model(self, case: Case, tmp_path: Path) -> None:
        setting = case.setting
        method, attached = attach(case.method, case.options, setting)
        untrained = setting.logits(attached)
        step(setting, method, attached, setting.rate)
        expected = setting.logits(attached)
        assert not torch.allclose(expected, untrained, atol=1e-3)
        method.save(attached, tmp_path)
        again, fresh = attach(case.method, case.options, setting)
        again.load(fresh, tmp_path)
        assert torch.equal(setting.logits(fresh), expected)
        # A checkpoint goes back into the model that it was taken from, too.
        method.load(attached, tmp_path)
        assert torch.equal(setting.logits(attached), expected)

    def test_merging_keeps_the_logits(self, mergeable_case: Case) -> None:
        setting = mergeable_case.setting
        method, attached = attach(mergeable_case.method, mergeable_case.options, setting)
        step(setting, method, attached, setting.rate)
        expected = setting.logits(attached)
        merged = method.merge(attached)
        own = {f"{setting.view(merged).output}.weight"} if attached.extra.get("findings") else set()
        names = {n for n, _ in setting.model().named_parameters()}
        assert {n for n, _ in merged.named_parameters()} == names | own
        torch.testing.assert_close(setting.logits(Attached(merged, merged)), expected, atol=1e-4, rtol=1e-4)

    def test_a_plain_lora_gives_the_same_logits_or_says_why_there_is_none(
        self, converted_case: Case, tmp_path: Path
    ) -> None:
        setting = converted_case.setting
        method, attached = attach(converted_case.method, converted_case.options, setting)
        step(setting, method, attached, setting.rate)
        compare_plain_lora(method, attached, setting, tmp_path)

    def test_counts_add_up_and_agree_with_the_meta_device(self, case: Case) -> None:
        setting, method = case.setting, create(case.method, case.options)
        model = setting.model()
        view = setting.view(model)
        size = sum(p.numel() for p in model.parameters())
        head = sum(p.numel() for module in view.head for p in model.get_submodule(module).parameters())
        before = BaseIdentity.of(model, view)
        torch.manual_seed(1)
        attached = method.attach(model, view)
        counts = count(attached.module, before)
        untied = dict(attached.extra.get("findings", ())).get("untied_head")
        own = model.get_submodule(view.output or "").weight.numel() if untied else 0  # type: ignore[operator]
        assert counts.total.head == counts.trainable.head == head + own
        assert counts.total.base == size - head
        if not self.adds_frozen(case):
            assert counts.trainable.adapter == counts.total.adapter
        trainable = sum(p.numel() for p in attached.module.parameters() if p.requires_grad)
        assert counts.trainable.total == trainable

        empty = setting.model("meta")
        before = BaseIdentity.of(empty, setting.task.view(empty))
        with torch.device("meta"):
            assert count(method.attach(empty, setting.task.view(empty)).module, before) == counts

    def test_padding_never_moves_the_logits(self, case: Case) -> None:
        setting = case.setting
        method, attached = attach(case.method, case.options, setting)
        step(setting, method, attached, setting.rate)
        together = setting.logits(attached)
        alone = torch.cat([setting.logits(attached, [row]) for row in setting.rows])
        torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-4)

    def test_two_attachments_at_one_seed_train_alike(self, case: Case) -> None:
        setting, results = case.setting, []
        for _ in range(2):
            method, attached = attach(case.method, case.options, setting)
            torch.manual_seed(2)
            step(setting, method, attached, setting.rate)
            results.append(setting.logits(attached))
        assert torch.equal(*results)

    def test_refusals_say_why_and_what_to_do(self, attempt: tuple[str, Setting]) -> None:
        name, setting = attempt
        reason = self.refusal(name, setting)
        if reason is None:
            attach(name, {}, setting)
            return
        with pytest.raises(UnsupportedModel, match=reason) as caught:
            attach(name, {}, setting)
        assert caught.value.hint


def compare_plain_lora(method: Method[Any], attached: Attached, setting: Setting, folder: Path) -> bool:
    """Writes what was trained as a plain LoRA; returns whether there is one.

    Args:
        folder: an empty one.

    Raises:
        AssertionError: where PEFT puts it on a fresh model and that gives other logits, or a refusal leaves files.
    """
    from peft import PeftModel

    expected = setting.logits(attached)
    try:
        method.write_lora(attached, folder)
    except StoreError:
        assert not any(folder.iterdir())
        return False
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["peft_type"] == "LORA"
    assert not settings["use_dora"]
    assert not settings["use_rslora"]
    module: Any = PeftModel.from_pretrained(setting.model(), str(folder))
    found = setting.logits(Attached(module.get_base_model(), module))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    return True


@dataclass
class Training:
    """What three steps left behind: losses, trained tensors, logits under evaluation, and the model."""

    losses: list[float]
    weights: dict[str, torch.Tensor]
    logits: torch.Tensor
    attached: Attached
    saved_bytes: int


def train(
    case: Case, change: Callable[[Attached], object], *, dropout: float | None = None, bf16: bool = False
) -> Training:
    """Attaches a method, changes the model and takes three steps.

    Args:
        case: method, options and setting.
        change: what is tried on the model; it must change no result.
        dropout: set in every dropout module; None leaves them.
        bf16: whether under autocast to bfloat16.
    """
    setting = case.setting
    method, attached = attach(case.method, case.options, setting)
    for module in attached.module.modules() if dropout is not None else ():
        if isinstance(module, nn.Dropout):
            module.p = dropout  # type: ignore[assignment]
    change(attached)
    optimizer = torch.optim.SGD(method.parameter_groups(attached, 0.0), lr=0.05)
    torch.manual_seed(2)
    losses, saved_bytes = [], 0
    for _ in range(3):
        attached.module.train()
        inputs = [*attached.module.parameters(), *attached.module.buffers(), *setting.batch.values()]
        with MemoryTracker(inputs) as tracker:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = setting.task.forward(attached, setting.batch)
            loss = setting.task.loss(logits, setting.batch) / setting.task.loss_terms(setting.rows)
            saved_bytes = tracker.live
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    weights = {n: p.detach() for n, p in attached.module.named_parameters() if p.requires_grad}
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return Training(losses, weights, setting.logits(attached), attached, saved_bytes)


def keep(attached: Attached) -> None:
    """Leaves the model as it is."""


def compare_frozen_bf16(case: Case) -> Attached:
    """Trains with frozen weights in float32 and in bfloat16, both under autocast; returns the latter's model.

    Raises:
        AssertionError: where any loss, trained weight or logit differs.
    """
    wide, narrow = train(case, keep, bf16=True), train(case, keep_frozen_in_bf16, bf16=True)
    assert narrow.losses == wide.losses
    assert narrow.weights.keys() == wide.weights.keys()
    for key, weight in wide.weights.items():
        assert weight.dtype == narrow.weights[key].dtype == torch.float32
        assert torch.equal(narrow.weights[key], weight), key
    assert torch.equal(narrow.logits, wide.logits)
    return narrow.attached


def compare_activation_checkpointing(case: Case) -> tuple[int, int]:
    """Trains with dropout without and with activation checkpointing; returns the bytes saved for backward by each.

    Raises:
        AssertionError: where a loss or a trained weight differs by more than rounding.
    """
    plain = train(case, keep, dropout=0.1)
    recomputed = train(case, lambda attached: checkpoint_activations(attached.model), dropout=0.1)
    assert recomputed.losses == pytest.approx(plain.losses, rel=1e-6)
    assert recomputed.weights.keys() == plain.weights.keys()
    for key, weight in plain.weights.items():
        assert (recomputed.weights[key] - weight).abs().max() <= 1e-6, key
    return plain.saved_bytes, recomputed.saved_bytes


class FrozenBf16Contract(MethodSuite):
    """Frozen weights stored in bfloat16 change nothing of what is learned under bf16 autocast."""

    def narrows(self, case: Case, narrowed: int) -> bool:
        """Tells whether so many layers in bfloat16 are right for a case."""
        return True

    def test_frozen_weights_in_bfloat16_change_no_step(self, case: Case) -> None:
        attached = compare_frozen_bf16(case)
        narrow = [part for part in attached.module.modules() if type(part) in NARROW.values()]
        assert {part._parameters["weight"].dtype for part in narrow} <= {torch.bfloat16}  # type: ignore[union-attr]
        assert self.narrows(case, len(narrow))


class ActivationCheckpointingContract(MethodSuite):
    """Recomputed activations change nothing of what is learned, and keep less for the backward pass."""

    def saves(self, case: Case, plain: int, recomputed: int) -> bool:
        """Tells whether the bytes kept for the backward pass, without and with it, are right for a case."""
        return recomputed <= plain

    def test_activation_checkpointing_changes_no_step(self, case: Case) -> None:
        plain, recomputed = compare_activation_checkpointing(case)
        assert self.saves(case, plain, recomputed)


class _Ended(BaseException):
    """Stands for the end of a process."""


class _EveryStep(TrialCheckpointer):
    """Writes a checkpoint after every step."""

    def is_due(self, step: int) -> bool:
        return True


def _ignore(event: Event) -> None:
    """Takes an event of a trial."""


def train_with_checkpoints(case: Case, folder: Path, last_step: int | None = None) -> dict[str, torch.Tensor]:
    """Trains four steps, from the newest checkpoint in a folder where there is one; returns the trained tensors.

    Args:
        case: method, options and setting.
        folder: of the trial.
        last_step: ends as a killed process does after this step's update, before its checkpoint.
    """
    setting, device = case.setting, torch.device("cpu")
    method, attached = attach(case.method, case.options, setting)
    spec = TrialSpec(
        id="trial",
        study="study",
        label="arm",
        method=case.method,
        options={},
        learning_rate=0.01,
        seed=0,
        model=ModelSpec(source="model"),
        task=TaskSpec.model_validate({"name": "task", "data": "rows.csv"}),
        protocol=Protocol(epochs=2, batch_size=2, gradient_accumulation_steps=2, seeds=(0,)),
    )
    after_step = method.after_step

    def end(attached: Attached, step: int, total_steps: int) -> None:
        after_step(attached, step, total_steps)
        if step == last_step:
            raise _Ended

    method.after_step = end  # type: ignore[method-assign]
    runner = ModelRunner(setting.task, attached, device, nullcontext, 0, 4)
    context = TrialContext(
        spec, setting.task, device, Phases(device, Sampler(), lambda event: None), lambda event: None
    )
    selection = Selection(context, runner, [], [], None)
    checkpointer = _EveryStep(context, TrialStore(folder), selection, {}, time.perf_counter())
    torch.manual_seed(2)
    # Every stretch of training would look for garbage first.
    with suppress(_Ended), mock.patch.object(phases, "TRIMMED", ()):
        train_trial(context, runner, method, setting.rows, lambda step: {}, checkpointer)
    return {n: p.detach().clone() for n, p in attached.module.named_parameters() if p.requires_grad}


class ResumptionContract(MethodSuite):
    """A training that is cut off continues from its checkpoint, to the same weights; unless the method says that it
    cannot (`resumable`)."""

    def test_a_training_that_is_cut_off_continues_to_the_same_weights(self, case: Case, tmp_path: Path) -> None:
        if not registry.methods()[case.method].resumable:
            pytest.skip("it keeps more than its trained parameters")
        whole = train_with_checkpoints(case, tmp_path / "whole")
        cut = train_with_checkpoints(case, tmp_path / "cut", last_step=3)
        continued = train_with_checkpoints(case, tmp_path / "cut")
        assert whole.keys() == continued.keys()
        assert all(torch.equal(continued[name], whole[name]) for name in whole)
        assert any(not torch.equal(cut[name], whole[name]) for name in whole)


class MethodContract(AttachmentContract, FrozenBf16Contract, ActivationCheckpointingContract, ResumptionContract):
    """All that a method promises."""
