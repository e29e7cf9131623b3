"""Whether a study may be kept in the folder of an earlier one, and what the two are together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tuneoff.config.spec import StudySpec
from tuneoff.errors import StoreError
from tuneoff.planning.plan import difference, question
from tuneoff.planning.series import PLACES, Axis
from tuneoff.search.space import spaces


def refuse_other(root: Path, before: StudySpec, study: StudySpec) -> None:
    """Refuses a study that may not share a folder with the earlier one: results of different questions are never mixed,
    and a search stays equal for all arms.

    Raises:
        StoreError: if the study asks something else, would search some arms longer than others, or is a race that would
            be looked at otherwise than the earlier one.
    """
    if question(before) != question(study):
        raise StoreError(
            f"{root} holds a study that asks something else ({difference(before, study)})",
            hint="Name another folder with --out: results of different questions are never mixed.",
        )
    new_search, old_search = study.protocol.search, before.protocol.search
    others = [label for label in spaces(before) if label not in study.methods]
    if new_search is not None and old_search is not None and new_search.trials != old_search.trials and others:
        raise StoreError(
            f"the search of {root} gave every arm {old_search.trials} trials; {new_search.trials} for some arms "
            "alone would not be equal",
            hint=f"Run all arms with that number, {', '.join(others)} too, or name another folder with --out.",
        )
    old_race, race = before.protocol.race, study.protocol.race
    if old_race is None or race is None:
        return
    known = slice(old_race.max)
    if (
        race.min != old_race.min
        or race.max < old_race.max
        or study.protocol.seeds[known] != before.protocol.seeds[known]
    ):
        raise StoreError(
            f"{root} holds a race of {old_race.min} to {old_race.max} seeds; one of {race.min} to {race.max} would "
            "look at others, or at other numbers of them",
            hint="Ask for the same race, or one that only goes further; or name another folder with --out.",
        )


def refuse_unlike(root: Path, axis: Axis, members: Mapping[str, StudySpec], asked: StudySpec) -> None:
    """Refuses further members of a series that differ from the earlier ones in more than the series is over: its
    report would take what the rest makes for what the list does.

    Args:
        root: the series' folder.
        axis: what its members differ in.
        members: name -> an earlier member's study.
        asked: that of any further member.

    Raises:
        StoreError: naming the difference.
    """
    for name, member in members.items():
        aligned = _with_value_of(axis, member, asked)
        place = f"{root} holds the member {name}, which differs from these in more than {PLACES[axis]}"
        if question(aligned) != question(asked):
            raise StoreError(
                f"{place} ({difference(aligned, asked)})",
                hint="Name another folder with --out: results of different questions are never mixed.",
            )
        others = [label for label in asked.methods if _is_other_arm(label, member, asked)]
        if others:
            raise StoreError(
                f"{place} (other options of {', '.join(others)})",
                hint=f"Ask for {name} too, so that the arms are the same for all, or name another folder with --out.",
            )


def _is_other_arm(label: str, member: StudySpec, other: StudySpec) -> bool:
    """Tells whether both have the arm, with other options. Where it starts from does not count: a study that was run
    names a folder, where its file may have another name for that."""
    arms = [
        study.methods[label].model_copy(update={"start_from": None})
        for study in (member, other)
        if label in study.methods
    ]
    return len(arms) == 2 and arms[0] != arms[1]


def _with_value_of(axis: Axis, member: StudySpec, other: StudySpec) -> StudySpec:
    """Returns a member's study with what another one has of the list."""
    if axis == "model":
        return member.model_copy(update={"model": other.model})
    if axis == "train_rows":
        protocol = member.protocol.model_copy(update={"train_rows": other.protocol.train_rows})
        return member.model_copy(update={"protocol": protocol})
    return member.model_copy(update={"task": other.task}) if member.task.name == other.task.name else member


def joined(before: StudySpec, study: StudySpec) -> StudySpec:
    """Returns a study with the arms and seeds of an earlier one added to its own.

    The seeds of a race come first, in its order, by which it is looked at.
    """
    raced = next((each.protocol for each in (study, before) if each.protocol.race is not None), None)
    first = raced.seeds if raced is not None else ()
    seeds = (*first, *sorted({*before.protocol.seeds, *study.protocol.seeds} - set(first)))
    race = raced.race if raced is not None else None
    return study.model_copy(
        update={
            "methods": {**before.methods, **study.methods},
            "protocol": study.protocol.model_copy(update={"seeds": seeds, "race": race}),
        }
    )
