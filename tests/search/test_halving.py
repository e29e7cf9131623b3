"""Rungs of a pruned search, and who goes on; all of it pure."""

from __future__ import annotations

from typing import Any

import pytest

from tuneoff.config.protocol import Protocol
from tuneoff.errors import StudyError
from tuneoff.search.halving import FEWEST_STEPS, Rung, check_rows, promoted, rungs
from tuneoff.search.space import Outcome, best


def protocol(trials: int = 8, max_steps: int | None = 160, **keys: Any) -> Protocol:
    search = {"trials": trials, "prune": "halving", "max_steps": max_steps}
    return Protocol.model_validate({"search": {**search, **keys.pop("search", {})}, **keys})


def shape(found: tuple[Rung, ...]) -> list[tuple[int, int | None]]:
    return [(rung.trials, rung.steps) for rung in found]


# --- rungs


@pytest.mark.parametrize(
    ("trials", "steps", "expected"),
    [
        (8, 160, [(8, 20), (4, 40), (2, 80), (1, 160)]),
        (12, 100, [(12, 12), (6, 25), (3, 50), (1, 100)]),
        (2, 20, [(2, 10), (1, 20)]),
        (3, 1000, [(3, 500), (1, 1000)]),
        # The first rung would have fewer than ten steps: fewer rungs, and more than one trial at the end.
        (16, 79, [(16, 19), (8, 39), (4, 79)]),
        (8, 20, [(8, 10), (4, 20)]),
    ],
)
def test_the_better_half_gets_twice_the_steps_up_to_the_whole_share(
    trials: int, steps: int, expected: list[tuple[int, int | None]]
) -> None:
    assert shape(rungs(protocol(trials, steps))) == expected


def test_the_first_rung_is_no_mere_warm_up() -> None:
    found = rungs(protocol(64, 400, warmup_steps=40))
    assert found[0].steps == 100 >= 2 * 40
    assert rungs(protocol(64, 400))[0].steps == 12 >= FEWEST_STEPS


def test_without_pruning_there_is_one_rung_of_the_protocols_own_steps_and_without_a_search_none() -> None:
    assert rungs(Protocol.model_validate({"search": 8})) == (Rung(8, None),)
    assert rungs(Protocol()) == ()


@pytest.mark.parametrize(
    ("keys", "steps"),
    [
        ({"max_steps": None, "search": {"train_rows": 500, "epochs": 2}}, 2 * 32),
        ({"max_steps": None, "train_rows": 320}, 3 * 20),
        ({"max_steps": None, "train_rows": 320, "search": {"train_rows": 160}}, 3 * 10),
        ({"max_steps": 40, "train_rows": 320}, 40),
        ({"max_steps": 4000, "train_rows": 320}, 60),
    ],
)
def test_steps_are_known_from_rows_and_epochs_too(keys: dict[str, Any], steps: int) -> None:
    assert rungs(protocol(4, **keys))[-1].steps == steps


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"max_steps": None}, r"protocol\.search\.prune: halving needs to know.*set protocol\.search\.max_steps"),
        ({"trials": 1}, "halving takes 2 trials and 20 steps at least, and the search has 1 and 160"),
        ({"max_steps": 19}, "the search has 8 and 19"),
        ({"max_steps": 100, "warmup_steps": 30}, "2 trials and 120 steps at least, and the search has 8 and 100"),
    ],
)
def test_a_search_with_nothing_to_halve_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        rungs(protocol(**keys))


def test_rows_that_do_not_last_are_refused_with_the_steps_that_would_do() -> None:
    asked = protocol(8, 160)
    check_rows(asked, 53 * 16 + 1)  # 54 batches, three times
    with pytest.raises(StudyError, match=r"counts on 160 steps.* but 400 training rows give 75 in 3 epochs.* to 75 or"):
        check_rows(asked, 400)
    check_rows(Protocol.model_validate({"search": 8, "max_steps": 160}), 4)


# --- who goes on


def outcomes(*scores: float | None, rung: int = 0) -> list[Outcome]:
    return [Outcome({"learning_rate": float(at)}, score, 1.0, rung) for at, score in enumerate(scores)]


def rates(found: list[dict[str, Any]]) -> list[float]:
    return [values["learning_rate"] for values in found]


def test_the_best_of_a_rung_go_on_best_first() -> None:
    history = outcomes(0.2, 0.9, None, 0.5, 0.7)
    assert rates(promoted(history, 0, 2)) == [1.0, 4.0]
    assert rates(promoted(history, 0, 9)) == [1.0, 4.0, 3.0, 0.0], "what did not complete stays behind"
    assert promoted(history, -1, 4) == []
    assert promoted([], 0, 4) == []


def test_equal_scores_are_told_apart_by_loss_then_by_order() -> None:
    history = [Outcome({"learning_rate": float(at)}, 0.5, loss) for at, loss in enumerate((2.0, 1.0, None, 1.0))]
    assert rates(promoted(history, 0, 4)) == [1.0, 3.0, 0.0, 2.0]


def test_only_the_asked_rung_counts() -> None:
    history = [*outcomes(0.1, 0.2, 0.3, 0.9), *outcomes(0.8, 0.1, rung=1)]
    assert rates(promoted(history, 1, 1)) == [0.0]


# --- the choice


def test_the_choice_is_made_in_the_last_rung_though_an_earlier_score_was_better() -> None:
    history = [*outcomes(0.9, 0.95, 0.1), *outcomes(0.6, 0.5, rung=1)]
    assert best(history) == 3


def test_a_configuration_that_failed_later_is_not_chosen_for_what_it_did_before() -> None:
    history = [*outcomes(0.9, 0.8, 0.1), *outcomes(None, rung=1)]
    assert best(history) == 1
    assert best([*outcomes(0.9), *outcomes(None, rung=1)]) is None
