"""Joins folders of parts of one study, which were run apart: other arms, other seeds, or the same ones again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tuneoff.config.spec import MethodSpec
from tuneoff.errors import CorruptRecord, StoreError
from tuneoff.store.study import StudyStore
from tuneoff.store.transfer import adopt
from tuneoff.store.trial import difference


@dataclass
class Merged:
    """What became of the trials of the parts.

    Attributes:
        taken: ids of trials that were taken over.
        equal: trials that were finished before and gave the same here and there.
        different: trial -> what a part has otherwise; the first record is kept.
        unfinished: ids of trials that no part has finished.
    """

    taken: list[str] = field(default_factory=list)
    equal: list[str] = field(default_factory=list)
    different: dict[str, list[str]] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)


def merge(out: Path, parts: Sequence[Path]) -> Merged:
    """Takes over the finished trials of parts of one study into one folder; the parts stay as they are.

    Args:
        out: a new folder, or one that holds a study of the same question.
        parts: folders of studies, in order: of a trial that several have finished, the first record is kept.

    Raises:
        StoreError: if the studies ask different questions, an arm is configured otherwise in one of them, or a run
            writes to one of the folders. Nothing is changed then.
    """
    store = StudyStore(out)
    stores = [StudyStore.open(part) for part in parts]
    for part in stores:
        if part.root.resolve() == out.resolve():
            raise StoreError(f"{out} is named as a part of itself", hint="Name another folder to join the parts in.")
        if part.running_since() is not None:
            raise StoreError(f"a run is writing to {part.root}", hint="Wait for it, or stop it.")
    _refuse_misfits([*([store] if store.is_there else []), *stores])
    merged = Merged()
    with store.lock():
        for part in stores:
            store.check(part.study())
        for part in stores:
            _take(store, part, merged)
        ids = [*store.trial_ids(), *store.search_ids()]
        merged.unfinished = [trial_id for trial_id in ids if store.trial(trial_id).finished_record() is None]
    return merged


def _refuse_misfits(stores: Iterable[StudyStore]) -> None:
    """Refuses folders that would not be one study: other questions, or one label for two configurations."""
    first: StudyStore | None = None
    homes: dict[str, tuple[StudyStore, MethodSpec]] = {}
    for store in stores:
        study = store.study()
        first = first or store
        first.check(study)
        for label, arm in study.methods.items():
            home, configuration = homes.setdefault(label, (store, arm))
            if configuration != arm:
                raise StoreError(
                    f"the arm {label!r} is configured otherwise in {store.root} than in {home.root}",
                    hint="Give one of the two another label and run it again, or see both: tuneoff compare.",
                )


def _take(store: StudyStore, part: StudyStore, merged: Merged) -> None:
    """Adds the trials of one part."""
    specs = []
    for trial_id in (*part.trial_ids(), *part.search_ids()):
        with suppress(CorruptRecord):  # it is not taken over, and is run again
            specs.append(part.trial(trial_id).spec())
    StudyStore.create(store.root, part.study(), specs)
    for spec in specs:
        record = part.trial(spec.id).finished_record()
        before = store.trial(spec.id).finished_record()
        if record is None:
            continue
        if before is None:
            adopt(store.trial(spec.id), part.trial(spec.id))
            merged.taken.append(spec.id)
        elif misfit := difference(before, record):
            merged.different.setdefault(spec.id, []).append(f"{misfit} in {part.root}")
        else:
            merged.equal.append(spec.id)
