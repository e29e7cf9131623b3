"""LoRA: low-rank updates beside frozen projections."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from tuneoff.errors import StoreError, UnsupportedModel, did_you_mean
from tuneoff.interfaces import (
    Attached,
    LearningRate,
    MethodOptions,
    Prior,
    Proposal,
    ProposalSetting,
    Reference,
    StartRows,
    TaskView,
)
from tuneoff.methods._layers import (
    attention_inputs,
    attention_projections,
    is_projection,
    names_of,
    require_names,
)
from tuneoff.methods._low_rank_rules import propose
from tuneoff.methods._modules import is_tied
from tuneoff.methods._peft import PeftMethod, attach_peft, edit_config, peft_task, read_adapter, read_config
from tuneoff.methods._row_starts import MOVES_WEIGHTS, STARTS, refuse_rank

if TYPE_CHECKING:
    import torch
    from torch import nn

INITS = ("default", "gaussian", "orthogonal", "pissa", "pissa_niter_<n>", "olora", "mica", "eva", "corda", "lora_ga")
NOT_OFFERED = {
    "loftq": "it starts from what packing weights into four bits rounds away, and lora packs none; qlora has it as its "
    "own option init",
}
"""PEFT's other initialisations, and why they are not offered."""

_DORA = Reference(
    "liu2024dora",
    "Liu, Shih-Yang and Wang, Chien-Yi and Yin, Hongxu and Molchanov, Pavlo and Wang, Yu-Chiang Frank and "
    "Cheng, Kwang-Ting and Chen, Min-Hung",
    "DoRA: Weight-Decomposed Low-Rank Adaptation",
    2024,
    arxiv="2402.09353",
)
_RSLORA = Reference(
    "kalajdzievski2023rank",
    "Kalajdzievski, Damjan",
    "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA",
    2023,
    arxiv="2312.03732",
)
_LORA_PLUS = Reference(
    "hayou2024lora",
    "Hayou, Soufiane and Ghosh, Nikhil and Yu, Bin",
    "LoRA+: Efficient Low Rank Adaptation of Large Models",
    2024,
    arxiv="2402.12354",
)
_PISSA = Reference(
    "meng2024pissa",
    "Meng, Fanxu and Wang, Zhaohui and Zhang, Muhan",
    "PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models",
    2024,
    arxiv="2404.02948",
)
_OLORA = Reference(
    "buyukakyuz2024olora",
    "Büyükakyüz, Kerim",
    "OLoRA: Orthonormal Low-Rank Adaptation of Large Language Models",
    2024,
    arxiv="2406.01775",
)


_EVA = Reference(
    "paischer2024one",
    "Paischer, Fabian and Hauzenberger, Lukas and Schmied, Thomas and Alkin, Benedikt and Deisenroth, Marc Peter and "
    "Hochreiter, Sepp",
    "One Initialization to Rule them All: Fine-tuning via Explained Variance Adaptation",
    2024,
    arxiv="2410.07170",
)
_CORDA = Reference(
    "yang2024corda",
    "Yang, Yibo and Li, Xiaojie and Zhou, Zhongzhu and Song, Shuaiwen Leon and Wu, Jianlong and Nie, Liqiang and "
    "Ghanem, Bernard",
    "CorDA: Context-Oriented Decomposition Adaptation of Large Language Models",
    2024,
    arxiv="2406.05223",
)
_LORA_GA = Reference(
    "wang2024loraga",
    "Wang, Shaowen and Yu, Linxi and Li, Jian",
    "LoRA-GA: Low-Rank Adaptation with Gradient Approximation",
    2024,
    arxiv="2407.05000",
)


class LowRankOptions(MethodOptions):
    """Options of every low-rank update."""

    r: int = Field(8, ge=1, description="rank of the update")
    alpha: float = Field(16, gt=0, description="the update is scaled by alpha / r")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the update")


