"""Several studies that answer the same question, joined: their arms side by side, compared like arms of one study.

Two studies answer the same question when they ask for the same task, protocol and base model, and their trials saw the
same rows. Where a file or a model goes by another name but its contents are the same by fingerprint, it is the same.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuneoff.analysis.money import with_money
from tuneoff.analysis.results import Arm, Results, gather
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import StudyError
from tuneoff.planning.plan import difference
from tuneoff.records.record import TrialRecord
from tuneoff.store import StudyStore, TrialStore

OTHER_PRICES = "the studies have different `prices`"


class JoinedStore(StudyStore):
    """The trials of several studies, with the study's name in each id (`NAME/ID`); for reading only."""

    def __init__(self, stores: Mapping[str, StudyStore]) -> None:
        super().__init__(next(iter(stores.values())).root)
        self.stores = dict(stores)

    def trial(self, trial_id: str) -> TrialStore:
        """Returns a trial by `NAME/ID`."""
        name, _, inner_id = trial_id.partition("/")
        return self.stores[name].trial(inner_id)


@dataclass(frozen=True)
class Joined:
    """Several studies joined into one.

    Attributes:
        results: arms of one label next to each other; a label that is in several studies gets its study's name:
            `lora [fast]`.
        studies: arm -> name of its study. Names are the folders', as short as they differ.
        notes: what could not be checked, and what differs though the question is the same.
    """

    results: Results
    studies: dict[str, str]
    notes: tuple[str, ...]


def join(folders: Sequence[Path]) -> Joined:
    """Joins the studies in these folders into one.

    Raises:
        StudyError: if a folder is named twice, or two studies do not answer the same question; the difference is named.
        StoreError: if a folder holds no study.
    """
    if len(folders) < 2:
        raise StudyError("one study has nothing to be compared with", hint="Name two folders or more.")
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise StudyError(
            f"{Counter(resolved).most_common(1)[0][0]} is named twice", hint="Name every study's folder once."
        )
    studies = {name: gather(StudyStore.open(folder)) for name, folder in zip(_names(resolved), folders, strict=True)}
    first, *others = studies
    for name in others:
        _refuse_different(first, studies[first], name, studies[name])
    return merge(studies, _notes(studies))


def merge(studies: Mapping[str, Results], notes: Sequence[str] = ()) -> Joined:
    """Puts the arms of several studies into one, without asking whether they answer the same question.

    Args:
        studies: name -> results; two or more.
        notes: on how they differ.
    """
    first = next(iter(studies))
    is_priced_alike = _priced_alike(studies)
    if not is_priced_alike:
        studies = {name: _without_money(results) for name, results in studies.items()}
    shared = Counter(arm.label for results in studies.values() for arm in results.arms)
    arms: list[tuple[Arm, str]] = []
    for label in shared:
        for name, results in studies.items():
            arms += [(_renamed(arm, name, shared[label] > 1), name) for arm in results.arms if arm.label == label]
    first_study = studies[first].study
    protocols = [results.study.protocol for results in studies.values()]
    raced = next((protocol for protocol in protocols if protocol.race is not None), None)
    # Those of a race come first, in the order by which it is looked at.
    first_seeds = raced.seeds if raced is not None else ()
    seeds = (*first_seeds, *sorted({seed for each in protocols for seed in each.seeds} - set(first_seeds)))
    study = first_study.model_copy(
        update={
            "name": " + ".join(studies),
            "methods": {label: arm for results in studies.values() for label, arm in results.study.methods.items()},
            "protocol": first_study.protocol.model_copy(
                update={"seeds": seeds, "race": raced.race if raced is not None else None}
            ),
            "published": None,
            "prices": first_study.prices if is_priced_alike else None,
        }
    )
    store = JoinedStore({name: results.store for name, results in studies.items()})
    superseded = tuple(f"{name}/{trial_id}" for name, results in studies.items() for trial_id in results.superseded)
    left_out = {
        f"{name}/{trial_id}": reason
        for name, results in studies.items()
        for trial_id, reason in results.left_out.items()
    }
    joined = Results(store, study, tuple(arm for arm, _ in arms), superseded, left_out=left_out)
    return Joined(joined, {arm.label: name for arm, name in arms}, tuple(notes))


def _priced_alike(studies: Mapping[str, Results]) -> bool:
    first, *others = (results.study.prices for results in studies.values())
    return all(prices == first for prices in others)


def _notes(studies: Mapping[str, Results]) -> list[str]:
    notes = []
    unknown = [
        name for name, results in studies.items() if not any(r.data and r.data.splits for r in results.completed)
    ]
    if unknown:
        notes.append(f"Which rows were read is not recorded in {', '.join(unknown)}, so it could not be checked.")
    choices = {name: _choice(results.study) for name, results in studies.items()}
    if len(set(choices.values())) > 1:
        details = "; ".join(f"{name}: {choice}" for name, choice in choices.items())
        notes.append(f"The studies chose their configurations in different ways ({details}).")
    return notes


