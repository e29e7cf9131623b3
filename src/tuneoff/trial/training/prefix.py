"""Whether an arm has a frozen prefix, and whether what it gives may be stored: only where that changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch

from tuneoff.checksums import content_hash
from tuneoff.interfaces import Features
from tuneoff.trial.context import TrialContext
from tuneoff.trial.exhaustion import exhausted
from tuneoff.trial.modeling.frozen_prefix import FrozenPrefix, find
from tuneoff.trial.modeling.hidden_states import HiddenStates
from tuneoff.trial.modeling.precision import full_precision, relative_change
from tuneoff.trial.shared_checks import once
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.kernels import TOLERANCE, spread


def with_prefix(context: TrialContext, runner: ModelRunner, features: Sequence[Features], base: str) -> ModelRunner:
    """Returns a runner that knows the arm's frozen prefix, where it has one.

    Args:
        context: of the trial.
        runner: with a method attached that trains.
        features: of the training rows.
        base: names the base model's weights and the precision policy.
    """
    spec = context.spec
    if spec.protocol.frozen_dropout or runner.ranks.sharded:
        return runner
    examples = spread(features)
    prefix = find(runner.attached, lambda: runner.logits(examples[:1]))
    if prefix is None:
        return runner
    runner = replace(runner, prefix=prefix)
    is_fast = spec.execution.engine == "fast" and context.scratch is not None and runner.ranks.alone
    if is_fast and once(context, "prefix", lambda: reproduces(runner, prefix, examples)):
        assert context.scratch is not None
        seed = spec.seed if spec.model.random_weights else ""
        # Beside its weights, which may be random and of no name: the same ones compute otherwise under another config.
        model = [spec.model.model_dump(mode="json"), (spec.fingerprints or {}).get(spec.model.source)]
        key = content_hash([model, base, runner.attention, seed, prefix.identity()])[:16]
        prefix.states = HiddenStates(context.scratch / "hidden-states" / key)
    return runner


def reproduces(runner: ModelRunner, prefix: FrozenPrefix, features: Sequence[Features]) -> bool:
    """Tells whether a padded batch gives the same logits from hidden states that were computed example by example.

    In float32, where rounding changes a logit by about 1e-6 of its size. A model whose blocks see more than these
    hidden states would give others.
    """
    exact = replace(runner, autocast=nullcontext)
    try:
        with full_precision(), exact.evaluating():
            logits = exact.logits(features)
            states: dict[bytes, torch.Tensor] = {}
            for example in features:
                states |= prefix.capture(lambda example=example: exact.logits([example]))  # type: ignore[misc]
            with prefix.reading(states.get):
                logits_again = exact.logits(features)
    except Exception as error:
        if exhausted(error):
            raise
        return False
    return relative_change(logits, logits_again) <= TOLERANCE
