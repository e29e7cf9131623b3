"""Made-up studies that hold a text and a task."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from record_helpers import WRITERS, World, build_store, writing_study
from tuneoff.config.retention import RetentionSpec
from tuneoff.config.spec import TrialSpec
from tuneoff.records.record import HeldScore, Retention, RewindPoint
from tuneoff.store import StudyStore

FORGOTTEN = {"full": 0.3, "lora": 0.1, "prompt_tuning": -0.02}
"""Label -> by how many bits per byte the text is worse after training."""
ROWS = 60
RETENTION = RetentionSpec.model_validate(
    {
        "held": {"prose": "docstrings", "sums": {"task": {"name": "generation", "data": "somebody/sums"}}},
        "rewind": [0, 0.5, 1],
    }
)


def held_store(folder: Path, seeds: int = 3, forgotten: Mapping[str, float] = FORGOTTEN) -> StudyStore:
    """A study of three arms that forget more or less, and a baseline that uses the base model as it is."""
    study = writing_study("zero_shot", *forgotten, seeds=seeds).model_copy(update={"retention": RETENTION})
    store = build_store(folder / "study", study, World(levels=WRITERS))
    for trial_id in store.trial_ids():
        place = store.trial(trial_id)
        record = place.record()
        assert record is not None
        place.record_path.unlink()
        spec = record.spec
        update: dict[str, Any] = {
            "missing": {**record.missing, "retention.forgetting": "this method does not train"},
        }
        if spec.label in forgotten:
            update = {
                "retention": retention_of(spec, forgotten[spec.label]),
                "timing": record.timing.model_copy(update={"retention_seconds": 2.0}),
            }
            if spec.label == "prompt_tuning":
                update["missing"] = {**record.missing, "retention.rewind_metric": "prompt_tuning cannot be merged"}
        place.write_record(record.model_copy(update=update))
    return store


def retention_of(spec: TrialSpec, forgotten: float) -> Retention:
    """What a trial kept: rows differ, as for every arm, and seeds differ a little."""
    noise, rows = random.Random(f"{spec.label}/{spec.seed}"), random.Random(0)
    shift = noise.gauss(0, 0.01)
    changes = tuple(forgotten + shift + rows.gauss(0, 0.05) + noise.gauss(0, 0.02) for _ in range(ROWS))
    change = sum(changes) / ROWS
    text = HeldScore(
        metric="bits_per_byte",
        unit="bits per byte",
        direction="lower",
        before=1.2,
        after=1.2 + change,
        change=change,
        changes=changes,
        rows=ROWS,
        fingerprint="prose-print",
    )
    task = text.model_copy(
        update={
            "metric": "rouge_l",
            "unit": "fraction",
            "direction": "higher",
            "before": 0.4,
            "after": 0.4 - change / 4,
        }
        | {"change": change / 4, "changes": tuple(value / 4 for value in changes), "fingerprint": "sums-print"}
    )
    points = tuple(
        RewindPoint(
            fraction=fraction,
            quality=3 - fraction + shift,
            held={"prose": 1.2 + fraction * change, "sums": 0.4 - fraction * change / 4},
        )
        for fraction in (0.0, 0.5, 1.0)
    )
    rewound = {"rewind": points, "rewind_metric": "loss"} if spec.label != "prompt_tuning" else {}
    return Retention(held={"prose": text, "sums": task}, **rewound)
