"""Which final trials of a study come next: all of its seeds, or in a race those of its next look."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.records.record import Status
from tuneoff.search.racing import looks
from tuneoff.store import StudyStore


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
    yield first_round(study, trials)
    if study.protocol.race is None:
        return
    # Statistics take a while to import, and most plans need none.
    from tuneoff.analysis.outcomes import Outcomes
    from tuneoff.analysis.results import Asked, gather

    counts, seeds = looks(study.protocol.race), study.protocol.seeds
    for number, (before, count) in enumerate(itertools.pairwise(counts), 1):
        if not store.is_there:
            return
        results = gather(store, Asked(study, trials))
        race = Outcomes(replace(results, study=study)).race
        if race is None or race.ending is not None or len(race.looks) < number:
            return
        added = seeds[before:count]
        yield [trial for trial in trials if trial.label in race.running and trial.seed in added]


def outstanding(
    study: StudySpec, store: StudyStore, trials: Sequence[TrialSpec]
) -> tuple[list[TrialSpec], list[TrialSpec]]:
    """Returns the trials that a run would run: of the first round that lacks some, and of all rounds that may
    follow, its own among them."""
    missing = {trial.id for trial in trials if store.trial(trial.id).answer() is None}
    for batch in rounds(study, store, trials):
        if due := [trial for trial in batch if trial.id in missing]:
            labels = {trial.label for trial in batch}
            return due, [trial for trial in trials if trial.id in missing and trial.label in labels]
    return [], []


def all_tried(study: StudySpec, store: StudyStore, trials: Sequence[TrialSpec]) -> bool:
    """Returns whether every trial that is due has ended, whatever became of it: then the study can be looked at."""
    records = (store.trial(trial.id).intact_record() for batch in rounds(study, store, trials) for trial in batch)
    return all(record is not None and record.status is not Status.CANCELLED for record in records)
