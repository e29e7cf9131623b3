"""One series' folder: what it asks, and a study's folder for each of its members.

SERIES/
  series.json       the series as it was last asked for, its members, and why one of them could not be run
  lock              held while a run goes from member to member
  report/           made anew from the members' records at any time
  members/NAME/     the study of one member, a folder like any other study's
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneoff.config.spec import StudySpec
from tuneoff.errors import CorruptRecord, StoreError
from tuneoff.files import stays_inside
from tuneoff.planning.series import PLACES, Axis, SeriesSpec
from tuneoff.store import lock
from tuneoff.store.files import check_version, read_json, sealed, sweep, unsealed, write_atomically
from tuneoff.store.folder import MEMBERS, SERIES_FILE, ResultFolder
from tuneoff.store.joining import refuse_unlike
from tuneoff.store.study import StudyStore, siblings

SERIES_VERSION = 1
_RERUN_HINT = "Run the study file into this folder again (--out): it makes series.json anew and keeps what was trained."


@dataclass(frozen=True)
class SeriesMember:
    """One member of a series.

    Attributes:
        name: its name, which is that of its folder.
        value: what stands for it in the list: a number of rows, or plain data of a base model or a data set.
        store: its folder, whether a study is there yet or not.
        problem: why the last run could not run it; empty where it could, or has not come to it.
    """

    name: str
    value: Any
    store: StudyStore
    problem: str = ""


class SeriesStore(ResultFolder):
    """One series' folder."""

    MANIFEST = SERIES_FILE

    @classmethod
    def open(cls, root: Path | str) -> SeriesStore:
        """Opens a folder that holds a series.

        Raises:
            StoreError: if it does not.
        """
        store = cls(root)
        if not store.is_there:
            problem = f"is not a series' folder (no {SERIES_FILE})" if store.root.is_dir() else "is not there"
            raise StoreError(f"{root} {problem}", hint="Name the folder that `tuneoff run` printed.")
        return store

    @property
    def name(self) -> str:
        """Returns the name of the whole."""
        return str(self.study["name"])

    @property
    def axis(self) -> Axis:
        """Returns what the members differ in."""
        axis: Axis = self._manifest()["axis"]
        return axis

    @property
    def study(self) -> dict[str, Any]:
        """Returns the series as it was last asked for, as plain data that `parse_series` reads."""
        return dict(self._manifest()["study"])

    @property
    def members(self) -> tuple[SeriesMember, ...]:
        """Returns all members that were ever asked for: sizes from the smallest, others in the order of their first
        run."""
        return tuple(
            SeriesMember(entry["name"], entry["value"], StudyStore(self.root / entry["folder"]), entry["problem"])
            for entry in self._manifest()["members"]
        )

    def find(self, name: str) -> SeriesMember:
        """Returns the member of that name.

        Raises:
            StoreError: if there is none.
        """
        members = {member.name: member for member in self.members}
        if name not in members:
            raise StoreError(f"{self.root} has no member {name!r}", hint=f"Members: {', '.join(members)}.")
        return members[name]

    def member(self, name: str) -> StudyStore:
        """Returns a member's folder, whether it exists yet or not."""
        return StudyStore(self.root / MEMBERS / name)

    @property
    def relatives(self) -> list[StudyStore]:
        """Returns the studies in folders beside this one whose names differ only in the last part, and the members of
        the series there."""
        found = StudyStore(self.root).relatives
        for store in map(SeriesStore, siblings(self.root)):
            with suppress(StoreError):  # what cannot be read there is run again here
                found += [member.store for member in store.members if member.store.is_there] if store.is_there else []
        return found

    def check(self, series: SeriesSpec) -> None:
        """Checks whether a series may be kept here; changes nothing.

        Raises:
            StoreError: if the folder holds a series over something else, a member that asks another question than the
                series (beside what it is over), or something else.
        """
        if self.is_there and self.axis != series.axis:
            raise StoreError(
                f"{self.root} holds a series over {PLACES[self.axis]}, and this one is over {PLACES[series.axis]}",
                hint="Name another folder with --out.",
            )
        if StudyStore(self.root).is_there:
            raise StoreError(f"{self.root} holds one study, not a series", hint="Name another folder with --out.")
        is_new = not self.is_there and not self._damaged_path.exists()
        if is_new and self.root.is_dir() and any(item.name != "lock" for item in self.root.iterdir()):
            raise StoreError(f"{self.root} is not empty and not a series", hint="Name another folder with --out.")
        for name, study in series.members.items():
            with suppress(CorruptRecord):  # the member's run makes it anew
                self.member(name).check(study)
        refuse_unlike(self.root, series.axis, self._others(series), next(iter(series.members.values())))

    def _others(self, series: SeriesSpec) -> dict[str, StudySpec]:
        """Returns the studies of members that were asked for earlier, and are not now."""
        others = {}
        for member in self.members if self.is_there else ():
            if member.name not in series.members and member.store.is_there:
                with suppress(CorruptRecord):  # reports leave it out
                    others[member.name] = member.store.study()
        return others

    def _check_manifest(self) -> None:
        self._manifest()

    def create(self, series: SeriesSpec) -> None:
        """Makes the folder, or adds members to the series that is there.

        Raises:
            StoreError: as `check`, or if nothing can be written.
        """
        self.check(series)
        entries = {member.name: _entry(member) for member in self.members} if self.is_there else {}
        for name, value in series.values.items():
            entries[name] = _entry(SeriesMember(name, value, self.member(name)))
        ordered = list(entries.values())
        if series.axis == "train_rows":
            ordered.sort(key=lambda entry: int(entry["value"]))
        self._write({"version": SERIES_VERSION, "axis": series.axis, "study": series.study, "members": ordered})

    def note_problem(self, name: str, problem: str) -> None:
        """Writes down why a member could not be run; empty: it could."""
        manifest = self._manifest()
        members = [{**entry, "problem": problem} if entry["name"] == name else entry for entry in manifest["members"]]
        if members != manifest["members"]:
            self._write({**manifest, "members": members})

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder's lock while a run goes from member to member.

        Raises:
            StoreError: if another run holds it.
        """
        with lock.hold(self._lock_path):
            sweep(self.root)
            yield

    def _write(self, body: Mapping[str, Any]) -> None:
        write_atomically(self._manifest_path, sealed(dict(body)))

    def _manifest(self) -> dict[str, Any]:
        body = read_json(self._manifest_path)
        if isinstance(body, dict):
            check_version(self.root, "series", body.get("version"), SERIES_VERSION)
        manifest = unsealed(self._manifest_path, body, hint=_RERUN_HINT, required=False)
        members = manifest.get("members")
        is_whole = (
            manifest.get("axis") in PLACES
            and isinstance(manifest.get("study"), dict)
            and isinstance(members, list)
            and all(isinstance(entry, dict) and {"name", "value", "folder"} <= entry.keys() for entry in members)
        )
        if not is_whole or not all(stays_inside(entry["folder"]) for entry in members or ()):
            raise CorruptRecord(f"{self._manifest_path} describes no series", hint=_RERUN_HINT)
        return {**manifest, "members": [{"problem": "", **entry} for entry in members or ()]}


def _entry(member: SeriesMember) -> dict[str, Any]:
    folder = f"{MEMBERS}/{member.name}"
    return {"name": member.name, "value": member.value, "folder": folder, "problem": member.problem}
