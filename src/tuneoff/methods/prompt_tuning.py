"""Prompt tuning: trained embeddings before the input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import Attached, LearningRate, MethodOptions, Prior, Reference, TaskView
from tuneoff.methods._peft import attach_peft, peft_task
from tuneoff.methods._virtual import VirtualTokens, soft_prompt_shape, with_soft_prompt

if TYPE_CHECKING:
    import torch
    from torch import nn

SPECIAL = ("bos", "eos", "pad", "cls", "sep", "unk", "mask", "decoder_start")


class PromptTuningOptions(MethodOptions):
    """Options of `prompt_tuning`."""

    tokens: int = Field(20, ge=1, description="virtual tokens; they count against the model's positions")
    init: Literal["vocabulary", "uniform", "text"] = Field(
        "vocabulary",
        description="where they start: embeddings of words drawn from the vocabulary, uniform noise, or a text's words",
    )
    init_range: float = Field(0.5, gt=0, description="with init uniform: drawn from minus this to this")
    init_text: str | None = Field(
        None, min_length=1, description="with init text: its tokens, repeated or cut to as many as `tokens`"
    )

    @model_validator(mode="after")
    def _text_where_it_is_used(self) -> PromptTuningOptions:
        if self.init == "text" and self.init_text is None:
            raise ValueError("init text needs init_text, the text to start from")
        if self.init != "text" and self.init_text is not None:
            raise ValueError(f"init_text is for init text, not for init {self.init}")
        return self


class PromptTuning(VirtualTokens[PromptTuningOptions]):
    """Trains the embeddings of virtual tokens put before the input; the transformer stays frozen.

    In an encoder-decoder they stand before the encoder's input.
    """

    title = "Prompt tuning"
    summary = "Trains embeddings of virtual tokens before the input; nothing inside the transformer changes."
    paper = "Lester, Al-Rfou & Constant 2021, The Power of Scale for Parameter-Efficient Prompt Tuning, https://arxiv.org/abs/2104.08691"
    references = (
        Reference(
            "lester2021power",
            "Lester, Brian and Al-Rfou, Rami and Constant, Noah",
            "The Power of Scale for Parameter-Efficient Prompt Tuning",
            2021,
            arxiv="2104.08691",
        ),
    )
    learning_rate = LearningRate(3e-2)
    prior = Prior(
        0.1,
        1.0,
        "far behind full fine-tuning in small models, level with it at eleven billion parameters in Lester et al. 2021 "
        "(T5 on SuperGLUE); 0.05 to 0.39 of accuracy, by start and rate, against 0.50 on MetaMathQA in PEFT's method "
        "comparison (Llama-3.2-3B); 0.97 for MiniLM on AG News in benchmarks/studies/ag-news-minilm",
    )
    Options = PromptTuningOptions

    @property
    def virtual_tokens(self) -> int:
        return self.options.tokens

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        from peft import PromptTuningConfig, PromptTuningInit

        config = PromptTuningConfig(
            task_type=peft_task(task),
            num_virtual_tokens=self.options.tokens,
            num_transformer_submodules=1,
            **soft_prompt_shape(model),
            # PEFT draws from the vocabulary with its special tokens, and loads a tokenizer of its own for a text.
            prompt_tuning_init=PromptTuningInit.RANDOM,
        )
        attached = attach_peft(model, config, task)
        peft_model: Any = attached.module
        weight = peft_model.prompt_encoder["default"].embedding.weight
        if weight.device.type != "meta":
            self._initialise(weight, model, task)
        return with_soft_prompt(attached, self.options.tokens)

    def _initialise(self, weight: nn.Parameter, model: nn.Module, task: TaskView) -> None:
        import torch

        any_model: Any = model
        with torch.no_grad():
            if self.options.init == "uniform":
                weight.uniform_(-self.options.init_range, self.options.init_range)
                return
            ids = (
                self._tokenize_text(task)
                if self.options.init == "text"
                else self._draw_from_vocabulary(any_model.config)
            )
            # Through the layer, not from its table: some models scale embeddings there.
            embeddings = any_model.get_input_embeddings()
            weight.copy_(embeddings(ids.to(embeddings.weight.device)).to(weight))

    def _draw_from_vocabulary(self, config: Any) -> torch.Tensor:
        """Draws tokens from the vocabulary, except those that the configuration calls special."""
        import torch

        special: set[int] = set()
        for name in SPECIAL:
            ids = getattr(config, f"{name}_token_id", None)
            special.update(ids if isinstance(ids, (list, tuple)) else [ids] if ids is not None else [])
        ordinary = torch.tensor([i for i in range(config.get_text_config().vocab_size) if i not in special])
        return ordinary[torch.randint(len(ordinary), (self.options.tokens,))]

    def _tokenize_text(self, task: TaskView) -> torch.Tensor:
        import torch

        assert self.options.init_text is not None
        assert task.tokenize is not None, "only shapes are known on the meta device"
        ids = list(task.tokenize(self.options.init_text))
        if not ids:
            raise UnsupportedModel(f"prompt_tuning: init_text {self.options.init_text!r} has no tokens")
        repeats = -(-self.options.tokens // len(ids))
        return torch.tensor((ids * repeats)[: self.options.tokens])


plugin = PromptTuning