class LoraOptions(LowRankOptions):
    """Options of `lora`."""

    targets: str | tuple[str, ...] = Field(
        "default",
        description="'default' (the projections that make queries and values), 'attention' (all its projections), "
        "'all-linear', or module names",
    )
    dora: bool = Field(False, description="DoRA: train each output's magnitude apart from its direction")
    rslora: bool = Field(False, description="rsLoRA: scale by alpha / sqrt(r)")
    init: str = Field(
        "default",
        description=f"start of the two matrices: {', '.join(INITS)}; PiSSA, OLoRA, CorDA and LoRA-GA take their start "
        "out of the frozen weights; EVA, CorDA and LoRA-GA compute it from training rows, which takes training time",
    )
    lora_plus_ratio: float = Field(
        1.0, gt=0, description="LoRA+: the second matrix learns at this multiple of the learning rate"
    )

    @field_validator("init")
    @classmethod
    def _known_init(cls, init: str) -> str:
        if (init in INITS and "<" not in init) or re.fullmatch(r"pissa_niter_[1-9]\d*", init):
            return init
        if init in NOT_OFFERED:
            raise ValueError(f"init {init} is not offered: {NOT_OFFERED[init]}; known: {', '.join(INITS)}")
        raise ValueError(f"unknown init{did_you_mean(init, INITS)}; known: {', '.join(INITS)}")


