"""A training that is cut off, and continues from its checkpoint."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from pathlib import Path
from unittest import mock

import pytest
import torch

from tuneoff import registry
from tuneoff.config.data import ModelSpec, TaskSpec
from tuneoff.config.protocol import Protocol
from tuneoff.config.spec import TrialSpec
from tuneoff.interfaces import Attached
from tuneoff.measure.utilisation import Sampler
from tuneoff.records.record import Event
from tuneoff.store import TrialStore
from tuneoff.testing.method_suite import Case, MethodSuite
from tuneoff.testing.settings import attach
from tuneoff.trial import phases
from tuneoff.trial.context import TrialContext
from tuneoff.trial.phases import Phases
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.resume import TrialCheckpointer
from tuneoff.trial.training.selection import Selection
from tuneoff.trial.training.trainer import train as train_trial


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
