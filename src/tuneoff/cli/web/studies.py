"""The studies and series of a folder, found anew at every look, because runs add some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tuneoff.errors import StoreError
from tuneoff.planning.series import PLACES
from tuneoff.records.events import utc
from tuneoff.store import SeriesStore, StudyStore

LEVELS = 3
"""How deep below the folder studies are looked for."""


@dataclass(frozen=True)
class StudyState:
    """Where a study stands.

    Attributes:
        path: its folder below the one that is served; `.` for that itself.
        name, model, task: as its file says; empty where that cannot be read, and `problem` says why.
        done, planned: numbers of final trials: with a record, and all.
        state: `running`, `finished`, `stopped` or `damaged`.
        changed: when its last trial ended, UTC, ISO 8601; empty where none has.
    """

    path: str
    name: str
    model: str
    task: str
    done: int
    planned: int
    state: str
    changed: str
    problem: str = ""


def find_studies(root: Path) -> dict[str, StudyStore]:
    """Returns every study in a folder or below it, by its path there. One that lies elsewhere, and is linked to, is
    not among them."""
    whole = root.resolve()
    found = {}
    for folder in _folders(root, LEVELS):
        store = StudyStore(folder)
        if store.is_there and folder.resolve().is_relative_to(whole):
            found[folder.relative_to(root).as_posix()] = store
    return found


@dataclass(frozen=True)
class SeriesState:
    """A series, and its studies among those that are served.

    Attributes:
        path: its folder below the one that is served; `.` for that itself.
        name: of the whole; that of the folder where the series cannot be read, and `problem` says why.
        place: key of a study file that holds the list.
        members: name of a member -> the path of its study, of those that are there.
    """

    path: str
    name: str
    place: str
    members: Mapping[str, str]
    problem: str = ""


def find_series(root: Path) -> dict[str, SeriesStore]:
    """Returns every series in a folder or below it, by its path there. One of which a part lies elsewhere, and is
    linked to, is not among them."""
    whole = root.resolve()
    found = {}
    for store in map(SeriesStore, _folders(root, LEVELS)):
        if store.is_there and all(path.resolve().is_relative_to(whole) for path in _parts(store)):
            found[store.root.relative_to(root).as_posix()] = store
    return found


def _parts(store: SeriesStore) -> list[Path]:
    try:
        return [store.root, *(member.store.root for member in store.members)]
    except StoreError:  # told by its state
        return [store.root]


def series_state(path: str, store: SeriesStore, root: Path) -> SeriesState:
    """Looks what a series has."""
    try:
        members = {one.name: one.store.root.relative_to(root).as_posix() for one in store.members if one.store.is_there}
        return SeriesState(path, store.name, PLACES[store.axis], members)
    except StoreError as error:
        return SeriesState(path, store.root.name, "", {}, error.message)


def _folders(folder: Path, levels: int) -> Iterator[Path]:
    """Yields a folder and those below it; a study's own folders hold no other study."""
    yield folder
    if SeriesStore(folder).is_there:
        # Its members are shown wherever it is: they lie two levels deeper.
        levels = max(levels, 2)
    if levels == 0 or StudyStore(folder).is_there:
        return
    try:
        inner = sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))
    except OSError:
        return
    for item in inner:
        yield from _folders(item, levels - 1)


def state_of(path: str, store: StudyStore) -> StudyState:
    """Looks where a study stands, by the files that there are."""
    try:
        since = store.running_since()
        study, ids = store.study(), store.trial_ids()
    except StoreError as error:
        return StudyState(path, store.root.name, "", "", 0, 0, "damaged", "", error.message)
    times = []
    for trial_id in ids:
        try:
            times.append(store.trial(trial_id).record_path.stat().st_mtime)
        except OSError:  # none yet
            continue
    state = "running" if since is not None else "finished" if len(times) == len(ids) else "stopped"
    changed = utc(max(times)) if times else ""
    return StudyState(path, study.name, study.model.source, study.task.name, len(times), len(ids), state, changed)
