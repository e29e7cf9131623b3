"""How a race over seeds went, in words."""

from __future__ import annotations

from tuneoff.report.schema import RaceSummary, Report

_ENDINGS = {
    "settled": "nothing is left to settle",
    "equivalent": "all that are left are as good as the best within the margin",
    "hopeless": "even {most} seeds would not tell those apart that are left",
    "last look": "that is the most",
}


def race_text(report: Report) -> str:
    """Says who left the race at which look, and why it ended; empty without a race."""
    race = report.race
    if race is None:
        return ""
    parts = [part for look in race.looks for part in _leaving(look.seeds, look.beaten, look.without_score)]
    first = "Seeds were given by racing" + (f": {'; '.join(parts)}." if parts else ".")
    return f"{first} {_end(race)}"


def _leaving(seeds: int, beaten: dict[str, str], without_score: tuple[str, ...]) -> list[str]:
    by_rival: dict[str, list[str]] = {}
    for label, rival in beaten.items():
        by_rival.setdefault(rival, []).append(label)
    parts = [f"{', '.join(labels)} left at {seeds} (behind {rival})" for rival, labels in by_rival.items()]
    return parts + ([f"{', '.join(without_score)} left at {seeds} (no score)"] if without_score else [])


def _end(race: RaceSummary) -> str:
    if race.ending is None:
        count = race.looks[-1].seeds if race.looks else 0
        return (
            f"It goes on with {', '.join(race.running)} ({count} of up to {race.counts[-1]} seeds so far); run the "
            "study again."
        )
    return f"It ended at {race.looks[-1].seeds} seeds: {_ENDINGS[race.ending].format(most=race.counts[-1])}."
