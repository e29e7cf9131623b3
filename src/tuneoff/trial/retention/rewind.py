"""Models between the base model and the trained one: part of the trained change of every weight.

Interpolating the weights of a model before and after fine-tuning often keeps most of what was learned and of what was
known (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022). A merged LoRA changes weights by its product
of matrices, so a fraction of the change is the same as a smaller alpha.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tuneoff.interfaces import Attached
from tuneoff.records.record import RewindPoint
from tuneoff.trial.assembly import Assembled, load_model
from tuneoff.trial.context import TrialContext
from tuneoff.trial.distributed.context import ALONE
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.retention.scorer import HeldScorer
from tuneoff.trial.training.evaluate import ModelRunner

Score = Callable[[ModelRunner], float]
"""Returns a model's score on validation."""


def rewind(
    context: TrialContext, trial: Assembled, scorer: HeldScorer, weights: Path, score: Score
) -> tuple[RewindPoint, ...]:
    """Scores models with fractions of the trained change, from the weights that were selected.

    A head that the task adds stays as trained: the base model has none.

    Args:
        context, trial: the trial, whose method merges.
        scorer: of what is held.
        weights: the folder that the method saved its weights in.
        score: of validation.
    """
    assert context.spec.retention is not None
    loaded = load_model(context.spec, trial.task, context.device, trial.policy)
    before = {name: tensor.detach().clone() for name, tensor in _parameters(loaded.model)}
    attached = trial.method.attach(loaded.model, trial_model.view(trial.task, loaded))
    trial.method.load(attached, weights)
    attached.module.to(context.device)  # merged where it was trained, as an export is
    merged = trial.method.merge(attached).to(context.device).eval()
    changed = list(_changed(merged, before, loaded.head))
    del before  # what did not change is kept once
    model = Attached(merged, merged)
    runner = replace(trial.runner, attached=model, ranks=ALONE, prefix=None, predicting=nullcontext)
    held_runner = replace(scorer.runner_of(model), ranks=ALONE)
    points = []
    for fraction in context.spec.retention.rewind:
        with torch.no_grad():
            for parameter, start, end in changed:
                parameter.copy_(torch.lerp(start, end, fraction))
        held = scorer.values(scorer.score(held_runner))
        points.append(RewindPoint(fraction=fraction, quality=score(runner), held=held))
    return tuple(points)


def _parameters(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields all parameters by name; one that stands at two places comes twice, because a merge may untie it."""
    yield from model.named_parameters(remove_duplicate=False)


def _changed(
    merged: torch.nn.Module, before: dict[str, torch.Tensor], head: Sequence[str]
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yields the parameters that training changed, each with its value before and after; a weight that the base model
    does not have begins at 0."""
    for name, parameter in _parameters(merged):
        if any(name == module or name.startswith(f"{module}.") for module in head):
            continue
        end = parameter.detach().clone()
        start = before[name].to(end) if name in before else torch.zeros_like(end)
        if not torch.equal(start, end):
            yield parameter, start, end
