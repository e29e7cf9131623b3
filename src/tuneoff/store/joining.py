"""Whether a study may be kept in the folder of an earlier one, and what the two are together."""

from __future__ import annotations

from pathlib import Path

from tuneoff.config.spec import StudySpec
from tuneoff.errors import StoreError
from tuneoff.planning.plan import difference, question
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
