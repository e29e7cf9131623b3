"""A study within a budget of time: what of it fits. `clock` ends its run.

The rule: every arm, the equal search first, then seeds by racing. Where the search that was asked for and the first
look of the race do not fit together, every arm gets fewer search trials, and `LEAST_SEARCH` at least. What is left goes
to seeds, look by look. Rows, epochs and lengths are as the study says.

A budget never changes what the race counts as significant: a race that ran out of time is one that may go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tuneoff import registry
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import StudyError
from tuneoff.interfaces.task import Task
from tuneoff.planning.loading import race_seeds
from tuneoff.records.forecast import ArmForecast
from tuneoff.search.racing import looks
from tuneoff.store import StudyStore
from tuneoff.study import inputs
from tuneoff.study.searches import SearchRunners
from tuneoff.study.to_come import ToCome, trials_to_come

if TYPE_CHECKING:
    from tuneoff.analysis.statistics.crossed import Components

KEPT = 0.1
"""Share of a budget that is not planned: for what forecasts miss, and for the report."""
LEAST_SEARCH = 4
"""Fewest search trials of an arm that a budget may leave, where more were asked for."""

PER_SEED_HINT = "Set protocol.search.per_seed=false, or run the study without --budget."


@dataclass(frozen=True)
class Allotment:
    """What fits into a budget.

    Attributes:
        study: with the search trials that fit, and its seeds given by racing.
        seconds: the budget, for all runs of the study together.
        spent: seconds of earlier runs.
        arms: label -> what one of its trials takes.
        asked: search trials of every arm that were asked for; 0 without a search.
        search_trials: those that fit.
        first_seconds: what is missing of the search and of the next look takes.
        seeds: seeds of every arm that fit if none leaves the race.
        smallest: the smallest difference of the primary metric that so many seeds find with a probability of 80 %; None
            where nothing tells it.
        smallest_by: what it goes by; else empty.
    """

    study: StudySpec
    seconds: float
    spent: float
    arms: Mapping[str, ArmForecast]
    asked: int
    search_trials: int
    first_seconds: float
    seeds: int
    smallest: float | None = None
    smallest_by: str = ""


def raced(study: StudySpec) -> StudySpec:
    """Returns a study whose seeds are given by racing, as its own race says or as the default one does.

    Raises:
        StudyError: if its search does not go with that.
    """
    if study.protocol.search is not None and study.protocol.search.per_seed:
        raise StudyError("--budget gives seeds by racing, which search.per_seed does not allow", hint=PER_SEED_HINT)
    return study.model_copy(update={"protocol": race_seeds(study.protocol, "--budget")})


def as_begun(study: StudySpec, store: StudyStore) -> StudySpec:
    """Returns a study whose search is no longer than that which its folder has run or begun: a longer one would choose
    anew."""
    search = study.protocol.search
    before = store.study().protocol.search if store.is_there else None
    return with_trials(study, min(search.trials, before.trials)) if search is not None and before is not None else study


def allot_in_folder(study: StudySpec, seconds: float, store: StudyStore, arms: Mapping[str, ArmForecast]) -> Allotment:
    """Finds what of a study fits into a budget, beside what its folder has; takes and raises what `allot` does."""
    spent = store.spent_seconds() if store.is_there else 0.0
    return allot(study, seconds, spent, arms, lambda spec: trials_to_come(spec, store), _begun(study, store))


def _begun(study: StudySpec, store: StudyStore) -> int:
    """Returns how many search trials of an arm must stay, because the folder's search has begun with them.

    All where it is pruned: those that there are would belong to no rung of a shorter one.
    """
    if study.protocol.search is None:
        return 0
    search = SearchRunners(study, inputs.fingerprints(study), store)
    search.missing()
    tried = max(search.tried.values(), default=0)
    return study.protocol.search.trials if tried and study.protocol.search.prune != "none" else tried


def allot(
    study: StudySpec,
    seconds: float,
    spent: float,
    arms: Mapping[str, ArmForecast],
    to_come: Callable[[StudySpec], ToCome],
    begun: int = 0,
) -> Allotment:
    """Finds what of a study fits into a budget.

    Args:
        study: with a race.
        seconds: the budget, for all runs together.
        spent: seconds of earlier runs.
        arms: forecasts of all arms with trials to come.
        to_come: makes the trials that a study still has to run, of the final ones all that there may be.
        begun: search trials of an arm that there must be, because the search has begun with them.

    Raises:
        StudyError: if not even the least fits, with the least budget that would do.
    """
    assert study.protocol.race is not None
    search, counts = study.protocol.search, looks(study.protocol.race)
    asked = search.trials if search is not None else 0
    usable = seconds * (1 - KEPT) - spent
    for trials in range(asked, min(asked, max(LEAST_SEARCH, begun)) - 1, -1):
        candidate = with_trials(study, trials)
        coming = to_come(candidate)
        if not coming.labels:
            return Allotment(candidate, seconds, spent, arms, asked, trials, 0.0, counts[-1])
        until_look = [_until(coming, study, count) for count in counts]
        looked = [forecast_seconds(each, arms) for each in until_look]
        # Of a study that goes on, looks that it has had take nothing more.
        lacking = (needed for each, needed in zip(until_look, looked, strict=True) if each.final)
        first = next(lacking, looked[-1])
        if first <= usable:
            seeds = max(count for count, needed in zip(counts, looked, strict=True) if needed <= usable)
            return Allotment(candidate, seconds, spent, arms, asked, trials, first, seeds)
    _refuse(candidate, seconds, spent, first, arms)
    raise AssertionError


def with_prospect(
    allotment: Allotment, store: StudyStore, trials: Sequence[TrialSpec], test_rows: int | None
) -> Allotment:
    """Adds what the verdict will be able to tell: by the spread of what the study's folder has, else by priors, which
    there are for metrics that are fractions where seeds share their training rows.

    Args:
        allotment: what fits.
        store: the folder, there or not yet.
        trials: the final trials of the study.
        test_rows: number of test rows, where it is known.
    """
    # Statistics take a while to import, and most plans need none.
    from tuneoff.analysis.statistics import Looks
    from tuneoff.analysis.statistics.power import prior_components, smallest_difference

    study = allotment.study
    race = study.protocol.race
    assert race is not None
    counts = looks(race)
    at_looks, look = Looks(study.protocol.seeds, counts, {}), counts.index(allotment.seeds) + 1
    task = registry.create_task(study.task)
    trained = sum(registry.methods()[arm.method].trains for arm in study.methods.values())
    seen = _seen(store, study, trials) if store.is_there else None
    if seen is not None:
        by, parts = f"by the spread of {seen.seeds} seeds so far", seen.with_seeds(allotment.seeds)
    elif has_prior(study, task) and test_rows is not None and test_rows > 1:
        by, parts = (
            f"by a prior of what seeds and {test_rows:,} test rows add",
            prior_components(allotment.seeds, test_rows, trained),
        )
    else:
        return allotment
    smallest = smallest_difference(parts, len(study.methods), at_looks, look)
    return replace(allotment, smallest=smallest, smallest_by=by)


def has_prior(study: StudySpec, task: Task) -> bool:
    """Tells whether there is a prior of what seeds and test rows add: for fractions, where seeds share their rows."""
    return study.protocol.splits == "fixed" and task.metric(task.primary_metric).unit == "fraction"


def _seen(store: StudyStore, study: StudySpec, trials: Sequence[TrialSpec]) -> Components | None:
    from tuneoff.analysis.outcomes import Outcomes
    from tuneoff.analysis.results import Asked, gather

    results = gather(store, Asked(study, trials))
    outcomes = Outcomes(results)
    return outcomes.typical_error(results.primary) if results.primary else None


def with_trials(study: StudySpec, trials: int) -> StudySpec:
    """Returns a study whose search, if it has one, has so many trials of every arm."""
    search = study.protocol.search
    if search is None:
        return study
    changes = {"search": search.model_copy(update={"trials": trials})}
    return study.model_copy(update={"protocol": study.protocol.model_copy(update=changes)})


def _until(coming: ToCome, study: StudySpec, count: int) -> ToCome:
    seeds = set(study.protocol.seeds[:count])
    return ToCome([trial for trial in coming.final if trial.seed in seeds], coming.search)


def forecast_seconds(coming: ToCome, arms: Mapping[str, ArmForecast]) -> float:
    """Sums the forecast over trials.

    Raises:
        StudyError: if the time of some is not known.
    """
    if not coming.labels:
        return 0.0
    total = coming.times(arms)
    if total.total_seconds is None:
        reason = total.missing["total_seconds"]
        raise StudyError(
            f"no budget can be kept where times are not known: {reason}", hint="Run the study without --budget."
        )
    return total.total_seconds


def _refuse(study: StudySpec, seconds: float, spent: float, first: float, arms: Mapping[str, ArmForecast]) -> None:
    """Says what the least budget would be.

    Raises:
        StudyError: always.
    """
    least = _rounded_up((first + spent) / (1 - KEPT))
    search = study.protocol.search
    what = f"{search.trials} search trials and the next seeds" if search is not None else "the next seeds"
    before = f", of which earlier runs took {_text(spent)}" if spent else ""
    dearest = max(arms.values(), key=lambda arm: arm.trial_seconds or 0.0, default=None)
    leave_out = f" Without {dearest.label}, the dearest arm, less would do (--methods)." if dearest else ""
    raise StudyError(
        f"a budget of {_text(seconds)}{before} is not enough: {what} of {len(study.methods)} arms need "
        f"--budget {_text(least)} at least",
        hint=f"Rows, epochs and lengths are never changed for a budget.{leave_out}",
    )


def _rounded_up(seconds: float) -> float:
    unit = 60 if seconds > 600 else 10
    return -(-seconds // unit) * unit


def _text(seconds: float) -> str:
    """Writes a duration as `--budget` takes it: `45s`, `12m`, `1h30m`."""
    whole = round(seconds)
    parts = {"h": whole // 3600, "m": whole % 3600 // 60, "s": whole % 60}
    return "".join(f"{number}{unit}" for unit, number in parts.items() if number) or "0s"
