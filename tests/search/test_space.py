"""What is searched, what is tried next and what is best; all of it pure."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from tuneoff.config.spec import StudySpec
from tuneoff.search.space import SPREAD, Dimension, Outcome, Space, at_edge, best, first, grow, size, spaces, suggest

pytest_plugins = ("study_fixtures",)

MakeStudy = Callable[..., StudySpec]
RATE = Dimension("learning_rate", 1e-3, low=1e-5, high=1e-1, log=True)
RANKS = Dimension("r", 8, choices=(4, 8, 16))
WORDS = Dimension("targets", "a", choices=("a", "b", None))


def score(values: dict[str, Any], peak: float = 1e-2) -> float:
    return -abs(math.log10(values["learning_rate"] / peak))


def searched(space: Space, count: int, seed: int = 0, peak: float = 1e-2, fail: int = -1, **kind: Any) -> list[Outcome]:
    history: list[Outcome] = []
    for index in range(count):
        values = suggest(space, history, seed, **kind)
        history.append(Outcome(values, None if index == fail else score(values, peak)))
    return history


def of(make_study: MakeStudy, methods: Any, **protocol: Any) -> dict[str, Space]:
    return spaces(make_study(methods=methods, protocol={"search": 4, **protocol}))


# --- what is searched


def test_every_row_that_trains_has_its_methods_own_range(make_study: MakeStudy) -> None:
    found = of(make_study, {"lora": {}, "full": {}, "majority": {}})
    assert found.keys() == {"lora", "full"}
    lora, full = found["lora"][0], found["full"][0]
    assert lora.name == full.name == "learning_rate"
    assert lora.log
    assert full.log
    assert (lora.low, lora.high) != (full.low, full.high)
    assert lora.low < lora.first < lora.high
    assert spaces(make_study()) == {}, "without protocol.search nothing is searched"


def test_a_rows_own_rate_comes_first_and_the_range_reaches_it(make_study: MakeStudy) -> None:
    ((inside,), (outside,)) = of(
        make_study, {"lora": {"learning_rate": 5e-4}, "far": {"method": "lora", "learning_rate": 0.5}}
    ).values()
    assert inside.first == 5e-4
    assert (outside.first, outside.high) == (0.5, 0.5)
    assert outside.low == inside.low


def test_ranges_and_lists_are_taken_from_the_row(make_study: MakeStudy) -> None:
    arm = {
        "learning_rate": {"search": {"low": 1e-4, "high": 4e-4}},
        "r": {"search": [16, 2, 4]},
        "alpha": {"search": {"low": 4, "high": 64, "log": True}},
        "dropout": {"search": {"low": 0.0, "high": 0.5}},
        "targets": {"search": ["all-linear", "default"]},
    }
    rate, rank, alpha, dropout, targets = of(make_study, {"lora": arm})["lora"]
    assert (rate.low, rate.high, rate.first) == (1e-4, 4e-4, 2e-4), "the default lies outside: the middle"
    assert (rank.choices, rank.first) == ((2, 4, 16), 4), "numbers in order; no default among them: the middle"
    assert (alpha.first, alpha.whole, alpha.size) == (16, True, 61)
    assert (dropout.first, dropout.whole, dropout.size) == (0.0, False, math.inf)
    assert (targets.choices, targets.first, targets.ordered) == (("all-linear", "default"), "default", False)


def test_one_rate_for_all_leaves_the_options(make_study: MakeStudy) -> None:
    found = of(make_study, {"lora": {"r": {"search": [2, 4]}}, "full": {}}, learning_rate=1e-3)
    assert {label: [d.name for d in space] for label, space in found.items()} == {"lora": ["r"]}


# --- what is tried


def test_the_centre_comes_first() -> None:
    assert suggest((RATE, RANKS, WORDS), [], 0) == {"learning_rate": 1e-3, "r": 8, "targets": "a"}


@pytest.mark.parametrize("sampler", ["tpe", "random"])
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


def test_scores_draw_the_later_ones_to_the_peak() -> None:
    def later(peak: float) -> float:
        history = searched((RATE,), SPREAD + 12, peak=peak)[SPREAD:]
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


# --- what is best


def test_the_best_is_the_greatest_score_then_the_least_loss_then_the_first() -> None:
    def outcomes(*pairs: tuple[float | None, float | None]) -> list[Outcome]:
        return [Outcome({}, *pair) for pair in pairs]

    assert best(outcomes((0.5, 1.0), (0.9, 2.0), (None, 0.1))) == 1
    assert best(outcomes((0.9, 2.0), (0.9, 1.0), (0.9, 1.0))) == 1
    assert best(outcomes((0.9, None), (0.9, 1.0))) == 1
    assert best(outcomes((-2.0, None), (None, None))) == 0
    assert best(outcomes((None, None))) is None
    assert best([]) is None


@pytest.mark.parametrize(
    ("dimension", "edges"),
    [
        (RATE, {1e-5: -1, 2.4e-5: -1, 2.6e-5: 0, 1e-3: 0, 3.9e-2: 0, 4.1e-2: 1, 1e-1: 1}),
        (Dimension("dropout", 0.0, low=0.0, high=0.5), {0.0: -1, 0.04: -1, 0.06: 0, 0.46: 1}),
        (RANKS, {4: -1, 8: 0, 16: 1}),
        (Dimension("r", 4, choices=(4, 8)), {4: 0, 8: 0}),
        (WORDS, {"a": 0, "b": 0, None: 0}),
    ],
    ids=["rate", "range", "numbers", "two", "words"],
)
def test_the_edge(dimension: Dimension, edges: dict[Any, int]) -> None:
    for value, edge in edges.items():
        assert at_edge((dimension,), {dimension.name: value}) == ({dimension.name: edge} if edge else {})


@pytest.mark.parametrize(("peak", "low", "high", "begins"), [(1, 1e-5, 1.0, 0.3162), (1e-9, 1e-6, 1e-1, 3.162e-6)])
def test_a_range_grows_on_the_side_of_its_best(peak: float, low: float, high: float, begins: float) -> None:
    space = (RATE, RANKS)
    history = searched(space, 12, peak=peak)
    wider = grow(space, history)
    index = best(history)
    assert index is not None
    assert wider[0].low == pytest.approx(low)
    assert wider[0].high == pytest.approx(high)
    assert first(wider) == {"learning_rate": begins, "r": history[index].values["r"]}
    assert suggest(wider, history, 0) == first(wider)
    after = [*history, Outcome(first(wider), 0.0)]
    assert wider[0].low <= suggest(wider, after, 0)["learning_rate"] <= wider[0].high


def test_nothing_grows_without_an_edge_or_a_result() -> None:
    assert grow((RATE,), searched((RATE,), 8, peak=1e-3)) == (RATE,)
    assert grow((RATE,), [Outcome({"learning_rate": 1e-5}, None)]) == (RATE,)
    listed = (Dimension("learning_rate", 1e-3, choices=(1e-4, 1e-3, 1e-2)),)
    assert grow(listed, [Outcome({"learning_rate": 1e-2}, 0.5)]) == listed, "a list names all that is wanted"
