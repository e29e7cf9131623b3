"""What a training step or a forward pass costs: memory, operations and traffic, and how they are tracked."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tuneoff.trial.modeling.precision import Kernel, PolicyName


@dataclass(frozen=True)
class ModelStateBytes:
    """What a trial holds between its steps, in bytes.

    Attributes:
        weights: parameters and buffers, frozen ones too.
        parameters: number of parameters, also where several are packed into one number.
        gradients: of what is trained.
        optimizer: AdamW's two moments of what is trained, in its type.
    """

    weights: int
    parameters: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """Returns the sum of all."""
        return self.weights + self.gradients + self.optimizer


@dataclass(frozen=True)
class StepCost:
    """A step at one shape.

    Attributes:
        activations: bytes by which the greatest sum of live tensors exceeds weights, gradients and optimizer. Where the
            peak comes before the gradients exist, their bytes are subtracted all the same.
        operations: floating-point operations of all matrix products.
        traffic: bytes that operations read and write, views not counted.
        calls: operations that were called.
    """

    activations: int
    operations: int
    traffic: int
    calls: int

    def scaled(self, factor: float) -> StepCost:
        """Estimates the step at a shape with `factor` times the padded tokens: the same calls, each on so much more."""
        activations, operations, traffic = (
            round(factor * size) for size in (self.activations, self.operations, self.traffic)
        )
        return StepCost(activations, operations, traffic, self.calls)


@dataclass(frozen=True)
class Setup:
    """How a trial computes.

    Attributes:
        policy: the precision in force.
        attention: the implementation of attention in training steps.
        gpu: whether it computes on a GPU.
        evaluation: the implementation of attention in evaluations, if another.
        keeps_frozen: whether what frozen first blocks give is computed once and kept.
    """

    policy: PolicyName
    attention: Kernel
    gpu: bool = False
    evaluation: Kernel | None = None
    keeps_frozen: bool = False


Part = Literal["all", "frozen", "rest"]
"""What of a forward pass: all of it; up to the last of the frozen first blocks; or all, where what these give is kept
and they are passed over."""


class MemoryTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts, while entered, the bytes of live storages, their peak, and what operations cost.

    Args:
        states: tensors that were there before and are not counted.
        granule: the size of a storage is rounded up to a multiple of so many bytes.
    """

    def __init__(self, states: Iterable[torch.Tensor], granule: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = self.operations = self.traffic = self.calls = 0
        self._granule = granule
        self._known = {tensor.untyped_storage()._cdata for tensor in states}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        self.calls += 1
        self.operations += _operations(func, args, kwargs or {}, outputs)
        written_bytes = [self._note(tensor) for tensor in tree_leaves(outputs) if isinstance(tensor, torch.Tensor)]
        if any(written_bytes) or func._schema.is_mutable:
            inputs = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor)]
            read_bytes = [tensor_bytes(tensor) for tensor in inputs]
            if func._overloadpacket in _LOOKUPS:
                read_bytes[0] = sum(written_bytes)
            self.traffic += sum(written_bytes) + sum(read_bytes)
        return outputs

    def _note(self, tensor: torch.Tensor) -> int:
        """Returns the bytes of a new tensor; 0 for a view of a known one."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, -(-storage.nbytes() // self._granule) * self._granule
        if key in self._known:
            return 0
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key, size)
        return size

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def tensor_bytes(tensor: torch.Tensor) -> int:
    """Returns the bytes of a tensor's elements."""
    return tensor.numel() * tensor.element_size()


_LOOKUPS = {torch.ops.aten.embedding, torch.ops.aten.index_select, torch.ops.aten.gather}
"""Operations that read no more of their first input, a table, than what they return."""
_SAME_FORMULA = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: torch.ops.aten._scaled_dot_product_flash_attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        torch.ops.aten._scaled_dot_product_flash_attention_backward
    ),
}
"""Operations for which PyTorch has no formula -> those that compute the same on a GPU."""


def _operations(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> int:
    """Returns the floating-point operations of one call, by PyTorch's own formulas; 0 where it has none.

    PyTorch's `FlopCounterMode` counts the same, but its hooks on modules hold activations that checkpointing frees, so
    that no peak could be counted beside it.
    """
    from torch.utils.flop_counter import flop_registry

    formula = flop_registry.get(_SAME_FORMULA.get(func._overloadpacket, func._overloadpacket))
    return 0 if formula is None else int(formula(*args, **kwargs, out_val=outputs))


def rule_of_thumb(weights: int, padded_tokens: int) -> StepCost:
    """Estimates a forward pass by the rule of thumb: two operations for each weight and token."""
    return StepCost(0, 2 * weights * padded_tokens, 0, 0)
