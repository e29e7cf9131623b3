"""Several trials of one arm over one frozen base model: their trained weights are stacked, and losses and gradients of
all are computed at once.

`vmap` over `functional_call` runs the first trial's modules with each trial's weights. Products with frozen weights,
which all trials share, become one product over the examples of all; products with trained weights become batched ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.func import functional_call
from transformers import masking_utils

from tuneoff.errors import CannotTrainTogether
from tuneoff.interfaces import Batch, Features, attention_masks
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.progress import Tokens
from tuneoff.trial.training.stacked_dropout import Growth, StackedDropout, find_growths

MOST_STACKED = 0.5
"""Largest share of a model's parameters that each trial may have to itself: beyond it there is little to share."""

Tensors = dict[str, torch.Tensor]


class StackedModel:
    """The models of several trials, the same method attached to each.

    Trained parameters become views of the stacked ones, so that each trial's optimizer updates its share in place.

    Args:
        runners: of the trials, each with a model of its own whose frozen weights `share_frozen` has shared.
        features: training examples.

    Raises:
        CannotTrainTogether: with the reason, if the models differ in more than their weights.
    """

    def __init__(self, runners: Sequence[ModelRunner], features: Sequence[Features]) -> None:
        self.runners = runners
        self._lead = runners[0]
        self._stacked = _stack([_tensors(runner) for runner in runners])
        self._trained = [
            {name: p for name, p in _tensors(runner).items() if p.requires_grad and name in self._stacked}
            for runner in runners
        ]
        self._loss = _Loss(self._lead)
        self._reads_prefix = self._lead.prefix is not None and self._lead.prefix.states is not None
        growths = find_dropout(self._lead, features)
        masks = [runner.masks for runner in runners if runner.masks is not None]
        self._dropout = StackedDropout(masks, growths) if growths else None

    def begin_training(self) -> None:
        """Puts the modules in training mode."""
        self._lead.begin_training()

    def compute_gradients(
        self,
        parts: Sequence[Sequence[Features]],
        sizes: Sequence[int],
        step: int,
        micro_batch: int,
        tokens: Sequence[Tokens] = (),
    ) -> list[float]:
        """Adds the gradients of one micro-batch of each trial to its parameters.

        Args:
            parts: of each trial, the examples of its micro-batch, equally many.
            sizes: of each trial, the terms of its effective batch's loss.
            step: optimizer steps before this one.
            micro_batch: place of the micro-batch in the step.
            tokens: of each trial, counts to which the tokens are added that its micro-batch would take alone.

        Returns:
            Each trial's loss, divided by its size.
        """
        batch, lengths = self._collate(parts)
        widest = [int(rows.max()) for rows in lengths]
        for counts, rows, width in zip(tokens, lengths, widest, strict=False):
            counts.own += int(rows.sum())
            counts.computed += len(rows) * width
        missing = [max(widest) - width for width in widest]
        hidden = self._recall(batch)
        divisors = torch.tensor(sizes, dtype=torch.float32, device=self._lead.device)
        with self._drawing(step, micro_batch, missing), _branchless_masks(), warnings.catch_warnings():
            # An operation that `vmap` computes of each trial by itself.
            warnings.filterwarnings("ignore", message="There is a performance drop because")
            in_dims = (0, 0, None if hidden is None else 0)
            losses = torch.func.vmap(self._compute_loss, in_dims)(self._stacked, batch, hidden) / divisors
            losses.sum().backward()  # type: ignore[no-untyped-call]
        for number, trained in enumerate(self._trained):
            for name, parameter in trained.items():
                gradient = self._stacked[name].grad
                parameter.grad = gradient[number] if gradient is not None else None
        values: list[float] = losses.detach().tolist()
        return values

    def clear_gradients(self) -> None:
        """Forgets the gradients."""
        for tensor in self._stacked.values():
            tensor.grad = None

    def _compute_loss(self, weights: Tensors, batch: Batch, hidden: torch.Tensor | None) -> torch.Tensor:
        loss: torch.Tensor = functional_call(self._loss, weights, (batch, hidden))
        return loss

    def _drawing(self, step: int, micro_batch: int, missing: Sequence[int]) -> AbstractContextManager[None]:
        return nullcontext() if self._dropout is None else self._dropout.drawing(step, micro_batch, missing)

    def _collate(self, parts: Sequence[Sequence[Features]]) -> tuple[Batch, torch.Tensor]:
        """Returns the trials' batches with a leading dimension for the trials, padded to the widest, and the length of
        every example, of shape (trials, examples)."""
        if len({len(part) for part in parts}) > 1:
            raise CannotTrainTogether("their batches have different sizes")
        batch = self._lead.task.stack(parts, self._lead.pad_token_id)
        masks = attention_masks(batch)
        if len(masks) != 1:
            raise CannotTrainTogether("inputs and targets are padded apart")
        return self._lead.to_device(batch), masks[0].sum(-1)

    def _recall(self, batch: Batch) -> torch.Tensor | None:
        """Returns what the frozen prefix gives for the trials' batches, with the same leading dimension; None where it
        is not stored."""
        lead = self._lead
        if not self._reads_prefix or lead.prefix is None:
            return None
        flat = {name: tensor.flatten(0, 1) for name, tensor in batch.items()}
        with torch.no_grad(), lead.autocast():
            hidden = lead.prefix.recall(lambda: lead.task.forward(lead.attached, flat))
        self._reads_prefix = hidden is not None
        return None if hidden is None else hidden.view(len(batch["input_ids"]), -1, *hidden.shape[1:])


