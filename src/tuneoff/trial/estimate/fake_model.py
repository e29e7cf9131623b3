"""A trial's model and method on tensors that have a shape and no memory (PyTorch's fake tensors).

The model is built and its method attached without weights, and a step is taken without running it. A memory tracker
gives its cost. 4-bit layers have no kernels for such tensors: a replacement unpacks a full weight for each product and
keeps none, as they do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from types import MethodType
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn.functional import linear

from tuneoff import registry
from tuneoff.config.spec import TrialSpec
from tuneoff.interfaces import Attached, Batch, Method, Task, attention_masks
from tuneoff.trial.estimate.gpu_emulation import AsOnGpu
from tuneoff.trial.estimate.step_cost import MemoryTracker, ModelStateBytes, Part, Setup, StepCost, tensor_bytes
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.activation_checkpointing import checkpoint_activations
from tuneoff.trial.modeling.frozen_bf16 import cached_autocast_weights, keep_frozen_in_bf16
from tuneoff.trial.modeling.frozen_prefix import FrozenPrefix, PrefixReached, find
from tuneoff.trial.training.dropout import DropoutMasks, choose_masks
from tuneoff.trial.training.scored_position import compute_first_position

GPU_GRANULE = 512
"""CUDA's allocator gives memory in multiples of this many bytes."""
BLOCKS_PER_SCALE = 256
"""Quantised layers whose scales are quantised too keep one full scale for so many blocks."""


class FakeMasks(DropoutMasks):
    """Dropout masks that have a shape and no memory."""

    def draw(self, shape: torch.Size, p: float) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.uint8)


@dataclass(frozen=True)
class KeptPrefix:
    """Frozen first blocks, and what of their hidden states is kept.

    Attributes:
        blocks: these blocks.
        width: numbers of a token.
        dtype: type of these.
    """

    blocks: FrozenPrefix
    width: int
    dtype: torch.dtype


