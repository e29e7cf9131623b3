"""What a trained model has kept of what the base model could do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tuneoff.errors import DataError, Diverged, SourceError, UnsupportedModel
from tuneoff.records.record import Finding, Retention, RewindPoint
from tuneoff.trial.assembly import Assembled
from tuneoff.trial.context import TrialContext
from tuneoff.trial.exhaustion import exhausted
from tuneoff.trial.results import Retained
from tuneoff.trial.retention.rewind import rewind
from tuneoff.trial.retention.scorer import HeldScorer
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.selection import Selection

Found = TypeVar("Found")


def measure_retention(context: TrialContext, trial: Assembled, selection: Selection, weights: Path) -> Retained:
    """Scores what the study holds by the base model and by the trained one and, where asked for, by models between.

    What cannot be scored ends no trial: its model is trained and tested. Only where several processes share the trial
    does it end, because all of them must go on alike.

    Args:
        context, trial: the trial, with the selected weights in its model.
        selection: scores validation.
        weights: the folder of the selected weights.
    """

    def compare() -> tuple[HeldScorer, Retention]:
        with context.phases("retention"):
            scorer = HeldScorer(context, trial)
            before = scorer.score_base()
            after = scorer.score(scorer.runner_of(trial.runner.attached))
            return scorer, Retention(held=scorer.compare(before, after))

    compared, reason = _attempt(context, compare)
    if compared is None:
        finding = _report(context, f"what the study holds could not be scored, so nothing tells what is kept: {reason}")
        return Retained(Retention(), reason, reason, (finding,))
    scorer, retention = compared
    if reason := _why_not_rewound(context, trial):
        return Retained(retention, rewind_reason=reason)

    def validation_score(runner: ModelRunner) -> float:
        metrics, _ = selection.measure(runner)
        return next(metric.value for metric in metrics if metric.name == selection.metric.name)

    def score_between() -> tuple[RewindPoint, ...]:
        with context.phases("rewind"):
            return rewind(context, trial, scorer, weights, validation_score)

    points, reason = _attempt(context, score_between)
    if points is None:
        finding = _report(context, f"models between the base model and the trained one could not be scored: {reason}")
        return Retained(retention, rewind_reason=reason, findings=(finding,))
    return Retained(retention.model_copy(update={"rewind": points, "rewind_metric": selection.metric.name}))


def _attempt(context: TrialContext, score: Callable[[], Found]) -> tuple[Found | None, str]:
    """Returns what `score` returns; or None and why it could not, where one process has the trial by itself."""
    try:
        return score(), ""
    except Exception as error:
        if context.ranks.world_size > 1:
            raise
        if exhausted(error) is not None:
            return None, "memory ran out"
        if isinstance(error, (DataError, Diverged, SourceError, UnsupportedModel)):
            return None, error.message
        raise


def _report(context: TrialContext, message: str) -> Finding:
    finding = Finding(name="retention_not_scored", message=message)
    context.report([finding])
    return finding


def _why_not_rewound(context: TrialContext, trial: Assembled) -> str:
    """Explains why no models between the base model and the trained one are scored; empty where they are."""
    assert context.spec.retention is not None
    if not context.spec.retention.rewind:
        return "the study asks for none (`retention.rewind`)"
    if not trial.method.mergeable:
        return f"{context.spec.method} cannot be merged into the base model's weights, so nothing lies between the two"
    return ""
