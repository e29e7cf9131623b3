"""What is searched, what is tried next and what is best; all of it pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from search_helpers import RANKS, RATE, WORDS, searched
from tuneoff import registry
from tuneoff.config.spec import StudySpec
from tuneoff.search.sampling import suggest
from tuneoff.search.space import Dimension, Outcome, Space, at_edge, best, first, grow, spaces

pytest_plugins = ("study_fixtures",)

MakeStudy = Callable[..., StudySpec]


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


def test_every_range_of_rates_is_equally_wide(make_study: MakeStudy) -> None:
    trained: dict[str, Any] = {
        name: {} for name, method in registry.methods().items() if method.trains and ":" not in name
    }
    widths = {label: d.high / d.low for label, (d, *_) in of(make_study, trained).items()}
    assert len(widths) == len(trained)
    assert all(width == pytest.approx(400, rel=0.01) for width in widths.values()), widths


def test_an_arms_own_rate_comes_first_in_the_middle_of_its_range(make_study: MakeStudy) -> None:
    ((inside,), (outside,)) = of(
        make_study, {"lora": {"learning_rate": 5e-4}, "far": {"method": "lora", "learning_rate": 0.5}}
    ).values()
    assert (inside.first, inside.low, inside.high) == (5e-4, 2.5e-5, 1e-2)
    assert (outside.first, outside.low, outside.high) == (0.5, 0.025, 10.0)


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


def test_settings_of_the_protocol_are_searched_alike_for_every_arm(make_study: MakeStudy) -> None:
    found = of(
        make_study,
        {"lora": {}, "full": {}, "majority": {}},
        weight_decay={"search": [0.1, 0, 0.01]},
        clip_norm={"search": {"low": 1, "high": 4}},
        batch_size={"search": [8, 32, 64]},
    )
    assert found.keys() == {"lora", "full"}
    decay, clip, batch = found["lora"][1:]
    assert found["full"][1:] == (decay, clip, batch)
    assert (decay.choices, decay.first) == ((0, 0.01, 0.1), 0.01)
    assert (clip.first, clip.whole) == (1.0, False), "a norm is no whole number, though its ends are"
    assert (batch.choices, batch.first) == ((8, 32, 64), 32), "16 is none of them: the middle"
    assert at_edge((batch,), {"batch_size": 64}) == {"batch_size": 1}


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
