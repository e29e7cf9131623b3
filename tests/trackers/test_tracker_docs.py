"""What docs/trackers.md and docs/add-a-tracker.md say is true."""

from __future__ import annotations

import csv
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from record_helpers import make_record
from tracker_helpers import announce, play
from tuneoff import registry
from tuneoff.testing.trackers import EVENTS, failed_record, follow, make_study, tracked
from tuneoff.trackers import process
from tuneoff.trackers._figures import final_metrics, metrics_of

pytest_plugins = ("tracker_fixtures",)

DOCS = Path(__file__).parents[2] / "docs"


def _blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def test_the_example_tracker_follows_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (announced,) = _blocks("add-a-tracker.md", "toml")
    points = tomllib.loads(announced)["project"]["entry-points"]
    assert points == {"tuneoff.trackers": {"table": "tuneoff_examples.table:plugin"}}
    packages = tmp_path / "packages"
    packages.mkdir()
    announce(packages, "table_tracker", _blocks("add-a-tracker.md", "python")[0], {"table": "plugin"})
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.setenv("PYTHONPATH", str(packages))
    store, trials = make_study(tmp_path / "study", seeds=2)

    def run(listener: Any) -> None:
        play(store, trials[0], listener)
        play(store, trials[1], listener, record=failed_record(trials[1]))

    assert follow(store, ["table"], run) == []
    with (store.trackers.folder("table") / "figures.csv").open(encoding="utf-8") as file:
        lines = list(csv.reader(file))
    assert {line[1] for line in lines} == {trials[0].id}
    assert [float(line[3]) for line in lines if line[2] == "final/test/accuracy"] == [0.94]


def test_every_tracker_and_its_extra_are_described() -> None:
    text = (DOCS / "trackers.md").read_text(encoding="utf-8")
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in registry.trackers()._modules():
        assert f"| `{name}` | `tuneoff[{name}]` |" in text
        assert registry.trackers()[name].extra == f"'tuneoff[{name}]'"
        assert name in project["optional-dependencies"]


def test_every_figure_is_described(tmp_path: Path) -> None:
    text = (DOCS / "trackers.md").read_text(encoding="utf-8")
    names = {name for event in EVENTS for name in metrics_of(event)}
    assert all(f"`{name}`" in text for name in names if not name.startswith("validation/"))
    _, (trial,) = make_study(tmp_path / "study")
    record = (DOCS / "record.md").read_text(encoding="utf-8")
    costs = {name.removeprefix("final/") for name in final_metrics(make_record(trial)) if name.count("/") == 1}
    derived = {"trainable_parameters", "total_parameters", "gradient_norm_mean", "gradient_norm_max"}
    assert all(f"`{name}`" in record for name in costs - derived)


def test_limits_and_keys_are_as_described(tmp_path: Path) -> None:
    text = (DOCS / "trackers.md").read_text(encoding="utf-8")
    assert f"at most {process.SETTLE_SECONDS:g} s" in text
    assert f"no answer for {process.STALL_SECONDS:g} s" in text
    assert f"have {process.FINISH_SECONDS:g} s to finish" in text
    assert f"{process.WAITING:,} messages" in text
    (study,) = _blocks("trackers.md", "yaml")
    assert set(yaml.safe_load(study)["trackers"]) <= set(registry.trackers())


def test_every_key_of_the_bookkeeping_is_described(tmp_path: Path, doubles: Path) -> None:
    text = (DOCS / "trackers.md").read_text(encoding="utf-8")
    store, (trial,) = make_study(tmp_path / "study")
    follow(store, ["recorder"], lambda listener: play(store, trial, listener))
    described = set(re.findall(r"^\| `trackers\.NAME\.(\w+)` \|", text, flags=re.MULTILINE))
    assert described == set(tracked(store, "recorder"))
