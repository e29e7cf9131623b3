"""Checks that the trials of a run share: done once for an arm, and anew for every other."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trial_helpers import MakePlace, context_of, runner_of
from tuneoff import checksums
from tuneoff.config.data import TaskSpec
from tuneoff.config.protocol import Protocol
from tuneoff.trial.context import TrialContext
from tuneoff.trial.run import run
from tuneoff.trial.shared_checks import once, once_for_files
from tuneoff.trial.training import scored_position

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

Contexts = Callable[..., TrialContext]


@pytest.fixture
def contexts(tmp_path: Path) -> Contexts:
    runner, _ = runner_of("full")

    def make(protocol: dict[str, Any] | None = None, **changes: Any) -> TrialContext:
        context = context_of(runner, Protocol(**(protocol or {})))
        spec = context.spec.model_copy(update=changes)
        return TrialContext(spec, context.task, context.device, context.phases, context.emit, scratch=tmp_path)

    return make


def answers(*contexts: TrialContext) -> list[str]:
    """What each is told, where every check that is done says another thing."""
    done: list[str] = []

    def check() -> str:
        done.append(f"answer {len(done) + 1}")
        return done[-1]

    return [once(context, "check", check) for context in contexts]


def test_seeds_and_rates_of_an_arm_share_an_answer(contexts: Contexts) -> None:
    asked = [contexts(), contexts(seed=1), contexts(learning_rate=0.5), contexts({"seeds": (7,), "learning_rate": 0.1})]
    assert answers(*asked) == ["answer 1"] * 4


def test_another_method_option_or_protocol_is_another_question(contexts: Contexts) -> None:
    asked = [contexts(), contexts(method="lora"), contexts(options={"r": 4}), contexts({"precision": "fp32"})]
    assert answers(*asked) == [f"answer {number}" for number in range(1, 5)]


def test_another_model_other_rows_and_another_start_are_other_questions(contexts: Contexts) -> None:
    """A series has one folder for all its studies."""
    spec = contexts().spec
    other: list[dict[str, Any]] = [
        {"model": spec.model.model_copy(update={"source": "other"})},
        {"model": spec.model.model_copy(update={"revision": "abc"})},
        {"task": TaskSpec.model_validate({"name": "classification", "data": "other.csv"})},
        {"start_from": "weights"},
        {"fingerprints": {"tiny": "abc"}},
    ]
    asked = [contexts(), *(contexts(**changes) for changes in other)]
    assert answers(*asked) == [f"answer {number}" for number in range(1, 7)]


def test_the_plain_engine_and_a_trial_without_a_run_check_anew(contexts: Contexts) -> None:
    context = contexts()
    execution = context.spec.execution.model_copy(update={"engine": "plain"})
    alone = TrialContext(context.spec, context.task, context.device, context.phases, context.emit)
    assert answers(context, contexts(execution=execution), contexts(execution=execution), alone, context) == [
        "answer 1",
        "answer 2",
        "answer 3",
        "answer 4",
        "answer 1",
    ]


def test_a_torn_answer_is_no_answer(contexts: Contexts, tmp_path: Path) -> None:
    assert answers(contexts()) == ["answer 1"]
    (path,) = (tmp_path / "checks").iterdir()
    path.write_text('"ans', encoding="utf-8")
    assert answers(contexts(), contexts()) == ["answer 1", "answer 1"]
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("in the way", encoding="utf-8")
    assert answers(contexts(), contexts()) == ["answer 1", "answer 2"]


def test_a_later_seed_does_not_compare_the_scored_position_again(
    make_place: MakePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    original = scored_position._agree

    def note(*arguments: Any) -> bool:
        compared.append(1)
        return original(*arguments)

    monkeypatch.setattr(scored_position, "_agree", note)
    for seed in (0, 1):
        run(make_place("lora", seed=seed), "cpu", time.perf_counter(), scratch=tmp_path)
    assert compared == [1]


def test_what_is_computed_of_files_is_shared_by_all_arms_until_one_is_written(
    contexts: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "SETTLED_SECONDS", -3600.0)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_text("one")
    numbers = itertools.count(1)

    def ask(context: TrialContext) -> str:
        return once_for_files(context, "sum", folder, lambda: f"answer {next(numbers)}")

    assert [ask(contexts()), ask(contexts(method="lora", seed=3))] == ["answer 1"] * 2
    plain = contexts().spec.execution.model_copy(update={"engine": "plain"})
    assert ask(contexts(execution=plain)) == "answer 2"
    (folder / "weights").write_text("other")
    assert ask(contexts()) == "answer 3"
    monkeypatch.setattr(checksums, "SETTLED_SECONDS", 3600.0)
    assert [ask(contexts()), ask(contexts())] == ["answer 4", "answer 5"], "a write just now might not show"
    monkeypatch.setattr(checksums, "SETTLED_SECONDS", -3600.0)
    (folder / "weights").unlink()
    folder.rmdir()
    assert ask(contexts()) == "answer 6", "a folder that cannot be listed tells nothing"
