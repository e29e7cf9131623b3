from __future__ import annotations

from typing import Any

import torch

from generation_helpers import VIRTUAL, attached_to, tiny_writer
from tuneoff.tasks._inputs import logits_at, model_inputs, whole_cache
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation

IDS = torch.tensor([[5, 6, 7], [8, 9, 0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])


def test_the_mask_covers_virtual_tokens_where_the_input_is_attended() -> None:
    for architecture, kind, before in (
        ("gpt2", "plain", 0),
        ("gpt2", "soft_prompt", VIRTUAL),
        ("gpt2", "prefix", VIRTUAL),
        ("t5", "soft_prompt", VIRTUAL),
        # The decoder's; the mask is the encoder's.
        ("t5", "prefix", 0),
    ):
        model, _ = tiny_writer(architecture, Generation({}))
        inputs = model_inputs(attached_to(model, kind), IDS, MASK)
        expected = [[1] * before + row for row in MASK.tolist()]
        assert inputs["attention_mask"].tolist() == expected, (architecture, kind)
        assert ("past_key_values" in inputs) == (kind == "prefix")


def test_sliding_layers_keep_every_position_in_a_whole_cache() -> None:
    from transformers import DynamicCache

    model, _ = tiny_writer("gemma2", Generation({}))
    own = DynamicCache(config=model.config)
    for layer in range(2):
        own.update(torch.randn(1, 2, 6, 8), torch.randn(1, 2, 6, 8), layer)
    assert any(own.is_sliding)
    whole = whole_cache(own)
    assert not any(whole.is_sliding)
    for layer in range(2):
        assert torch.equal(whole.layers[layer].keys, own.layers[layer].keys)
    whole.update(torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 8), 0)
    assert whole.layers[0].keys.shape[2] == 15


def test_logits_are_picked_row_by_row_behind_virtual_tokens() -> None:
    model, _ = tiny_writer("gpt2", Generation({}))
    inputs = model_inputs(attached_to(model, "soft_prompt"), IDS, MASK)
    wanted = torch.tensor([[0, 0], [0, 2], [1, 1]])
    with torch.no_grad():
        everywhere = model(**inputs).logits
        with logits_at(model, wanted, IDS.shape[1]):
            picked = model(**inputs).logits
        assert model(**inputs).logits.shape == everywhere.shape
    expected = torch.stack([everywhere[0, VIRTUAL], everywhere[0, VIRTUAL + 2], everywhere[1, VIRTUAL + 1]])
    torch.testing.assert_close(picked, expected[None])


def test_a_decoder_with_a_prefix_is_classified_at_its_last_token() -> None:
    task = Classification({"labels": ["a", "b", "c"]})
    from transformers import AutoConfig

    config = AutoConfig.for_model("gpt2", vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=64, num_labels=3)
    torch.manual_seed(0)
    model: Any = task.model_class(config).from_config(config).eval()
    for kind in ("soft_prompt", "prefix"):
        attached = attached_to(model, kind)
        with torch.no_grad():
            padded = task.forward(attached, {"input_ids": IDS, "attention_mask": MASK})
            alone = [
                task.forward(attached, {"input_ids": IDS[:1], "attention_mask": MASK[:1]})[0],
                task.forward(attached, {"input_ids": IDS[1:, :2], "attention_mask": MASK[1:, :2]})[0],
            ]
            plain = task.forward(attached_to(model, "plain"), {"input_ids": IDS, "attention_mask": MASK})
        torch.testing.assert_close(padded, torch.stack(alone), atol=1e-5, rtol=1e-4)
        assert not torch.allclose(padded, plain, atol=1e-3)
