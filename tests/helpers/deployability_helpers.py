"""Made-up results of the forms in which trained models may be deployed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuneoff.config.deployability import Form
from tuneoff.records.deployability import Deployability, FormResult
from tuneoff.records.record import Inference, Metric, Prediction, TrialRecord
from tuneoff.store import StudyStore


def form_result(store: StudyStore, record: TrialRecord, form: Form, changed: int = 0, **changes: Any) -> FormResult:
    """A form that works, whose first `changed` right answers have become wrong."""
    place = store.trial(record.spec.id)
    rows = place.predictions()
    assert rows is not None
    left, answers = changed, list[Prediction]()
    for row in rows:
        wrong = left > 0 and row.output == row.target
        left -= wrong
        answers.append(row.model_copy(update={"output": "other" if wrong else row.output}))
    accuracy = sum(row.output == row.target for row in answers) / len(answers)
    body: dict[str, Any] = {
        "form": form,
        "works": True,
        "metrics": (Metric(name="accuracy", value=accuracy, unit="fraction", direction="higher", split="test"),),
        "predictions": place.write_predictions(f"test-{form}", answers),
        "weights_bytes": 4 << 20,
        "base_bytes": 0,
        "inference": Inference(latency_seconds_median=0.011, latency_examples=24),
        "peak_memory_bytes": 500 << 20,
    }
    return FormResult(**{**body, **changes})


def broken(form: Form, reason: str) -> FormResult:
    """A form that does not work."""
    return FormResult(form=form, works=False, reason=reason)


def keep(store: StudyStore, record: TrialRecord, results: Sequence[FormResult], **changes: Any) -> None:
    """Writes a trial's results as a measurement leaves them."""
    body = {"trial": record.spec.id, "weights": record.kept_files or {}, "forms": tuple(results), **changes}
    store.trial(record.spec.id).deployability.write(Deployability(**body))