class FakeModel:
    """A trial's model and method, without memory.

    Args:
        spec: the trial.
        task: its task, fitted on the rows' classes.
        setup: how it computes.

    Raises:
        TuneoffError: if the model cannot be built or the method does not fit it.
    """

    def __init__(self, spec: TrialSpec, task: Task, setup: Setup) -> None:
        from torch._subclasses.fake_tensor import FakeTensorMode

        self.spec, self.task, self.setup = spec, task, setup
        method = registry.methods()[spec.method].create(spec.options)
        assert isinstance(method, Method)
        model, view = trial_model.build_empty(
            spec.model, task, dropout=spec.protocol.dropout, attention=setup.attention
        )
        with torch.device("meta"):
            self.attached: Attached = method.attach(model, view)
        if setup.policy == "bf16" and not spec.shard:
            keep_frozen_in_bf16(self.attached)
        if spec.protocol.gradient_checkpointing:
            # A function mode is off inside `backward`, so the recomputation enters it again.
            checkpoint_activations(self.attached.model, AsOnGpu if setup.gpu else nullcontext)
        cuts = spec.execution.engine == "fast" and task.scores_whole
        first = compute_first_position(self.attached.model) if cuts else None
        self._predicting = first.also_here if first is not None else nullcontext
        masked = choose_masks(spec, torch.device("cuda" if setup.gpu else "cpu")) is not None
        self._masks = FakeMasks(spec.seed) if masked else None
        self._prefix: KeptPrefix | None = None
        self._looked_for_prefix = not setup.keeps_frozen
        self._method, self._mode = method, FakeTensorMode(allow_non_fake_inputs=True)
        parameter_count = sum(parameter.numel() for parameter in self.attached.module.parameters())
        with self._mode:
            scale_bytes = _without_memory(self.attached.module)
        trained_bytes = sum(tensor_bytes(parameter) for parameter in self._trained)
        storage_bytes = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in self._states}
        self.states = ModelStateBytes(
            sum(storage_bytes.values()) + scale_bytes, parameter_count, trained_bytes, 2 * trained_bytes
        )

    @property
    def _states(self) -> list[torch.Tensor]:
        module = self.attached.module
        return [*module.parameters(), *module.buffers()]

    @property
    def _trained(self) -> list[torch.Tensor]:
        """Returns the parameters that the optimizer gets."""
        return [p for group in self._method.parameter_groups(self.attached, 0.0) for p in group["params"]]

    def step(self, batch: Batch, loss_terms: int, *, accumulates: bool = False) -> StepCost:
        """Counts the forward and backward pass of a micro-batch and the clipping of gradients; blocks whose hidden
        states are kept are passed over.

        Args:
            batch: as collated, on the CPU.
            loss_terms: what the loss is divided by.
            accumulates: whether gradients of earlier micro-batches exist already.
        """
        with self._ready(batch) as inputs:
            self.attached.module.train()
            if self._prefix is not None:
                self._prefix.blocks.quiet()
            if accumulates:
                for parameter in self._trained:
                    parameter.grad = torch.zeros_like(parameter)
            gradients = [p.grad for p in self._trained if p.grad is not None]
            with self._dropout(), self._tracker([*gradients, *inputs.values()]) as tracker:
                with self._autocast(), self._passing_over_prefix(inputs):
                    logits = self.task.forward(self.attached, inputs)
                (self.task.loss(logits, inputs) / loss_terms).backward()  # type: ignore[no-untyped-call]
                # The optimizer's own step, fused, makes no tensor.
                torch.nn.utils.clip_grad_norm_(self._trained, self.spec.protocol.clip_norm or math.inf)
            for parameter in self.attached.module.parameters():
                parameter.grad = None
        activations = tracker.peak if accumulates else max(0, tracker.peak - self.states.gradients)
        return StepCost(activations, tracker.operations, tracker.traffic, tracker.calls)

    def evaluation(self, batch: Batch, part: Part = "all") -> StepCost:
        """Counts the forward pass of an evaluation, or a part of it; `frozen` and `rest` only where hidden states are
        kept."""
        kernel = self.setup.evaluation or self.setup.attention
        with ExitStack() as contexts:
            inputs = contexts.enter_context(self._ready(batch))
            self.attached.module.eval()
            contexts.enter_context(trial_model.attending(self.attached.model, kernel))
            tracker = contexts.enter_context(self._tracker(inputs.values()))
            contexts.enter_context(cached_autocast_weights(self.attached.module))
            contexts.enter_context(self._autocast())
            if part == "frozen":
                assert self._prefix is not None
                self._prefix_output(self._prefix.blocks, inputs)
            else:
                if part == "rest":
                    contexts.enter_context(self._passing_over_prefix(inputs))
                    contexts.enter_context(self._predicting())
                self.task.forward(self.attached, inputs)
        return StepCost(tracker.peak, tracker.operations, tracker.traffic, tracker.calls)

    def kept_bytes(self, batch: Batch) -> int:
        """Returns the bytes that are kept of each token; 0 where there are no frozen first blocks, or nothing is kept.

        Args:
            batch: any.
        """
        with self._ready(batch):
            return self._prefix.width * self._prefix.dtype.itemsize if self._prefix is not None else 0

    def _find_prefix(self, inputs: Batch) -> None:
        """Finds the frozen first blocks, with the first batch of all."""
        if self._looked_for_prefix:
            return
        self._looked_for_prefix = True
        with self._autocast():
            found = find(self.attached, lambda: self.task.forward(self.attached, inputs))
            if found is not None:
                with torch.no_grad():
                    hidden = self._prefix_output(found, inputs)
                self._prefix = KeptPrefix(found, hidden.shape[-1], hidden.dtype)

    def _prefix_output(self, prefix: FrozenPrefix, inputs: Batch) -> torch.Tensor:
        """Runs the forward pass as far as the frozen blocks go; returns their hidden states."""
        outputs: list[Any] = []

        def end(module: nn.Module, arguments: Any, output: Any) -> None:
            outputs.append(output)
            raise PrefixReached

        handle = prefix.blocks[-1].register_forward_hook(end)
        try:
            with suppress(PrefixReached):
                self.task.forward(self.attached, inputs)
        finally:
            handle.remove()
        hidden: torch.Tensor = outputs[0][0] if isinstance(outputs[0], tuple) else outputs[0]
        return hidden

    def _passing_over_prefix(self, inputs: Batch) -> AbstractContextManager[None]:
        """Gives hidden states of the batch to what comes behind the frozen blocks while open."""
        if self._prefix is None:
            return nullcontext()
        shape = (*inputs["input_ids"].shape, self._prefix.width)
        return self._prefix.blocks.given(torch.zeros(shape, dtype=self._prefix.dtype))

    @contextmanager
    def _ready(self, batch: Batch) -> Iterator[Batch]:
        """Yields the batch without memory, in a context where the pass computes as the trial does."""
        padded = not all(bool(mask.all()) for mask in attention_masks(batch))
        with ExitStack() as contexts:
            contexts.enter_context(_patch_padding_checks(padded))
            inputs: Batch = {name: self._mode.from_tensor(tensor) for name, tensor in batch.items()}
            contexts.enter_context(self._mode)
            if self.setup.gpu:
                contexts.enter_context(AsOnGpu())
            self._find_prefix(inputs)
            yield inputs

    def _tracker(self, others: Iterable[torch.Tensor]) -> MemoryTracker:
        return MemoryTracker([*self._states, *others], GPU_GRANULE if self.setup.gpu else 1)

    def _dropout(self) -> AbstractContextManager[None]:
        return self._masks.drawing(0, 0) if self._masks is not None else nullcontext()

    def _autocast(self) -> Any:
        return torch.autocast("cpu", dtype=torch.bfloat16) if self.setup.policy == "bf16" else nullcontext()


