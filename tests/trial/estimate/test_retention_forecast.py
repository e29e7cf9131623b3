"""What scoring a study's held texts adds to a forecast."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trial_helpers import forecast_of, make_study, save_writer
from tuneoff.config.spec import TrialSpec
from tuneoff.planning.plan import plan

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that writes, pairs of texts, and prose."""
    folder = tmp_path_factory.mktemp("held")
    save_writer(folder / "gpt2", "gpt2", n_positions=128)
    pairs = [{"text": f"say {i} " * (i % 5 + 1), "title": f"{i}"} for i in range(40)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    prose = [{"text": f"once upon a time {i} " * 3} for i in range(60)]
    (folder / "prose.jsonl").write_text("\n".join(map(json.dumps, prose)), encoding="utf-8")
    return folder


def trial(folder: Path, method: str = "lora", **changes: Any) -> TrialSpec:
    task = {"name": "generation", "source": "text", "target": "title", "max_target_length": 8}
    (spec,) = plan(make_study(folder / "gpt2", folder / "pairs.jsonl", {method: {}}, task=task, **changes))
    return spec


@pytest.mark.parametrize("profile", [False, True], ids=["estimate", "profile"])
def test_a_forecast_has_the_time_of_what_is_held(folder: Path, profile: bool) -> None:
    prose = str(folder / "prose.jsonl")
    plain = forecast_of(trial(folder), profile)
    held = forecast_of(trial(folder, retention=prose), profile)
    rewound = forecast_of(trial(folder, retention={"held": prose, "rewind": True}), profile)
    assert not {"retention", "rewind"} & plain.seconds.keys()
    assert held.seconds["retention"] > held.kept_seconds["retention"] > 0, "the base model is scored once a run"
    assert "rewind" not in held.seconds
    assert rewound.seconds["rewind"] > 0


def test_more_rows_take_longer_and_a_method_that_does_not_merge_is_not_rewound(folder: Path) -> None:
    prose = str(folder / "prose.jsonl")
    few, many = (forecast_of(trial(folder, retention={"held": prose, "rows": rows})) for rows in (10, 60))
    own = [arm.seconds["retention"] - arm.kept_seconds["retention"] for arm in (few, many)]
    assert own[1] > 3 * own[0]
    prompt = forecast_of(trial(folder, "prompt_tuning", retention={"held": prose, "rewind": True}))
    assert "retention" in prompt.seconds
    assert "rewind" not in prompt.seconds


def test_a_task_that_is_held_and_writes_takes_the_time_of_writing(folder: Path) -> None:
    held = {"name": "generation", "data": str(folder / "pairs.jsonl"), "source": "text", "target": "title"}
    short, long = (
        forecast_of(trial(folder, retention={"held": {"pairs": {"task": {**held, "max_target_length": size}}}}))
        for size in (2, 40)
    )
    assert long.seconds["retention"] > short.seconds["retention"]


def test_plain_trials_share_no_scores(folder: Path) -> None:
    prose = str(folder / "prose.jsonl")
    assert "retention" not in forecast_of(trial(folder, retention=prose, execution={"engine": "plain"})).kept_seconds
