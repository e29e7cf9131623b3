"""Studies of models and data of a hub, as real processes whose client libraries are sent to a stand-in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub_helpers import StandInHub, serving
from running_helpers import Ended, Tiny

pytest_plugins = ("running_fixtures",)
pytestmark = pytest.mark.slow

Command = Callable[..., Ended]


def _records(folder: Path) -> dict[str, dict[str, Any]]:
    paths = folder.glob("trials/*/record.json")
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def _files(folder: Path) -> dict[str, bytes | str]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _fill(hub: StandInHub, tiny: Tiny) -> dict[str, str]:
    """Puts the tiny model and rows at the hub; returns their commits."""
    rows: dict[str, bytes | str] = {"train.csv": tiny.train.read_text(), "test.csv": tiny.test.read_text()}
    return {
        "model": hub.put("models", "org/model", _files(tiny.model)),
        "data": hub.put("datasets", "org/data", rows),
    }


def test_a_study_of_the_hub_runs_is_repeated_without_it_and_never_mixes_commits(
    command: Command, tiny: Tiny, tmp_path: Path
) -> None:
    raw = tiny.study(["bitfit"])
    raw |= {"model": "org/model"}
    raw["task"] |= {"data": "org/data"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    here = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    with serving() as hub:
        commits = _fill(hub, tiny)
        here["HF_ENDPOINT"] = hub.url
        ended = command("run", "study.yaml", "--no-profile", "--seeds", "1", "--out", "first", environment=here)
        assert ended.code == 0, ended.err
        away = {**here, "HF_HUB_OFFLINE": "1"}
        ended = command("run", "study.yaml", "--no-profile", "--seeds", "1", "--out", "second", environment=away)
        assert ended.code == 0, ended.err
        first, second = _records(tmp_path / "first"), _records(tmp_path / "second")
        assert first.keys() == second.keys()
        for name, record in first.items():
            assert record["metrics"] == second[name]["metrics"]
            for told in (record, second[name]):
                assert told["model"]["commit"] == commits["model"]
                assert set(told["data"]["commits"].values()) == {commits["data"]}
        moved = hub.put("models", "org/model", {**_files(tiny.model), "README.md": "moved on"})
        ended = command("run", "study.yaml", "--no-profile", "--seeds", "2", "--out", "first", environment=here)
        assert ended.code == 0, ended.err
        assert [record["model"]["commit"] for record in _records(tmp_path / "first").values()] == [moved, moved]
    ended = command("run", "study.yaml", "--out", "third", environment={**here, "HF_HOME": str(tmp_path / "empty")})
    assert ended.code == 2
    assert "the hub does not answer" in ended.err
    assert "Traceback" not in ended.err


def test_what_a_hub_refuses_is_one_message(command: Command, tiny: Tiny, tmp_path: Path) -> None:
    raw = tiny.study(["bitfit"])
    raw |= {"model": "org/model"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    with serving() as hub:
        here = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url}
        for refused in ("there is no model 'org/model'", "is gated"):
            ended = command("run", "study.yaml", "--out", "out", environment=here)
            assert ended.code == 2
            assert refused in ended.err
            assert "Traceback" not in ended.err
            assert not (tmp_path / "out").exists()
            _fill(hub, tiny)
            hub.repositories["models", "org/model"].gated = True
