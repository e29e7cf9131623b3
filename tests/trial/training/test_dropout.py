"""Masks of dropout: their statistics, what draws them, and that they come again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from trial_helpers import make_study, runner_of, some_features
from tuneoff.planning.plan import plan
from tuneoff.trial.modeling.activation_checkpointing import checkpoint_activations
from tuneoff.trial.training.dropout import DropoutMasks, choose_masks, name_generator
from tuneoff.trial.training.trainer import accumulate

pytestmark = pytest.mark.usefixtures("one_thread")
pytest_plugins = ("trial_fixtures",)

SHAPE = torch.Size((64, 32, 256))
SIGMAS = 5.0
"""Standard errors that a statistic of true randomness stays within, but for once in a million."""


def mask(seed: int = 0, rank: int = 0, step: int = 0, micro_batch: int = 0, call: int = 0, p: float = 0.1) -> Any:
    """A mask of the micro-batch, after `call` earlier ones."""
    masks = DropoutMasks(seed, rank)
    with masks.drawing(step, micro_batch):
        return [masks.draw(SHAPE, p) for _ in range(call + 1)][-1]


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(np.corrcoef(first.flatten().numpy(), second.flatten().numpy())[0, 1])


@pytest.mark.parametrize("p", [0.0005, 0.1, 0.25, 0.5, 0.999])
def test_an_element_is_dropped_at_exactly_the_rate_asked_for(p: float) -> None:
    masks = DropoutMasks(1)
    dropped = sum(int((masks.draw(SHAPE, p) == 0).sum()) for _ in range(8))
    size = 8 * SHAPE.numel()
    assert abs(dropped - p * size) < SIGMAS * math.sqrt(size * p * (1 - p))


def test_the_rate_is_the_same_at_every_place() -> None:
    masks = DropoutMasks(2)
    count = 64
    dropped = sum((masks.draw(torch.Size((40, 50)), 0.1) == 0).double() for _ in range(count))
    assert isinstance(dropped, torch.Tensor)
    # The spread over places is that of independent draws, over rows and over columns too.
    for totals, draws in ((dropped.flatten(), count), (dropped.sum(0), 40 * count), (dropped.sum(1), 50 * count)):
        spread = float(totals.var() / (draws * 0.1 * 0.9))
        assert abs(spread - 1) < SIGMAS * math.sqrt(2 / (len(totals) - 1))


@pytest.mark.parametrize("offset", [(0, 0, 1), (0, 0, 8), (0, 1, 0), (1, 0, 0), (3, 5, 7)])
def test_neighbours_are_independent(offset: tuple[int, int, int]) -> None:
    drawn = mask()
    near = drawn[tuple(slice(0, size - by) for size, by in zip(SHAPE, offset, strict=True))]
    far = drawn[tuple(slice(by, None) for by in offset)]
    assert abs(correlation(near, far)) < SIGMAS / math.sqrt(near.numel())


def test_calls_micro_batches_steps_ranks_and_seeds_are_independent() -> None:
    drawn = [mask(), mask(call=1), mask(micro_batch=1), mask(step=1), mask(rank=1), mask(seed=1), mask(step=1, seed=1)]
    for first, second in itertools.combinations(drawn, 2):
        assert abs(correlation(first, second)) < SIGMAS / math.sqrt(SHAPE.numel())


def test_a_micro_batchs_masks_are_the_same_whatever_else_was_drawn() -> None:
    masks = DropoutMasks(3)
    with masks.drawing(4, 1):
        first = masks.draw(SHAPE, 0.1)
    with masks.drawing(0, 0):
        masks.draw(SHAPE, 0.3)
    torch.manual_seed(7)
    with masks.drawing(4, 1):
        assert torch.equal(masks.draw(SHAPE, 0.1), first)
    assert torch.equal(mask(seed=3, step=4, micro_batch=1), first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_what_is_kept_is_scaled_and_so_is_its_gradient(dtype: torch.dtype, p: float) -> None:
    values = torch.randn(64, 512, dtype=dtype, requires_grad=True)
    with DropoutMasks(0).drawing(0, 0):
        output = functional.dropout(values, p)
        output.backward(torch.ones_like(output))  # type: ignore[no-untyped-call]
    kept = output != 0
    assert output.dtype == dtype
    torch.testing.assert_close(output[kept].double(), values[kept].double() / (1 - p), rtol=2**-8, atol=0)
    assert values.grad is not None
    assert not values.grad[~kept].any()
    torch.testing.assert_close(
        values.grad[kept].double(), torch.full_like(output[kept].double(), 1 / (1 - p)), rtol=2**-8, atol=0
    )
    if dtype is not torch.bfloat16:
        torch.testing.assert_close(output[kept], values[kept] / (1 - p))


def test_in_bfloat16_the_scale_itself_is_not_rounded() -> None:
    values = 1 + torch.rand(400, 1000, dtype=torch.float64)
    with DropoutMasks(0).drawing(0, 0):
        output = functional.dropout(values.bfloat16(), 0.1)
    kept = output != 0
    assert float((output[kept].double() / values[kept]).mean()) == pytest.approx(1 / 0.9, abs=2e-4)


def test_one_byte_an_element_is_kept_for_the_backward_pass() -> None:
    saved: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), DropoutMasks(0).drawing(0, 0):
        functional.dropout(torch.ones(10, 10, requires_grad=True), 0.1)
    assert [(tensor.dtype, tensor.shape) for tensor in saved] == [(torch.uint8, (10, 10))]


def attention_inputs() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, 20, 8, requires_grad=True) for _ in range(3)]


def test_attentions_output_and_gradients_are_those_of_its_formula() -> None:
    query, key, value = attention_inputs()
    with DropoutMasks(0).drawing(0, 0):
        output = functional.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=0.3)
    output.square().sum().backward()  # type: ignore[no-untyped-call]
    others = attention_inputs()
    scores = others[0] @ others[1].transpose(-2, -1) / math.sqrt(8)
    scores = scores.masked_fill(~torch.ones(20, 20, dtype=torch.bool).tril(), -math.inf)
    with DropoutMasks(0).drawing(0, 0):
        expected = functional.dropout(scores.softmax(-1), 0.3) @ others[2]
    expected.square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(output, expected)
    for tensor, other in zip((query, key, value), others, strict=True):
        torch.testing.assert_close(tensor.grad, other.grad)


def test_attention_keeps_no_float32_under_bfloat16() -> None:
    saved: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    query, key, value = attention_inputs()
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16),
        DropoutMasks(0).drawing(0, 0),
    ):
        output = functional.scaled_dot_product_attention(query, key, value, dropout_p=0.3)
    assert output.dtype == torch.bfloat16
    square = [tensor for tensor in saved if tensor.shape[-2:] == (20, 20)]
    assert [tensor.element_size() for tensor in square] == [2]
    output.float().square().sum().backward()  # type: ignore[no-untyped-call]
    for tensor in (query, key, value):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.any()


def ways_to_drop() -> dict[str, Callable[[], torch.Tensor]]:
    values = torch.ones(4, 6, 8)
    attention = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)
    return {
        "module": lambda: nn.Dropout(0.3)(values),
        "function": lambda: functional.dropout(values, p=0.3),
        "attention module": lambda: attention(values, values, values)[0],
        "fused attention": lambda: functional.scaled_dot_product_attention(values, values, values, dropout_p=0.3),
    }


@pytest.mark.parametrize("name", list(ways_to_drop()))
def test_every_way_to_dropout_uses_the_masks_while_they_are_open_and_only_then(name: str) -> None:
    call, masks = ways_to_drop()[name], DropoutMasks(0)
    state = torch.random.get_rng_state()
    with masks.drawing(0, 0):
        first = call()
    with masks.drawing(0, 0):
        assert torch.equal(call(), first)
    assert torch.equal(torch.random.get_rng_state(), state), "PyTorch's own generator was used"
    call()
    assert not torch.equal(torch.random.get_rng_state(), state)


def test_pytorchs_functions_are_back_after_an_error() -> None:
    originals = functional.dropout, functional.scaled_dot_product_attention
    with pytest.raises(RuntimeError, match="shape"), DropoutMasks(0).drawing(0, 0):
        torch.ones(3).view(2)
    assert (functional.dropout, functional.scaled_dot_product_attention) == originals


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.4, False)])
def test_without_dropout_values_pass_as_they_are(p: float, training: bool) -> None:
    values = torch.randn(5, 5)
    with DropoutMasks(0).drawing(0, 0):
        assert torch.equal(functional.dropout(values, p, training), values)
        assert not functional.dropout(torch.empty(0), 0.5).numel()
        assert not functional.dropout(values, 1.0).any()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": torch.rand(2, 1, 5, 7) > 0.2},
        {"attn_mask": torch.randn(2, 4, 5, 7)},
        {"enable_gqa": True},
    ],
    ids=["plain", "causal", "scale", "mask", "bias", "grouped"],
)
def test_attention_with_dropout_is_pytorchs_but_for_the_masks(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = 2 if "enable_gqa" in arguments else 4
    length = 5 if "is_causal" in arguments else 7
    query, key, value = torch.randn(2, 4, 5, 8), torch.randn(2, heads, length, 8), torch.randn(2, heads, length, 8)
    expected = functional.scaled_dot_product_attention(query, key, value, **arguments)
    monkeypatch.setattr(DropoutMasks, "draw", lambda self, shape, p: torch.ones(shape, dtype=torch.uint8))
    with DropoutMasks(0).drawing(0, 0):
        output = functional.scaled_dot_product_attention(query, key, value, dropout_p=0.2, **arguments)
    torch.testing.assert_close(output * 0.8, expected)


def gradients(method: str, architecture: str, *, checkpointing: bool) -> dict[str, torch.Tensor]:
    """The gradients of a step of two micro-batches with dropout."""
    runner, _ = runner_of(method, architecture)
    masks = DropoutMasks(5)
    runner = replace(runner, masks=masks)
    if checkpointing:
        checkpoint_activations(runner.attached.model, masks.replay)
    runner.attached.module.train()
    for module in runner.attached.module.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.2
    features = some_features()
    batches = [runner.batch(features[:2]), runner.batch(features[2:])]
    accumulate(runner, batches, len(features), step=3)
    return {n: p.grad.clone() for n, p in runner.attached.module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("method", "architecture"), [("lora", "bert"), ("full", "bert"), ("lora", "gpt2")])
def test_what_is_computed_again_in_the_backward_pass_has_the_same_masks(method: str, architecture: str) -> None:
    kept, again = (gradients(method, architecture, checkpointing=on) for on in (False, True))
    assert kept.keys() == again.keys()
    assert all(torch.equal(kept[name], again[name]) for name in kept)
    assert any(gradient.any() for gradient in kept.values())


@pytest.mark.parametrize(
    ("engine", "device", "name"), [("fast", "cpu", "sfc64"), ("plain", "cpu", "torch"), ("fast", "cuda", "torch")]
)
def test_pytorch_draws_on_gpus_and_where_the_engine_is_plain(engine: str, device: str, name: str) -> None:
    study = make_study(Path("model"), Path("rows.csv"), {"lora": {}}, execution={"engine": engine})
    (spec,) = plan(study)
    masks = choose_masks(spec, torch.device(device))
    assert (masks is None) == (name == "torch")
    assert name_generator(spec, masks) == name
    assert name_generator(spec.model_copy(update={"learning_rate": None}), masks) == ""
