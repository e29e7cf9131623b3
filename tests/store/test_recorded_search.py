"""What a search found is derived from its records: search.json is written for people and never read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from record_helpers import build_search, small_study
from tuneoff import registry, report
from tuneoff.analysis.results import gather
from tuneoff.analysis.search_data import as_data, recorded
from tuneoff.analysis.search_rounds import Search
from tuneoff.errors import StudyError
from tuneoff.planning.plan import plan
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

SEARCHES: dict[str, Any] = {
    "plain": 6,
    "random": {"trials": 6, "sampler": "random"},
    "grown": {"trials": 4, "grow": True},
    "pruned": {"trials": 8, "max_steps": 80, "prune": "halving"},
}


def searched(folder: Path, search: Any = 6, rounds: int | None = None) -> StudyStore:
    """Two arms searched, one with its best rate at an edge; no verdict yet."""
    study = small_study("majority", arms={"full": {}, "lora": {"r": {"search": [4, 8]}}}, search=search)
    store = StudyStore.create(folder / "study", study, plan(study))
    return build_search(store, peaks={"full": 1.0}, broken=frozenset({("lora", 2)}), rounds=rounds)


def no_suggestions(*_: Any) -> Any:
    raise AssertionError("nothing is suggested anew: another version of the sampler would suggest otherwise")


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("rounds", [None, 3])
def test_what_was_found_is_read_out_of_the_records(
    search: str, rounds: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = searched(tmp_path, SEARCHES[search], rounds)
    expected = as_data(Search(store.study(), {}, store))
    assert expected["complete"] == (rounds is None)
    monkeypatch.setattr("tuneoff.analysis.search_rounds.suggest", no_suggestions)
    assert recorded(store) == expected
    assert json.loads((store.root / "search.json").read_text()) == expected


def test_an_earlier_search_is_read_in_the_ranges_that_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = searched(tmp_path, {"trials": 8, "grow": True})
    expected = recorded(store)
    assert expected is not None
    assert expected["arms"]["full"]["grown"]
    monkeypatch.setattr("tuneoff.interfaces.method.RATE_REACH", 3.0)
    assert recorded(store) == expected


def removed(path: Path) -> None:
    path.unlink()


def torn(path: Path) -> None:
    path.write_text('{"arms": {')


def forged(path: Path) -> None:
    body = json.loads(path.read_text())
    arm = body["arms"]["full"]
    arm["choice"] = {"learning_rate": 0.25}
    arm["tried"].pop()
    path.write_text(json.dumps(body))


@pytest.mark.parametrize("damage", [removed, torn, forged])
def test_nothing_is_taken_from_the_file(damage: Callable[[Path], None], tmp_path: Path) -> None:
    store = searched(tmp_path)
    before, chosen = report.build(store).as_data()["search"], Study.open(store.root).chosen
    damage(store.root / "search.json")
    assert report.build(store).as_data()["search"] == before
    assert Study.open(store.root).chosen == chosen
    assert set(chosen) == {"full", "lora"}


def test_a_damaged_search_trial_is_named_and_its_search_not_over(tmp_path: Path) -> None:
    store = searched(tmp_path)
    place = store.trial(store.search_ids()[4])
    place.record_path.write_text("{}")
    results = gather(store)
    assert list(results.left_out) == [place.folder.name]
    assert results.search is not None
    assert not results.search["complete"]
    names = [warning["name"] for warning in report.build(store).as_data()["warnings"]]
    assert {"left_out_trials", "search_unfinished"} <= set(names)


def test_a_study_whose_methods_are_not_here_is_reported_without_its_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = searched(tmp_path)

    def methods() -> Any:
        raise StudyError("there is no method 'full' here")

    monkeypatch.setattr(registry, "methods", methods)
    results = gather(store)
    assert results.search is None
    assert results.search_trouble == "there is no method 'full' here"
    body = report.build(store).as_data()
    assert body["search"] is None
    assert "search_untold" in [warning["name"] for warning in body["warnings"]]
