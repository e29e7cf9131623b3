"""Ranks for tests: forked, on gloo, without torchrun. And tiny models trained by them."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trial_helpers import context_of
from tuneoff import registry
from tuneoff.config.protocol import Protocol
from tuneoff.interfaces import Attached, Example, Features, Method, Task
from tuneoff.records.record import Prediction
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation
from tuneoff.testing.models import random_model, shape
from tuneoff.trial.distributed import fsdp
from tuneoff.trial.distributed.context import ALONE, RankContext, joined
from tuneoff.trial.modeling.activation_checkpointing import checkpoint_activations
from tuneoff.trial.modeling.load import _set_up
from tuneoff.trial.modeling.precision import apply_policy
from tuneoff.trial.modeling.tokenizer import byte_tokenizer
from tuneoff.trial.training.evaluate import ModelRunner, predict
from tuneoff.trial.training.trainer import train

CPU = torch.device("cpu")
SIZES = (3, 9, 5, 12, 7, 4, 10, 6, 8, 11)
SPECIAL: dict[str, dict[str, Any]] = {
    "gpt2": {"bos_token_id": 299, "eos_token_id": 299},
    "llama": {"bos_token_id": 298, "eos_token_id": 299, "pad_token_id": None},
    "t5": {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1},
}

forked_ranks = pytest.mark.skipif(
    not hasattr(os, "fork") or torch.cuda.is_available(), reason="ranks are forked, which CUDA does not allow"
)


def run_ranks(
    work: Callable[[RankContext], Any], folder: Path, size: int = 2, sharded: bool = False, seconds: float = 120
) -> list[Any]:
    """What `work` returns on each of so many ranks.

    Raises:
        AssertionError: with the log of a rank that failed, or when they do not end in time.
    """
    import torch.distributed as dist

    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    pids = {}
    for number in range(size):
        pid = os.fork()
        if pid == 0:
            _serve(work, folder, number, size, sharded, dist)
        pids[pid] = number
    limit = time.monotonic() + seconds
    failed: list[int] = []
    while pids and not failed:
        for pid in list(pids):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                number = pids.pop(pid)
                failed += [number] if status else []
        if time.monotonic() > limit:
            failed += pids.values()
        time.sleep(0.005)
    if pids:
        time.sleep(0.5)  # the others may still say what they lost
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    logs = {number: (folder / f"{number}.log").read_text() for number in failed}
    assert not failed, "\n".join(f"rank {number}:\n{log}" for number, log in logs.items())
    return [pickle.loads((folder / f"{number}.pickle").read_bytes()) for number in range(size)]


def _serve(work: Callable[[RankContext], Any], folder: Path, number: int, size: int, sharded: bool, dist: Any) -> None:
    """The forked process; never returns."""
    code = 1
    try:
        log = os.open(folder / f"{number}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout = sys.stderr = os.fdopen(log, "w", buffering=1)
        torch.set_num_threads(1)
        store = dist.FileStore(str(folder / "store"), size)
        with joined(number, size, CPU, sharded=sharded, store=store) as ranks:
            result = work(ranks)
        (folder / f"{number}.pickle").write_bytes(pickle.dumps(result))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def features(kind: str, sizes: Sequence[int] = SIZES) -> list[Features]:
    """Examples of many lengths; to be classified, or with a text to write."""
    generator = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        return torch.randint(105, 290, (count,), generator=generator).tolist()

    plain = [Features(ids(size), i % 2, size) for i, size in enumerate(sizes)]
    if kind == "class":
        return plain
    return [replace(f, label=0, target_ids=[*ids(2 + i % 3), 1]) for i, f in enumerate(plain)]


def examples(kind: str, count: int = len(SIZES)) -> list[Example]:
    return [Example(f"text {i}", "ab"[i % 2] if kind == "class" else f"word {i}", i, "") for i in range(count)]


def runner_for(
    name: str, kind: str, architecture: str, ranks: RankContext = ALONE, recomputes: bool = False
) -> tuple[ModelRunner, Method[Any]]:
    """A method on a tiny model without dropout, the same every time."""
    from transformers import AutoConfig

    task: Task = Classification({"labels": ["a", "b"]}) if kind == "class" else Generation({"max_target_length": 6})
    sizes = {"vocab_size": 300, **shape(architecture, 64), **SPECIAL.get(architecture, {})}
    config = AutoConfig.for_model(architecture, **sizes)
    _set_up(config, task, 0.0)
    model = random_model(config, task)
    method = registry.methods()[name].create({})
    assert isinstance(method, Method)
    torch.manual_seed(1)
    view = replace(task.view(model), tokenize=lambda text: [105 + ord(letter) % 100 for letter in text])
    attached: Attached = method.attach(model, view)
    for module in attached.module.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    if recomputes:
        checkpoint_activations(attached.model)
    if ranks.sharded:
        fsdp.shard(attached, CPU, ranks)
    policy = apply_policy("fp32", CPU)
    runner = ModelRunner(task, attached, CPU, policy.autocast, 0, 3, byte_tokenizer(config), ranks)
    return runner, method


@dataclass
class Trained:
    """What training left behind, as plain data."""

    weights: dict[str, torch.Tensor]
    losses: list[float]
    norms: list[float]
    order: str
    tokens: int
    examples: int
    scores: list[dict[str, float]]
    predictions: list[Prediction]


def protocol(**options: Any) -> Protocol:
    """Batches of four from ten rows: the last has two, and three parts divide neither."""
    return Protocol.model_validate(
        {
            "epochs": 2,
            "batch_size": 4,
            "gradient_accumulation_steps": 3,
            "evaluations_per_epoch": 3,
            "warmup_steps": 0,
            # Adam divides a gradient by its size: with a small epsilon, gradients that are zero but for rounding
            # (keys' biases) would become steps.
            "adam_epsilon": 1e-3,
            **options,
        }
    )


def trained(name: str, kind: str, architecture: str, ranks: RankContext = ALONE, **options: Any) -> Trained:
    """Trains a tiny model and scores it on the way."""
    asked = protocol(**options)
    runner, method = runner_for(name, kind, architecture, ranks, asked.gradient_checkpointing)
    rows, texts = features(kind), examples(kind)
    scores: list[dict[str, float]] = []

    def validate(step: int) -> dict[str, float]:
        made = predict(runner, rows, texts)
        scores.append({metric.name: metric.value for metric in runner.task.score(made, "validation")})
        return scores[-1]

    seen = train(context_of(runner, asked, 5e-3), runner, method, rows, validate)
    named = {n: p for n, p in runner.attached.module.named_parameters() if p.requires_grad}
    weights = {n: fsdp.whole(p.detach()).clone() for n, p in named.items()}
    return Trained(
        weights=weights,
        losses=[point.train_loss for point in seen.curve],
        norms=list(seen.gradient_norms),
        order=seen.order,
        tokens=seen.tokens,
        examples=seen.examples,
        scores=scores,
        predictions=predict(runner, rows, texts),
    )


def assert_same_training(several: Trained, one: Trained) -> None:
    """Equal within rounding; order, counts and coverage exactly."""
    assert several.order == one.order
    assert several.examples == one.examples
    assert several.tokens == one.tokens
    assert several.losses == pytest.approx(one.losses, rel=1e-4)
    assert several.norms == pytest.approx(one.norms, rel=1e-3)
    for ours, theirs in zip(several.scores, one.scores, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert [p.index for p in several.predictions] == [p.index for p in one.predictions]
    for name, weight in one.weights.items():
        assert (several.weights[name] - weight).abs().max() <= 2e-5, name
