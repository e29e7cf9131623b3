"""The forecast of a study, arm by arm: each in a process of its own, with a fallback wherever one fails.

`Executor.profile` and `Executor.estimate` forecast an arm. This module decides what is asked for, and what is recorded
where there is no forecast.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from tuneoff.config.spec import TrialSpec
from tuneoff.errors import DataError, SourceError, StoreError, TuneoffError
from tuneoff.executors.base import Executor, Inspection
from tuneoff.records.forecast import ArmForecast, How, StudyForecast, with_times_of
from tuneoff.records.forecast_correction import corrected
from tuneoff.store import StudyStore
from tuneoff.study import forecast_worth, kept_forecast
from tuneoff.study.to_come import ToCome

FIGURES = ("peak_memory_bytes", "train_seconds", "seconds", "search_seconds", "stored_bytes", "predictions_bytes")
"""The figures that an arm without a forecast lacks."""


@dataclass(frozen=True)
class ForecastProgress:
    """The arm that is being forecast, the `number`-th of `arms`, and how; no `label`: all of them at once."""

    label: str | None
    number: int
    arms: int
    how: How


ForecastListener = Callable[[ForecastProgress], None]
RunForecastListener = Callable[[ForecastProgress | StudyForecast], None]


Pair: TypeAlias = tuple[TrialSpec, TrialSpec | None]
"""A final trial, and one of the search where there is one."""


class ForecastPlanner:
    """Forecasts the arms of some trials. One that cannot be profiled is estimated; `missing` says why.

    Args:
        executor: asks a process of its own about each arm.
        to_come: the trials.
        memory_limit_bytes: of another device, to know what would fit there; this machine's where unset.
        listener: called for each arm before it is forecast.
    """

    def __init__(
        self,
        executor: Executor,
        to_come: ToCome,
        memory_limit_bytes: int | None = None,
        listener: ForecastListener | None = None,
    ) -> None:
        self.executor, self.to_come, self.memory_limit_bytes = executor, to_come, memory_limit_bytes
        self.listener = listener or (lambda _: None)
        self._out_of_reach: dict[How, str] = {}

    def arms(self, labels: Sequence[str], profile: bool) -> dict[str, ArmForecast]:
        """Forecasts these arms; returns label -> forecast.

        Raises:
            KeyboardInterrupt: after the process at work was ended.
        """
        if not profile:
            with suppress(TuneoffError):  # a process that fails for all may do for one
                return self._estimate(labels)
        how: How = "profile" if profile else "estimate"
        return {
            label: self.arm(ForecastProgress(label, number, len(labels), how)) for number, label in enumerate(labels, 1)
        }

    def arm(self, progress: ForecastProgress) -> ArmForecast:
        """Forecasts one arm; without figures, and with the reason, where none can be had."""
        assert progress.label is not None
        self.listener(progress)
        start_time = time.monotonic()
        found = [self._ask_in_turn(pair, progress.how) for pair in self._pairs(progress.label)]
        update = {"forecast_seconds": time.monotonic() - start_time}
        return self._joined(progress.label, found).model_copy(update=update)

    def _ask_in_turn(self, pair: Pair, how: How) -> ArmForecast:
        """Profiles a pair of trials, or only estimates it; where the first fails, the second."""
        modes: tuple[How, ...] = ("profile", "estimate") if how == "profile" else ("estimate",)
        trial, search_trial = pair
        arm_forecast = self._unknown(trial)
        missing: dict[str, str] = {}
        for mode in modes:
            try:
                arm_forecast = self._ask(trial, search_trial, mode)
                missing |= arm_forecast.missing
                break
            except TuneoffError as error:
                missing |= _missing_figures(error, search_trial) if mode == "estimate" else {"profile": _reason(error)}
        return arm_forecast.model_copy(update={"missing": missing})

    def _estimate(self, labels: Sequence[str]) -> dict[str, ArmForecast]:
        """Estimates many arms in one process.

        Raises:
            TuneoffError: if it failed.
        """
        self.listener(ForecastProgress(None, 1, len(labels), "estimate"))
        pairs = [pair for label in labels for pair in self._pairs(label)]
        answers = self.executor.estimate(pairs, memory_limit_bytes=self.memory_limit_bytes)
        found: dict[str, list[ArmForecast]] = {label: [] for label in labels}
        for (trial, search_trial), answer in zip(pairs, answers, strict=True):
            if isinstance(answer, TuneoffError):
                answer = self._unknown(trial).model_copy(update={"missing": _missing_figures(answer, search_trial)})
            found[trial.label].append(answer)
        return {label: self._joined(label, forecasts) for label, forecasts in found.items()}

    def _pairs(self, label: str) -> list[Pair]:
        """Returns the trials that represent an arm: its first final trial, and the longest of its search.

        Where its search is still to choose the batch size, these with the greatest, which takes the most memory, and
        these with the least, which takes the most steps.
        """
        finals = (*self.to_come.final, *self.to_come.planned)
        final = next(trial for trial in finals if trial.label == label)
        search_trial = self.to_come.longest(label)
        sizes = self.to_come.batch_sizes
        if search_trial is None or sizes is None:
            return [(final, search_trial)]
        return [(_with_batches(final, size), _with_batches(search_trial, size)) for size in reversed(sizes)]

    def _joined(self, label: str, found: Sequence[ArmForecast]) -> ArmForecast:
        """Returns an arm's forecast, given those of its `_pairs`."""
        largest, *smallest = found
        joined = largest.model_copy(update={"trial": self._pairs(label)[0][0].id})
        if not smallest:
            return joined
        update = {
            "batch_sizes": self.to_come.batch_sizes,
            "forecast_seconds": sum(each.forecast_seconds for each in found),
        }
        return with_times_of(joined, smallest[0]).model_copy(update=update)

    def _unknown(self, trial: TrialSpec) -> ArmForecast:
        return ArmForecast(label=trial.label, trial=trial.id, how="estimate", device=self.executor.device)

    def _ask(self, trial: TrialSpec, search_trial: TrialSpec | None, mode: How) -> ArmForecast:
        """Asks the executor; rows or weights that were out of reach for one arm are not tried again for the next.

        Raises:
            TuneoffError: if there is no such forecast.
        """
        if mode in self._out_of_reach:
            raise TuneoffError(self._out_of_reach[mode])
        try:
            if mode == "profile":
                return self.executor.profile(trial, search_trial, memory_limit_bytes=self.memory_limit_bytes)
            (arm_forecast,) = self.executor.estimate(
                [(trial, search_trial)], memory_limit_bytes=self.memory_limit_bytes
            )
            if isinstance(arm_forecast, TuneoffError):
                raise arm_forecast
            return arm_forecast
        except (SourceError, DataError) as error:
            self._out_of_reach[mode] = error.message
            raise


