"""Words for counts, durations and what a study does, as several commands say them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuneoff.config.protocol import Protocol
    from tuneoff.config.spec import StudySpec
    from tuneoff.study.study import Study


def deployability_line(spec: StudySpec) -> str:
    """Says that trained models are measured again in the end, and that their time is not forecast; empty where none
    are."""
    if not spec.deployability:
        return ""
    forms = ", ".join(spec.deployability)
    return (
        f"in the end the recommended arm's trained models are scored again: {forms} (no forecast or budget counts the "
        "time of that)"
    )


def search_lines(study: Study) -> list[str]:
    """Describes a study's search in one line, with another where its rows should be drawn per seed; none where there is
    no search."""
    from tuneoff.search.rates import describe_first_rates
    from tuneoff.search.space import LEARNING_RATE, first, spaces
    from tuneoff.search.validation import advise_own_rows, searches_each_seed

    planned = study.plan_search()
    if not planned:
        return []
    arms = count(len({trial.label for trial in planned}), "arm")
    protocol = study.spec.protocol
    per_seed = f", for each of {count(len(protocol.seeds), 'seed')} by itself" if searches_each_seed(study.spec) else ""
    trials = count(len(planned), "trial")
    settings = protocol.search.space if protocol.search is not None else {}
    also = f", of {', '.join(name.replace('_', ' ') for name in settings)} too" if settings else ""
    line = f"search before the final trials: {trials} of {arms}{per_seed}{also}, scored on validation data alone"
    firsts = {
        label: first(space)[LEARNING_RATE]
        for label, space in spaces(study.spec).items()
        if LEARNING_RATE in first(space)
    }
    line = f"{line}; {describe_first_rates(study.spec, firsts)}" if firsts else line
    return list(filter(None, (line, advise_own_rows(study.spec))))


def seeds_text(protocol: Protocol) -> str:
    """Describes the seeds of every arm: `3 seeds`, or `6 to 20 seeds by racing`."""
    race = protocol.race
    return count(len(protocol.seeds), "seed") if race is None else f"{race.min} to {race.max} seeds by racing"


def count(number: int, noun: str) -> str:
    """Formats a number with its noun: `1 arm`, `3 arms`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def seconds(value: float | None) -> str:
    """Formats a duration as a running clock shows it, less exact than the report: `0.4 s`, `3 min 05 s`, `2 h 10 min`.

    `–` where it is unknown.
    """
    if value is None:
        return "–"
    if value < 10:
        return f"{value:.1f} s"
    rounded = round(value)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60:02d} min"
