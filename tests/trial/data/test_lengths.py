"""What is too long for the model's positions, and whether what is said to help does."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from trial_helpers import tiny_config
from tuneoff import architectures, registry
from tuneoff.errors import DataError, TuneoffError, UnsupportedModel
from tuneoff.interfaces import Method
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation
from tuneoff.testing.models import random_model, shape
from tuneoff.trial.data.lengths import check_length, max_positions

CLASSES = Classification({"labels": ["a", "b"]})


def shipped(name: str) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(**(architectures.find(name) or {"model_type": name}))


def empty(config: Any) -> torch.nn.Module:
    """A model of this configuration without weights."""
    from transformers import AutoModel

    with torch.device("meta"):
        model: torch.nn.Module = AutoModel.from_config(config)
    return model


def method_of(name: str, **options: Any) -> Method[Any]:
    method = registry.methods()[name].create(options)
    assert isinstance(method, Method)
    return method


def writes(model: str, length: int, target: int, method: str, **options: Any) -> None:
    """Checks a study that writes."""
    config, task = shipped(model), Generation({"max_target_length": target})
    task.model_class(config)
    check_length(empty(config), task, length, method_of(method, **options), method)


@pytest.mark.parametrize(
    ("name", "limit"), [("roberta-base", 512), ("gpt2", 1024), ("minilm", 512), ("gpt-neo-125m", 2048)]
)
def test_positions_that_can_be_used(name: str, limit: int) -> None:
    assert max_positions(empty(shipped(name))) == limit
    check_length(empty(shipped(name)), CLASSES, limit, method_of("full"), "full")
    with pytest.raises(DataError, match=f"protocol.max_length {limit + 1} is more than the model's {limit} positions"):
        check_length(empty(shipped(name)), CLASSES, limit + 1, method_of("full"), "full")


def test_a_roberta_of_the_full_length_runs() -> None:
    """The positions named are those the model has: one more would be out of its table."""
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    config.max_position_embeddings = 12
    model = RobertaModel(config).eval()
    limit = max_positions(model)
    assert limit == 10
    assert model(torch.full((1, limit), 5)).last_hidden_state.shape == (1, 10, 8)
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, limit + 1), 5))


@pytest.mark.parametrize("architecture", ["mpnet", "longformer", "xlm-roberta", "opt", "bart", "distilbert"])
def test_the_positions_of_an_architecture_are_found_in_its_tables(architecture: str) -> None:
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(architecture, vocab_size=64, **shape(architecture, 16))
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval()
    assert max_positions(model) == 16
    inputs: dict[str, Any] = {"global_attention_mask": torch.zeros(1, 16)} if architecture == "longformer" else {}
    assert torch.isfinite(model(torch.full((1, 16), 5), **inputs).last_hidden_state).all()
    if architecture != "longformer":  # pads to whole windows
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, 17), 5))


def test_no_limit_may_be_said_by_a_negative_number() -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model("xlnet", vocab_size=64, **shape("xlnet", 16))
    assert config.max_position_embeddings == -1
    assert max_positions(empty(config)) is None
    check_length(empty(config), CLASSES, 5000, method_of("full"), "full")


def test_virtual_tokens_count_against_the_positions() -> None:
    prompts = method_of("prompt_tuning")
    check_length(empty(shipped("minilm")), CLASSES, 492, prompts, "prompt_tuning")
    with pytest.raises(
        UnsupportedModel, match=r"max_length 500 \+ 20 virtual tokens of prompts is more than"
    ) as caught:
        check_length(empty(shipped("minilm")), CLASSES, 500, prompts, "prompts")
    assert "prompts's virtual tokens to 12 or less" in caught.value.hint
    assert "protocol.max_length to 492 or less" in caught.value.hint


def test_a_model_without_positions_takes_any_length() -> None:
    writes("t5", 100_000, 5000, "prefix_tuning")


def test_an_encoder_and_its_decoder_are_looked_at_apart() -> None:
    writes("bart", 1024, 1024, "lora")
    # A soft prompt takes the encoder's positions, a prefix the decoder's, shown examples the encoder's.
    writes("bart", 1004, 1024, "prompt_tuning")
    writes("bart", 1024, 1004, "prefix_tuning")
    writes("bart", 256, 200, "few_shot")


STUDY, ROW = DataError, UnsupportedModel
SETTINGS = {
    "protocol.max_length": "length",
    "task.max_target_length": "target",
    "few_shot's examples": "examples",
    "prompt_tuning's virtual tokens": "tokens",
    "prefix_tuning's virtual tokens": "tokens",
}
TOO_LONG: list[tuple[str, int, int, str, dict[str, int], type[TuneoffError], str, str]] = [
    (
        *("gpt2", 1000, 128, "few_shot", {}, STUDY),
        "protocol.max_length 1000 + 128 tokens of target is more than the model's 1024 positions",
        "For all methods, set protocol.max_length to 896 or less or task.max_target_length to 24 or less.",
    ),
    (
        *("gpt2", 512, 128, "few_shot", {}, ROW),
        "protocol.max_length 512 + 128 tokens of target + 3 × 640 tokens of few_shot's examples is more than the",
        "Leave few_shot out; or, for all methods, set protocol.max_length to 128 or less.",
    ),
    (
        *("gpt2", 200, 128, "few_shot", {"examples": 5}, ROW),
        "200 + 128 tokens of target + 5 × 328 tokens of few_shot's examples",
        "Set few_shot's examples to 2 or less; or, for all methods, set protocol.max_length to 42 or less.",
    ),
    (
        *("gpt2", 880, 128, "prompt_tuning", {"tokens": 20}, ROW),
        "880 + 128 tokens of target + 20 virtual tokens of prompt_tuning is more than the model's 1024 positions",
        "Set prompt_tuning's virtual tokens to 16 or less; or, for all methods, set protocol.max_length to 876 or "
        "less or task.max_target_length to 124 or less.",
    ),
    (
        *("bart", 128, 1100, "full", {}, STUDY),
        "task.max_target_length 1100 is more than the decoder's 1024 positions",
        "For all methods, set task.max_target_length to 1024 or less.",
    ),
    (
        *("bart", 1100, 128, "full", {}, STUDY),
        "protocol.max_length 1100 is more than the encoder's 1024 positions",
        "For all methods, set protocol.max_length to 1024 or less.",
    ),
    (
        *("bart", 1020, 128, "prompt_tuning", {"tokens": 20}, ROW),
        "protocol.max_length 1020 + 20 virtual tokens of prompt_tuning is more than the encoder's",
        "Set prompt_tuning's virtual tokens to 4 or less; or, for all methods, set protocol.max_length to 1004 or "
        "less.",
    ),
    (
        *("bart", 128, 1010, "prefix_tuning", {"tokens": 20}, ROW),
        "task.max_target_length 1010 + 20 virtual tokens of prefix_tuning is more than the decoder's",
        "Set prefix_tuning's virtual tokens to 14 or less; or, for all methods, set task.max_target_length to 1004 "
        "or less.",
    ),
    (
        *("bart", 500, 300, "few_shot", {"examples": 3}, ROW),
        "protocol.max_length 500 + 3 × 500 tokens of few_shot's examples is more than the encoder's 1024 positions",
        "Set few_shot's examples to 1 or less; or, for all methods, set protocol.max_length to 124 or less.",
    ),
]


@pytest.mark.parametrize(("model", "length", "target", "method", "options", "kind", "message", "hint"), TOO_LONG)
def test_what_is_too_long_is_told_with_settings_that_would_do(
    model: str,
    length: int,
    target: int,
    method: str,
    options: dict[str, int],
    kind: type[TuneoffError],
    message: str,
    hint: str,
) -> None:
    with pytest.raises(kind) as caught:
        writes(model, length, target, method, **options)
    assert message in caught.value.message
    assert caught.value.hint == hint
    if kind is STUDY:
        # What the study sets is looked at alone; what a method needs beside it is another matter.
        method, options = "full", {}
    for name, most in re.findall(r"(\w+\.\w+|\w+'s (?:examples|virtual tokens)) to (\d+)", hint):
        obeyed = {"length": length, "target": target, **options, SETTINGS[name]: int(most)}
        writes(model, method=method, **obeyed)
        with pytest.raises(kind):
            writes(model, method=method, **{**obeyed, SETTINGS[name]: int(most) + 1})


def test_two_lengths_that_are_both_too_great_are_named_together() -> None:
    with pytest.raises(DataError) as caught:
        writes("gpt2", 2000, 1100, "full")
    assert caught.value.hint == "For all methods, set both so that together they are 1024 or less."


@pytest.mark.parametrize(
    "name", ["prompt_tuning", "p_tuning", "prefix_tuning", "peft:prompt_tuning", "peft:prefix_tuning", "peft:cartridge"]
)
def test_a_method_says_before_it_is_attached_whether_it_has_a_prefix(name: str) -> None:
    task, method = Generation({}), method_of(name)
    model = random_model(tiny_config("gpt2"), task)
    attached = method.attach(model, task.view(model))
    assert (attached.prefix is not None) == method.prefix
    assert (attached.soft_prompt is None) == method.prefix
    assert attached.virtual_tokens == method.virtual_tokens > 0
