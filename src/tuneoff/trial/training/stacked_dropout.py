"""Dropout of several trials that are computed at once: each draws the masks that it would draw alone.

A batch that is narrower than the widest of the step is padded. Its masks are drawn in its own width, so that its
generator goes on as it would alone; padding is never read, so what is kept there does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from tuneoff.errors import CannotTrainTogether
from tuneoff.interfaces import Features, attention_masks
from tuneoff.trial.training.dropout import DropoutMasks, drop, dropping
from tuneoff.trial.training.evaluate import ModelRunner

Growth = tuple[int, ...]
"""By how much each dimension of a mask grows with a batch's width: 0 or 1."""


class StackedDropout:
    """The masks of several trials.

    Args:
        masks: of each trial.
        growths: of each mask of a forward pass, in order (see `find_growths`).
    """

    def __init__(self, masks: Sequence[DropoutMasks], growths: Sequence[Growth]) -> None:
        self._masks, self._growths = masks, growths
        self._call = 0
        self._missing: Sequence[int] = ()

    @contextmanager
    def drawing(self, step: int, micro_batch: int, missing: Sequence[int]) -> Iterator[None]:
        """Makes dropout under `vmap` over the trials use their masks while open.

        Args:
            step, micro_batch: as for `DropoutMasks.drawing`.
            missing: of each trial, how much narrower its own batch is than the widest.
        """
        for masks in self._masks:
            masks.begin(step, micro_batch)
        self._call, self._missing = 0, missing
        with dropping(lambda values, p: _StackedDropout.apply(values, p, self._draw)):  # type: ignore[no-untyped-call]
            yield

    def _draw(self, shape: torch.Size, p: float) -> torch.Tensor:
        """Draws one mask for each trial; returns shape (trials, *shape)."""
        growth = self._growths[self._call]
        self._call += 1
        stacked = torch.ones((len(self._masks), *shape), dtype=torch.uint8)
        for mask, masks, missing in zip(stacked, self._masks, self._missing, strict=True):
            own = torch.Size(size - grows * missing for size, grows in zip(shape, growth, strict=True))
            mask[tuple(map(slice, own))] = masks.draw(own, p)
        return stacked


class _StackedDropout(torch.autograd.Function):
    """Drops elements of tensors that `vmap` has stacked."""

    @staticmethod
    def forward(values: torch.Tensor, p: float, draw: Callable[[torch.Size, float], torch.Tensor]) -> torch.Tensor:
        raise CannotTrainTogether("dropout is drawn of something that all trials share")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keeps nothing: `vmap` computes all."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        values: torch.Tensor,
        p: float,
        draw: Callable[[torch.Size, float], torch.Tensor],
    ) -> tuple[torch.Tensor, int]:
        stacked = values.movedim(in_dims[0], 0)
        return drop(stacked, draw(stacked.shape[1:], p), p), 0


def find_growths(runner: ModelRunner, features: Sequence[Features]) -> list[Growth]:
    """Finds how the masks of a forward pass grow with the width of its batch, by two batches of one example.

    Args:
        runner: of one of the trials; its model is in training mode.
        features: training examples.

    Raises:
        CannotTrainTogether: if a mask grows otherwise than by an element for each token.
    """
    shortest, longest = (choose(features, key=lambda f: len(f.input_ids) + len(f.target_ids)) for choose in (min, max))
    widths = [attention_masks(runner.batch([example]))[0].shape[-1] for example in (shortest, longest)]
    more = widths[1] - widths[0]
    narrow, wide = (_mask_shapes(runner, example) for example in (shortest, longest))
    growths = [
        tuple((size - before) // max(more, 1) for before, size in zip(*shapes, strict=True))
        for shapes in zip(narrow, wide, strict=True)
    ]
    for growth, before, size in zip(growths, narrow, wide, strict=True):
        if not set(growth) <= {0, 1} or [b + more * grows for b, grows in zip(before, growth, strict=True)] != [*size]:
            raise CannotTrainTogether("dropout masks do not grow with the width of a batch alone")
    return growths


def _mask_shapes(runner: ModelRunner, example: Features) -> list[torch.Size]:
    """Returns the shapes of the masks that a forward pass draws, in order."""
    shapes: list[torch.Size] = []

    def note(values: torch.Tensor, p: float) -> torch.Tensor:
        shapes.append(values.shape)
        return values

    with torch.no_grad(), dropping(note):
        runner.logits([example])
    return shapes
