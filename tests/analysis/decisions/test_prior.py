"""Which arm is named before a run, from a forecast and priors."""

from __future__ import annotations

import pytest

from forecast_helpers import arm_forecast
from tuneoff.analysis.decisions.limits import Limit, cost_limit
from tuneoff.analysis.decisions.prior import PriorAdvice, advise
from tuneoff.records.forecast import ArmForecast, StudyForecast
from tuneoff.records.prior import Prior

FULL, CLOSE, FAR = Prior(1, 1, "by definition"), Prior(0.8, 1.02, "close"), Prior(0.2, 0.9, "far")
ROWS = {
    "majority": arm_forecast("majority", train_seconds=None, peak_memory_bytes=None, stored_bytes=0),
    "full": arm_forecast("full", train_seconds=30.0, peak_memory_bytes=900 << 20, stored_bytes=90 << 20),
    "lora": arm_forecast("lora", train_seconds=20.0, peak_memory_bytes=600 << 20, stored_bytes=3000),
    "ia3": arm_forecast("ia3", train_seconds=22.0, peak_memory_bytes=500 << 20, stored_bytes=900),
    "head": arm_forecast("head", train_seconds=2.0, peak_memory_bytes=300 << 20, stored_bytes=100),
}
PRIORS: dict[str, Prior | None] = {"majority": None, "full": FULL, "lora": CLOSE, "ia3": CLOSE, "head": FAR}


def advised(*limits: Limit, prefer: str = "time", priors: dict[str, Prior | None] | None = None) -> PriorAdvice:
    return advise(StudyForecast(arms=ROWS), priors or PRIORS, ["majority"], limits, prefer)


def changed(label: str, arm: ArmForecast) -> StudyForecast:
    return StudyForecast(arms={**ROWS, label: arm})


def memory(text: str) -> Limit:
    return cost_limit("memory", text, "--max-memory")


def test_of_rows_near_the_best_the_cheapest_is_named() -> None:
    said = advised()
    assert (said.best, said.as_good, said.answer) == ("full", ("full", "lora", "ia3"), "lora")
    assert [arm.label for arm in said.arms] == ["full", "lora", "ia3", "head", "majority"]


@pytest.mark.parametrize(("prefer", "answer"), [("time", "lora"), ("memory", "ia3"), ("stored", "ia3")])
def test_what_is_preferred_decides_among_them(prefer: str, answer: str) -> None:
    assert (advised(prefer=prefer).answer, advised(prefer=prefer).prefer) == (answer, prefer)


def test_a_far_better_prior_wins_whatever_it_costs() -> None:
    said = advised(priors={**PRIORS, "lora": FAR, "ia3": FAR})
    assert (said.answer, said.as_good) == ("full", ("full",))


def test_intervals_that_touch_overlap() -> None:
    assert "head" in advised(priors={**PRIORS, "head": Prior(0.8, 1.0, "")}).as_good
    assert "head" not in advised(priors={**PRIORS, "head": Prior(0.8, 0.999, "")}).as_good


def test_a_wide_interval_does_not_win_by_cheapness_alone() -> None:
    """Where a prior might reach the best but is expected to stay far below it, the arm is not as good."""
    assert "head" in advised(priors={**PRIORS, "head": Prior(0.6, 1.0, "")}).as_good
    assert "head" not in advised(priors={**PRIORS, "head": Prior(0.58, 1.0, "")}).as_good


def test_limits_keep_rows_out_and_the_best_is_among_the_rest() -> None:
    said = advised(memory("550MiB"))
    # 0.9 reaches 0.8, but the middle of head's prior lies 0.36 below that of ia3.
    assert (said.best, said.as_good, said.answer) == ("ia3", ("ia3",), "ia3")
    near = advised(memory("550MiB"), priors={**PRIORS, "head": Prior(0.7, 0.9, "near")})
    # As good as ia3, though not as full, and cheaper.
    assert (near.best, near.as_good, near.answer) == ("ia3", ("ia3", "head"), "head")
    shortfall = said.arm("full").shortfalls[0]
    assert (shortfall.figure, shortfall.excess) == (900 << 20, 350 << 20)
    assert said.arm("ia3").fits


def test_after_a_limit_too_a_clearly_better_prior_wins() -> None:
    said = advised(memory("550MiB"), priors={**PRIORS, "ia3": Prior(0.95, 1.0, "")})
    assert (said.as_good, said.answer) == (("ia3",), "ia3")


def test_where_none_fits_the_nearest_is_named() -> None:
    said = advised(memory("290MiB"), cost_limit("time", "1s", "--max-train-time"))
    assert (said.answer, said.best, said.as_good) == (None, None, ())
    assert said.nearest is not None
    assert said.nearest.label == "head"
    assert [s.limit.name for s in said.nearest.shortfalls] == ["train_seconds", "peak_memory_bytes"]


def test_a_row_whose_limited_figure_is_not_known_does_not_keep_the_limit() -> None:
    arm = arm_forecast("lora", peak_memory_bytes=None, missing={"peak_memory_bytes": "no kernel for it"})
    said = advise(changed("lora", arm), PRIORS, ["majority"], [memory("1GB")])
    assert said.answer == "ia3"
    shortfall = said.arm("lora").shortfalls[0]
    assert (shortfall.figure, shortfall.excess, shortfall.reason) == (None, None, "no kernel for it")


def test_a_cost_that_one_of_them_lacks_gives_way_to_one_that_all_have() -> None:
    forecast = changed("full", arm_forecast("full", train_seconds=None, peak_memory_bytes=900 << 20))
    said = advise(forecast, PRIORS, ["majority"], prefer="time")
    assert (said.prefer, said.answer) == ("memory", "ia3")


def test_where_no_cost_is_known_the_best_prior_wins() -> None:
    bare = {label: arm_forecast(label, train_seconds=None, peak_memory_bytes=None, stored_bytes=None) for label in ROWS}
    said = advise(StudyForecast(arms=bare), PRIORS, ["majority"])
    assert (said.prefer, said.answer) == ("", "full")


def test_floors_and_rows_without_a_prior_are_never_named() -> None:
    said = advised(priors={**PRIORS, "full": None, "lora": None, "ia3": None, "head": None})
    assert (said.answer, said.best) == (None, None)
    alone = advised(priors={**PRIORS, "majority": Prior(2, 3, "nonsense")})
    assert alone.answer == "lora"
