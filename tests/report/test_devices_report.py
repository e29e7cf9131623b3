"""Arms on several devices beside the same arms on one, as the report tells it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from record_helpers import Level, World, build_store, small_study
from tuneoff import report
from tuneoff.records.record import RankFigures
from tuneoff.store import StudyStore

LEVELS = {
    "majority": Level(0.5, head=0, stored=0),
    "lora": Level(0.93, 8.0),
    "lora-2": Level(0.93, 5.0),
    "full-2": Level(0.94, 9.0),
}
RANKS = (
    RankFigures(rank=0, device="cpu", threads=1, peak_memory_bytes=100 << 20, data_wait_seconds=0.1, train_seconds=5.0),
    RankFigures(rank=1, device="cpu", threads=1, peak_memory_bytes=120 << 20, data_wait_seconds=0.3, train_seconds=5.0),
)


def store(folder: Path, arms: dict[str, Any] | None = None, **world: Any) -> StudyStore:
    several: dict[str, Any] = {
        "lora-2": {"method": "lora", "devices": 2},
        "full-2": {"method": "full", "devices": 2, "shard": True},
    }
    study = small_study("majority", "lora", arms=several if arms is None else arms)
    changes = {"lora-2": {"ranks": RANKS}}
    return build_store(folder / "study", study, World(**{"levels": LEVELS, "changes": changes, **world}))


def entry(body: dict[str, Any], label: str) -> dict[str, Any]:
    found: dict[str, Any] = next(found for found in body["devices"] if found["method"] == label)
    return found


def test_speed_up_and_efficiency_stand_beside_one_device(tmp_path: Path) -> None:
    body = report.build(store(tmp_path)).as_data()
    assert [found["method"] for found in body["devices"]] == ["lora-2", "full-2"]
    lora = entry(body, "lora-2")
    assert (lora["devices"], lora["shard"], lora["beside"], lora["seeds"]) == (2, False, "lora", [0, 1])
    assert lora["speed_up"] == pytest.approx(lora["one_device_train_seconds"] / lora["train_seconds"])
    assert 1.4 < lora["speed_up"] < 1.8
    assert lora["efficiency"] == pytest.approx(lora["speed_up"] / 2)
    assert (lora["peak_memory_bytes_least"], lora["peak_memory_bytes_greatest"]) == (100 << 20, 120 << 20)
    assert (lora["data_wait_seconds_least"], lora["data_wait_seconds_greatest"]) == (0.1, 0.3)
    assert lora["gpu_percent_mean_greatest"] is None
    assert lora["speed_up_reason"] == ""


def test_a_row_with_nothing_beside_it_says_so(tmp_path: Path) -> None:
    full = entry(report.build(store(tmp_path)).as_data(), "full-2")
    assert (full["shard"], full["beside"], full["speed_up"], full["efficiency"]) == (True, None, None, None)
    assert full["speed_up_reason"] == "the study has no such arm on one device"


def test_only_seeds_of_both_are_compared(tmp_path: Path) -> None:
    lora = entry(report.build(store(tmp_path, skip=frozenset({("lora", 0)}))).as_data(), "lora-2")
    assert lora["seeds"] == [1]
    none = entry(report.build(store(tmp_path / "b", skip=frozenset({("lora", 0), ("lora-2", 1)}))).as_data(), "lora-2")
    assert (none["seeds"], none["speed_up"]) == ([], None)
    assert none["speed_up_reason"] == "no seed of both is completed"


def test_different_numbers_of_devices_are_flagged(tmp_path: Path) -> None:
    body = report.build(store(tmp_path)).as_data()
    (flagged,) = [warning for warning in body["warnings"] if warning["name"] == "different_devices"]
    assert "lora 1, lora-2 2, full-2 2" in flagged["message"]
    plain = report.build(store(tmp_path / "one", arms={})).as_data()
    assert plain["devices"] == []
    assert "different_devices" not in {warning["name"] for warning in plain["warnings"]}


def test_the_page_shows_it_and_leaves_it_out_without(tmp_path: Path) -> None:
    page = report.write(store(tmp_path), plots=False).read_text()
    section = page.partition("## Several devices")[2].partition("\n## ")[0]
    assert re.search(r"\| lora-2 \| 2 \| lora \|", section)
    assert re.search(r"\| full-2 \| 2, sharded \| – \|", section)
    assert "full-2: no speed-up, because the study has no such arm on one device." in section
    assert "100.0 MiB – 120.0 MiB" in section
    assert "## Several devices" not in report.write(store(tmp_path / "one", arms={}), plots=False).read_text()


def test_a_contended_timing_is_marked(tmp_path: Path) -> None:
    page = report.write(store(tmp_path, contended=frozenset({"lora"})), plots=False).read_text()
    assert re.search(r"\d×†", page.partition("## Several devices")[2])


def test_every_key_is_documented(tmp_path: Path) -> None:
    body = report.build(store(tmp_path)).as_data()
    json.dumps(body, allow_nan=False)
    documented = set(re.findall(r"`([a-z_]+)`", (Path(__file__).parents[2] / "docs/report-schema.md").read_text()))
    assert {"devices", *body["devices"][0]} - documented == set()
