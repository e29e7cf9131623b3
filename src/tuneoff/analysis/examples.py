"""A few test examples with what every arm generated for them, as a sample beside the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from tuneoff.analysis.results import Results
from tuneoff.config.base import Frozen
from tuneoff.errors import CorruptRecord
from tuneoff.records.record import TrialRecord

Row = dict[str, Any]
"""A `record.Prediction` as plain data."""
COUNT = 4
SOURCE_CHARACTERS = 400
TEXT_CHARACTERS = 600


class ExampleOutput(Frozen):
    """What one arm wrote for a test example."""

    method: str = Field(description="the arm's label")
    seed: int = Field(description="the arm's lowest completed one")
    output: str = Field(description="cut to about 600 characters; empty where nothing was written")
    value: float | None = Field(description="the primary metric of this example, or null")


class SampledExample(Frozen):
    """A test example with every arm's output. A cut text ends in ` …`."""

    index: int = Field(description="position in the test split")
    source: str = Field(description="what was put in, cut to about 400 characters")
    reference: str = Field(description="the target, cut to about 600")
    outputs: tuple[ExampleOutput, ...] = Field(description="one object per arm in the study's order")


@dataclass(frozen=True)
class FirstPredictions:
    """Test predictions of an arm's first completed trial.

    Attributes:
        label: the arm's.
        record: the trial's.
        rows: position in the test split -> prediction; empty where they cannot be read.
    """

    label: str
    record: TrialRecord
    rows: dict[int, Row]


def first_predictions(results: Results) -> list[FirstPredictions]:
    """Reads the test predictions of every arm's lowest completed seed, in the study's order."""
    records = [(arm.label, arm.completed[0]) for arm in results.arms if arm.completed]
    return [FirstPredictions(label, record, _predictions(results, record)) for label, record in records]


def sample_examples(predictions_by_arm: Sequence[FirstPredictions]) -> tuple[SampledExample, ...]:
    """Returns at most `COUNT` test examples, chosen evenly among those whose source was kept, before any output is
    seen.

    Each arm is shown with its lowest completed seed. Empty for classification, whose trials keep the source of what
    they answered wrongly: these are no fair sample.
    """
    with_source: dict[int, Row] = {}
    for each in predictions_by_arm:
        kept = {index: row for index, row in each.rows.items() if row["source"] and not row["scores"]}
        with_source = {**kept, **with_source}
    indices = sorted(with_source)
    chosen = []
    for index in sorted(
        {indices[i * (len(indices) - 1) // max(1, COUNT - 1)] for i in range(COUNT)} if indices else ()
    ):
        outputs = tuple(
            _output(each.label, each.record, each.rows[index])
            for each in predictions_by_arm
            # Another target at this place is another example: that row saw other data.
            if index in each.rows and each.rows[index]["target"] == with_source[index]["target"]
        )
        source, reference = with_source[index]["source"], with_source[index]["target"]
        chosen.append(
            SampledExample(
                index=index,
                source=excerpt(source, SOURCE_CHARACTERS),
                reference=excerpt(reference, TEXT_CHARACTERS),
                outputs=outputs,
            )
        )
    return tuple(chosen)


def _predictions(results: Results, record: TrialRecord) -> dict[int, Row]:
    try:
        rows = results.store.trial(record.spec.id).prediction_rows("test")
    except CorruptRecord:
        return {}
    return {prediction["index"]: prediction for prediction in rows or ()}


def _output(label: str, record: TrialRecord, prediction: Row) -> ExampleOutput:
    return ExampleOutput(
        method=label,
        seed=record.spec.seed,
        output=excerpt(prediction["output"], TEXT_CHARACTERS),
        value=prediction["values"].get(record.primary_metric or ""),
    )


def excerpt(text: str, limit: int) -> str:
    """Returns the text, cut at a space near `limit` characters with ` …` where it is longer."""
    if len(text) <= limit:
        return text
    cut = text[:limit]
    head, space, _ = cut.rpartition(" ")
    return f"{(head if space and len(head) > limit // 2 else cut).rstrip()} …"
