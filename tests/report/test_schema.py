"""The report as one model: frozen, strict, and what its JSON says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from record_helpers import Level, World, build_store, small_study
from tuneoff import report
from tuneoff.analysis.side_by_side import join
from tuneoff.records.record import Status
from tuneoff.report.builder import build_report
from tuneoff.report.schema import JoinedReport, Report

LEVELS = {"majority": Level(0.5, head=0, stored=0), "full": Level(0.93, 30.0), "lora": Level(0.9, 8.0)}


def built(folder: Path, *labels: str) -> Report:
    world = World(levels=LEVELS, fail={("full", 1): Status.DIVERGED})
    return report.build(build_store(folder, small_study(*labels), world))


def test_its_json_is_read_back_as_the_same_report_but_for_what_pages_alone_show(tmp_path: Path) -> None:
    made = built(tmp_path / "study", *LEVELS)
    read = Report.model_validate_json(json.dumps(made.as_data()))
    of_pages = {"curves", "rule", "disagreements", "machine_use", "classes", "residuals", "hardness"}
    assert read == made.model_copy(update={name: getattr(read, name) for name in of_pages})
    assert not of_pages & made.as_data().keys()


def test_it_is_frozen_and_its_types_are_strict(tmp_path: Path) -> None:
    made = built(tmp_path / "study", *LEVELS)
    with pytest.raises(ValidationError, match="frozen"):
        made.comparable = False  # type: ignore[misc]
    with pytest.raises(ValidationError, match="valid integer"):
        Report.model_validate_json(json.dumps({**made.as_data(), "schema_version": "4"}))
    with pytest.raises(ValidationError, match="Extra inputs"):
        Report.model_validate_json(json.dumps({**made.as_data(), "rows": []}))


def test_studies_side_by_side_are_a_report_with_each_arms_study(tmp_path: Path) -> None:
    folders = [build_store(tmp_path / name, small_study(name), World(levels=LEVELS)).root for name in ("full", "lora")]
    joined = join(folders)
    made = JoinedReport.of(build_report(joined.results), joined.studies, ("a note",))
    assert [(arm.method, arm.study) for arm in made.methods] == [("full", "full"), ("lora", "lora")]
    assert made.as_data()["notes"] == ["a note"]
