"""Made-up series, for tests of what is said about them: folders of made-up studies, and the file that joins them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from record_helpers import QUICKSTART, Level, World, build_store, data, small_study, writing_study
from tuneoff.config.spec import StudySpec
from tuneoff.records.record import ModelInfo
from tuneoff.store.series import SeriesStore

BASELINE = "majority"


def write_series(root: Path, axis: str, values: Mapping[str, Any], name: str = "made up") -> SeriesStore:
    """Writes the file of a series; the members' folders are made by others, or not at all."""
    root.mkdir(parents=True, exist_ok=True)
    members = [{"name": key, "value": value, "folder": f"members/{key}"} for key, value in values.items()]
    body = {"version": 1, "axis": axis, "study": {"name": name}, "members": members}
    (root / "series.json").write_text(json.dumps(body))
    return SeriesStore.open(root)


def add_member(root: Path, name: str, study: StudySpec, world: World) -> None:
    """Makes a member's folder with made-up results."""
    build_store(root / "members" / name, study.model_copy(update={"name": f"made-up-{name}"}), world)


def sized_series(
    root: Path, curves: Mapping[str, Mapping[int, float]], seeds: int = 6, test_rows: int = 400
) -> SeriesStore:
    """Makes a series over training rows: label -> rows -> accuracy; with a baseline."""
    sizes = sorted({rows for curve in curves.values() for rows in curve})
    for rows in sizes:
        labels = [label for label, curve in curves.items() if rows in curve]
        levels = {label: replace(QUICKSTART.get(label, Level(0.9)), accuracy=curves[label][rows]) for label in labels}
        seen = data(0, test_rows)
        train = seen.splits["train"].model_copy(update={"rows": rows, "fingerprint": f"train-{rows}"})
        saw = {"data": seen.model_copy(update={"splits": {**seen.splits, "train": train}})}
        world = World(
            levels={BASELINE: QUICKSTART[BASELINE], **levels},
            test_rows=test_rows,
            changes=dict.fromkeys((BASELINE, *labels), saw),
        )
        add_member(root, str(rows), small_study(BASELINE, *labels, seeds=seeds), world)
    return write_series(root, "train_rows", {str(rows): rows for rows in sizes})


def based_series(
    root: Path, bases: Mapping[str, Mapping[str, float]], seeds: int = 6, writes: bool = False
) -> SeriesStore:
    """Makes a series over base models: base -> label -> accuracy (of texts ROUGE-L); with a baseline that has none."""
    for number, (base, scores) in enumerate(bases.items()):
        model = ModelInfo(source=base, architecture="BertModel", checksum=f"weights-{number}", dtype="float32")
        levels = {label: replace(QUICKSTART.get(label, Level(0.9)), accuracy=score) for label, score in scores.items()}
        baseline = "lead" if writes else BASELINE
        changes: dict[str, Any] = {label: {"model": model} for label in scores}
        changes[baseline] = {"model": None, "precision": None}
        study = writing_study(baseline, *scores, seeds=seeds) if writes else small_study(baseline, *scores, seeds=seeds)
        spec = study.model.model_copy(update={"source": base})
        world = World(levels={baseline: Level(0.2 if writes else 0.5, head=0, stored=0), **levels}, changes=changes)
        add_member(root, base, study.model_copy(update={"model": spec}), world)
    return write_series(root, "model", {base: {"source": base} for base in bases})


def set_series(root: Path, sets: Mapping[str, Mapping[str, float]], seeds: int = 2) -> SeriesStore:
    """Makes a series over data sets: set -> label -> accuracy; with a baseline."""
    for name, scores in sets.items():
        levels = {label: replace(QUICKSTART.get(label, Level(0.9)), accuracy=score) for label, score in scores.items()}
        world = World(levels={BASELINE: Level(0.3, head=0, stored=0), **levels}, test_rows=100)
        add_member(root, name, small_study(BASELINE, *scores, seeds=seeds), world)
    return write_series(root, "data", {name: {"train": name} for name in sets})
