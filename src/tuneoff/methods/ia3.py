"""(IA)3: trained vectors that rescale keys, values and feed-forward activations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from tuneoff.errors import StoreError
from tuneoff.interfaces import Attached, LearningRate, MethodOptions, Prior, Reference, TaskView
from tuneoff.methods._layers import attention_inputs, feedforward_end, is_projection, names_of, require_names
from tuneoff.methods._modules import blocks
from tuneoff.methods._peft import PeftMethod, attach_peft, peft_task

if TYPE_CHECKING:
    from torch import nn


class IA3Options(MethodOptions):
    """Options of `ia3`."""

    targets: tuple[str, ...] | None = Field(
        None,
        description="names of the modules to rescale; unset: PEFT's choice for the architecture, or else the "
        "projections that make keys and values and those that end feed-forward parts",
    )
    feedforward: tuple[str, ...] | None = Field(
        None, description="those of `targets` that are rescaled at their input; unset: as for `targets`"
    )

    @model_validator(mode="after")
    def _check_targets(self) -> IA3Options:
        if (self.targets is None) != (self.feedforward is None):
            raise ValueError("targets and feedforward are given together or not at all")
        if self.targets is not None and self.feedforward is not None and not {*self.feedforward} <= {*self.targets}:
            raise ValueError("feedforward must be some of targets")
        return self


class IA3(PeftMethod[IA3Options]):
    """Rescales keys, values and feed-forward activations by trained vectors; merges into the weights."""

    title = "IA3"
    summary = "Trains vectors that rescale keys, values and feed-forward activations; very few parameters."
    paper = "Liu et al. 2022, Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning, https://arxiv.org/abs/2205.05638"
    references = (
        Reference(
            "liu2022fewshot",
            "Liu, Haokun and Tam, Derek and Muqeeth, Mohammed and Mohta, Jay and Huang, Tenghao and "
            "Bansal, Mohit and Raffel, Colin",
            "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
            2022,
            arxiv="2205.05638",
        ),
    )
    mergeable = True
    learning_rate = LearningRate(1e-2)
    prior = Prior(
        0.6,
        1.05,
        "ahead of full fine-tuning with few examples in Liu et al. 2022 (T0-3B); 0.34 of accuracy against 0.50 on "
        "MetaMathQA in PEFT's method comparison (Llama-3.2-3B); level for MiniLM on AG News in "
        "benchmarks/studies/ag-news-minilm",
    )
    Options = IA3Options

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        from peft import IA3Config

        targets, feedforward, findings = self._choose_layers(model)
        config = IA3Config(task_type=peft_task(task), target_modules=targets, feedforward_modules=feedforward)
        attached = attach_peft(model, config, task)
        attached.extra["findings"] = findings
        return attached

    def write_lora(self, attached: Attached, folder: Path) -> None:
        raise StoreError(
            "it rescales whole inputs or outputs of a layer: as an update of the weight that has the weight's full "
            "rank, and a rescaled bias is no part of a LoRA"
        )

    def _choose_layers(self, model: nn.Module) -> tuple[list[str], list[str], list[tuple[str, str]]]:
        """Returns names of the rescaled modules, of those rescaled at their input, and findings to report.

        Where PEFT has a choice for the architecture, it is that, so that results can be compared with others'.

        Raises:
            UnsupportedModel: if the model has no such layers.
        """
        if self.options.targets is not None and self.options.feedforward is not None:
            require_names(model, self.options.targets)
            return list(self.options.targets), list(self.options.feedforward), []
        choice = _choice_of_peft(model)
        if choice is not None:
            return *choice, []
        any_model: Any = model
        ends = [feedforward_end(block, any_model.config.hidden_size) for block in blocks(model)]
        layers = names_of(model, [end for end in ends if is_projection(end)])
        findings = []
        if not layers:
            message = "experts keep their weights in no linear layers, so only keys and values are rescaled"
            findings.append(("ia3_without_feedforward", message))
        return names_of(model, attention_inputs(model, ("key", "value"))) + layers, layers, findings


def _choice_of_peft(model: nn.Module) -> tuple[list[str], list[str]] | None:
    """Returns PEFT's targets and feed-forward modules for the architecture; None where any is missing."""
    from peft.utils.constants import (
        TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
        TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
    )

    any_model: Any = model
    targets = TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(any_model.config.model_type, ())
    names = [name for name, _ in model.named_modules()]
    if not targets or not all(any(name.endswith(f".{target}") for name in names) for target in targets):
        return None
    return list(targets), list(TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING[any_model.config.model_type])


plugin = IA3
