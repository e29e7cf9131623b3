"""From a study file with one list to a series: one ordinary study for each value of the list, its member.

The list stands where a study has one value: numbers of training rows, base models, or data sets.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Literal

from tuneoff.config.base import MAX_LABEL
from tuneoff.config.data import DataSpec
from tuneoff.config.spec import StudySpec
from tuneoff.errors import Problem, StudyError
from tuneoff.planning.prices import with_prices
from tuneoff.planning.problems import check
from tuneoff.planning.yaml import Lines
from tuneoff.suffixes import without_suffixes

Axis = Literal["train_rows", "model", "data"]
PLACES: dict[Axis, str] = {"train_rows": "protocol.train_rows", "model": "model", "data": "task.data"}
"""What the members of a series differ in -> the key of a study file that holds the list."""
NOUNS: dict[Axis, str] = {"train_rows": "size", "model": "base model", "data": "data set"}
"""What a member is one of."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MAX_NAME = 60
"""Characters of the longest name of a member, which is that of a folder."""


@dataclass(frozen=True)
class SeriesSpec:
    """A checked series.

    Attributes:
        name: of the whole.
        axis: what the members differ in.
        members: name -> its study, in the order in which they run: sizes from the smallest, others as listed.
    """

    name: str
    axis: Axis
    members: Mapping[str, StudySpec]

    def with_members(self, members: Mapping[str, StudySpec]) -> SeriesSpec:
        """Returns the series with other studies of the same names."""
        return replace(self, members=members)

    @property
    def values(self) -> dict[str, Any]:
        """Returns name -> what stands for it in the list, as plain data with every default filled in."""
        if self.axis == "train_rows":
            return {name: study.protocol.train_rows for name, study in self.members.items()}
        if self.axis == "model":
            return {name: study.model.model_dump(mode="json") for name, study in self.members.items()}
        common = self._common_options()
        return {
            name: {
                **study.task.data.model_dump(mode="json"),
                **{key: value for key, value in study.task.options.items() if key not in common},
            }
            for name, study in self.members.items()
        }

    @property
    def study(self) -> dict[str, Any]:
        """Returns the whole as plain data that `parse_series` reads back: the study of any member, with the list in the
        place of its value."""
        plain = next(iter(self.members.values())).model_dump(mode="json")
        plain["name"] = self.name
        if self.axis == "train_rows":
            plain["protocol"]["train_rows"] = list(self.values.values())
            return plain
        entries = [{"name": name, **value} for name, value in self.values.items()]
        if self.axis == "model":
            return {**plain, "model": entries}
        return {**plain, "task": {**plain["task"], "options": self._common_options(), "data": entries}}

    def _common_options(self) -> dict[str, Any]:
        """Returns the task's options that are the same for all members."""
        first, *others = (study.task.options for study in self.members.values())
        return {
            key: value for key, value in first.items() if all(key in each and each[key] == value for each in others)
        }


def listed_axes(raw: Mapping[str, Any]) -> list[Axis]:
    """Returns which of the places for a list hold one in plain study data.

    In the place of data, a list of texts alone is a list of files, whose rows follow one another.
    """
    protocol, task = raw.get("protocol"), raw.get("task")
    values: dict[Axis, Any] = {
        "train_rows": protocol.get("train_rows") if isinstance(protocol, Mapping) else None,
        "model": raw.get("model"),
        "data": task.get("data") if isinstance(task, Mapping) else None,
    }
    lists: list[Axis] = [axis for axis, value in values.items() if isinstance(value, (list, tuple))]
    data = values["data"]
    if "data" in lists and not any(isinstance(entry, Mapping) for entry in data):
        lists.remove("data")
    return lists


