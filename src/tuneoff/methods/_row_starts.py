"""Starts of low-rank updates that are computed from training rows: EVA, CorDA and LoRA-GA.

PEFT's own routines read rows until they converge, or as often as they are told to. Here every arm reads the same few
batches once, so that none has seen more than another; the decompositions are PEFT's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import StartRows, attention_masks

if TYPE_CHECKING:
    import torch

Layers = Sequence[tuple[str, Any]]
"""Modules that hold a low-rank update, with their names."""
Take = Callable[[str, "torch.Tensor"], None]
"""Takes a layer's name and what it reads of a batch, shape (tokens, features)."""


def start_by_eva(layers: Layers, rows: StartRows) -> None:
    """Sets each first matrix to the directions in which the layer's inputs vary most (Paischer et al. 2024)."""
    from peft.utils.incremental_pca import IncrementalPCA

    ranks = {name: layer.r["default"] for name, layer in layers}
    found: dict[str, Any] = {
        name: IncrementalPCA(n_components=rank, lowrank=True, lowrank_seed=42) for name, rank in ranks.items()
    }
    fitted: set[str] = set()

    def take(name: str, states: torch.Tensor) -> None:
        if len(states) >= ranks[name]:
            found[name].partial_fit(states)
            fitted.add(name)

    read = _read(layers, rows, take)
    _refuse_unread(layers, read, "eva")
    for name, layer in layers:
        if name not in fitted:
            raise UnsupportedModel(
                f"lora: init eva: no batch of the rows that it starts from has {ranks[name]} tokens, as many as r",
                hint="Set r to less, or protocol.batch_size to more.",
            )
        layer.lora_A["default"].weight.data = found[name].components_.to(layer.lora_A["default"].weight).contiguous()


def start_by_corda(layers: Layers, rows: StartRows) -> None:
    """Takes the start out of each weight where it matters most for the layer's inputs (Yang et al. 2024)."""
    from peft.tuners.lora.corda import CordaEigens, collect_eigens_for_layer

    sums: dict[str, Any] = {}

    def take(name: str, states: torch.Tensor) -> None:
        scaled = states / states.max().abs()
        sums[name] = sums.get(name, 0) + scaled.t() @ scaled

    _refuse_unread(layers, _read(layers, rows, take), "corda")
    for name, layer in layers:
        base, rank = layer.get_base_layer(), layer.r["default"]
        base.covariance_matrix = sums[name] / len(rows.batches)
        # It reads no field of the configuration.
        eigens: Any = collect_eigens_for_layer(base, None)
        device = base.weight.device
        base.eigens = CordaEigens(
            S_WC=eigens.S_WC[:rank].clone(),
            U_WC=eigens.U_WC[:, :rank].clone().to(device),
            V_WC=eigens.V_WC[:, :rank].clone().to(device),
        )
        layer.corda_init("default", "corda")
        del base.covariance_matrix


def start_by_lora_ga(layers: Layers, rows: StartRows) -> None:
    """Takes the start out of each weight along its gradient (Wang et al. 2024)."""
    import torch
    from peft import LoraGAConfig

    weights = [layer.get_base_layer().weight for _, layer in layers]
    trained = [parameter for parameter in rows.module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)
    for batch in rows.batches:
        rows.loss(batch).backward()  # type: ignore[no-untyped-call]
    for weight in weights:
        weight.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    # The decomposition draws; what the training draws later must not depend on it.
    with torch.random.fork_rng(devices=[weights[0].device] if weights[0].is_cuda else []):
        for (name, layer), weight in zip(layers, weights, strict=True):
            if weight.grad is None:
                raise UnsupportedModel(
                    f"lora: init lora_ga: {name} takes no part in the task, so it has no gradient",
                    hint="Leave it out of targets.",
                )
            layer.get_base_layer()._peft_loraga_grad = weight.grad / len(rows.batches)
            weight.grad = None
            layer.lora_ga_init("default", LoraGAConfig())


STARTS: dict[str, Callable[[Layers, StartRows], None]] = {
    "corda": start_by_corda,
    "eva": start_by_eva,
    "lora_ga": start_by_lora_ga,
}
"""`init` -> what computes the start."""
MOVES_WEIGHTS = frozenset({"corda", "lora_ga"})
"""Those that take their start out of the frozen weights."""


def refuse_rank(layers: Layers, init: str) -> None:
    """Checks that each layer has as many directions as a start needs, and that the installed PEFT has the start.

    Raises:
        UnsupportedModel: if not.
    """
    for name, layer in layers:
        if init == "lora_ga" and not hasattr(layer, "lora_ga_init"):
            raise UnsupportedModel("lora: init lora_ga needs a newer PEFT", hint="pip install -U peft")
        rank, needed = min(layer.get_base_layer().weight.shape), layer.r["default"] * (2 if init == "lora_ga" else 1)
        if needed > rank:
            raise UnsupportedModel(
                f"lora: init {init} needs {needed} directions of {name}, which has {rank}", hint="Set r to less."
            )


def _refuse_unread(layers: Layers, read: set[str], init: str) -> None:
    """Refuses layers through which no row went, such as a pooler that the task leaves out.

    Raises:
        UnsupportedModel: naming the first.
    """
    for name, _ in layers:
        if name not in read:
            raise UnsupportedModel(
                f"lora: init {init}: {name} takes no part in the task, so it reads no rows",
                hint="Leave it out of targets.",
            )


def _read(layers: Layers, rows: StartRows, take: Take) -> set[str]:
    """Runs the model on each batch once and hands over what each layer reads of its real tokens, in float32; returns
    the layers that read any."""
    import torch

    read: set[str] = set()

    def note(name: str, states: torch.Tensor) -> None:
        read.add(name)
        take(name, states)

    with torch.no_grad():
        for batch in rows.batches:
            with _taking(layers, attention_masks(batch), note):
                rows.forward(batch)
    return read


@contextmanager
def _taking(layers: Layers, masks: Sequence[torch.Tensor], take: Take) -> Iterator[None]:
    def hook(name: str) -> Callable[[Any, tuple[torch.Tensor, ...]], None]:
        def hear(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            states = inputs[0].detach().float()
            mask = next((mask for mask in masks if mask.shape == states.shape[:-1]), None)
            take(name, states.reshape(-1, states.shape[-1]) if mask is None else states[mask.bool()])

        return hear

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
