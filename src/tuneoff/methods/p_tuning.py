"""P-tuning: a soft prompt that is the output of a small trained network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from tuneoff.interfaces import Attached, LearningRate, MethodOptions, Prior, Reference, TaskView
from tuneoff.methods._peft import attach_peft, peft_task
from tuneoff.methods._virtual import VirtualTokens, soft_prompt_shape, with_soft_prompt

if TYPE_CHECKING:
    from torch import nn


class PTuningOptions(MethodOptions):
    """Options of `p_tuning`."""

    tokens: int = Field(20, ge=1, description="virtual tokens; they count against the model's positions")
    type: Literal["mlp", "lstm"] = Field(
        "mlp", description="the network: an MLP, or a bidirectional LSTM before an MLP as in the paper"
    )
    hidden: int | None = Field(None, ge=1, description="width of the network; unset: that of the embeddings")
    layers: int | None = Field(None, ge=1, description="with type lstm: its layers; unset: 2")

    @model_validator(mode="after")
    def _layers_where_they_are_used(self) -> PTuningOptions:
        if self.layers is not None and self.type != "lstm":
            raise ValueError("layers are those of type lstm; the MLP always has three")
        return self


class PTuning(VirtualTokens[PTuningOptions]):
    """Trains embeddings of virtual tokens through a small network; only the network's output is kept."""

    title = "P-tuning"
    summary = "Prompt tuning through a small network (MLP or LSTM) that is dropped after training."
    paper = "Liu et al. 2021, GPT Understands, Too, https://arxiv.org/abs/2103.10385"
    references = (
        Reference(
            "liu2021gpt",
            "Liu, Xiao and Zheng, Yanan and Du, Zhengxiao and Ding, Ming and Qian, Yujie and Yang, Zhilin and "
            "Tang, Jie",
            "GPT Understands, Too",
            2021,
            arxiv="2103.10385",
        ),
    )
    learning_rate = LearningRate(1e-3)
    prior = Prior(
        0.2,
        0.95,
        "far behind full fine-tuning with a frozen model of usual size in Liu et al. 2022, P-Tuning v2, "
        "https://arxiv.org/abs/2110.07602; 0.37 of accuracy against 0.50 on MetaMathQA in PEFT's method comparison "
        "(Llama-3.2-3B); 0.69 for MiniLM on AG News in benchmarks/studies/ag-news-minilm",
    )
    Options = PTuningOptions

    @property
    def virtual_tokens(self) -> int:
        return self.options.tokens

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        from peft import PromptEncoderConfig

        shape = soft_prompt_shape(model)
        config = PromptEncoderConfig(
            task_type=peft_task(task),
            num_virtual_tokens=self.options.tokens,
            num_transformer_submodules=1,
            **shape,
            encoder_reparameterization_type=self.options.type.upper(),
            encoder_hidden_size=self.options.hidden or shape["token_dim"],
            encoder_num_layers=self.options.layers or 2,
        )
        return with_soft_prompt(attach_peft(model, config, task), self.options.tokens)


plugin = PTuning
