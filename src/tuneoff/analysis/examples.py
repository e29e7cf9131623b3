"""A few test examples with what every arm generated for them, as a sample beside the figures."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tuneoff.analysis.results import Results
from tuneoff.config.spec import Frozen
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


def sample_examples(results: Results) -> tuple[SampledExample, ...]:
    """Returns at most `COUNT` test examples, chosen evenly among those whose source was kept, before any output is
    seen.

    Each arm is shown with its lowest completed seed. Empty for a task that keeps no sources (classification).
    """
    records = [(arm.label, arm.completed[0]) for arm in results.arms if arm.completed]
    predictions_by_arm = [(label, record, _predictions(results, record)) for label, record in records]
    with_source: dict[int, Row] = {}
    for _, _, predictions in predictions_by_arm:
        with_source = {**{index: p for index, p in predictions.items() if p["source"]}, **with_source}
    indices = sorted(with_source)
    chosen = []
    for index in sorted(
        {indices[i * (len(indices) - 1) // max(1, COUNT - 1)] for i in range(COUNT)} if indices else ()
    ):
        outputs = tuple(
            _output(label, record, predictions[index])
            for label, record, predictions in predictions_by_arm
            # Another target at this place is another example: that row saw other data.
            if index in predictions and predictions[index]["target"] == with_source[index]["target"]
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
