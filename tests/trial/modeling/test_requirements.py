"""Models that cannot be compared on are refused with the true reason, before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import TaskView
from tuneoff.tasks.generation import Generation
from tuneoff.testing.models import random_model, shape
from tuneoff.trial.modeling.requirements import check_masks, check_order

CLASSES = TaskView(head=("score",), peft_task_type="SEQ_CLS")


def writer(architecture: str) -> tuple[nn.Module, TaskView]:
    task = Generation({})
    config: Any = AutoConfig.for_model(architecture, vocab_size=64, **shape(architecture, 16))
    model = random_model(config, task)
    return model, task.view(model)


@pytest.mark.parametrize("architecture", ["gpt2", "bloom", "gemma2", "mixtral", "opt", "t5"])
def test_models_that_read_in_order_may_write(architecture: str) -> None:
    model, view = writer(architecture)
    model.train()
    state = torch.random.get_rng_state()
    check_masks(model)
    check_order(model, view)
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_model_that_reads_both_ways_may_not_write() -> None:
    model, view = writer("xlnet")
    with pytest.raises(UnsupportedModel, match="XLNetLMHeadModel reads a text both ways, so it would see the words"):
        check_order(model, view)
    check_order(model, CLASSES)


def test_a_model_without_a_mask_is_refused() -> None:
    config = AutoConfig.for_model("fnet", vocab_size=64, hidden_size=32, num_hidden_layers=2, intermediate_size=64)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(UnsupportedModel, match="takes no attention mask, so padding would change its outputs"):
        check_masks(model)
