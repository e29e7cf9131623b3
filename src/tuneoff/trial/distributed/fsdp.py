"""Weights, gradients and optimizer states spread over the ranks (FSDP2, `torch.distributed.fsdp.fully_shard`).

Every transformer block is gathered when it computes and let go afterwards. Gradients are summed, not averaged, as
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
from tuneoff.methods._modules import blocks
from tuneoff.methods.base import WEIGHTS_FILE, Attached, save_weights
from tuneoff.trial.distributed.context import Ranks


def shard(attached: Attached, device: torch.device, ranks: Ranks) -> None:
    """Spreads the weights of a model that lies on the CPU over the ranks' devices, block by block.

    Raises:
        UnsupportedModel: if the model's blocks cannot be found.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    model: Any = attached.model
    # Where a block returns a view, writing into it would lose its hooks; neither models nor tasks do.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (ranks.size,))
    units = [*blocks(model), *_outer(model)]
    for unit in units:
        wrapped: Any = fully_shard(unit, mesh=mesh, reshard_after_forward=True)
        wrapped.set_gradient_divide_factor(1.0)
        wrapped.set_force_sum_reduction_for_comms(True)
        # Before weights are gathered, so that a rank which does not come is seen to be missing.
        unit.register_forward_pre_hook(lambda *given: ranks.meeting(), prepend=True)
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
    """The most that a rank holds, in bytes, of what is gathered for the while that it is needed, and of gradients that
    are not divided yet.

    What lies around the blocks stays gathered while they compute. A unit at work has its weights, gathered and taken
    out of what was gathered; or its gradients, and a copy of them in the order in which they are divided.
    """
    units = [*blocks(model), *_outer(model)]
    seen: set[int] = set()
    sizes = []
    for unit in units:
        own = [p for p in unit.parameters() if id(p) not in seen]
        seen.update(map(id, own))
        sizes.append(sum(p.numel() * p.element_size() for p in own))
    around = sum(sizes[len(blocks(model)) :])
    return around + 2 * max(sizes)


def _outer(model: nn.Module) -> list[nn.Module]:
    """What is gathered around the blocks: the whole model where its parts share a weight, else each part by itself,
    because tasks call them one by one."""
    parts = [part for part in model.children() if next(part.parameters(), None) is not None]
    seen = Counter(id(p) for part in parts for p in part.parameters())
    own = [p for name, p in model.named_parameters(recurse=False)]
    return [model] if own or any(count > 1 for count in seen.values()) else parts


@contextmanager
def outer_gathered(attached: Attached, sharded: bool) -> Iterator[None]:
    """While open, what lies around the blocks stays whole: writing calls parts of the model past its `forward`."""
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
    whole = {}
    for name, parameter in attached.module.named_parameters():
        if parameter.requires_grad:
            tensor = _whole(parameter.detach())
            if folder is not None:
                whole[name] = tensor.cpu().contiguous()
    if folder is not None:
        save_weights(whole, folder)


def load(attached: Attached, folder: Path) -> None:
    """Puts what `save` wrote into the sharded model; every rank reads its part.

    Raises:
        StoreError: if the file does not fit the model.
    """
    from safetensors import safe_open
    from torch.distributed.tensor import distribute_tensor

    trained = {n: p for n, p in attached.module.named_parameters() if p.requires_grad}
    with safe_open(folder / WEIGHTS_FILE, "pt") as kept, torch.no_grad():
        odd = sorted(trained.keys() ^ set(kept.keys()))
        if odd:
            raise StoreError(f"{folder} does not fit this model and method: {', '.join(odd[:3])}")
        for name, parameter in trained.items():
            place: Any = parameter
            tensor = kept.get_tensor(name).to(place.device)
            # All ranks read the same file, so nothing need be sent.
            part = distribute_tensor(tensor, place.device_mesh, place.placements, src_data_rank=None)
            place.copy_(part)


def norm_of(total: torch.Tensor) -> float:
    """A gradient norm that may be spread over the ranks, as a number."""
    return float(_whole(total))


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
