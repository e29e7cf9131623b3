"""Predictions of single examples, which are kept beside a trial's record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import Field

from tuneoff.config.base import Frozen


class Prediction(Frozen):
    """One example's outcome. For classes and labels, `scores` are log-probabilities in label order, for options of a
    row's own in the row's order."""

    index: int = Field(description="position of the row in the study's split")
    target: str = Field(
        description="the right answer; several labels as a JSON list in alphabetical order, one of a row's options "
        "as its letter"
    )
    output: str = Field(description="the model's answer, likewise")
    scores: tuple[float, ...] = Field(
        (),
        description="for classification log-probabilities in the order of `data.labels`; for several labels a row the "
        "log-probability that it has each; for options to choose from log-probabilities in their order",
    )
    values: dict[str, float] = Field(
        default_factory=dict, description="metric -> this example's own value, for metrics that are means over examples"
    )
    loss: float | None = Field(
        None, description="nats summed over the target's tokens, end of text included; for generation"
    )
    target_tokens: int | None = Field(None, description="tokens of the target, end of text included")
    target_bytes: int | None = Field(
        None, description="bytes (UTF-8) of what is learned of the target, for bits per byte"
    )
    generated_tokens: int | None = Field(None, description="tokens written")
    group: int | None = Field(
        None,
        description="number of the row's group (`task.group`) in the split, in order of appearance; null without one",
    )
    source: str = Field(
        "",
        description="what was put in, without the words of `task.template`: the source's text; where the template "
        "names further columns, a line `NAME: TEXT` for each and for `source`, the shortest first. "
        "Of texts that are written, kept for a split's first 20 examples; of classification the first 440 characters, "
        "kept where the answer is wrong and the example is among the split's first 10,000",
    )


class PredictionsInfo(Frozen):
    """Where a split's per-example predictions are (inside the trial's folder) and their checksum."""

    file: str = Field(description="name inside the trial's folder")
    sha256: str = Field(description="checksum of the file")
    rows: int = Field(description="predictions in it")


def predictions_size(
    targets: Iterable[str], labels: Sequence[str] = (), sources: Iterable[str] = (), metrics: int = 0
) -> int:
    """Computes in advance how many bytes the predictions take that a trial keeps of a split.

    A line holds index, target and output, with a score for each class or the task's values for a text. An output is
    taken to be as long as its target.

    Args:
        targets: target of every example of the split, in order.
        labels: the classes; empty for a task that writes.
        sources: inputs that are kept with the first examples, in order.
        metrics: number of values that each example has in a task that writes text.
    """
    kept_sources = list(sources)
    size = 0
    for index, target in enumerate(targets):
        line = Prediction(
            index=index,
            target=target,
            output=target,
            scores=(-1.234567,) * len(labels),
            values={f"metric_{number}": 0.1234567890123456 for number in range(metrics)},
            loss=None if labels else 12.34567890123456,
            target_tokens=None if labels else 10,
            generated_tokens=None if labels else 10,
            source=kept_sources[index] if index < len(kept_sources) else "",
        )
        size += len(line.model_dump_json().encode()) + 1
    return size
