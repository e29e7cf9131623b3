"""The figures of a record that tables and reports show, by name; each with the place of the reason where it is
missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneoff.records.record import TrialRecord


@dataclass(frozen=True)
class Cost:
    """One cost or side figure of a trial.

    Attributes:
        name: as in tables and reports, unit included.
        place: dotted name in the record, under which `missing` says why it is null.
        timing: whether a busy machine spoils it.
        signed: whether it may be below 0.
    """

    name: str
    place: str
    timing: bool = False
    signed: bool = False

    def of(self, record: TrialRecord) -> float | None:
        """Returns the figure, or None where it was not measured."""
        if self.place == TRAIN_LOSS:
            return train_loss(record)
        node: Any = record
        for part in self.place.split("."):
            node = getattr(node, part)
        value: float | None = node
        return value


TRAIN_LOSS = "curve"
FORGETTING = "forgetting"
"""By how much what is held first is worse after training; it varies over its rows as well as over seeds."""

COSTS = (
    Cost("train_seconds", "timing.train_seconds", timing=True),
    Cost("total_seconds", "timing.total_seconds", timing=True),
    Cost("peak_memory_bytes", "memory.peak_memory_bytes"),
    Cost("peak_over_base_bytes", "memory.peak_over_base_bytes"),
    Cost("stored_bytes", "stored_bytes"),
    Cost("step_seconds", "timing.step_seconds_median", timing=True),
    Cost("examples_per_second", "throughput.examples_per_second", timing=True),
    Cost("tokens_per_second", "throughput.tokens_per_second", timing=True),
    Cost("latency_seconds", "inference.latency_seconds_median", timing=True),
    Cost("batched_examples_per_second", "inference.batched_examples_per_second", timing=True),
    Cost("generated_tokens_per_second", "inference.generated_tokens_per_second", timing=True),
    Cost("generated_tokens_mean", "inference.generated_tokens_mean"),
    Cost("gradient_norm_mean", "gradient_norm.mean"),
    Cost("gradient_norm_max", "gradient_norm.max"),
    Cost("energy_joules", "energy_joules"),
    Cost("money", "money.trial", timing=True),
    Cost("prediction_money", "money.predictions", timing=True),
    Cost(FORGETTING, "retention.forgetting", signed=True),
    Cost("train_loss", TRAIN_LOSS),
)


def option_text(value: Any) -> str:
    """Formats an option: `16` for 16.0, `[query, value]` for a list."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(option_text, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def metric_name(key: str) -> str:
    """Returns a metric's name for people: `ROUGE-L` for `rouge_l`, `exact match` for `exact_match`."""
    # Here, because the command line offers the names of costs without importing what tasks need.
    from tuneoff import registry
    from tuneoff.analysis.metrics import added_metric, task_named

    tasks = (task_named(name) for name in registry.tasks())
    titles = (metric.title for task in tasks if task is not None for metric in task.metrics if metric.name == key)
    title = next(filter(None, titles), None)
    if title is None and (added := added_metric(key)) is not None:
        title = added.title
    return title or key.replace("_", " ")


def train_loss(record: TrialRecord) -> float | None:
    """Computes the mean training loss (nats) over the whole training, from the learning curve; None without one."""
    total, previous_step = 0.0, 0
    for point in record.curve:
        total += point.train_loss * (point.step - previous_step)
        previous_step = point.step
    return total / previous_step if previous_step else None


def why_missing(record: TrialRecord, place: str) -> str:
    """Returns the record's reason for a null figure: under its own name, an enclosing one, or its last part."""
    parts = place.split(".")
    names = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    for name in (*names, parts[-1]):
        if name in record.missing:
            return record.missing[name]
    if place.startswith("metrics.") and record.model is None:
        return "this method uses no model"
    if record.spec.learning_rate is None:
        return "nothing is trained"
    return "not recorded"
