"""What a study's records tell of its arms: each detector both ways."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from record_helpers import WRITERS, Level, World, build_store, finding, small_study, writing_study
from tuneoff.analysis.checks.caveats import caveats
from tuneoff.analysis.results import Results, gather
from tuneoff.records.record import CurvePoint

RISING = (0.5, 0.6, 0.7, 0.8)
FLAT = (0.5, 0.79, 0.8, 0.801)
NOISY = (0.7, 0.8, 0.72, 0.81)
FALLING = (0.8, 0.75, 0.72, 0.7)


def curve(values: Sequence[float], name: str = "accuracy") -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(
            step=10 * (at + 1),
            epoch=at + 1.0,
            train_seconds=1.0,
            learning_rate=1e-3,
            train_loss=1.0,
            validation={name: value},
        )
        for at, value in enumerate(values)
    )


def study(folder: Path, seeds: int = 2, selected: int | None = None, **curves: Sequence[float]) -> Results:
    changes: dict[str, dict[str, Any]] = {
        label: {"curve": curve(values), "selected_step": selected} for label, values in curves.items()
    }
    return gather(build_store(folder / "s", small_study(*curves, seeds=seeds), World(changes=changes)))


def told(results: Results) -> dict[str, str]:
    return {warning.name: warning.message for warning in caveats(results)}


@pytest.mark.parametrize("seeds", [3, 6])
def test_a_row_that_still_improves_is_named_and_one_at_rest_is_not(seeds: int, tmp_path: Path) -> None:
    message = told(study(tmp_path, seeds, full=RISING, lora=FALLING))["still_improving"]
    assert "full by 0.1 in accuracy" in message
    assert "lora" not in message


@pytest.mark.parametrize("values", [FLAT, NOISY, FALLING, (0.5, 0.8), (0.5,), (0.8, 0.8, 0.8)])
def test_a_gain_within_the_noise_or_of_a_short_curve_is_none(values: Sequence[float], tmp_path: Path) -> None:
    assert "still_improving" not in told(study(tmp_path, seeds=3, full=values))


@pytest.mark.parametrize("seeds", [1, 2])
def test_under_three_seeds_nothing_is_beyond_the_noise(seeds: int, tmp_path: Path) -> None:
    found = told(study(tmp_path, seeds, selected=40, full=RISING))
    assert "still_improving" not in found
    assert "more training might still help" in found["best_at_last"]


def test_seeds_that_disagree_are_noise(tmp_path: Path) -> None:
    results = study(tmp_path, 4, full=RISING)
    for at, record in enumerate(results.completed):
        place = results.store.trial(record.spec.id)
        place.record_path.unlink()
        last = (0.9, 0.6, 0.88, 0.65)[at]
        place.write_record(record.model_copy(update={"curve": curve((0.5, 0.6, 0.7, last))}))
    assert "still_improving" not in told(gather(results.store))


def test_texts_are_judged_by_their_loss_which_falls(tmp_path: Path) -> None:
    def losses(values: Sequence[float]) -> dict[str, Any]:
        return {"curve": curve(values, "loss")}

    changes = {"full": losses((3.0, 2.5, 2.0, 1.5)), "lora": losses((1.5, 2.0, 2.5, 3.0))}
    world = World(levels=WRITERS, test_rows=10, changes=changes)
    results = gather(build_store(tmp_path / "s", writing_study("full", "lora", seeds=3), world))
    message = told(results)["still_improving"]
    assert "full by 0.5 in loss" in message
    assert "lora" not in message


@pytest.mark.parametrize(
    ("selected", "name", "words"),
    [(10, "best_at_first", "learning rate may be too high"), (40, "best_at_last", "more training might still help")],
)
def test_a_best_checkpoint_at_an_end_is_said(selected: int, name: str, words: str, tmp_path: Path) -> None:
    found = told(study(tmp_path, selected=selected, full=NOISY, lora=NOISY))
    assert "(full, lora)" in found[name]
    assert words in found[name]
    assert len(found.keys() & {"best_at_first", "best_at_last"}) == 1


def test_a_best_checkpoint_between_or_the_only_one_is_nothing_to_say(tmp_path: Path) -> None:
    names = {"best_at_first", "best_at_last"}
    assert not names & told(study(tmp_path / "between", selected=20, full=NOISY)).keys()
    assert not names & told(study(tmp_path / "only", selected=10, full=(0.7,))).keys()


def test_what_still_improves_is_not_said_twice(tmp_path: Path) -> None:
    found = told(study(tmp_path, seeds=3, selected=40, full=RISING))
    assert "still_improving" in found
    assert "best_at_last" not in found


def test_a_row_of_which_some_seeds_collapse_is_a_caveat(tmp_path: Path) -> None:
    results = gather(build_store(tmp_path / "s", small_study("full", "lora", seeds=3)))
    records = results.arm("lora").completed

    def collapse(count: int) -> dict[str, str]:
        for record in records[:count]:
            place = results.store.trial(record.spec.id)
            place.record_path.unlink()
            place.write_record(record.model_copy(update={"findings": finding("collapsed", "all one class")}))
        return told(gather(results.store))

    assert "collapsed_seeds" not in collapse(0)
    assert "lora at 1 of 3" in collapse(1)["collapsed_seeds"]
    # An arm that always collapses is of one kind.
    assert "collapsed_seeds" not in collapse(3)
    assert "all one class" in collapse(3)["collapsed"]


def test_a_row_below_the_best_floor_is_named(tmp_path: Path) -> None:
    levels = {**WRITERS, "prompt_tuning": Level(0.15, adapter=7680)}
    found = told(gather(build_store(tmp_path / "s", writing_study(*levels), World(levels=levels, test_rows=40))))
    assert "no better than that of lead" in found["below_baseline"]
    assert "prompt_tuning 0.1" in found["below_baseline"]
    assert "lora" not in found["below_baseline"]
    above = gather(build_store(tmp_path / "a", writing_study(*WRITERS), World(levels=WRITERS, test_rows=40)))
    assert "below_baseline" not in told(above)


def test_below_the_floor_where_lower_is_better(tmp_path: Path) -> None:
    labels = ("zero_shot", "lora", "full")
    levels = {**WRITERS, "lora": Level(0.05, adapter=1)}
    changes = {label: {"primary_metric": "loss"} for label in labels}
    world = World(levels=levels, test_rows=40, changes=changes)
    message = told(gather(build_store(tmp_path / "s", writing_study(*labels), world)))["below_baseline"]
    assert "no better than that of zero_shot" in message
    assert "lora 10.0" in message
    assert "full" not in message
