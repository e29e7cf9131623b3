"""Prefix tuning: trained keys and values before every layer's input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from tuneoff.interfaces import Attached, LearningRate, MethodOptions, Prior, Reference, TaskView
from tuneoff.methods._peft import attach_peft, peft_task
from tuneoff.methods._virtual import VirtualTokens, prefix_shape, with_prefix

if TYPE_CHECKING:
    from torch import nn


class PrefixTuningOptions(MethodOptions):
    """Options of `prefix_tuning`."""

    tokens: int = Field(20, ge=1, description="virtual tokens; they count against the model's positions")
    projection: bool = Field(
        False, description="train through an MLP, as the paper does for stability; only its result is kept"
    )
    hidden: int | None = Field(None, ge=1, description="with projection: width of the MLP; unset: that of the keys")

    @model_validator(mode="after")
    def _width_where_it_is_used(self) -> PrefixTuningOptions:
        if self.hidden is not None and not self.projection:
            raise ValueError("hidden is the width of the projection; set projection: true")
        return self


class PrefixTuning(VirtualTokens[PrefixTuningOptions]):
    """Trains keys and values of virtual tokens in every layer; the transformer stays frozen.

    In an encoder-decoder they stand before the decoder's own input. Encoders are refused: they keep no keys and
    values between calls.
    """

    title = "Prefix tuning"
    summary = "Trains keys and values of virtual tokens in every layer of a decoder."
    paper = (
        "Li & Liang 2021, Prefix-Tuning: Optimizing Continuous Prompts for Generation, https://arxiv.org/abs/2101.00190"
    )
    references = (
        Reference(
            "li2021prefix",
            "Li, Xiang Lisa and Liang, Percy",
            "Prefix-Tuning: Optimizing Continuous Prompts for Generation",
            2021,
            arxiv="2101.00190",
        ),
    )
    prefix = True
    needs = "decoder"
    learning_rate = LearningRate(1e-2)
    prior = Prior(
        0.25,
        1.02,
        "as good as full fine-tuning on table-to-text and behind on summaries in Li & Liang 2021; behind in He et al. "
        "2022, https://arxiv.org/abs/2110.04366; 0.15 to 0.40 of accuracy, by start and rate, against 0.50 on "
        "MetaMathQA in PEFT's method comparison (Llama-3.2-3B)",
    )
    Options = PrefixTuningOptions

    @property
    def virtual_tokens(self) -> int:
        return self.options.tokens

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        from peft import PrefixTuningConfig

        shape = prefix_shape(model)
        config = PrefixTuningConfig(
            task_type=peft_task(task),
            num_virtual_tokens=self.options.tokens,
            num_transformer_submodules=1,
            prefix_projection=self.options.projection,
            encoder_hidden_size=self.options.hidden or shape["token_dim"],
            **shape,
        )
        return with_prefix(attach_peft(model, config, task), self.options.tokens)


plugin = PrefixTuning
