"""QLoRA: low-rank updates beside projections that are frozen in four bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tuneoff.errors import StoreError
from tuneoff.interfaces import Attached, LearningRate, PlainCode, Prior, Proposal, ProposalSetting, Reference, TaskView
from tuneoff.methods._low_rank_rules import propose
from tuneoff.methods._peft import PeftMethod, attach_peft, peft_task
from tuneoff.methods.lora import LowRankOptions, lora_layers, lora_targets

if TYPE_CHECKING:
    import torch
    from torch import nn


_LOFTQ = Reference(
    "li2023loftq",
    "Li, Yixiao and Yu, Yifan and Liang, Chen and He, Pengcheng and Karampatziakis, Nikos and Chen, Weizhu and "
    "Zhao, Tuo",
    "LoftQ: LoRA-Fine-Tuning-Aware Quantization for Large Language Models",
    2023,
    arxiv="2310.08659",
)


class QloraOptions(LowRankOptions):
    """Options of `qlora`."""

    targets: str | tuple[str, ...] = Field(
        "all-linear",
        description="what gets an update: 'all-linear' (as in the paper: every layer in four bits), 'default' "
        "(the projections that make queries and values), 'attention' (all its projections), or module names",
    )
    quant_type: Literal["nf4", "fp4"] = Field("nf4", description="the sixteen values a weight can take")
    double_quantisation: bool = Field(True, description="quantise the blocks' scales, too, to eight bits")
    init: Literal["default", "loftq"] = Field(
        "default",
        description="start of the two matrices: 'default' (no update), or 'loftq' (one step of LoftQ: the update of "
        "rank r that best makes up for what the packed weights lost)",
    )


class Qlora(PeftMethod[QloraOptions]):
    """Packs the transformer's linear layers into four bits (blocks of 64 weights) and trains LoRA on top.

    The task's head, the output layer, embeddings and norms are not packed. Weights are dequantised layer by
    layer, in the precision policy's type, each time they are used. Merging gives a model in full precision whose
    logits are the trained ones up to rounding; it isn't the base model plus an update, as the base was rounded.

    By option also LoftQ's start of one step (Li et al. 2023, https://arxiv.org/abs/2310.08659), which leaves the packed
    weights as they are.
    """

    title = "QLoRA"
    summary = "LoRA beside linear layers kept in four bits: less memory for frozen weights, more time to unpack them."
    paper = "Dettmers et al. 2023, QLoRA: Efficient Finetuning of Quantized LLMs, https://arxiv.org/abs/2305.14314"
    references = (
        Reference(
            "dettmers2023qlora",
            "Dettmers, Tim and Pagnoni, Artidoro and Holtzman, Ari and Zettlemoyer, Luke",
            "QLoRA: Efficient Finetuning of Quantized LLMs",
            2023,
            arxiv="2305.14314",
        ),
    )
    mergeable = True
    learning_rate = LearningRate(2e-3, over_full=10)
    prior = Prior(
        0.7,
        1.03,
        "as good as 16-bit fine-tuning in Dettmers et al. 2023; LoRA is behind on code and mathematics in Biderman et "
        "al. 2024, https://arxiv.org/abs/2405.09673; 0.96 for MiniLM on AG News in benchmarks/studies/ag-news-minilm",
    )
    Options = QloraOptions

    @property
    def cited(self) -> tuple[Reference, ...]:
        return (*self.references, _LOFTQ) if self.options.init == "loftq" else self.references

    def propose(self, setting: ProposalSetting) -> tuple[Proposal, ...]:
        return propose(self.options, setting)

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        from peft import LoraConfig

        from tuneoff.methods._quantised import quantise

        full_modules = dict(model.named_modules()) if self.options.init == "loftq" else {}
        packed = quantise(
            model, _list_unpacked(task), quant_type=self.options.quant_type, double=self.options.double_quantisation
        )
        any_model: Any = model
        any_model.is_loaded_in_4bit = True  # by this PEFT knows that it meets four-bit layers
        targets = lora_targets(self.options.targets, model)
        config = LoraConfig(
            task_type=peft_task(task),
            r=self.options.r,
            lora_alpha=self.options.alpha,
            lora_dropout=self.options.dropout,
            target_modules=packed if targets == "all-linear" else targets,
        )
        attached = attach_peft(model, config, task)
        for name, layer in lora_layers(attached.model) if full_modules else ():
            if name in packed:
                _init_from_rounding_error(layer, full_modules.pop(name).weight)
        return attached

    def plain_code(self, attached: Attached, task: TaskView) -> PlainCode:
        code, options = super().plain_code(attached, task), self.options
        return PlainCode(
            imports=("from bitsandbytes.functional import dequantize_4bit, quantize_4bit", *code.imports),
            lines=(
                "# Rounded to the 4-bit values it was trained on. For less memory, on a GPU, load it with a",
                "# BitsAndBytesConfig in the place of this loop; outputs then differ slightly.",
                "for name, layer in model.named_modules():",
                f"    kept = any(f'{{name}}.'.startswith(f'{{other}}.') for other in {_list_unpacked(task)!r})",
                '    if type(layer).__name__ not in ("Linear", "Conv1D") or kept:',
                "        continue",
                '    weight = layer.weight.data.T if type(layer).__name__ == "Conv1D" else layer.weight.data',
                "    packed, state = quantize_4bit(",
                f'        weight.contiguous(), quant_type="{options.quant_type}", '
                f"compress_statistics={options.double_quantisation}",
                "    )",
                "    state.shape = torch.Size((1, weight.numel()))",
                "    weight.copy_(dequantize_4bit(packed, state).reshape(weight.shape))",
                *code.lines,
            ),
            peft=True,
        )

    def write_lora(self, attached: Attached, folder: Path) -> None:
        raise StoreError("it was trained beside weights in 4 bits, and is another function beside the full ones")

    def merge(self, attached: Attached) -> nn.Module:
        # PEFT would pack the merged weights again, which rounds the update away.
        from peft.tuners.lora import LoraLayer

        from tuneoff.methods._quantised import QuantisedLinear, dequantised

        model: Any = attached.model
        for name, module in list(model.named_modules()):
            layer: Any = module
            if isinstance(module, LoraLayer) and isinstance(layer.get_base_layer(), QuantisedLinear):
                plain = dequantised(layer.get_base_layer(), layer.get_delta_weight("default").detach())
            elif isinstance(module, QuantisedLinear) and not name.endswith(".base_layer"):
                plain = dequantised(module)
            else:
                continue
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, plain)
        del model.is_loaded_in_4bit
        return super().merge(attached)


def _list_unpacked(task: TaskView) -> list[str]:
    """Returns the names of the modules that are not quantised."""
    return [*task.head, *([task.output] if task.output else [])]


def _init_from_rounding_error(layer: Any, full: torch.Tensor) -> None:
    """Initialises an update as the best one of its rank for the quantisation error of the weight `full`."""
    import torch

    first, second = layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data
    if first.device.type == "meta":
        return
    base = layer.get_base_layer()
    residual = (full.detach().T if base.transposed else full.detach()) - base.unpacked()
    u, singular_values, vh = torch.linalg.svd(residual, full_matrices=False)
    rank = min(len(first), len(singular_values))
    roots = (singular_values[:rank] / layer.scaling["default"]).sqrt()
    first[:rank] = roots[:, None] * vh[:rank]
    second[:, :rank] = u[:, :rank] * roots


plugin = Qlora
