"""What a trained model has kept of what the base model could do."""

from __future__ import annotations

from pathlib import Path

from tuneoff.records.record import Retention
from tuneoff.trial.assembly import Assembled
from tuneoff.trial.context import TrialContext
from tuneoff.trial.results import Retained
from tuneoff.trial.retention.rewind import rewind
from tuneoff.trial.retention.scorer import HeldScorer
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.selection import Selection


def measure_retention(context: TrialContext, trial: Assembled, selection: Selection, weights: Path) -> Retained:
    """Scores what the study holds by the base model and by the trained one and, where asked for, by models between.

    Args:
        context, trial: the trial, with the selected weights in its model.
        selection: scores validation.
        weights: the folder of the selected weights.

    Raises:
        SourceError, DataError: if what is held cannot be read.
        UnsupportedModel: if the trained blocks do not fit the language model.
    """
    with context.phases("retention"):
        scorer = HeldScorer(context, trial)
        before = scorer.score_base()
        after = scorer.score(scorer.runner_of(trial.runner.attached))
        retention = Retention(held=scorer.compare(before, after))
    reason = _why_not_rewound(context, trial)
    if reason:
        return Retained(retention, reason)

    def validation_score(runner: ModelRunner) -> float:
        metrics, _ = selection.measure(runner)
        return next(metric.value for metric in metrics if metric.name == selection.metric.name)

    with context.phases("rewind"):
        points = rewind(context, trial, scorer, weights, validation_score)
    return Retained(retention.model_copy(update={"rewind": points, "rewind_metric": selection.metric.name}), "")


def _why_not_rewound(context: TrialContext, trial: Assembled) -> str:
    """Explains why no models between the base model and the trained one are scored; empty where they are."""
    assert context.spec.retention is not None
    if not context.spec.retention.rewind:
        return "the study asks for none (`retention.rewind`)"
    if not trial.method.mergeable:
        return f"{context.spec.method} cannot be merged into the base model's weights, so nothing lies between the two"
    return ""
