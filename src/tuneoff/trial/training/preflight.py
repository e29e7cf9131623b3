"""Checks before training: gradients reach the declared parameters and no others; padding changes no output."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch

from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import Features
from tuneoff.measure.parameters import BaseIdentity
from tuneoff.trial.modeling.precision import full_precision, relative_change
from tuneoff.trial.training.evaluate import ModelRunner

PADDING_TOLERANCE = 1e-3
"""Allowed change of a logit by padding, relative to the logits' size and in plain float32, where rounding changes it
by about 1e-6. A wrong token or a mask left out may change it by no more than a few hundredths: an untrained head gives
similar logits to all texts, so under reduced precision such a fault could not be told from rounding."""

IDLE_SHARE = 0.1
"""Largest size of the pretrained parameters without a gradient, relative to those with one. More of them would show
that something cuts the graph."""


def check(
    runner: ModelRunner, features: Sequence[Features], label: str, before: BaseIdentity | None = None
) -> list[str]:
    """Runs two examples forward and backward, and leaves model and random state unchanged.

    Args:
        runner: the model with its method.
        features: of the training rows.
        label: of the row, for messages.
        before: which parameters are the pretrained model's own. A few of those may get no gradient: they serve other
            tasks (XLNet's mask embedding), or are fixed (Pegasus's positions), and stay as they are.

    Returns:
        The names of these parameters of the pretrained model without a gradient.

    Raises:
        UnsupportedModel: if a trainable parameter gets no gradient, a frozen one does, or logits move with padding.
    """
    module = runner.attached.module
    by_length = sorted(features, key=lambda f: len(f.input_ids))
    pair = [by_length[0], by_length[-1]]
    random_state = torch.random.get_rng_state()
    module.train()
    batch = runner.to_device(runner.task.collate(pair, runner.pad_token_id))
    with runner.autocast():
        logits = runner.task.forward(runner.attached, batch)
    runner.task.loss(logits, batch).backward()  # type: ignore[no-untyped-call]
    without_gradient, with_gradient, idle_names, sizes = [], [], [], {True: 0, False: 0}
    for name, parameter in module.named_parameters():
        lacks_gradient = parameter.requires_grad and parameter.grad is None
        if lacks_gradient and "original_module" not in name.split("."):
            without_gradient.append(name)
        if before is not None and parameter.requires_grad and before.is_base(parameter):
            sizes[lacks_gradient] += parameter.numel()
            idle_names += [name] if lacks_gradient else []
        if not parameter.requires_grad and parameter.grad is not None:
            with_gradient.append(name)
        parameter.grad = None
    torch.random.set_rng_state(random_state)
    if sizes[True] > IDLE_SHARE * sizes[False]:
        idle_names = []
    without_gradient = [name for name in without_gradient if name not in idle_names]
    if without_gradient:
        raise UnsupportedModel(
            f"{label}: {len(without_gradient)} trained parameters get no gradient, e.g. {without_gradient[0]}"
        )
    if with_gradient:
        raise UnsupportedModel(
            f"{label}: {len(with_gradient)} frozen parameters get a gradient, e.g. {with_gradient[0]}"
        )
    _check_padding(runner, pair, label)
    return idle_names


def _check_padding(runner: ModelRunner, pair: list[Features], label: str) -> None:
    fp32_bench = replace(runner, autocast=nullcontext)
    loss_terms = runner.task.loss_terms(pair[:1])
    with full_precision(), runner.evaluating():
        alone, padded = (fp32_bench.logits(batch)[:loss_terms].float() for batch in (pair[:1], pair))
        change = relative_change(alone, padded)
    if not change <= PADDING_TOLERANCE:
        raise UnsupportedModel(
            f"{label}: an example's logits change by {change:.1%} when it is padded, so scores would depend on its "
            "neighbours in the batch"
        )
