"""The last block of an encoder that is scored at its first position computes what follows its attention there alone, in
training and where classes are predicted.

Nobody reads the others there: three quarters of the block's products, forward and backward. Single examples and batches
that are timed are computed whole, as whoever uses the model would.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import nn

from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import Features
from tuneoff.methods._modules import blocks
from tuneoff.trial.exhaustion import exhausted
from tuneoff.trial.modeling.precision import relative_change
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.kernels import TOLERANCE, compute_exact_logits

SEVERAL = 2
"""Examples that the check compares; of several tokens each, so that another position would be seen."""


class FirstPosition:
    """Cuts the inputs of a module to their first position while it trains, and within `also_here`.

    Args:
        module: takes tensors of shape (batch, positions, hidden) alone.
    """

    def __init__(self, module: nn.Module) -> None:
        self._always = False
        self._handle = module.register_forward_pre_hook(self._cut)

    def _cut(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return tuple(tensor[:, :1] for tensor in inputs) if self._always or module.training else None

    @contextmanager
    def also_here(self) -> Iterator[None]:
        """Cuts in evaluations, too, while open."""
        self._always = True
        try:
            yield
        finally:
            self._always = False

    def remove(self) -> None:
        """Lets the module compute every position again."""
        self._handle.remove()


def compute_first_position(model: nn.Module) -> FirstPosition | None:
    """Makes the last block compute its first position alone after its attention, where that is wanted.

    Args:
        model: a classifier, a method attached.

    Returns:
        What cuts the positions; None where the block is not built as BERT's is.
    """
    any_model: Any = model
    try:
        parts = blocks(model)
    except UnsupportedModel:
        return None
    attention = getattr(parts[-1], "attention", None)
    output = getattr(attention, "output", None)
    if not isinstance(output, nn.Module) or getattr(any_model.config, "is_encoder_decoder", False):
        return None
    takes_both = list(inspect.signature(type(output).forward).parameters) == ["self", "hidden_states", "input_tensor"]
    # A block that serves as several layers is no last one.
    return FirstPosition(output) if takes_both and len(parts) == any_model.config.num_hidden_layers else None


def compute_where_equal(
    runner: ModelRunner,
    features: Sequence[Features],
    ask: Callable[[Callable[[], bool]], bool] = lambda check: check(),
) -> ModelRunner:
    """Makes training and predictions by a head compute the first position alone in the last block, where logits stay
    the same.

    Args:
        runner: with a method attached.
        features: examples of the training split, two of which are compared.
        ask: does the check, or knows its answer.

    Returns:
        The runner that does; the same one where all positions are computed.
    """
    first = compute_first_position(runner.attached.model) if runner.task.scores_whole else None
    if first is None:
        return runner
    agrees = ask(lambda: _agree(runner, features, first))
    # Ranks must not train unlike one another.
    if runner.ranks.sum([float(not agrees)])[0] > 0:
        first.remove()
        return runner
    return replace(runner, predicting=first.also_here)


def _agree(runner: ModelRunner, features: Sequence[Features], first: FirstPosition) -> bool:
    """Compares the logits of the shortest examples, computed from all positions and from the first alone."""
    shortest = sorted((f for f in features if len(f.input_ids) > 1), key=lambda f: len(f.input_ids))[:SEVERAL]
    if not shortest:
        return False
    expected = compute_exact_logits(runner, shortest)
    try:
        with first.also_here():
            logits = compute_exact_logits(runner, shortest)
    except Exception as error:
        if exhausted(error):
            raise
        # Something else in the model reads the other positions.
        return False
    return logits.shape == expected.shape and relative_change(expected, logits) <= TOLERANCE
