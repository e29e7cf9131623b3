"""Made-up studies whose report is looked at as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from record_helpers import (
    WRITERS,
    Level,
    World,
    build_store,
    predictions,
    small_study,
    writing_study,
    written_predictions,
)
from tuneoff.config.spec import PublishedSpec
from tuneoff.records.record import Utilisation
from tuneoff.store import StudyStore

LABEL = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>\" on='"
EVIL = f"{LABEL} </style> [x](http://evil.example) <!-- {{{{7*7}}}} &lt;b> \u202e"
LEVELS = {
    "majority": Level(0.5, head=0, stored=0),
    "full": Level(0.93, 30.0, 900 << 20, base=1_000_000),
    "lora": Level(0.93, 8.0, adapter=147_456),
    "head": Level(0.6, 3.0, 400 << 20, stored=7000),
}


def page_store(folder: Path, seeds: int = 2, **world: Any) -> StudyStore:
    """A study of two equals, a weaker arm and a baseline."""
    study = small_study("majority", "full", "lora", "head", seeds=seeds)
    return build_store(folder / "study", study, World(**{"levels": LEVELS, **world}))


USE = Utilisation(
    interval_seconds=1.0,
    seconds=tuple(float(second) for second in range(30)),
    process_cpu_percent=tuple(100.0 + second for second in range(30)),
    resident_bytes=tuple((500 + second) << 20 for second in range(30)),
)


def classified_store(folder: Path) -> StudyStore:
    """A study of six seeds whose trials kept the texts that they answered wrongly, and sampled the machine."""

    def kept(spec: Any, accuracy: float, rows: int) -> list[Any]:
        return [
            p.model_copy(
                update={"scores": (-0.1, -2.0), "source": f"Message {p.index} on trade." * (p.output != p.target)}
            )
            for p in predictions(spec, accuracy, rows)
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("record_helpers.predictions", kept)
        return page_store(folder, seeds=6, changes={label: {"utilisation": USE} for label in LEVELS})


def hostile_store(folder: Path) -> StudyStore:
    """A study whose labels, texts and citation try to be more than text."""
    labels = {f"{LABEL} {at}": {"method": "lora", "learning_rate": 1e-4 * (at + 1)} for at in range(5)}

    def odd(spec: Any, level: Level, rows: int) -> list[Any]:
        return [
            p.model_copy(update={"output": f"{EVIL} \x1b[31m", "source": EVIL})
            for p in written_predictions(spec, level, rows)
        ]

    study = writing_study("lead", arms=labels).model_copy(
        update={
            "description": f"![x](http://evil.example) {EVIL}",
            "published": PublishedSpec(citation=EVIL, notes=(EVIL,), figures={LABEL: {"accuracy_percent": 1.0}}),
        }
    )
    levels = {"lead": WRITERS["lead"], **{label: Level(0.3) for label in labels}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("record_helpers.written_predictions", odd)
        return build_store(folder / "study", study, World(levels=levels, test_rows=30))


def many_arms_store(folder: Path, arms: int, seeds: int) -> StudyStore:
    """A study of many arms, whose differences are small."""
    labels = {f"lora-{at:03}": {"method": "lora", "learning_rate": 1e-4 + 1e-6 * at} for at in range(arms)}
    levels = {label: Level(0.8 + 0.1 * (at % 7) / 7, 5.0 + at) for at, label in enumerate(labels)}
    return build_store(folder / "many", small_study(arms=labels, seeds=seeds), World(levels=levels, test_rows=40))
