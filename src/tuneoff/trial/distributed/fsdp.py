"""Weights, gradients and optimizer states spread over the ranks (FSDP2, `torch.distributed.fsdp.fully_shard`).

Every transformer block is gathered when it computes and freed afterwards. Gradients are summed, not averaged, as
without sharding. Zhao et al. 2023, PyTorch FSDP, https://arxiv.org/abs/2304.11277
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tuneoff.errors import StoreError
from tuneoff.interfaces import WEIGHTS_FILE, Attached, save_weights
from tuneoff.methods._modules import blocks
from tuneoff.trial.distributed.context import RankContext


def shard(attached: Attached, device: torch.device, ranks: RankContext) -> None:
    """Spreads the weights of a model that lies on the CPU over the ranks' devices, block by block.

    Raises:
        UnsupportedModel: if the model's blocks cannot be found.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    model: Any = attached.model
    # Where a block returns a view, writing into it would lose its hooks; neither models nor tasks do.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (ranks.world_size,))
    units = [*blocks(model), *_find_outer_units(model)]
    for unit in units:
        sharded_unit: Any = fully_shard(unit, mesh=mesh, reshard_after_forward=True)
        sharded_unit.set_gradient_divide_factor(1.0)
        sharded_unit.set_force_sum_reduction_for_comms(True)
        # Before weights are gathered, so that a rank which does not come is seen to be missing.
        unit.register_forward_pre_hook(lambda *inputs: ranks.meeting(), prepend=True)
    if units[-1] is model and hasattr(model, "generate"):
        register_fsdp_forward_method(model, "generate")
    # By this transformers makes every rank write as many tokens as the one that writes most.
    model._is_fsdp_managed_module = True
    # What holds no parameters of its own still may hold buffers.
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(device)


def gathered_bytes(model: nn.Module) -> int:
    """Counts the most bytes that a rank holds at once of weights gathered for a while and of gradients not yet divided.

    What lies around the blocks stays gathered while they compute. A unit that computes holds its weights twice (as
    gathered, and unpacked); or its gradients and a copy of them, in the order in which they are divided.
    """
    units = [*blocks(model), *_find_outer_units(model)]
    counted_ids: set[int] = set()
    sizes = []
    for unit in units:
        parameters = [p for p in unit.parameters() if id(p) not in counted_ids]
        counted_ids.update(map(id, parameters))
        sizes.append(sum(p.numel() * p.element_size() for p in parameters))
    outer_bytes = sum(sizes[len(blocks(model)) :])
    return outer_bytes + 2 * max(sizes)


def _find_outer_units(model: nn.Module) -> list[nn.Module]:
    """Returns the units that are gathered around the blocks: the whole model where its parts share a weight, else each
    part by itself, because tasks call them one by one."""
    parts = [part for part in model.children() if next(part.parameters(), None) is not None]
    uses = Counter(id(p) for part in parts for p in part.parameters())
    direct_parameters = [p for name, p in model.named_parameters(recurse=False)]
    return [model] if direct_parameters or any(count > 1 for count in uses.values()) else parts


@contextmanager
def outer_gathered(attached: Attached, sharded: bool) -> Iterator[None]:
    """Keeps the weights around the blocks gathered while open: generation calls parts of a model without `forward`."""
    from torch.distributed.fsdp import FSDPModule

    model: Any = attached.model
    if not sharded or not isinstance(model, FSDPModule):
        yield
        return
    model.set_reshard_after_forward(False, recurse=False)
    model.unshard()
    try:
        yield
    finally:
        model.set_reshard_after_forward(True, recurse=False)
        model.reshard()


def save(attached: Attached, folder: Path | None) -> None:
    """Gathers the trained weights, tensor by tensor, and writes them as `Method.save` does; every rank calls it.

    Args:
        attached: the sharded model.
        folder: where to write, on the rank that writes; None on the others.
    """
    tensors = {}
    for name, parameter in attached.module.named_parameters():
        if parameter.requires_grad:
            tensor = whole(parameter.detach())
            if folder is not None:
                tensors[name] = tensor.cpu().contiguous()
    if folder is not None:
        save_weights(tensors, folder)


def load(attached: Attached, folder: Path) -> None:
    """Loads what `save` wrote into the sharded model; every rank reads its part.

    Raises:
        StoreError: if the file does not fit the model.
    """
    from safetensors import safe_open

    trained = {n: p for n, p in attached.module.named_parameters() if p.requires_grad}
    with safe_open(folder / WEIGHTS_FILE, "pt") as weights, torch.no_grad():
        mismatches = sorted(trained.keys() ^ set(weights.keys()))
        if mismatches:
            raise StoreError(f"{folder} does not fit this model and method: {', '.join(mismatches[:3])}")
        for name, parameter in trained.items():
            put(weights.get_tensor(name), parameter)


def put(tensor: torch.Tensor, target: torch.Tensor) -> None:
    """Copies a whole tensor, the same on all ranks, into one that may be spread over them; each takes its part."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(target, DTensor):
        # All ranks have the same tensor, so nothing need be sent.
        whole_tensor = tensor.to(target.device)
        tensor = distribute_tensor(whole_tensor, target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(tensor)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a tensor that may be spread over the ranks; all of them call it."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
