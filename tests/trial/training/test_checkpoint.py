from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from trial_helpers import runner_of, some_features
from tuneoff.errors import StoreError
from tuneoff.interfaces import Attached
from tuneoff.trial.training.checkpoint import Checkpoint

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")


def shift(attached: Attached, by: float) -> None:
    with torch.no_grad():
        for parameter in attached.module.parameters():
            if parameter.requires_grad:
                parameter.add_(by)


@pytest.mark.parametrize("name", ["full", "lora", "prompt_tuning", "head"])
def test_what_was_saved_last_is_what_is_restored(name: str, tmp_path: Path) -> None:
    runner, method = runner_of(name)
    runner.attached.module.eval()
    checkpoint = Checkpoint(tmp_path / "weights", method, runner.attached)
    checkpoint.save(1)
    shift(runner.attached, 0.1)
    checkpoint.save(5)
    kept = runner.logits(some_features()).detach()
    shift(runner.attached, 0.1)
    assert not torch.equal(runner.logits(some_features()), kept)
    checkpoint.restore()
    assert torch.equal(runner.logits(some_features()), kept)
    assert checkpoint.step == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["weights"]


def test_stored_bytes_are_those_of_the_trained_parameters(tmp_path: Path) -> None:
    sizes = {}
    for name in ("full", "head", "lora"):
        runner, method = runner_of(name)
        checkpoint = Checkpoint(tmp_path / name, method, runner.attached)
        checkpoint.save(1)
        (tmp_path / name / "README.md").write_text("a card that nobody needs " * 1000)
        sizes[name] = checkpoint.stored_bytes()
        trained = sum(4 * p.numel() for p in runner.attached.module.parameters() if p.requires_grad)
        assert trained < sizes[name] < trained + 10_000
    assert sizes["head"] < sizes["lora"] < sizes["full"]


def test_discarding_leaves_nothing(tmp_path: Path) -> None:
    runner, method = runner_of("head")
    checkpoint = Checkpoint(tmp_path / "weights", method, runner.attached)
    checkpoint.save(1)
    checkpoint.discard()
    assert list(tmp_path.iterdir()) == []
    checkpoint.discard()


def full_disk(attached: Attached, folder: Path) -> None:
    (folder / "half.safetensors").write_bytes(b"half")
    raise OSError(errno.ENOSPC, "No space left on device")


def full_disk_in_safetensors(attached: Attached, folder: Path) -> None:
    from safetensors import SafetensorError

    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("fails", [full_disk, full_disk_in_safetensors])
def test_a_full_disk_is_one_clear_error_and_the_earlier_weights_stay(fails: Any, tmp_path: Path) -> None:
    runner, method = runner_of("head")
    checkpoint = Checkpoint(tmp_path / "weights", method, runner.attached)
    checkpoint.save(3)
    kept = runner.logits(some_features()).detach()
    shift(runner.attached, 0.1)
    method.save = fails  # type: ignore[method-assign]
    with pytest.raises(StoreError, match=r"the weights cannot be written to .*weights: .*No space left"):
        checkpoint.save(6)
    assert checkpoint.step == 3
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]
    checkpoint.restore()
    runner.attached.module.eval()
    assert torch.equal(runner.logits(some_features()), kept)


def test_a_mistake_in_a_method_is_not_blamed_on_the_disk(tmp_path: Path) -> None:
    runner, method = runner_of("head")

    def mistaken(attached: Attached, folder: Path) -> None:
        raise KeyError("weight")

    method.save = mistaken  # type: ignore[method-assign]
    with pytest.raises(KeyError):
        Checkpoint(tmp_path / "weights", method, runner.attached).save(1)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_method_are_refused(tmp_path: Path) -> None:
    head, head_method = runner_of("head")
    Checkpoint(tmp_path / "weights", head_method, head.attached).save(1)
    full, full_method = runner_of("full")
    with pytest.raises(StoreError, match="does not fit this model and method"):
        Checkpoint(tmp_path / "weights", full_method, full.attached).restore()