def _with_batches(trial: TrialSpec, size: int) -> TrialSpec:
    protocol = trial.protocol.model_copy(update={"batch_size": size})
    return trial.model_copy(update={"protocol": protocol})


def _reason(error: TuneoffError) -> str:
    return " ".join(error.message.split())


def _missing_figures(error: TuneoffError, search_trial: TrialSpec | None) -> dict[str, str]:
    """Maps each figure that an arm without a forecast lacks to the reason."""
    figures = [figure for figure in FIGURES if figure != "search_seconds" or search_trial is not None]
    return dict.fromkeys(figures, _reason(error))


def forecast(
    executor: Executor,
    to_come: ToCome,
    *,
    profile: bool = True,
    memory_limit_bytes: int | None = None,
    listener: ForecastListener | None = None,
) -> StudyForecast:
    """Forecasts what the trials to come will take.

    Args:
        executor, to_come, memory_limit_bytes, listener: see `ForecastPlanner`.
        profile: run a few real steps of each arm on this machine; else nothing is run, and times are rough.

    Raises:
        KeyboardInterrupt: after the process at work was ended.
    """
    arms = ForecastPlanner(executor, to_come, memory_limit_bytes, listener).arms(to_come.labels, profile)
    return to_come.total(arms, memory_limit_bytes)


