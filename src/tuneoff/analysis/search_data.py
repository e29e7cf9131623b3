"""What a study's search tried, found and chose, as plain data: derived from the records, and read again."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tuneoff.analysis.arm_search import ArmSearch, rules_of, space_data, whole_seconds
from tuneoff.analysis.search_rounds import RecordedSearch, Search
from tuneoff.config.spec import StudySpec
from tuneoff.planning.plan import Searched, search_studies
from tuneoff.records.record import Status
from tuneoff.search.space import Values
from tuneoff.store import StudyStore

SEARCH_VERSION = 2
EDGES = {-1: "lower", 1: "upper"}


def recorded(store: StudyStore) -> dict[str, Any] | None:
    """Derives from a study's records what its search tried, found and chose, in the form of `search_data`; None where
    no search was begun.

    Raises:
        StudyError: if a method of the study is not installed here.
    """
    if not store.search_ids():
        return None
    study = store.study()
    return joined_data(
        study, {seed: as_data(RecordedSearch(each, store)) for seed, each in search_studies(study).items()}
    )


def search_data(study: StudySpec, fingerprints: Mapping[str, str], store: StudyStore) -> dict[str, Any]:
    """Returns what the search of a study tried, found and chose so far, as plain data: that of its one search or, where
    every final seed is searched by itself, of each under `seeds`."""
    searches = {seed: as_data(Search(each, fingerprints, store)) for seed, each in search_studies(study).items()}
    return joined_data(study, searches)


def joined_data(study: StudySpec, searches: Mapping[int | None, dict[str, Any]]) -> dict[str, Any]:
    """Returns the data of a study's searches as one."""
    if None in searches:
        return searches[None]
    assert study.protocol.search is not None
    parts = list(searches.values())
    return {
        **{key: parts[0][key] for key in ("search_version", "metric", "rungs")},
        "search": study.protocol.search.model_dump(mode="json"),
        "complete": all(part["complete"] for part in parts),
        "equal": all(part["equal"] for part in parts),
        "arms": {},
        "seeds": {str(seed): part for seed, part in searches.items()},
    }


def arm_data(search: Mapping[str, Any], label: str) -> dict[int | None, dict[str, Any]]:
    """Returns the data of an arm's searches: that of the study's under None, or of each final seed's own; empty where
    it was not searched."""
    parts: dict[int | None, Any] = {int(seed): part for seed, part in search.get("seeds", {}).items()}
    parts = parts or {None: search}
    return {seed: part["arms"][label] for seed, part in parts.items() if label in part["arms"]}


def recorded_choices(search: Mapping[str, Any]) -> dict[Searched, Values]:
    """Returns what a recorded search chose, as `plan` takes it; empty before it is over."""
    parts = search.get("seeds", {}).items() or [(None, search)]
    return {
        label if seed is None else (label, int(seed)): arm["choice"]
        for seed, part in parts
        for label, arm in part["arms"].items()
        if arm["choice"]
    }


def as_data(search: Search) -> dict[str, Any]:
    """Returns what the search tried, found and chose so far, as plain data; docs/protocol.md describes it."""
    deque(search.rounds(), maxlen=0)
    return {
        "search_version": SEARCH_VERSION,
        "search": search.spec.model_dump(mode="json"),
        "metric": {"name": search.metric, "direction": "higher" if search.sign > 0 else "lower", "split": "validation"},
        "rungs": [asdict(rung) for rung in search.rungs] if search.is_pruned else [],
        "complete": search.complete,
        "equal": len({arm.configurations for arm in search.arms.values()}) == 1,
        "arms": {label: _arm_data(search, arm) for label, arm in search.arms.items()},
    }


def _arm_data(search: Search, arm: ArmSearch) -> dict[str, Any]:
    tried = [
        {
            "trial": record.spec.id,
            "values": outcome.values,
            "rung": outcome.rung,
            "stopped": outcome.stopped,
            "steps": record.steps if record.status is Status.COMPLETED else None,
            "status": record.status.value,
            "score": None if outcome.score is None else search.sign * outcome.score,
            "loss": outcome.loss,
            "train_seconds": record.timing.train_seconds,
            "total_seconds": record.timing.total_seconds,
        }
        for record, outcome in zip(arm.records, arm.history, strict=True)
    ]
    return {
        "space": space_data(arm.space),
        "rules": list(dict.fromkeys(rules_of(record.spec) for record in arm.records)),
        "grown": arm.grown,
        "tried": tried,
        "best": None if arm.best is None else arm.records[arm.best].spec.id,
        "choice": arm.choice if search.complete else None,
        "at_edge": {name: EDGES[edge] for name, edge in arm.at_edge.items()},
        "failed": sum(outcome.score is None for outcome in arm.history),
        "train_seconds": sum(record.timing.train_seconds or 0.0 for record in arm.records),
        "total_seconds": whole_seconds(arm.records),
    }
