"""Pareto fronts: who is on them, how surely, and who was left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from record_helpers import Level, World, build_store, small_study
from tuneoff.analysis.axes import AXES, axis_named
from tuneoff.analysis.decisions.pareto import Draws, cost_draws, find_front, quality_draws
from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import Results, gather
from tuneoff.errors import StudyError
from tuneoff.records.record import Inference, Status

LEVELS = {
    "majority": Level(0.5, head=0, stored=0),
    "full": Level(0.93, 30.0, 900 << 20, base=1_000_000, stored=90 << 20),
    "lora": Level(0.92, 8.0, 500 << 20, adapter=147_456),
    "bitfit": Level(0.7, 12.0, 600 << 20, stored=2 << 20),
}


def results(folder: Path, seeds: int = 6, **world: Any) -> Results:
    study = small_study("majority", "full", "lora", "bitfit", seeds=seeds)
    return gather(build_store(folder / "study", study, World(**{"levels": LEVELS, **world})))


def exact(axis: str, **means: float) -> Draws:
    return Draws(axis, means, {}, {label: np.full(10, value) for label, value in means.items()}, ())


def on_front(*drawn: Draws) -> set[str]:
    return set(find_front(drawn, {"quality": "higher"}).labels)


def test_a_row_that_another_beats_in_everything_is_not_on_the_front() -> None:
    quality = exact("quality", a=0.9, b=0.8, c=0.85)
    assert on_front(quality, exact("time", a=10, b=5, c=12)) == {"a", "b"}
    assert on_front(quality, exact("time", a=10, b=5, c=12), exact("memory", a=9, b=9, c=1)) == {"a", "b", "c"}


def test_rows_alike_in_everything_are_both_on_the_front_and_a_tie_in_one_axis_does_not_save_the_worse() -> None:
    assert on_front(exact("quality", a=0.9, b=0.9), exact("time", a=5, b=5)) == {"a", "b"}
    assert on_front(exact("quality", a=0.9, b=0.9), exact("time", a=5, b=6)) == {"a"}


def test_direction_of_quality_is_the_metrics() -> None:
    loss, time = exact("quality", a=0.3, b=0.2), exact("time", a=5, b=5)
    assert find_front([loss, time], {"quality": "lower"}).labels == ("b",)
    assert find_front([loss, time], {"quality": "higher"}).labels == ("a",)


@pytest.mark.parametrize("count", [1, 4])
def test_a_front_has_two_axes_or_three(count: int) -> None:
    with pytest.raises(ValueError, match="two axes or three"):
        find_front([exact("time", a=1.0)] * count, {})


def test_a_row_with_a_missing_figure_is_left_out_and_named(tmp_path: Path) -> None:
    found = results(tmp_path, changes={"full": {"inference": Inference()}})
    outcomes = Outcomes(found)
    assert found.primary is not None
    drawn = [quality_draws(found, outcomes, found.primary), cost_draws(found, AXES["latency"])]
    front = find_front(drawn, {"quality": "higher"})
    assert front.left_out.keys() == {"full", "majority"}
    assert front.left_out["full"] == "latency: not recorded"
    assert "lora" in front.labels
    energy = find_front([drawn[0], cost_draws(found, AXES["energy"])], {"quality": "higher"})
    assert energy.left_out["lora"] == "energy: this machine does not report energy"


def test_a_failed_row_is_left_out_with_the_reason(tmp_path: Path) -> None:
    found = results(tmp_path, seeds=1, fail={("lora", 0): Status.DIVERGED})
    assert cost_draws(found, AXES["time"]).missing == {"lora": "no trial of this arm has completed"}


def test_a_row_that_does_not_train_costs_no_training(tmp_path: Path) -> None:
    found = results(tmp_path)
    assert cost_draws(found, AXES["time"]).means["majority"] == 0
    assert cost_draws(found, AXES["memory"]).means["majority"] == 0
    assert "majority" in cost_draws(found, AXES["latency"]).missing


def test_probabilities_follow_the_noise(tmp_path: Path) -> None:
    found = results(tmp_path)
    outcomes = Outcomes(found)
    assert found.primary is not None
    front = find_front(
        [quality_draws(found, outcomes, found.primary), cost_draws(found, AXES["time"])], {"quality": "higher"}
    )
    assert front.probabilities is not None
    # bitfit is far behind lora and slower; lora is the fastest of the good ones.
    assert front.probabilities["bitfit"] < 0.01
    assert front.probabilities["lora"] > 0.99
    assert 0.5 < front.probabilities["full"] < 1.0
    assert front.labels[0] == "full"


def test_one_seed_gives_a_front_without_probabilities(tmp_path: Path) -> None:
    found = results(tmp_path, seeds=1)
    assert found.primary is not None
    quality = quality_draws(found, Outcomes(found), found.primary)
    assert set(quality.still) == {"majority", "full", "lora", "bitfit"}
    front = find_front([quality, cost_draws(found, AXES["time"])], {"quality": "higher"})
    assert front.probabilities is None
    assert "lora" in front.labels


def test_draws_center_on_the_means_and_no_cost_is_negative(tmp_path: Path) -> None:
    found = results(tmp_path)
    time = cost_draws(found, AXES["time"])
    assert np.median(time.drawn["full"]) == pytest.approx(time.means["full"], rel=0.01)
    assert np.std(time.drawn["full"]) > 0
    # Two seeds have Student's widest tails, of whose draws some would fall below 0.
    wide = cost_draws(results(tmp_path / "two", seeds=2), AXES["time"])
    for label in ("full", "lora", "bitfit"):
        assert 0 < wide.drawn[label].min() < wide.means[label] / 2
        assert 2 * wide.means[label] < wide.drawn[label].max() < np.inf
    assert (wide.drawn["majority"] == 0).all(), "doing without training costs nothing"


def test_a_row_that_lacks_seeds_takes_no_certainty_from_the_others(tmp_path: Path) -> None:
    found = results(tmp_path, seeds=3, fail={("bitfit", 0): Status.DIVERGED})
    assert found.primary is not None
    drawn = quality_draws(found, Outcomes(found), found.primary)
    assert drawn.still == ()
    assert np.std(drawn.drawn["full"]) > 0
    assert np.std(drawn.drawn["bitfit"]) > 0


def test_an_unknown_axis_is_refused_with_the_nearest() -> None:
    assert axis_named("quality") is None
    with pytest.raises(StudyError, match="did you mean 'memory'"):
        axis_named("memroy")
