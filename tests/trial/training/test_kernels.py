"""Evaluations attend unlike training only where both compute the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from trial_helpers import MakePlace, runner_of, some_features
from tuneoff.interfaces import Features
from tuneoff.tasks.generation import Generation
from tuneoff.trial import assembly, inference, run
from tuneoff.trial.modeling.frozen_bf16 import keep_frozen_in_bf16
from tuneoff.trial.modeling.precision import Attending, apply_policy
from tuneoff.trial.modeling.tokenizer import byte_tokenizer
from tuneoff.trial.training import kernels
from tuneoff.trial.training.evaluate import ModelRunner

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
FEATURES = some_features((3, 9, 5, 12, 20, 7, 30, 14, 11))

Attention = Callable[..., Any]


def fused_bench(name: str = "lora", architecture: str = "bert") -> ModelRunner:
    """Under bf16, as a trial has it, with the fused kernel for evaluations."""
    runner, _ = runner_of(name, architecture)
    keep_frozen_in_bf16(runner.attached)
    return replace(runner, autocast=apply_policy("bf16", CPU).autocast, attention="sdpa")


def writing_bench() -> tuple[ModelRunner, list[Features]]:
    task = Generation({"template": "{source}:", "max_target_length": 6})
    runner, _ = runner_of("lora", "gpt2", task)
    rows = [replace(feature, target_ids=(7, 299)) for feature in FEATURES[:6]]
    tokenizer = byte_tokenizer(runner.attached.model.config)
    return replace(runner, autocast=apply_policy("bf16", CPU).autocast, attention="sdpa", tokenizer=tokenizer), rows


def instead_of_sdpa(monkeypatch: pytest.MonkeyPatch, change: Callable[[Attention], Attention]) -> None:
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", change(ALL_ATTENTION_FUNCTIONS["sdpa"]))


def without_mask(sdpa: Attention) -> Attention:
    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
        return sdpa(module, query, key, value, None, **more)

    return attend


def coarse(sdpa: Attention) -> Attention:
    """Exact in float32 and far coarser than bfloat16 otherwise."""

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
        if query.dtype == torch.bfloat16:
            value = (value * 2).round() / 2
        return sdpa(module, query, key, value, mask, **more)

    return attend


def refusing(sdpa: Attention) -> Attention:
    def attend(*given: Any, **more: Any) -> Any:
        raise ValueError("`sdpa` attention does not support `softcap`")

    return attend


def forgetful(sdpa: Attention) -> Attention:
    """Wrong only where a single token attends to what is cached."""

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
        if query.shape[-2] == 1:
            key, value, mask = key[..., -1:, :], value[..., -1:, :], None
        return sdpa(module, query, key, value, mask, **more)

    return attend


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("full", "bert"), ("lora", "gpt2"), ("prompt_tuning", "llama"), ("prefix_tuning", "gpt2"), ("lora", "bart")],
)
def test_kernels_that_round_alone_agree_and_leave_no_trace(name: str, architecture: str) -> None:
    runner = fused_bench(name, architecture)
    before = {n: p.detach().clone() for n, p in runner.attached.module.named_parameters()}
    state = torch.random.get_rng_state()
    assert kernels.choose_attention(runner, FEATURES, "eager") == (runner, ())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(p, before[n]) for n, p in runner.attached.module.named_parameters())
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_mask, "of their size in float32"),
        (coarse, "where the precision itself changes them by"),
        (refusing, "ValueError: `sdpa` attention does not support `softcap`"),
    ],
)
def test_where_they_do_not_agree_evaluations_attend_as_training_does(
    change: Callable[[Attention], Attention], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead_of_sdpa(monkeypatch, change)
    chosen, (found,) = kernels.choose_attention(fused_bench(), FEATURES, "eager")
    assert chosen.attention == "eager"
    assert found.name == "kernels_disagree"
    assert words in found.message


def test_what_is_written_is_compared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, rows = writing_bench()
    assert kernels.choose_attention(runner, rows, "eager") == (runner, ())
    instead_of_sdpa(monkeypatch, forgetful)
    chosen, (found,) = kernels.choose_attention(runner, rows, "eager")
    assert chosen.attention == "eager"
    assert "other tokens are written" in found.message


def test_examples_of_all_lengths_are_compared() -> None:
    chosen = [len(feature.input_ids) for feature in kernels.spread(FEATURES)]
    assert len(chosen) == kernels.EXAMPLES
    assert chosen == sorted(chosen)
    assert (chosen[0], chosen[-1]) == (3, 30)
    assert len(kernels.spread(FEATURES[:2])) == 2


def test_a_record_tells_by_what_its_scores_were_made_and_predictions_follow_it(
    make_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "choose_attention", lambda *given: Attending("eager", "sdpa"))
    sound = make_place("head", protocol={"precision": "bf16", "epochs": 1})
    record = run.run(sound, "cpu", 0.0)
    assert record.model is not None
    assert record.model.evaluation_attention == "sdpa"
    assert not [f for f in record.findings if f.name == "kernels_disagree"]
    instead_of_sdpa(monkeypatch, without_mask)
    place = make_place("head", protocol={"precision": "bf16", "epochs": 1})
    record = run.run(place, "cpu", 0.0)
    assert record.model is not None
    assert (record.model.attention, record.model.evaluation_attention) == ("eager", "eager")
    assert [f.name for f in record.findings if f.name == "kernels_disagree"]
    assert inference.restore(place, CPU)[3].attention == "eager"
