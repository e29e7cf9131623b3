"""When search trials are stopped by their curves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tuneoff.config.protocol import Protocol
from tuneoff.errors import StudyError
from tuneoff.records.record import CurvePoint
from tuneoff.search.space import Outcome, best
from tuneoff.search.stopping import STARTUP, bounds, check_rows, is_stopped


def curve(*scores: float) -> Sequence[CurvePoint]:
    return [
        CurvePoint(step=step, epoch=1, learning_rate=1, train_loss=1, validation={"score": score})
        for step, score in enumerate(scores, 1)
    ]


CURVES = [curve(0.1, 0.5, 0.6), curve(0.3, 0.2, 0.9), curve(0.5, 0.6, 0.7), curve(0.2)]


def test_bounds_are_quartiles_of_the_best_so_far_of_all_that_came_there() -> None:
    rule = bounds(CURVES, "score", "higher")
    assert rule is not None
    assert rule.bounds == pytest.approx((0.175, 0.4)), "at the last validation nothing is left to stop"


def test_a_trial_ends_where_its_best_is_worse_and_only_there() -> None:
    rule = bounds(CURVES, "score", "higher")
    assert is_stopped(rule, curve(0.17))
    assert not is_stopped(rule, curve(0.18)), "better than one in four"
    assert not is_stopped(rule, curve(0.6, 0.1)), "it was better before"
    assert is_stopped(rule, curve(0.3, 0.35))
    assert not is_stopped(rule, curve(0.3, 0.5, 0.1)), "the last validation"
    assert not is_stopped(rule, curve())
    assert not is_stopped(None, curve(0.0))


def test_losses_are_better_where_they_are_lower() -> None:
    rule = bounds([curve(3.0, 2.0), curve(2.0, 1.0), curve(2.5, 3.0), curve(4.0, 2.0)], "score", "lower")
    assert rule is not None
    assert rule.bounds == (3.25,)
    assert is_stopped(rule, curve(3.3))
    assert not is_stopped(rule, curve(3.2))


def test_few_trials_and_single_validations_stop_nothing() -> None:
    assert bounds(CURVES[: STARTUP - 1], "score", "higher") is None
    assert bounds([curve(0.5)] * STARTUP, "score", "higher") is None


def test_a_stopped_trial_is_not_the_best_whatever_it_scored() -> None:
    assert best([Outcome({}, 0.5), Outcome({}, 0.9, stopped=True)]) == 0
    assert best([Outcome({}, 0.9, stopped=True)]) is None


@pytest.mark.parametrize(
    ("search", "keys", "said"),
    [
        ({"prune": "halving", "max_steps": 160}, {}, "stop and prune cannot be combined"),
        ({}, {"batch_size": {"search": [8, 16]}}, "stop and a search of batch_size cannot be combined"),
        ({}, {"epochs": 1}, "set evaluations_per_epoch"),
        ({"epochs": 1}, {}, "set evaluations_per_epoch"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(search: dict[str, object], keys: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Protocol.model_validate({"search": {"stop": "quartile", **search}, **keys})
    Protocol.model_validate({"search": {"stop": "quartile"}})


@pytest.mark.parametrize(
    ("keys", "rows", "said"),
    [
        ({"max_steps": 10}, 160, "set protocol.evaluations_per_epoch to 2 or more"),
        ({"epochs": 9}, 16, ""),
        ({"max_steps": 1, "evaluations_per_epoch": 4}, 160, "takes 1 step, .* give it more steps"),
        ({"max_steps": 10, "evaluations_per_epoch": 2}, 160, ""),
        ({"max_steps": 2}, 1600, "evaluations_per_epoch to 100 or more"),
        ({"max_steps": 2, "evaluations_per_epoch": 100}, 1600, ""),
    ],
)
def test_trials_without_a_validation_on_the_way_are_refused(keys: dict[str, object], rows: int, said: str) -> None:
    protocol = Protocol.model_validate(keys)
    if not said:
        check_rows(protocol, rows)
        return
    with pytest.raises(StudyError, match=said):
        check_rows(protocol, rows)
