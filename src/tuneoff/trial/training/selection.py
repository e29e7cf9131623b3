"""The selection of the weights that are tested, among those of the validations on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tuneoff.config.spec import Protocol
from tuneoff.records.record import Event, Metric
from tuneoff.tasks.base import Example, Features
from tuneoff.trial.training.checkpoint import Checkpoint
from tuneoff.trial.training.evaluate import ModelRunner, predict, write
from tuneoff.trial.training.phases import Phases


class Selection:
    """Scores validation while training and keeps the checkpoint that the protocol selects.

    Args:
        runner: the model and its task.
        protocol: names the metric and the rule.
        features, examples: of the validation split.
        checkpoint: where the weights are kept; None for a method that trains none.
        phases: clocks and peaks.
        emit: takes events.
    """

    def __init__(
        self,
        runner: ModelRunner,
        protocol: Protocol,
        features: Sequence[Features],
        examples: Sequence[Example],
        checkpoint: Checkpoint | None,
        phases: Phases,
        emit: Callable[[Event], None],
    ) -> None:
        self.runner, self.protocol, self.features, self.examples = runner, protocol, features, examples
        self.checkpoint, self.phases, self.emit = checkpoint, phases, emit
        self.name = runner.task.selects(protocol.select_metric)
        self.sign = 1.0 if runner.task.directions[self.name] == "higher" else -1.0
        self.metrics: list[Metric] = []
        self.best: tuple[float, float] | None = None
        self.last_step = 0

    def validate(self, step: int) -> dict[str, float]:
        """Scores validation; a better score, or an equal one at a lower loss, is kept."""
        task = self.runner.task
        with self.phases("validation"):
            predictions = predict(self.runner, self.features, self.examples)
            if self.name in task.written_metrics:
                predictions, _ = write(self.runner, self.features, self.examples, predictions, self.emit)
            metrics = task.score(predictions, "validation")
        values = {metric.name: metric.value for metric in metrics}
        self.emit({"kind": "validation", "step": step, "metrics": values})
        score = (self.sign * values[self.name], -values.get("loss", 0.0))
        self.last_step = step
        if self.protocol.select == "last" or self.best is None or score > self.best:
            self.best, self.metrics = score, metrics
            if self.checkpoint is not None:
                with self.phases("checkpoint"):
                    self.checkpoint.save(step)
        return values

    def finish(self) -> None:
        """Restores the selected weights in the model."""
        if self.checkpoint is not None and self.checkpoint.step != self.last_step:
            with self.phases("checkpoint"):
                self.checkpoint.restore()
