"""The selection of the weights that are tested, among those of the validations on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneoff.config.base import Frozen
from tuneoff.errors import DataError
from tuneoff.interfaces import Example, Features
from tuneoff.records.record import Metric
from tuneoff.trial import interruption
from tuneoff.trial.context import TrialContext
from tuneoff.trial.training.checkpoint import Checkpoint
from tuneoff.trial.training.evaluate import ModelRunner, predict, write


@dataclass(frozen=True)
class Selected:
    """The weights that the protocol selects.

    Attributes:
        metrics: their scores on validation.
        step: the optimizer step that they were kept at; None for a method without training.
        stored_bytes: bytes of the files that must be kept beside the base model.
        chosen: options of the task that were chosen on validation's predictions.
    """

    metrics: tuple[Metric, ...]
    step: int | None = None
    stored_bytes: int = 0
    chosen: dict[str, Any] = field(default_factory=dict)


class SelectionState(Frozen):
    """The validation so far, as a training's checkpoint keeps it.

    Attributes:
        metrics: scores of the weights that are kept.
        chosen: options of the task that were chosen on their predictions.
        best: the score by which they were selected, and the one that decides between equal ones.
        last_step, kept_step: optimizer steps of the last validation, and of the weights that are kept.
    """

    metrics: tuple[Metric, ...]
    chosen: dict[str, Any]
    best: tuple[float, float] | None
    last_step: int
    kept_step: int | None


class Selection:
    """Scores validation while training and keeps the checkpoint that the protocol selects.

    Args:
        context: of the trial; its protocol names the metric and the rule.
        runner: the model and its task.
        features, examples: of the validation split.
        checkpoint: where the weights are kept; None for a method that trains none.
    """

    def __init__(
        self,
        context: TrialContext,
        runner: ModelRunner,
        features: Sequence[Features],
        examples: Sequence[Example],
        checkpoint: Checkpoint | None,
    ) -> None:
        self.context, self.runner, self.checkpoint = context, runner, checkpoint
        self.features, self.examples = features, examples
        self.metric = runner.task.metric(runner.task.selects(context.spec.protocol.select_metric))
        self.sign = 1.0 if self.metric.direction == "higher" else -1.0
        self.metrics: list[Metric] = []
        self.chosen: dict[str, Any] = {}
        self.best: tuple[float, float] | None = None
        self.last_step = 0

    def validate(self, step: int) -> dict[str, float]:
        """Scores validation; a better score, or an equal one at a lower loss, is kept."""
        phases, emit = self.context.phases, self.context.emit
        with phases("validation"):
            metrics, chosen = self.measure(self.runner)
        values = {metric.name: metric.value for metric in metrics}
        emit({"kind": "validation", "step": step, "metrics": values})
        if self.metric.name not in values:
            raise DataError(
                f"{self.metric.name} cannot be computed of these validation rows, so nothing can be selected by it",
                hint="Set protocol.select_metric to another, or give validation rows of more classes.",
            )
        score = (self.sign * values[self.metric.name], -values.get("loss", 0.0))
        self.last_step = step
        if self.context.spec.protocol.select == "last" or self.best is None or score > self.best:
            self.best, self.metrics, self.chosen = score, metrics, chosen
            if self.checkpoint is not None:
                with phases("checkpoint"), interruption.deferred():
                    self.checkpoint.save(step)
        return values

    def measure(self, runner: ModelRunner) -> tuple[list[Metric], dict[str, Any]]:
        """Returns a model's scores on validation, and the options of the task that were chosen for them."""
        task = runner.task
        predictions = predict(runner, self.features, self.examples)
        if self.metric.written:
            predictions, _ = write(runner, self.features, self.examples, predictions, self.context.emit)
        chosen = task.choose(predictions)
        return task.score(task.judge(task.decide(predictions, chosen), self.examples), "validation"), chosen

    def state(self) -> SelectionState:
        """Returns the validation so far; the weights that are kept are in the checkpoint's folder."""
        kept_step = self.checkpoint.step if self.checkpoint is not None else None
        return SelectionState(
            metrics=tuple(self.metrics),
            chosen=self.chosen,
            best=self.best,
            last_step=self.last_step,
            kept_step=kept_step,
        )

    def continue_from(self, state: SelectionState) -> None:
        """Continues from the validation of an earlier process, whose kept weights are in the checkpoint's folder
        again."""
        self.metrics, self.chosen = list(state.metrics), state.chosen
        self.best, self.last_step = state.best, state.last_step
        if self.checkpoint is not None:
            self.checkpoint.step = state.kept_step

    def restore(self) -> None:
        """Restores the selected weights in the model."""
        if self.checkpoint is not None and self.checkpoint.step != self.last_step:
            with self.context.phases("checkpoint"):
                self.checkpoint.restore()

    def selected(self) -> Selected:
        """Returns what was selected so far."""
        if self.checkpoint is None:
            return Selected(tuple(self.metrics), chosen=self.chosen)
        # The main rank alone writes the files.
        stored_bytes = self.checkpoint.stored_bytes() if self.context.ranks.is_main else 0
        return Selected(tuple(self.metrics), self.checkpoint.step, stored_bytes, self.chosen)
