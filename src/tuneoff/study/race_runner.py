"""Which final trials of a study come next: all of its seeds, or in a race those of its next look."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.records.record import Status
from tuneoff.search.racing import looks
from tuneoff.store import StudyStore

if TYPE_CHECKING:
    from tuneoff.analysis.statistics import Race


def first_round(study: StudySpec, trials: Sequence[TrialSpec]) -> list[TrialSpec]:
    """Returns the final trials that run whatever comes: those of a race's first look, or all."""
    if study.protocol.race is None:
        return list(trials)
    seeds = study.protocol.seeds[: study.protocol.race.min]
    return [trial for trial in trials if trial.seed in seeds]


def rounds(study: StudySpec, store: StudyStore, trials: Sequence[TrialSpec]) -> Iterator[list[TrialSpec]]:
    """Yields the final trials round by round: without a race all at once, in a race those that each look adds.

    The caller must run a round before it takes the next one. Ends early where trials of a round have no record.

    Args:
        study: what is asked.
        store: its folder.
        trials: all that there may be.
    """
    return _rounds(study, trials, lambda: _race(study, store, trials))


def _rounds_as_recorded(study: StudySpec, store: StudyStore, trials: Sequence[TrialSpec]) -> Iterator[list[TrialSpec]]:
    """Yields the same rounds for a caller that runs and writes nothing: the records are read once for all looks."""
    return _rounds(study, trials, cache(lambda: _race(study, store, trials)))


def _rounds(
    study: StudySpec, trials: Sequence[TrialSpec], race_so_far: Callable[[], Race | None]
) -> Iterator[list[TrialSpec]]:
    yield first_round(study, trials)
    if study.protocol.race is None:
        return
    counts, seeds = looks(study.protocol.race), study.protocol.seeds
    for number, (before, count) in enumerate(itertools.pairwise(counts), 1):
        race = race_so_far()
        if race is None or race.ending is not None or len(race.looks) < number:
            return
        added = seeds[before:count]
        yield [trial for trial in trials if trial.label in race.running and trial.seed in added]


def _race(study: StudySpec, store: StudyStore, trials: Sequence[TrialSpec]) -> Race | None:
    """Follows the race as far as the folder's records go; None where there is no folder."""
    # Statistics take a while to import, and most plans need none.
    from tuneoff.analysis.outcomes import Outcomes
    from tuneoff.analysis.results import Asked, gather

    if not store.is_there:
        return None
    return Outcomes(replace(gather(store, Asked(study, trials)), study=study)).race


def outstanding(
    study: StudySpec, store: StudyStore, trials: Sequence[TrialSpec]
) -> tuple[list[TrialSpec], list[TrialSpec]]:
    """Returns the trials that a run would run: of the first round that lacks some, and of all rounds that may
    follow, its own among them."""
    missing = {trial.id for trial in trials if store.trial(trial.id).answer() is None}
    for batch in _rounds_as_recorded(study, store, trials):
        if due := [trial for trial in batch if trial.id in missing]:
            labels = {trial.label for trial in batch}
            return due, [trial for trial in trials if trial.id in missing and trial.label in labels]
    return [], []


def all_tried(study: StudySpec, store: StudyStore, trials: Sequence[TrialSpec]) -> bool:
    """Returns whether every trial that is due has ended, whatever became of it: then the study can be looked at."""
    batches = _rounds_as_recorded(study, store, trials)
    records = (store.trial(trial.id).intact_record() for batch in batches for trial in batch)
    return all(record is not None and record.status is not Status.CANCELLED for record in records)