def refuse_series(raw: Mapping[str, Any], lines: Lines, origin: str = "") -> None:
    """Refuses plain data that stands for a series, where one study is asked for.

    Raises:
        StudyError: says where the list stands.
    """
    for axis in listed_axes(raw):
        place = PLACES[axis]
        message = f"a list of {NOUNS[axis]}s is a series of studies, and one study is asked for here"
        raise StudyError(
            [Problem(place, message, lines.get(place))],
            hint="Name one value, or take it as a series: `tuneoff run` and `tuneoff plan`, or tuneoff.Series in "
            "Python (docs/series.md).",
            origin=origin,
        )


def parse_series(raw: Mapping[str, Any], lines: Lines | None = None, origin: str = "") -> SeriesSpec:
    """Checks plain data with a list (as from YAML) and returns the series.

    Raises:
        StudyError: with every problem found, those of all members included.
    """
    lines = lines or {}
    axes = listed_axes(raw)
    if len(axes) > 1:
        places = " and ".join(PLACES[axis] for axis in axes)
        raise StudyError(
            [Problem(PLACES[axes[1]], f"{places} are lists, and a series has one", lines.get(PLACES[axes[1]]))],
            hint="Keep one of the lists, and run a series for each value of the other.",
            origin=origin,
        )
    if not axes:
        raise StudyError(
            f"no list makes this a series: {', '.join(PLACES.values())} have one value each",
            hint="Give one of them a list (docs/series.md), or take it as one study (tuneoff.Study).",
            origin=origin,
        )
    (axis,) = axes
    raw = with_prices(raw)
    entries = _entries(raw, axis)
    problems = _list_problems(axis, entries, lines)
    if problems:
        raise StudyError(problems, origin=origin)
    studies: list[StudySpec] = []
    for index, entry in enumerate(entries):
        study, found = check(_member(raw, axis, entry), _lines_of(lines, PLACES[axis], index))
        problems += found
        studies += [study] if study is not None else []
    if problems:
        # What stands outside the list is wrong with every member, and told once.
        raise StudyError(dict.fromkeys(problems), origin=origin)
    return _series(axis, entries, studies, lines, origin)


def _series(axis: Axis, entries: Sequence[Any], studies: Sequence[StudySpec], lines: Lines, origin: str) -> SeriesSpec:
    """Returns the series of checked members, once each is told from the others and has a name.

    Raises:
        StudyError: if two are the same, or would have the same name.
    """
    problems = []
    contents = [_content(axis, study) for study in studies]
    for index, content in enumerate(contents):
        if content in contents[:index]:
            problems.append(_problem(axis, index, f"the same {NOUNS[axis]} twice would be the same study twice", lines))
    if problems:
        raise StudyError(problems, origin=origin)
    names = _names(axis, entries, studies)
    counts = Counter(name.casefold() for name in names)
    for index, name in enumerate(names):
        if counts[name.casefold()] > 1:
            problems.append(_problem(axis, index, f"another one is called {name!r} too: give each a `name`", lines))
    if problems:
        raise StudyError(problems, origin=origin)
    order: Sequence[int] = range(len(names))
    if axis == "train_rows":
        order = sorted(order, key=lambda index: studies[index].protocol.train_rows or 0)
    title = studies[0].name
    return SeriesSpec(
        title,
        axis,
        {
            names[index]: studies[index].model_copy(update={"name": f"{title}-{names[index]}"[:MAX_LABEL]})
            for index in order
        },
    )


def _content(axis: Axis, study: StudySpec) -> str:
    """Returns what makes a member another one than the rest, as text."""
    content = {
        "train_rows": study.protocol.train_rows,
        "model": study.model.model_dump(mode="json"),
        "data": study.task.model_dump(mode="json"),
    }[axis]
    return json.dumps(content, sort_keys=True)


def _entries(raw: Mapping[str, Any], axis: Axis) -> Sequence[Any]:
    entries: Any = raw
    for step in PLACES[axis].split("."):
        entries = entries[step]
    return list(entries)


