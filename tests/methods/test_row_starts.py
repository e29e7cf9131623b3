"""Starts of LoRA that are computed from training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import Attached, Method, StartRows
from tuneoff.testing.settings import Setting, attach, single_thread, step

INITS = ("eva", "corda", "lora_ga")
SETTINGS = [Setting("class", "bert"), Setting("text", "gpt2"), Setting("text", "t5")]
by_setting = pytest.mark.parametrize("setting", SETTINGS, ids=str)
by_init = pytest.mark.parametrize("init", INITS)


def rows_of(setting: Setting, attached: Attached, batches: int = 2) -> StartRows:
    """The view that a trial gives, of the setting's own rows."""
    attached.module.eval()
    terms = setting.task.loss_terms(setting.rows)
    return StartRows(
        [setting.batch] * batches,
        attached.module,
        lambda batch: setting.task.forward(attached, batch),
        lambda batch: setting.task.loss(setting.task.forward(attached, batch), batch) / terms,
    )


def started(setting: Setting, init: str, **options: Any) -> tuple[Method[Any], Attached, torch.Tensor]:
    """A method that has computed its start, its model, and the logits before."""
    with single_thread():
        method, attached = attach("lora", {"r": 2, "init": init, **options}, setting)
        before = setting.logits(attached)
        assert method.starts_from_rows
        method.initialise(attached, rows_of(setting, attached))
    return method, attached, before


def first_matrices(attached: Attached) -> list[torch.Tensor]:
    named = attached.module.named_parameters()
    return [parameter.detach().clone() for name, parameter in named if "lora_A" in name]


@by_init
@by_setting
def test_a_start_changes_what_is_trained_and_not_what_is_computed(init: str, setting: Setting) -> None:
    _, plain = attach("lora", {"r": 2}, setting)
    _, attached, before = started(setting, init)
    torch.testing.assert_close(setting.logits(attached), before, atol=1e-4, rtol=1e-3)
    pairs = list(zip(first_matrices(attached), first_matrices(plain), strict=True))
    assert pairs
    assert all(one.shape == other.shape and not torch.allclose(one, other) for one, other in pairs)
    trained = [{n for n, p in each.module.named_parameters() if p.requires_grad} for each in (attached, plain)]
    assert trained[0] == trained[1]
    assert all(p.grad is None for p in attached.module.parameters())


@by_init
def test_the_same_rows_give_the_same_start_and_draw_nothing_of_the_training(init: str) -> None:
    setting = SETTINGS[1]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(1)
    _, one, _ = started(setting, init)
    _, attached = attach("lora", {"r": 2, "init": init}, setting)
    method, _ = attach("lora", {"r": 2, "init": init}, setting)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    with single_thread():
        method.initialise(attached, rows_of(setting, attached))
    assert torch.equal(torch.get_rng_state(), state)
    if init != "lora_ga":  # whose decomposition draws
        assert all(torch.equal(a, b) for a, b in zip(first_matrices(one), first_matrices(attached), strict=True))
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), expected)


@by_init
@by_setting
def test_what_is_kept_needs_no_rows_to_be_loaded(init: str, setting: Setting, tmp_path: Path) -> None:
    method, attached, _ = started(setting, init)
    step(setting, method, attached, setting.rate)
    expected = setting.logits(attached)
    method.save(attached, tmp_path)
    again, fresh = attach("lora", {"r": 2, "init": init}, setting)
    again.load(fresh, tmp_path)
    torch.testing.assert_close(setting.logits(fresh), expected, atol=1e-4, rtol=1e-3)
    # A checkpoint goes back into the model that it was taken from, too.
    method.load(attached, tmp_path)
    torch.testing.assert_close(setting.logits(attached), expected, atol=1e-5, rtol=1e-4)
    if setting.architecture == "gpt2":
        base: Any = setting.model()
        theirs: Any = PeftModel.from_pretrained(base, str(tmp_path)).eval()
        model = Attached(theirs.get_base_model(), theirs)
        torch.testing.assert_close(setting.logits(model), expected, atol=1e-4, rtol=1e-3)


@by_init
def test_more_directions_than_there_are_is_refused(init: str) -> None:
    with pytest.raises(UnsupportedModel, match=rf"init {init} needs .* directions of") as caught:
        attach("lora", {"r": 4096, "init": init}, SETTINGS[0])
    assert caught.value.hint == "Set r to less."


def test_too_few_tokens_for_the_rank_is_refused() -> None:
    setting = SETTINGS[0]
    method, attached = attach("lora", {"r": 8, "init": "eva"}, setting)
    view = rows_of(setting, attached, 1)
    short = {name: tensor[:1, :2] if tensor.ndim > 1 else tensor[:1] for name, tensor in setting.batch.items()}
    with pytest.raises(UnsupportedModel, match=r"no batch .* has 8 tokens"):
        method.initialise(attached, StartRows([short], view.module, view.forward, view.loss))


@pytest.mark.parametrize("init", ["eva", "corda"])
def test_a_layer_that_reads_no_row_is_named(init: str) -> None:
    setting = SETTINGS[0]
    method, attached = attach("lora", {"r": 2, "init": init}, setting)
    view = rows_of(setting, attached)
    with pytest.raises(UnsupportedModel, match=rf"init {init}: \S+ takes no part in the task") as caught:
        method.initialise(attached, StartRows(view.batches, view.module, lambda batch: torch.zeros(1), view.loss))
    assert caught.value.hint == "Leave it out of targets."


def test_embeddings_have_no_such_start() -> None:
    with pytest.raises(UnsupportedModel, match=r"is none \(Embedding\)"):
        attach("lora", {"init": "corda", "targets": ["wte"]}, SETTINGS[1])
