"""A few test examples with what every row wrote for them: the sample that figures cannot replace."""

from __future__ import annotations

from typing import Any

from tuneoff.analysis.results import Results
from tuneoff.errors import CorruptRecord
from tuneoff.records.record import TrialRecord

Row = dict[str, Any]
"""A `record.Prediction` as plain data."""
COUNT = 4
SOURCE_CHARACTERS = 400
TEXT_CHARACTERS = 600


def examples(results: Results) -> list[dict[str, Any]]:
    """At most `COUNT` test examples, chosen evenly among those whose source was kept, before any output is seen.

    Each row speaks through its lowest completed seed. Empty for a task that keeps no sources (classification).
    """
    spoken = [(row.label, row.completed[0]) for row in results.rows if row.completed]
    told = [(label, record, _predictions(results, record)) for label, record in spoken]
    known: dict[int, Row] = {}
    for _, _, predictions in told:
        known = {**{index: p for index, p in predictions.items() if p["source"]}, **known}
    kept = sorted(known)
    found = []
    for index in sorted({kept[i * (len(kept) - 1) // max(1, COUNT - 1)] for i in range(COUNT)} if kept else ()):
        outputs = [
            _output(label, record, predictions[index])
            for label, record, predictions in told
            # Another target at this place is another example: that row saw other data.
            if index in predictions and predictions[index]["target"] == known[index]["target"]
        ]
        source, reference = known[index]["source"], known[index]["target"]
        found.append(
            {
                "index": index,
                "source": excerpt(source, SOURCE_CHARACTERS),
                "reference": excerpt(reference, TEXT_CHARACTERS),
                "outputs": outputs,
            }
        )
    return found


def _predictions(results: Results, record: TrialRecord) -> dict[int, Row]:
    try:
        found = results.store.trial(record.spec.id).prediction_rows("test")
    except CorruptRecord:
        return {}
    return {prediction["index"]: prediction for prediction in found or ()}


def _output(label: str, record: TrialRecord, prediction: Row) -> dict[str, Any]:
    return {
        "method": label,
        "seed": record.spec.seed,
        "output": excerpt(prediction["output"], TEXT_CHARACTERS),
        "value": prediction["values"].get(record.primary_metric or ""),
    }


def excerpt(text: str, limit: int) -> str:
    """The text, cut at a space near `limit` characters with ` …` where it is longer."""
    if len(text) <= limit:
        return text
    cut = text[:limit]
    head, space, _ = cut.rpartition(" ")
    return f"{(head if space and len(head) > limit // 2 else cut).rstrip()} …"