def _list_problems(axis: Axis, entries: Sequence[Any], lines: Lines) -> list[Problem]:
    """Returns what is wrong with a list as such, and with the names in it."""
    place = PLACES[axis]
    if len(entries) < 2:
        message = (
            f"a list of one {NOUNS[axis]} is no series: write it without the brackets, or give a second one"
            if entries
            else f"an empty list: give two {NOUNS[axis]}s or more, or one without the brackets"
        )
        return [Problem(place, message, lines.get(place))]
    problems = []
    for index, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if entry is None:
            problems.append(_problem(axis, index, f"null is no {NOUNS[axis]}", lines))
        elif axis == "data" and not isinstance(entry, Mapping):
            message = (
                "a list of data sets has keys in each: `source`, or `train` and others. A list of texts alone is one "
                "data set of several files"
            )
            problems.append(_problem(axis, index, message, lines))
        elif name is not None and not (isinstance(name, str) and _NAME.fullmatch(name) and len(name) <= MAX_NAME):
            message = f"a name is at most {MAX_NAME} letters, digits, dots, dashes and underscores, not {name!r}"
            problems.append(_problem(axis, index, message, lines))
        elif axis == "data" and "source" in entry and set(entry) & set(DataSpec.model_fields):
            others = ", ".join(sorted(set(entry) & set(DataSpec.model_fields)))
            message = f"`source` stands for all splits, so it goes without {others}"
            problems.append(_problem(axis, index, message, lines))
    return problems


def _problem(axis: Axis, index: int, message: str, lines: Lines) -> Problem:
    where = f"{PLACES[axis]}.{index}"
    return Problem(where, message, lines.get(where, lines.get(PLACES[axis])))


def _member(raw: Mapping[str, Any], axis: Axis, entry: Any) -> dict[str, Any]:
    """Returns the plain data of one member."""
    entry = {key: value for key, value in entry.items() if key != "name"} if isinstance(entry, Mapping) else entry
    if axis == "model":
        return {**raw, "model": entry}
    if axis == "train_rows":
        return {**raw, "protocol": {**raw["protocol"], "train_rows": entry}}
    data = {key: entry[key] for key in DataSpec.model_fields if key in entry}
    options = {key: value for key, value in entry.items() if key not in data and key != "source"}
    return {**raw, "task": {**raw["task"], **options, "data": entry.get("source", data)}}


def _lines_of(lines: Lines, place: str, index: int) -> Lines:
    """Returns the lines of one member: those of its entry as if they stood in the place of the list."""
    entry = f"{place}.{index}"
    own = {place + key.removeprefix(entry): line for key, line in lines.items() if f"{key}.".startswith(f"{entry}.")}
    # A key of the task in an entry of data is read as if it stood in the task.
    outer = place.rpartition(".")[0]
    options = {f"{outer}{key.removeprefix(place)}": line for key, line in own.items()} if outer else {}
    return {**options, **lines, **own}


def _names(axis: Axis, entries: Sequence[Any], studies: Sequence[StudySpec]) -> list[str]:
    """Returns a name for each member: its own, or the last part of what it names, as many parts as tell all apart."""
    if axis == "train_rows":
        return [str(study.protocol.train_rows) for study in studies]
    references = [study.model.source if axis == "model" else study.task.data.train.source for study in studies]
    own = [entry.get("name") if isinstance(entry, Mapping) else None for entry in entries]
    parts = [_parts(reference) for reference in references]
    names: list[str] = []
    for count in range(1, max(map(len, parts)) + 1):
        derived = ["-".join(steps[-count:])[-MAX_NAME:].lstrip("-._") for steps in parts]
        names = [name or other for name, other in zip(own, derived, strict=True)]
        if len({name.casefold() for name in names}) == len(names):
            break
    return names


def _parts(reference: str) -> list[str]:
    """Returns the steps of a path or hub id as parts of a name, the last one without what a file ends in."""
    *folders, last = PurePosixPath(reference.removeprefix("file:").replace("\\", "/")).parts or ("",)
    slugs = [re.sub(r"[^A-Za-z0-9._-]+", "-", step).strip("-._") for step in (*folders, without_suffixes(last))]
    return [slug for slug in slugs if slug] or ["member"]
