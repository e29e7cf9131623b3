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
        StoreError: if the study asks something else, or would search some arms longer than others.
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


def joined(before: StudySpec, study: StudySpec) -> StudySpec:
    """Returns a study with the arms and seeds of an earlier one added to its own."""
    seeds = tuple(sorted({*before.protocol.seeds, *study.protocol.seeds}))
    races = [race for race in (study.protocol.race, before.protocol.race) if race is not None]
    race = races[0].model_copy(update={"max": max(race.max for race in races)}) if races else None
    return study.model_copy(
        update={
            "methods": {**before.methods, **study.methods},
            "protocol": study.protocol.model_copy(update={"seeds": seeds, "race": race}),
        }
    )
