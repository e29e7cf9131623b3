"""Whether evaluations may attend by another implementation than training: only where both compute the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch

from tuneoff.interfaces import Features
from tuneoff.records.record import Finding
from tuneoff.trial.exhaustion import exhausted, said
from tuneoff.trial.modeling.precision import full_precision, relative_change, size_of
from tuneoff.trial.training.evaluate import ModelRunner

EXAMPLES = 8
"""Examples that are compared, of all lengths that there are, in one padded batch."""
TOLERANCE = 1e-3
"""Allowed difference of a logit in plain float32, relative to the logits' size. Rounding makes about 1e-6; a mask, a
window or a bias that one implementation leaves out makes more."""
PRECISION_ERRORS = 4.0
"""Allowed difference under the trial's precision, as a multiple of what that precision itself changes in the logits
(root mean squares). Two implementations that round on their own differ by about 1.4 of it."""
WRITTEN = 4
"""Tokens that both write, where the task writes: then they attend to what is cached."""


def choose_attention(
    runner: ModelRunner,
    features: Sequence[Features],
    training: str,
    ask: Callable[[Callable[[], str]], str] = lambda check: check(),
) -> tuple[ModelRunner, tuple[Finding, ...]]:
    """Returns a runner that evaluates by its own implementation of attention, or by training's where the two differ.

    Args:
        runner: with a method attached; it is left unchanged.
        features: examples of the training split.
        training: the implementation in training steps.
        ask: does the check, or knows its answer.

    Returns:
        The runner, and a finding where the two do not agree.
    """
    state = torch.random.get_rng_state()
    try:
        reason = ask(lambda: difference(runner, spread(features), training))
    finally:
        torch.random.set_rng_state(state)
    # Ranks must not evaluate unlike one another.
    if runner.ranks.sum([float(bool(reason))])[0] == 0:
        return runner, ()
    message = (
        f"evaluations attend as training does ({training}), because {runner.attention} does not compute the same here: "
        f"{reason or 'another rank found a difference'}"
    )
    return replace(runner, attention=training), (Finding(name="kernels_disagree", message=message),)


def difference(runner: ModelRunner, features: Sequence[Features], training: str) -> str:
    """Describes how the runner's implementation of attention differs from training's here; empty if it does not."""
    training_bench = replace(runner, attention=training)
    exact, rounded = compute_exact_logits(training_bench, features), _compute_logits(training_bench, features)
    try:
        exact_other, rounded_other = compute_exact_logits(runner, features), _compute_logits(runner, features)
        texts = [_generate_exactly(each, features) for each in (training_bench, runner)] if runner.writes else []
    except Exception as error:
        if exhausted(error):
            raise
        # An implementation may refuse what a configuration asks for.
        return f"{type(error).__name__}{said(error)}"
    size, change = size_of(exact), relative_change(exact, exact_other)
    if not change <= TOLERANCE:
        return f"logits of {len(features)} padded examples differ by {change:.2%} of their size in float32"
    rounding, gap = _root_mean_square(rounded - exact), _root_mean_square(rounded_other - rounded)
    if not gap <= PRECISION_ERRORS * rounding + TOLERANCE * float(size):
        return (
            f"logits of {len(features)} padded examples differ by {gap / float(size):.2%} of their size, where the "
            f"precision itself changes them by {rounding / float(size):.2%}"
        )
    if texts and texts[0] != texts[1]:
        return f"after {len(features)} prompts other tokens are written in float32"
    return ""


def spread(features: Sequence[Features]) -> list[Features]:
    """Picks examples from the shortest to the longest."""
    by_length = sorted(features, key=lambda f: len(f.input_ids) + len(f.target_ids))
    positions = np.linspace(0, len(by_length) - 1, min(EXAMPLES, len(by_length))).round().astype(int)
    return [by_length[position] for position in positions]


def _compute_logits(runner: ModelRunner, features: Sequence[Features]) -> torch.Tensor:
    with runner.evaluating():
        return runner.logits(features).float()


def compute_exact_logits(runner: ModelRunner, features: Sequence[Features]) -> torch.Tensor:
    """Computes logits as evaluations do, in plain float32."""
    with full_precision():
        return _compute_logits(replace(runner, autocast=nullcontext), features)


def _generate_exactly(runner: ModelRunner, features: Sequence[Features]) -> list[list[int]]:
    with full_precision(), runner.evaluating():
        return replace(runner, autocast=nullcontext).generate(features, WRITTEN)


def _root_mean_square(values: torch.Tensor) -> float:
    """Computes the root mean square."""
    return float(values.square().mean().sqrt())
