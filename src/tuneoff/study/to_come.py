"""The trials that a study still has to run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tuneoff.config.spec import PricesSpec, StudySpec, TrialSpec
from tuneoff.planning.plan import plan
from tuneoff.records.forecast import ArmForecast, StudyForecast
from tuneoff.records.forecast_sums import recorded_seconds, study_forecast
from tuneoff.search.racing import EXPECTED_SHARE
from tuneoff.store import StudyStore
from tuneoff.study import inputs, race_runner
from tuneoff.study.forecast_money import with_money
from tuneoff.study.searches import SearchRunners


@dataclass(frozen=True)
class ToCome:
    """Trials that are to be run.

    Attributes:
        final: the final ones.
        search: those of the search. What they try depends on outcomes, so all have what their arm tries first.
        prices: of devices, as the study states them; None for none.
        due: in a race, the final ones that run whatever comes; None without one, where all do.
        planned: all final trials, done ones too: the forecast of an arm is of its first one.
        batch_sizes: the least and the greatest that the search may choose; None where it chooses none.
    """

    final: Sequence[TrialSpec]
    search: Sequence[TrialSpec] = ()
    prices: PricesSpec | None = None
    due: Sequence[TrialSpec] | None = None
    planned: Sequence[TrialSpec] = ()
    batch_sizes: tuple[int, int] | None = None

    @property
    def labels(self) -> list[str]:
        """Returns the arms that have trials to come, in order."""
        return list(dict.fromkeys(trial.label for trial in (*self.final, *self.search)))

    def only(self, labels: Sequence[str]) -> ToCome:
        """Returns the trials to come of some arms."""
        return replace(
            self,
            final=[trial for trial in self.final if trial.label in labels],
            search=[trial for trial in self.search if trial.label in labels],
            due=self.due and [trial for trial in self.due if trial.label in labels],
        )

    def longest(self, label: str) -> TrialSpec | None:
        """Returns the trial of an arm's search that has the most steps; None where the arm has none."""
        tries = [trial for trial in self.search if trial.label == label]
        return max(tries, key=lambda trial: trial.protocol.max_steps or math.inf, default=None)

    @property
    def search_shares(self) -> list[float]:
        """Returns for every trial of the search its share of the steps of the arm's longest trial: with pruning some
        have fewer."""
        longest = {label: self.longest(label) for label in {trial.label for trial in self.search}}
        max_steps = {label: trial.protocol.max_steps for label, trial in longest.items() if trial is not None}
        pairs = [(trial.protocol.max_steps, max_steps[trial.label]) for trial in self.search]
        return [steps / longest_steps if steps and longest_steps else 1.0 for steps, longest_steps in pairs]

    def total(self, arms: Mapping[str, ArmForecast], memory_limit_bytes: int | None = None) -> StudyForecast:
        """Sums the forecasts over these trials, in money too; `arms` has a forecast of each arm, and perhaps of
        others."""
        if self.due is not None:
            most, least = (
                replace(self, final=final, due=None).total(arms, memory_limit_bytes) for final in (self.final, self.due)
            )
            if most.total_seconds is None or least.total_seconds is None:
                return most
            expected = least.total_seconds + EXPECTED_SHARE * (most.total_seconds - least.total_seconds)
            return most.model_copy(update={"expected_seconds": expected})
        search_seconds = dict.fromkeys(arms, 0.0)
        for trial, share in zip(self.search, self.search_shares, strict=True):
            if trial.label in arms:
                search_seconds[trial.label] += arms[trial.label].search_trial_seconds(share)
        return with_money(
            self.times(arms, memory_limit_bytes),
            self.prices,
            {trial.label: trial.devices for trial in (*self.final, *self.search)},
            search_seconds,
            {label: self.only([label])._recorded_seconds(arms[label]) for label in self.labels},
        )

    def _recorded_seconds(self, arm: ArmForecast) -> float | None:
        """Returns the seconds that the records of these trials, all of one arm, will tell."""
        timed = sum(trial.times_inference for trial in self.final)
        return recorded_seconds(arm, timed, len(self.final) - timed, self.search_shares)

    def times(self, arms: Mapping[str, ArmForecast], memory_limit_bytes: int | None = None) -> StudyForecast:
        """Sums the forecasts over all these trials, also in a race, without money."""
        return study_forecast(
            {label: arms[label] for label in self.labels},
            [trial.label for trial in self.final],
            [trial.label for trial in self.search],
            search_shares=self.search_shares,
            untimed=[trial.label for trial in self.final if not trial.times_inference],
            keep_weights=any(trial.execution.keep_weights for trial in self.final),
            memory_limit_bytes=memory_limit_bytes,
        )


def searched_batch_sizes(study: StudySpec) -> tuple[int, int] | None:
    """Returns the least and the greatest batch size that a study's search may choose; None where it chooses none."""
    return study.protocol.search.batch_sizes if study.protocol.search is not None else None


def trials_to_come(study: StudySpec, store: StudyStore) -> ToCome:
    """Returns the trials that a study still has to run in its folder, of the final ones all that there may be.

    Raises:
        SourceNotFound: if a local file is not there.
        StudyError: if what is missing of its search cannot be run here.
    """
    fingerprints = inputs.fingerprints(study)
    search = SearchRunners(study, fingerprints, store)
    search_trials = search.to_come() if search.missing() else []
    trials = plan(study, fingerprints, search.chosen)
    final = race_runner.outstanding(study, store, trials)[1]
    return ToCome(final, search_trials, study.prices, planned=trials, batch_sizes=searched_batch_sizes(study))