def _without_memory(module: nn.Module) -> int:
    """Replaces every tensor of a module by one without memory, on the CPU. Call it in the mode that makes such tensors.

    Returns:
        Bytes of what quantised layers keep beside their packed weights.
    """
    replacements: dict[int, tuple[torch.Tensor, Any]] = {}

    def fake(tensor: torch.Tensor) -> Any:
        if id(tensor) not in replacements:
            replacement = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="cpu")
            if isinstance(tensor, nn.Parameter):
                replacement = nn.Parameter(replacement, requires_grad=tensor.requires_grad)
            # The original is kept too, so that no other tensor can get its `id`.
            replacements[id(tensor)] = tensor, replacement
        return replacements[id(tensor)][1]

    scale_bytes = 0
    for part in module.modules():
        if hasattr(part._parameters.get("weight"), "quant_state"):
            scale_bytes += _emulate_four_bits(part)
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = fake(parameter)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = fake(buffer)
        for name, value in list(vars(part).items()):
            # Tensors that are neither (numbers of virtual tokens, indices), or once more (an LSTM's list of weights).
            if isinstance(value, torch.Tensor):
                vars(part)[name] = fake(value)
            elif isinstance(value, list) and any(isinstance(item, torch.Tensor) for item in value):
                vars(part)[name] = [fake(item) if isinstance(item, torch.Tensor) else item for item in value]
            elif isinstance(value, dict) and not name.startswith("_"):
                value.update({key: fake(item) for key, item in value.items() if isinstance(item, torch.Tensor)})
    return scale_bytes


class _Unpacking(torch.autograd.Function):
    """A product with a frozen weight that is unpacked for the forward pass and again for the gradient, and not kept."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, outputs: int, inputs: int) -> torch.Tensor:
        ctx.shape = (outputs, inputs)
        return linear(x, _full(ctx.shape, x))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradient @ _full(ctx.shape, gradient), None, None


def _full(shape: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.float32, device=like.device).to(like.dtype)


def _emulate_four_bits(layer: Any) -> int:
    """Replaces the computation of a 4-bit layer, whose weight still has its full shape, by one that tensors without
    memory can do.

    Returns:
        Bytes of its weights' scales.
    """
    outputs, inputs = layer.weight.shape
    blocks = math.ceil(outputs * inputs / layer.weight.blocksize)
    scale_bytes: int = blocks * 4
    if layer.weight.compress_statistics:
        scale_bytes = blocks + math.ceil(blocks / BLOCKS_PER_SCALE) * 4

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        output: torch.Tensor = _Unpacking.apply(x.to(dtype), outputs, inputs)  # type: ignore[no-untyped-call]
        return output if self.bias is None else output + self.bias.to(dtype)

    packed = torch.empty((outputs * inputs + 1) // 2, 1, dtype=torch.int8)
    layer._parameters["weight"] = nn.Parameter(packed, requires_grad=False)
    layer.forward = MethodType(forward, layer)
    return scale_bytes


@contextmanager
def _patch_padding_checks(padded: bool) -> Iterator[None]:
    """Tells transformers whether a batch has padding. It looks at the mask's values, which fake tensors lack, and makes
    no mask for fused attention where all tokens are real."""
    from transformers import masking_utils

    def patched(original: Callable[..., bool]) -> Callable[..., bool]:
        return lambda mask, *args, **kwargs: original(mask if padded else None, *args, **kwargs)

    with ExitStack() as patches:
        for name in ("_ignore_causal_mask_sdpa", "_ignore_bidirectional_mask_sdpa"):
            original = getattr(masking_utils, name, None)
            if original is not None:
                patches.enter_context(mock.patch.object(masking_utils, name, patched(original)))
        yield
