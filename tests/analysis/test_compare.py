"""Rows against one another, and the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synthetic_records import Level, World, build_store, data, environment, finding, small_study
from tuneoff.analysis.answer import Answer, find_answer
from tuneoff.analysis.caveats import caveats
from tuneoff.analysis.compare import Comparer
from tuneoff.analysis.results import Results, gather
from tuneoff.record import DataInfo, Status

LEVELS = {"majority": Level(0.5, head=0), "full": Level(0.9, 30.0), "lora": Level(0.9, 8.0), "head": Level(0.6, 3.0)}


def results(folder: Path, seeds: int = 2, **world: Any) -> Results:
    study = small_study("majority", "full", "lora", "head", seeds=seeds)
    return gather(build_store(folder / "study", study, World(**{"levels": LEVELS, **world})))


def answer(found: Results) -> Answer:
    return find_answer(found, Comparer(found), caveats(found))


def test_rows_on_the_same_examples_are_tied_or_apart(tmp_path: Path) -> None:
    found = answer(results(tmp_path))
    assert {found.best, *found.tied_with} == {"full", "lora"}
    assert found.behind == ("head",)
    comparison = found.to_best["head"]
    assert comparison.examples == 400
    assert comparison.seeds == 2
    assert comparison.difference is not None
    assert comparison.difference.high < 0
    assert found.cheapest == {"train_seconds": "lora", "peak_memory_bytes": found.best, "stored_bytes": found.best}


def test_nothing_is_significant_under_six_seeds(tmp_path: Path) -> None:
    assert not answer(results(tmp_path / "few", seeds=5)).significant
    assert answer(results(tmp_path / "enough", seeds=6)).significant


def test_rows_that_do_not_beat_the_floor_are_named(tmp_path: Path) -> None:
    found = answer(results(tmp_path, levels={**LEVELS, "head": Level(0.505)}))
    assert found.floor == "majority"
    assert found.not_above_floor == ("head",)


def test_different_test_examples_are_not_compared(tmp_path: Path) -> None:
    other = data(0, 400)
    splits = {**other.splits, "test": other.splits["test"].model_copy(update={"fingerprint": "another"})}
    changed: DataInfo = other.model_copy(update={"splits": splits})
    study = results(tmp_path, changes={"head": {"data": changed}})
    found = answer(study)
    assert "head" in found.not_compared
    assert "different examples" in found.to_best["head"].reason
    assert "different_data" in {warning.name for warning in caveats(study)}


def test_damaged_predictions_fall_back_on_the_seeds(tmp_path: Path) -> None:
    study = results(tmp_path)
    trial = study.row("head").trials[0]
    path = study.store.trial(trial.id).folder / "predictions-test.jsonl"
    path.write_bytes(path.read_bytes() + b"\n")
    comparison = answer(study).to_best["head"]
    assert comparison.examples is None
    assert "by seeds alone" in comparison.reason
    assert comparison.difference is not None


def test_one_seed_without_predictions_cannot_be_compared(tmp_path: Path) -> None:
    study = results(tmp_path, seeds=1)
    trial = study.row("head").trials[0]
    (study.store.trial(trial.id).folder / "predictions-test.jsonl").unlink()
    assert answer(study).to_best["head"].relation == "not_compared"


def test_without_a_completed_trial_there_is_no_best(tmp_path: Path) -> None:
    everything = frozenset((label, seed) for label in LEVELS for seed in (0, 1))
    found = answer(results(tmp_path, skip=everything))
    assert found.best is None
    assert found.caveats[0].startswith("0 of 8 trials so far")


@pytest.mark.parametrize(
    ("world", "name", "words"),
    [
        ({"contended": frozenset({"lora"})}, "contended", "lora seed 0, lora seed 1"),
        ({"fail": {("lora", 1): Status.OUT_OF_MEMORY}}, "failed_trials", "lora seed 1: out_of_memory"),
        ({"skip": frozenset({("full", 0)})}, "missing_trials", "7 of 8 trials so far"),
        ({"skip": frozenset({("full", 0)})}, "unequal_seeds", "full 1"),
        ({"changes": {"head": {"environment": environment(processor="EPYC")}}}, "different_hardware", "EPYC"),
        ({"changes": {"head": {"environment": environment(threads=1)}}}, "different_hardware", "1 threads"),
        (
            {"changes": {"head": {"environment": environment(versions={"torch": "2.6.0"})}}},
            "different_versions",
            "torch 2.13.0, 2.6.0",
        ),
        (
            {"changes": {"head": {"data": data(0, 400).model_copy(update={"train_order_fingerprint": "x"})}}},
            "different_order",
            "different order",
        ),
        ({"changes": {"head": {"findings": finding("collapsed", "one class only")}}}, "collapsed", "head seed 0"),
    ],
)
def test_what_makes_rows_unequal_is_said(tmp_path: Path, world: dict[str, Any], name: str, words: str) -> None:
    found = {warning.name: warning.message for warning in caveats(results(tmp_path, **world))}
    assert words in found[name]


def test_an_equal_study_has_no_caveat(tmp_path: Path) -> None:
    assert caveats(results(tmp_path)) == []


def test_random_weights_are_the_first_caveat(tmp_path: Path) -> None:
    study = small_study("majority", "lora", model={"source": "gpt2", "random_weights": True})
    found = gather(build_store(tmp_path / "s", study, World(contended=frozenset({"lora"}))))
    assert "quality means nothing" in answer(found).caveats[0]
