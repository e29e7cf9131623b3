"""The fast engine and the plain one train the same: exactly without dropout, and alike with it."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trial_helpers import MakePlace, runner_of, some_features
from tuneoff import registry
from tuneoff.records.record import Prediction, TrialRecord
from tuneoff.trial.run import run
from tuneoff.trial.training.dropout import DropoutMasks
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.trainer import accumulate

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

TRAINED = [name for name, method in registry.methods().items() if method.trains]
NEEDS_CAUSAL = {"prefix_tuning"}
PROTOCOL = {"max_steps": 20, "epochs": 4, "learning_rate": 0.003, "dropout": 0.0}
DRAWS = 150


def trial(
    make_place: MakePlace, method: str, engine: str, folder: Path, protocol: dict[str, Any]
) -> tuple[TrialRecord, list[Prediction]]:
    execution = {"engine": engine, "latency_examples": 0, "keep_weights": False}
    place = make_place(method, folder=folder, protocol=protocol, execution=execution)
    record = run(place, "cpu", time.perf_counter())
    return record, place.predictions() or []


@pytest.mark.parametrize("method", TRAINED)
def test_without_dropout_every_method_trains_and_predicts_the_same(
    method: str, make_place: MakePlace, bert_folder: Path, gpt_folder: Path
) -> None:
    folder = gpt_folder if method in NEEDS_CAUSAL else bert_folder
    (fast, answers), (plain, plain_answers) = (
        trial(make_place, method, engine, folder, PROTOCOL) for engine in ("fast", "plain")
    )
    assert fast.steps == plain.steps == 20
    assert fast.gradient_norm.per_step == pytest.approx(plain.gradient_norm.per_step, rel=1e-4)
    for point, plain_point in zip(fast.curve, plain.curve, strict=True):
        assert point.train_loss == pytest.approx(plain_point.train_loss, rel=1e-5)
        assert point.validation == pytest.approx(plain_point.validation, rel=1e-5)
    for answer, plain_answer in zip(answers, plain_answers, strict=True):
        assert answer.scores == pytest.approx(plain_answer.scores, rel=1e-4, abs=1e-5)


def losses(runner: ModelRunner, masks: DropoutMasks | None) -> torch.Tensor:
    """The loss of one batch under many draws of the masks."""
    runner = replace(runner, masks=masks)
    batch, draws = runner.batch(some_features()), []
    for step in range(DRAWS):
        draws.append(accumulate(runner, [batch], 4, step=step))
        runner.attached.module.zero_grad()
    return torch.tensor(draws, dtype=torch.float64)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_with_dropout_losses_have_the_same_distribution(architecture: str) -> None:
    runner, _ = runner_of("lora", architecture)
    runner.attached.module.train()
    for module in runner.attached.module.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
    torch.manual_seed(0)
    fast, plain = losses(runner, DropoutMasks(0)), losses(runner, None)
    error = math.sqrt(float(fast.var() + plain.var()) / DRAWS)
    assert error > 0
    assert abs(float(fast.mean() - plain.mean())) < 5 * error
    assert 0.6 < float(fast.std() / plain.std()) < 1.6