def forecast_before_run(
    executor: Executor,
    store: StudyStore,
    to_come: ToCome,
    seen: Inspection | None = None,
    *,
    profile: bool = True,
    listener: RunForecastListener | None = None,
) -> None:
    """Makes the forecast of a run, keeps it in the study's folder and tells the listener what the trials to come will
    take.

    It must cost little beside the run: see `forecast_worth`. An arm that has a forecast from an earlier run keeps it.
    No failure of a forecast fails the run.

    Args:
        executor, to_come: see `ForecastPlanner`.
        store: the study's folder, which is there.
        seen: the inspection of the trials.
        profile: profile where that pays; else estimate at most.
        listener: called for each arm before it is forecast, and at last with the whole forecast, if there is one.

    Raises:
        KeyboardInterrupt: after the process at work was ended.
    """
    listener = listener or (lambda _: None)
    arms = kept_forecast.arms(store, to_come)
    new_labels = [label for label in to_come.labels if label not in arms]
    if new_labels and not (seen is not None and forecast_worth.is_short(to_come, seen)):
        added = to_come.only(new_labels)
        new_arms = _arms_of_a_run(
            ForecastPlanner(executor, added, listener=listener), new_labels, _heaviest(added, seen), profile
        )
        if new_arms:
            arms |= new_arms
            with suppress(StoreError):  # a full disk: the run will say so itself
                kept_forecast.keep(store, to_come, arms)
    if to_come.labels and arms.keys() >= set(to_come.labels):
        listener(to_come.total(arms))


def forecast_arms(
    executor: Executor,
    store: StudyStore,
    to_come: ToCome,
    *,
    profile: bool = True,
    listener: ForecastListener | None = None,
) -> dict[str, ArmForecast]:
    """Forecasts every arm with trials to come, however little they take; an arm that has a forecast from an earlier run
    keeps it. One arm is profiled, and the others are corrected by it."""
    arms = kept_forecast.arms(store, to_come)
    new_labels = [label for label in to_come.labels if label not in arms]
    if new_labels:
        added = to_come.only(new_labels)
        planner = ForecastPlanner(executor, added, listener=listener)
        heaviest = _heaviest(added, None)
        new_arms = _arms_of_a_run(planner, new_labels, heaviest, profile, always=True)
        arms |= new_arms or planner.arms(new_labels, profile=False)
    return arms


def _heaviest(to_come: ToCome, inspection: Inspection | None) -> str | None:
    """Returns the arm that trains the most parameters, which is the likeliest not to fit.

    The first arm where that is not known, and None where no arm trains.
    """
    counts = inspection.trials if inspection is not None else {}

    def trained(trial: TrialSpec) -> int:
        return sum(counts[trial.id]["trainable_parameters"].values()) if trial.id in counts else 0

    trains = [trial for trial in (*to_come.final, *to_come.search) if trial.learning_rate is not None]
    return max(trains, key=trained).label if trains else None


def _arms_of_a_run(
    planner: ForecastPlanner, labels: Sequence[str], first: str | None, profile: bool, always: bool = False
) -> dict[str, ArmForecast]:
    """Forecasts the arms of a run at a cost that pays.

    Estimates one arm first, to know what pays, and then all arms. Then profiles one arm and corrects the others by it,
    or profiles all.

    Args:
        planner: of the trials to come.
        labels: the arms.
        first: the one that is estimated first; None where none trains.
        profile: run real steps.
        always: also where it does not pay.

    Returns:
        Forecasts of these arms; of none where the trials to come take too little time and the arm fits.
    """
    if first is None:
        return {}
    to_come = planner.to_come
    arms = planner.arms([first], profile=False)
    if not always and not forecast_worth.pays(to_come, arms[first], len(labels), profile):
        return {}
    if rest := [label for label in labels if label != first]:
        arms |= planner.arms(rest, profile=False)
    # Arms on several devices are never profiled.
    devices = {trial.label: trial.devices for trial in (*to_come.final, *to_come.search)}
    single_device = [label for label in labels if devices[label] == 1]
    if not profile or not single_device:
        return arms
    trained = sorted(
        (arms[label] for label in single_device if arms[label].train_seconds is not None), key=_train_seconds
    )
    if not trained:
        # Where a model's operations cannot be estimated, steps that are run still give its times.
        return planner.arms(labels, profile=True)
    median = trained[len(trained) // 2]
    profiled = planner.arm(ForecastProgress(median.label, 1, 1, "profile"))
    if profiled.how != "profile" or not profiled.seconds:
        return {**arms, median.label: profiled}
    rest = [label for label in single_device if arms[label].how == "estimate" and label != median.label]
    arms |= {label: corrected(arms[label], median, profiled) for label in rest}
    arms[median.label] = profiled
    seconds = to_come.times(arms).total_seconds
    if forecast_worth.pays_to_profile(seconds, profiled, len(rest)):
        arms |= planner.arms(rest, profile=True)
    return arms


def _train_seconds(arm: ArmForecast) -> float:
    return arm.train_seconds or 0.0
