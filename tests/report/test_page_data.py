"""What the page's script reads: limits that a terminal takes too, and texts that stay texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from record_helpers import Level, World, build_store, small_study
from tuneoff.analysis.axes import AXES
from tuneoff.analysis.decisions import rule_data
from tuneoff.analysis.decisions.limits import cost_limit
from tuneoff.records.record import Inference
from tuneoff.report import build, page_data
from tuneoff.report.cost_wording import LIMIT_OPTIONS
from tuneoff.store import StudyStore

LEVELS = {
    "majority": Level(0.5, head=0, stored=0),
    "full": Level(0.93, 7321.7, 90_000 << 20, base=1_000_000, stored=90 << 20),
    "lora": Level(0.93, 119.6, 600 << 20, adapter=147_456, stored=999_999),
    "head": Level(0.6, 0.0123, 3, stored=7),
}


def store(folder: Path, **world: object) -> StudyStore:
    return build_store(folder, small_study(*LEVELS), World(levels=LEVELS, **world))  # type: ignore[arg-type]


def test_every_stop_of_a_slider_is_a_limit_that_the_command_reads_alike(tmp_path: Path) -> None:
    report = build(store(tmp_path))
    shown = page_data.explorer(report, "runs/it's")
    assert shown is not None
    assert report.rule is not None
    assert shown["folder"] == "'runs/it'\"'\"'s'"
    by_key = {limit["key"]: limit for limit in shown["limits"]}
    assert by_key.keys() == {"quality", "time", "memory", "stored"}  # latency is the same of all
    for key, option in LIMIT_OPTIONS.items():
        for bound, text in by_key[key]["stops"] if key in by_key else ():
            assert cost_limit(key, text, option).bound == bound
    for arm in report.rule.arms:
        for key in by_key.keys() - {"quality"}:
            if arm.costs.get(key):
                nearest = min(bound for bound, _ in by_key[key]["stops"] if bound >= arm.costs[key])
                assert nearest <= arm.costs[key] * 1.01
        if arm.trains:
            assert any(arm.quality - 0.01 <= bound <= arm.quality for bound, _ in by_key["quality"]["stops"])
    assert by_key["quality"]["option"] + by_key["quality"]["joint"] == "--min accuracy="
    assert [axis["key"] for axis in shown["axes"]] == [
        "quality",
        *(axis for axis in AXES if axis not in ("energy", "money", "forgetting")),
    ]


def test_an_arm_without_a_figure_is_shown_without_it(tmp_path: Path) -> None:
    report = build(store(tmp_path, changes={"lora": {"inference": Inference()}}))
    shown = page_data.explorer(report, "")
    assert shown is not None
    figures = {arm["label"]: arm["figures"] for arm in shown["arms"]}
    assert "latency" not in figures["lora"]
    assert "latency" in figures["full"]
    assert len(figures["full"]["time"]["seeds"]) == 2


def test_where_nothing_can_be_chosen_there_is_no_explorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = store(tmp_path / "none", skip=frozenset((label, seed) for label in LEVELS for seed in range(2)))
    assert page_data.explorer(build(nothing), "") is None
    monkeypatch.setattr(rule_data, "MOST_ARMS", 2)
    assert build(store(tmp_path / "many")).rule is None


def test_no_text_of_the_data_ends_them() -> None:
    evil = "</script><!--<script>&\u2028\u202e\x1b"
    text = page_data.as_text({"label": evil})
    assert not set("<>&\u2028\u202e\x1b") & set(text)
    assert json.loads(text)["label"].startswith("</script><!--<script>&")
