from __future__ import annotations

from typing import Any

import pytest
import torch

from trial_helpers import tiny_config
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation
from tuneoff.testing.models import random_model
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.precision import (
    SHORT,
    SHORT_EVALUATION,
    Attending,
    Kernel,
    PolicyName,
    apply_policy,
    choose_attention,
    full_precision,
)

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "amx", "avx512", "gpu", "expected"),
    [
        (CPU, True, True, False, "bf16"),
        (CPU, False, True, False, "bf16"),
        (CPU, True, False, False, "bf16"),
        (CPU, False, False, True, "fp32-medium"),
        (GPU, True, True, False, "fp32"),
        (GPU, False, False, True, "bf16"),
    ],
)
def test_auto_is_bf16_where_the_hardware_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, amx: bool, avx512: bool, gpu: bool, expected: PolicyName
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu)
    with full_precision():
        assert apply_policy("auto", device).name == expected


@pytest.mark.parametrize(
    ("device", "length", "policy", "expected"),
    [
        (CPU, SHORT, "fp32", Attending("eager", "eager")),
        (CPU, SHORT, "fp32-medium", Attending("eager", "eager")),
        (CPU, SHORT, "bf16", Attending("eager", "sdpa")),
        (CPU, SHORT_EVALUATION, "bf16", Attending("eager", "eager")),
        (CPU, SHORT + 1, "fp32", Attending("sdpa", "sdpa")),
        (CPU, SHORT + 1, "bf16", Attending("sdpa", "sdpa")),
        (GPU, 8, "bf16", Attending("sdpa", "sdpa")),
        (GPU, 8, "fp32", Attending("sdpa", "sdpa")),
    ],
)
def test_attention_is_the_faster_for_device_length_and_precision(
    device: torch.device, length: int, policy: PolicyName, expected: Attending
) -> None:
    assert choose_attention("auto", device, length, policy) == expected


@pytest.mark.parametrize("wanted", ["eager", "sdpa"])
def test_attention_that_is_asked_for_holds_everywhere(wanted: Kernel) -> None:
    assert choose_attention(wanted, CPU, 8, "bf16") == Attending(wanted, wanted)


def kernels(model: Any) -> set[str]:
    return {part.config._attn_implementation for part in model.modules() if hasattr(part, "config")}


@pytest.mark.parametrize("architecture", ["gpt2", "bart", "llama", "t5"])
def test_every_part_attends_as_told_and_as_before_afterwards(architecture: str) -> None:
    config = tiny_config(architecture)
    config._attn_implementation = "eager"
    model = random_model(config, Generation({}))
    assert kernels(model) == {"eager"}
    with trial_model.attending(model, "sdpa"):
        assert kernels(model) == {"sdpa"}
    assert kernels(model) == {"eager"}
    with pytest.raises(RuntimeError), trial_model.attending(model, "sdpa"):
        raise RuntimeError
    assert kernels(model) == {"eager"}


def test_a_model_without_the_fused_kernel_keeps_its_own() -> None:
    config = tiny_config("gpt_neo")
    config._attn_implementation = "eager"
    model = random_model(config, Classification({"labels": ["a", "b"]}))
    with trial_model.attending(model, "sdpa"):
        assert kernels(model) == {"eager"}
