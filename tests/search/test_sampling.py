"""What is tried next: evenly spread points, then what a sampler makes of the scores; all of it pure."""

from __future__ import annotations

import inspect
import warnings
from importlib.metadata import version
from typing import Any

import pytest

from search_helpers import RANKS, RATE, WORDS, searched
from tuneoff.search.sampling import RULES, SPREAD, rules, suggest
from tuneoff.search.space import Dimension, Outcome, Space, best, size


def test_the_centre_comes_first() -> None:
    assert suggest((RATE, RANKS, WORDS), [], 0) == {"learning_rate": 1e-3, "r": 8, "targets": "a"}


@pytest.mark.parametrize("sampler", ["gp", "tpe", "random"])
@pytest.mark.parametrize("space", [(RATE,), (RATE, RANKS, WORDS)], ids=["rate", "rate and options"])
def test_a_suggestion_depends_on_nothing_but_its_arguments(space: Space, sampler: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = searched(space, SPREAD + 4, sampler=sampler)
    for index in range(len(history)):
        assert suggest(space, history[:index], 0, sampler) == history[index].values, f"stopped after {index}"
    assert [o.values for o in searched(space, 4, seed=1, sampler=sampler)][1:] != [o.values for o in history[:4]][1:]


def test_values_lie_in_the_space_and_none_comes_twice() -> None:
    counts = Dimension("tokens", 20, low=5, high=50)
    share = Dimension("dropout", 0.0, low=0.0, high=0.5)
    tried = [outcome.values for outcome in searched((RATE, RANKS, WORDS, counts, share), 20)]
    assert all(RATE.low <= values["learning_rate"] <= RATE.high for values in tried)
    assert {values["r"] for values in tried} == {4, 8, 16}
    assert {values["targets"] for values in tried} == {"a", "b", None}
    assert all(isinstance(values["tokens"], int) and 5 <= values["tokens"] <= 50 for values in tried)
    assert all(0 <= values["dropout"] <= 0.5 for values in tried)
    assert len({repr(values) for values in tried}) == len(tried)


@pytest.mark.parametrize("seed", range(5))
def test_the_first_points_leave_no_large_gap(seed: int) -> None:
    shares = sorted(RATE.share(outcome.values["learning_rate"]) for outcome in searched((RATE,), SPREAD, seed))
    gaps = [b - a for a, b in zip([0.0, *shares], [*shares, 1.0], strict=True)]
    assert max(gaps) < 2.5 / SPREAD
    assert min(gaps[1:-1]) > 0.25 / SPREAD


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_scores_draw_the_later_ones_to_the_peak(sampler: Any) -> None:
    def later(peak: float) -> float:
        history = searched((RATE,), SPREAD + 12, peak=peak, sampler=sampler)[SPREAD:]
        return sum(RATE.share(outcome.values["learning_rate"]) for outcome in history) / len(history)

    assert later(3e-5) < 0.4
    assert later(3e-2) > 0.6


def test_a_failed_trial_counts_as_the_worst() -> None:
    history = searched((RATE,), SPREAD, peak=3e-5)
    assert all((outcome.score or 0) < 0 for outcome in history)
    broken = [Outcome(o.values, None) if RATE.share(o.values["learning_rate"]) > 0.5 else o for o in history]
    drawn = [RATE.share(suggest((RATE,), broken, seed)["learning_rate"]) for seed in range(12)]
    assert sum(drawn) / len(drawn) < 0.4
    assert best(broken) == best(history)
    lost = [Outcome(outcome.values, None) for outcome in history]
    assert RATE.low <= suggest((RATE,), lost, 0)["learning_rate"] <= RATE.high, "there is a next one all the same"


def test_a_small_space_is_tried_completely_and_then_refused() -> None:
    space = (RANKS, Dimension("targets", "a", choices=("a", "b")))
    assert size(space) == 6
    history: list[Outcome] = []
    for _ in range(6):
        history.append(Outcome(suggest(space, history, 3), 0.5))
    assert len({repr(outcome.values) for outcome in history}) == 6
    with pytest.raises(ValueError, match="every configuration"):
        suggest(space, history, 3)


def test_a_range_too_narrow_to_round_still_gives_new_values() -> None:
    narrow = Dimension("learning_rate", 1e-3, low=1e-3, high=1.0001e-3, log=True)
    rates = [outcome.values["learning_rate"] for outcome in searched((narrow,), 6)]
    assert len(set(rates)) == 6
    assert all(narrow.low <= rate <= narrow.high for rate in rates)


def test_eight_trials_end_nearer_to_the_peak_than_eight_spread_evenly() -> None:
    shares = [0.1 * step for step in range(1, 10)]
    short = []
    for share in shares:
        history = searched((RATE,), 8, peak=RATE.at(share))
        short.append(abs(RATE.share(history[best(history) or 0].values["learning_rate"]) - share))
    assert sum(short) / len(short) < 0.25 / 8, (
        "the mean distance of a random peak from the nearest of eight even points"
    )


def test_every_argument_of_optunas_samplers_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    for name, sampler in (("TPESampler", "tpe"), ("RandomSampler", "random")):
        original, arguments = getattr(optuna.samplers, name), dict[str, Any]()

        def create(original: Any = original, arguments: dict[str, Any] = arguments, **given: Any) -> Any:
            arguments |= given
            return original(**given)

        monkeypatch.setattr(optuna.samplers, name, create)
        searched((RATE,), SPREAD + 1, sampler=sampler)
        assert arguments.keys() == inspect.signature(original).parameters.keys(), name


def test_the_rules_name_the_version_of_the_library_that_suggests() -> None:
    assert rules("gp") == f"gp, rules {RULES}"
    assert rules("tpe") == f"tpe of Optuna {version('optuna')}, rules {RULES}"
