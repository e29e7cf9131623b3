"""A decoder's class is read at the last real token, whichever side is padded and whatever the pad token is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tuneoff import registry
from tuneoff.interfaces import Attached, Batch, Features, Method
from tuneoff.tasks.classification import Classification
from tuneoff.testing.settings import END, features, logits

DECODERS = ("gpt2", "gpt_neo", "llama")


def left(batch: Batch) -> Batch:
    """The same batch padded on the left."""
    ids, mask = batch["input_ids"].clone(), batch["attention_mask"].clone()
    for row, size in enumerate(batch["attention_mask"].sum(-1).tolist()):
        ids[row], mask[row] = ids[row].roll(-size), mask[row].roll(-size)
    return {**batch, "input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("method", ["full", "prompt_tuning"])
@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("pad", [0, END])
def test_side_and_token_of_padding_change_nothing(
    method: str, architecture: str, pad: int, tiny: Callable[..., nn.Module], task: Classification
) -> None:
    chosen = registry.methods()[method].create({})
    assert isinstance(chosen, Method)
    model: Any = tiny(architecture)
    attached = chosen.attach(model, task.view(model))
    # An example whose own last token is the end-of-text token, that is, the pad token.
    rows = [*features(), Features([7, 8, END], 0, 3)]
    batch = task.collate(rows, pad)
    right_padded = logits(task, attached, batch)
    torch.testing.assert_close(logits(task, attached, left(batch)), right_padded, atol=1e-5, rtol=1e-4)
    for i, row in enumerate(rows):
        alone = logits(task, attached, task.collate([row], pad))[0]
        torch.testing.assert_close(right_padded[i], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", DECODERS)
def test_unpadded_logits_are_those_of_transformers(
    architecture: str, tiny: Callable[..., nn.Module], task: Classification
) -> None:
    model: Any = tiny(architecture)
    batch = task.collate(features(sizes=(6,)), 0)
    with torch.no_grad():
        theirs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(logits(task, Attached(model, model), batch), theirs)


@pytest.mark.parametrize("architecture", DECODERS)
def test_the_usual_way_does_get_it_wrong(
    architecture: str, tiny: Callable[..., nn.Module], task: Classification
) -> None:
    """Why the task finds the token by mask: by id, an example that ends in the pad token is read too early."""
    model: Any = tiny(architecture)
    model.config.pad_token_id = END
    batch = task.collate([Features([7, 8, END], 0, 3), Features([7, 8, 9, 10, 11], 1, 5)], END)
    with torch.no_grad():
        theirs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    ours = logits(task, Attached(model, model), batch)
    assert not torch.allclose(theirs[0], ours[0], atol=1e-3)
    torch.testing.assert_close(theirs[1], ours[1], atol=1e-5, rtol=1e-4)
