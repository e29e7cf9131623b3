"""What is known of each arm of a study while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneoff.cli.live.trial_wording import selects

if TYPE_CHECKING:
    from tuneoff.config.spec import TrialSpec
    from tuneoff.records.record import TrialRecord


@dataclass
class ArmProgress:
    """What is known of one arm of the study.

    Attributes:
        planned, done, failed: numbers of its final trials: all, completed, and ended in any other way.
        score: mean of the primary metric on test over the completed ones.
        to_try, tried: numbers of its search trials: all, and those with a record.
        best: the best validation score among these.
    """

    label: str
    planned: int = 0
    done: int = 0
    failed: int = 0
    score: float | None = None
    to_try: int = 0
    tried: int = 0
    best: float | None = None


def arms_of(trials: Sequence[TrialSpec], records: Iterable[TrialRecord]) -> tuple[list[ArmProgress], str, str]:
    """Returns what is known of each arm, in the study's order; and the metrics of its test and validation scores,
    empty before the first of them."""
    arms: dict[str, ArmProgress] = {}
    # The final trials have all arms in the study's order; the search, before them, lacks arms that do not train.
    for trial in sorted(trials, key=lambda trial: trial.purpose == "search"):
        arm = arms.setdefault(trial.label, ArmProgress(trial.label))
        if trial.purpose == "search":
            arm.to_try += 1
        else:
            arm.planned += 1
    test_metric, search_metric = "", ""
    scores: dict[str, list[float]] = {}
    for record in records:
        arm = arms[record.spec.label]
        if record.spec.purpose == "search":
            arm.tried += 1
            search_metric = _note_best(arm, record) or search_metric
            continue
        arm.done += record.status.finished
        arm.failed += not record.status.finished
        score = record.metric(record.primary_metric or "")
        if record.status.finished and score is not None:
            test_metric = record.primary_metric or ""
            scores.setdefault(arm.label, []).append(score)
    for label, values in scores.items():
        arms[label].score = sum(values) / len(values)
    return list(arms.values()), test_metric, search_metric


def _note_best(arm: ArmProgress, record: TrialRecord) -> str:
    """Keeps a search trial's validation score if it is the arm's best; returns the metric's name, empty without a
    score."""
    name = selects(record.spec)
    metric = next((m for m in record.metrics if m.split == "validation" and m.name == (name or m.name)), None)
    if metric is None or not record.status.finished:
        return ""
    better = max if metric.direction == "higher" else min
    arm.best = metric.value if arm.best is None else better(arm.best, metric.value)
    return metric.name