def find_dropout(runner: ModelRunner, features: Sequence[Features]) -> list[Growth]:
    """Finds the dropout masks of a forward pass, in order, and how each grows with the width of its batch.

    Raises:
        CannotTrainTogether: if PyTorch draws them, or they grow otherwise than by an element for each token.
    """
    runner.begin_training()
    growths = find_growths(runner, features)
    if growths and runner.masks is None:
        raise CannotTrainTogether(
            "PyTorch draws their dropout masks, of all from one stream",
            hint="protocol.dropout: 0 lets them train together.",
        )
    return growths


class _Loss(nn.Module):
    """A trial's forward pass and loss, as a module whose weights `functional_call` can replace."""

    def __init__(self, runner: ModelRunner) -> None:
        super().__init__()
        self.module = runner.attached.module
        self._runner = runner

    def forward(self, batch: Batch, hidden: torch.Tensor | None) -> torch.Tensor:
        runner = self._runner
        given = runner.prefix.given(hidden) if runner.prefix is not None and hidden is not None else nullcontext()
        with runner.autocast(), given:
            logits = runner.task.forward(runner.attached, batch)
        return runner.task.loss(logits, batch)


def share_frozen(runner: ModelRunner, lead: ModelRunner) -> None:
    """Makes a model use the memory of another one's frozen weights, where they are equal.

    Args:
        runner: its own copies are given up.
        lead: the trial whose weights stay.
    """
    kept = _tensors(lead)
    for name, tensor in _tensors(runner).items():
        twin = kept.get(name)
        if twin is not None and not tensor.requires_grad and _equal(tensor, twin):
            tensor.data = twin.data


def _tensors(runner: ModelRunner) -> Tensors:
    """Returns parameters and buffers by their names in `_Loss`."""
    module = runner.attached.module
    return {f"module.{name}": tensor for name, tensor in chain(module.named_parameters(), module.named_buffers())}


def _stack(models: Sequence[Tensors]) -> Tensors:
    """Stacks what is trained, and what differs between the models; trained parameters become views of it."""
    lead = models[0]
    if any(
        model.keys() != lead.keys() or any(model[name].shape != tensor.shape for name, tensor in lead.items())
        for model in models
    ):
        raise CannotTrainTogether("their models have different parts")
    if any(isinstance(tensor, nn.Parameter) and not tensor.is_floating_point() for tensor in lead.values()):
        raise CannotTrainTogether("`vmap` knows no gradient through products with quantised weights")
    own = {
        name: tensor
        for name, tensor in lead.items()
        if tensor.requires_grad or not all(_equal(model[name], tensor) for model in models)
    }
    size = sum(tensor.numel() for tensor in lead.values())
    if sum(tensor.numel() for tensor in own.values()) > MOST_STACKED * size:
        raise CannotTrainTogether("most of the model is each trial's own, so there is little to share")
    stacked = {}
    for name, tensor in own.items():
        stacked[name] = torch.stack([model[name].detach() for model in models]).requires_grad_(tensor.requires_grad)
        for number, model in enumerate(models):
            model[name].data = stacked[name].detach()[number]
    return stacked


def _equal(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    if tensor.shape != other.shape or tensor.dtype != other.dtype:
        return False
    return tensor.data_ptr() == other.data_ptr() or torch.equal(tensor, other)


@contextmanager
def _branchless_masks() -> Iterator[None]:
    """Makes transformers' attention masks ask no question about their values while open: it leaves a mask out where
    nothing is padded, as it does not while a model is traced."""
    mask_module: Any = masking_utils
    with mock.patch.object(mask_module, "is_tracing", return_value=True):
        yield