class Lora(PeftMethod[LoraOptions]):
    """Adds a trained product of two thin matrices to frozen projections; merges into them.

    Also by option: DoRA (Liu et al. 2024), rsLoRA (Kalajdzievski 2023), LoRA+ (Hayou et al. 2024) and the
    initialisations PiSSA (Meng et al. 2024), OLoRA (Büyükakyüz 2024), and from training rows EVA (Paischer et al.
    2024), CorDA (Yang et al. 2024) and LoRA-GA (Wang et al. 2024). All but EVA move their start out of the frozen
    weights, so what is kept is the difference to it: a plain LoRA of twice the rank for the unchanged base model.
    """

    title = "LoRA"
    summary = "Trains low-rank updates of frozen projections; merging leaves inference as fast as the base model."
    usual = True
    paper = "Hu et al. 2022, LoRA, https://arxiv.org/abs/2106.09685"
    references = (
        Reference(
            "hu2022lora",
            "Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li, Yuanzhi and "
            "Wang, Shean and Wang, Lu and Chen, Weizhu",
            "LoRA: Low-Rank Adaptation of Large Language Models",
            2022,
            arxiv="2106.09685",
        ),
    )
    mergeable = True
    learning_rate = LearningRate(2e-3, over_full=10)
    prior = Prior(
        0.7,
        1.03,
        "as good as full fine-tuning in Hu et al. 2022 (GLUE, E2E); behind it on code and mathematics in Biderman et "
        "al. 2024, https://arxiv.org/abs/2405.09673; 0.48 of accuracy against 0.50 on MetaMathQA in PEFT's method "
        "comparison (Llama-3.2-3B, rank 32); 0.99 for MiniLM on AG News in benchmarks/studies/ag-news-minilm",
    )
    Options = LoraOptions

    @property
    def cited(self) -> tuple[Reference, ...]:
        options = self.options
        variants = (
            (options.dora, _DORA),
            (options.rslora, _RSLORA),
            (options.lora_plus_ratio != 1, _LORA_PLUS),
            (options.init.startswith("pissa"), _PISSA),
            (options.init == "olora", _OLORA),
            (options.init == "eva", _EVA),
            (options.init == "corda", _CORDA),
            (options.init == "lora_ga", _LORA_GA),
        )
        return (*self.references, *(reference for used, reference in variants if used))

    def propose(self, setting: ProposalSetting) -> tuple[Proposal, ...]:
        return propose(self.options, setting)

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        from peft import LoraConfig

        options = self.options
        peft_init = options.init in {"gaussian", "orthogonal", "mica"}
        config = LoraConfig(
            task_type=peft_task(task),
            r=options.r,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules=lora_targets(options.targets, model),
            use_dora=options.dora,
            use_rslora=options.rslora,
            init_lora_weights=options.init if peft_init else True,
        )
        tied = is_tied(model)
        attached = attach_peft(model, config, task)
        if options.init in STARTS:
            self._refuse_layers(attached, tied)
            refuse_rank(lora_layers(attached.model), options.init)
        elif options.init not in {"default", "gaussian", "orthogonal", "mica"}:
            self._init_from_base(attached, tied)
        if options.init in MOVES_WEIGHTS:
            # Until `initialise` moves it, nothing is taken out of the weights.
            attached.extra["starts"] = {
                name: tuple(part["default"].weight.detach() * 0 for part in (layer.lora_A, layer.lora_B))
                for name, layer in lora_layers(attached.model)
            }
        return attached

    @property
    def starts_from_rows(self) -> bool:
        return self.options.init in STARTS

    def initialise(self, attached: Attached, rows: StartRows) -> None:
        layers = lora_layers(attached.model)
        STARTS[self.options.init](layers, rows)
        if self.options.init in MOVES_WEIGHTS:
            attached.extra["starts"] = {
                name: tuple(part["default"].weight.detach().clone() for part in (layer.lora_A, layer.lora_B))
                for name, layer in layers
            }

    def _refuse_layers(self, attached: Attached, tied: bool) -> None:
        """Refuses layers that a start cannot be taken out of."""
        any_model: Any = attached.model
        for name, layer in lora_layers(attached.model):
            if not is_projection(layer.get_base_layer()):
                raise UnsupportedModel(
                    f"lora: init {self.options.init} takes its start out of linear layers, and {name} is none "
                    f"({type(layer.get_base_layer()).__name__})",
                    hint="Leave it out of targets, or use init: default.",
                )
            if tied and layer is any_model.get_output_embeddings():
                raise UnsupportedModel(
                    f"lora: init {self.options.init} changes the weights of {name}, which are the embeddings too",
                    hint="Leave it out of targets, or use init: default.",
                )

    def _init_from_base(self, attached: Attached, tied: bool) -> None:
        """Initialises the matrices from the frozen weights and subtracts that start from them (PiSSA, OLoRA).

        Done here and not by PEFT's configuration, so that it also suits GPT-2's transposed weights, for which
        PEFT's OLoRA is wrong, and so that PEFT never changes the weights a second time when it loads the result.
        """
        starts: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self._refuse_layers(attached, tied)
        for name, layer in lora_layers(attached.model):
            first, second = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            if first.device.type == "meta":
                continue
            base = layer.get_base_layer().weight
            if self.options.init == "olora" and layer.fan_in_fan_out:
                base.data = base.data.T.contiguous()
                layer.olora_init("default")
                base.data = base.data.T.contiguous()
            elif self.options.init == "olora":
                layer.olora_init("default")
            else:
                layer.pissa_init("default", self.options.init)
            for matrix in (first, second):
                matrix.data = matrix.data.contiguous()
            starts[name] = (first.detach().clone(), second.detach().clone())
        attached.extra["starts"] = starts

    def parameter_groups(self, attached: Attached, weight_decay: float) -> list[dict[str, Any]]:
        groups = super().parameter_groups(attached, weight_decay)
        if self.options.lora_plus_ratio == 1:
            return groups
        parameters = attached.module.named_parameters()
        faster = {id(p) for name, p in parameters if {"lora_B", "lora_embedding_B"} & set(name.split("."))}
        new_groups = []
        for group in groups:
            new_groups.append({**group, "params": [p for p in group["params"] if id(p) not in faster]})
            fast_parameters = [p for p in group["params"] if id(p) in faster]
            new_groups.append({**group, "params": fast_parameters, "learning_rate_ratio": self.options.lora_plus_ratio})
        return new_groups

    def save(self, attached: Attached, folder: Path) -> None:
        super().save(attached, folder)
        starts = attached.extra.get("starts")
        if not starts:
            return
        import torch
        from safetensors.torch import load_file, save_file

        file = folder / "adapter_model.safetensors"
        tensors = load_file(file)
        for name, (first, second) in starts.items():
            for part, start, axis in (("lora_A", first, 0), ("lora_B", -second, 1)):
                key = f"base_model.model.{name}.{part}.weight"
                tensors[key] = torch.cat([tensors[key], start.cpu()], dim=axis).contiguous()
        save_file(tensors, file, metadata={"format": "pt"})
        # The scale, alpha / r or alpha / sqrt(r), must stay.
        alpha = self.options.alpha * (2**0.5 if self.options.rslora else 2)
        edit_config(folder, {"r": 2 * self.options.r, "lora_alpha": alpha})

    def write_lora(self, attached: Attached, folder: Path) -> None:
        if self.options.dora:
            raise StoreError("DoRA rescales each output of a layer, so that its update has the full rank of the weight")
        self.save(attached, folder)
        if self.options.rslora:
            # The same scale by the formula that every reader of a LoRA knows: alpha / r, not alpha / sqrt(r).
            config = read_config(folder)
            scale = config["lora_alpha"] / config["r"] ** 0.5
            edit_config(folder, {"lora_alpha": scale * config["r"], "use_rslora": False})

    def why_no_start(self, attached: Attached, folder: Path) -> str:
        if "starts" in attached.extra:
            return (
                f"init {self.options.init} makes a start of its own. Leave init out; what such an arm kept is a plain "
                "LoRA of twice its r and alpha"
            )
        return super().why_no_start(attached, folder)

    def load(self, attached: Attached, folder: Path) -> None:
        starts = attached.extra.get("starts")
        if not starts:
            super().load(attached, folder)
            return
        tensors = read_adapter(folder)
        for name, layer in lora_layers(attached.model):
            saved = []
            for part, axis in (("lora_A", 0), ("lora_B", 1)):
                key = f"base_model.model.{name}.{part}.weight"
                tensors[key], start = tensors[key].chunk(2, dim=axis)
                saved.append(start if axis == 0 else -start)
            starts[name] = self._move_start(layer, starts[name], (saved[0], saved[1]))
        self.put(attached, tensors, folder)

    def _move_start(
        self, layer: Any, current: tuple[torch.Tensor, torch.Tensor], saved: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Changes the frozen weights so that the saved start is subtracted from them instead of the current one.

        The two starts differ where the decomposition gives another result (on another machine, or a random one).
        """
        import torch

        base = layer.get_base_layer().weight
        first, second = (matrix.to(base.device) for matrix in saved)
        if not (torch.equal(first, current[0].to(base.device)) and torch.equal(second, current[1].to(base.device))):
            change = layer.scaling["default"] * (
                current[1].to(base.device) @ current[0].to(base.device) - second @ first
            )
            base.data += change.T if layer.fan_in_fan_out else change
        return first, second


def lora_targets(targets: str | tuple[str, ...], model: nn.Module) -> str | list[str]:
    """Returns PEFT's `target_modules` for the option `targets`.

    Raises:
        UnsupportedModel: if the model has no such layers.
    """
    if targets == "default":
        return names_of(model, attention_inputs(model, ("query", "value")))
    if targets == "attention":
        projections = attention_projections(model)
        if not projections:
            raise UnsupportedModel(f"{type(model).__name__}: no projections of attention are found")
        return names_of(model, [projection.module for projection in projections])
    if targets == "all-linear":
        return "all-linear"
    names = [targets] if isinstance(targets, str) else list(targets)
    require_names(model, names)
    return names


def lora_layers(model: nn.Module) -> list[tuple[str, Any]]:
    """Returns every module that has an update, with its name."""
    from peft.tuners.lora import LoraLayer

    return [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]


plugin = Lora