def _choice(study: StudySpec) -> str:
    """Describes how a study came to its learning rates."""
    protocol = study.protocol
    if protocol.search is not None:
        pruned = "" if protocol.search.prune == "none" else f", pruned by {protocol.search.prune}"
        return f"search of {protocol.search.trials} trials per arm{pruned}"
    return "every arm's own rate" if protocol.learning_rate is None else f"one rate for all, {protocol.learning_rate:g}"


def _without_money(results: Results) -> Results:
    """Returns the results without what trials cost: amounts at different prices must not be ranked."""
    arms = [
        replace(arm, records=tuple(with_money(record, None, OTHER_PRICES) for record in arm.records))
        for arm in results.arms
    ]
    return replace(results, arms=tuple(arms))


def _renamed(arm: Arm, name: str, shared: bool) -> Arm:
    """Returns the arm with its study's name in its ids and, where the label is shared, in its label."""

    def with_study_id(spec: TrialSpec) -> TrialSpec:
        return spec.model_copy(update={"id": f"{name}/{spec.id}"})

    trials = tuple(with_study_id(trial) for trial in arm.trials)
    records = tuple(record.model_copy(update={"spec": with_study_id(record.spec)}) for record in arm.records)
    return replace(arm, label=f"{arm.label} [{name}]" if shared else arm.label, trials=trials, records=records)


def _names(folders: Sequence[Path]) -> list[str]:
    """Returns the last parts of the paths, as few as make all names differ; never with a slash, which separates the
    parts of ids."""
    depth = 1
    while depth < max(len(folder.parts) for folder in folders):
        names = ["-".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
        depth += 1
    return [str(folder).replace(os.sep, "-").strip("-") for folder in folders]


def _refuse_different(first: str, mine: Results, second: str, theirs: Results) -> None:
    """Raises StudyError if the two answer different questions."""
    for name, results in ((first, mine), (second, theirs)):
        if not results.completed:
            raise StudyError(f"{name} has no completed trial, so there is nothing to compare")
    shared_seeds = {r.spec.seed for r in mine.completed} & {r.spec.seed for r in theirs.completed}
    fingerprints = _fingerprints(mine, shared_seeds), _fingerprints(theirs, shared_seeds)
    for split in sorted(fingerprints[0].keys() & fingerprints[1].keys()):
        if fingerprints[0][split] != fingerprints[1][split]:
            raise StudyError(
                f"{first} and {second} do not answer the same question: their {split} rows are not the same",
                hint=_HINT,
            )
    aligned = theirs.study
    if fingerprints[0] and fingerprints[0] == fingerprints[1]:
        aligned = aligned.model_copy(update={"task": aligned.task.model_copy(update={"data": mine.study.task.data})})
    checksums = _checksums(mine), _checksums(theirs)
    if checksums[0] and checksums[0] == checksums[1]:
        aligned = aligned.model_copy(update={"model": mine.study.model})
    elif checksums[0] and checksums[1]:
        raise StudyError(
            f"{first} and {second} do not answer the same question: they began from different weights of the base "
            f"model ({mine.study.model.source} there, {theirs.study.model.source} here)",
            hint=_HINT,
        )
    if mismatch := difference(_without_search(mine.study), _without_search(aligned)):
        raise StudyError(
            f"{first} and {second} do not answer the same question ({first} there, {second} here): {mismatch}",
            hint=_HINT,
        )
    if _metric(mine.completed) != _metric(theirs.completed):
        raise StudyError(
            f"{first} and {second} do not answer the same question: they are judged by {_metric(mine.completed)} and "
            f"{_metric(theirs.completed)}",
            hint=_HINT,
        )


_HINT = "Results of different questions are never put in one table; `tuneoff report` shows each by itself."


def _without_search(study: StudySpec) -> StudySpec:
    """Returns the study without its search and without the learning rate for all.

    How a configuration was chosen is no part of the question that its trials answer, and no part of their
    specifications either.
    """
    chosen = {"search": None, "learning_rate": None}
    return study.model_copy(update={"protocol": study.protocol.model_copy(update=chosen)})


def _fingerprints(results: Results, shared_seeds: Collection[int]) -> dict[str, set[str]]:
    """Maps each split to the fingerprints that completed trials saw; of rows that are drawn per seed, at the seeds that
    both studies have."""
    fingerprints: dict[str, set[str]] = {}
    for record in results.completed:
        for name, split in (record.data.splits if record.data else {}).items():
            if results.study.protocol.shares(name) or record.spec.seed in shared_seeds:
                fingerprints.setdefault(name, set()).add(split.fingerprint)
    return fingerprints


def _checksums(results: Results) -> set[str]:
    return {record.model.checksum for record in results.completed if record.model and record.model.checksum}


def _metric(records: Sequence[TrialRecord]) -> str | None:
    return next((record.primary_metric for record in records if record.primary_metric), None)
