"""All searches of a study: one, or one of every final seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

from tuneoff.analysis.search_rounds import outline
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.executors.base import Executor, Inspection, Listener
from tuneoff.planning.plan import Searched, search_studies
from tuneoff.search.space import Values
from tuneoff.store import StudyStore
from tuneoff.study.search_runner import SearchRunner

Found = TypeVar("Found")


class SearchRunners:
    """Runs what is missing of a study's searches, one after the other; takes what `Search` takes."""

    def __init__(self, study: StudySpec, fingerprints: Mapping[str, str], store: StudyStore) -> None:
        self._study = study
        self._runners = {
            seed: SearchRunner(each, fingerprints, store, None if seed is None else study)
            for seed, each in search_studies(study).items()
        }

    def missing(self) -> list[TrialSpec]:
        """Returns the trials to run of the first round of each search that lacks some; none where all are over.

        Raises:
            StudyError: see `SearchRunner.missing`.
        """
        return [trial for runner in self._runners.values() for trial in runner.missing()]

    def to_come(self) -> list[TrialSpec]:
        """Plans a trial for each that searches which lack some have still to run, as far as can be told; see
        `Study.plan_search`. Ask `missing` first: it reads the outcomes."""
        done = self.tried
        remaining = []
        for trial in outline(self._study):
            if done[trial.label, trial.seed] > 0:
                done[trial.label, trial.seed] -= 1
            else:
                remaining.append(trial)
        return remaining

    def study_of_trials(self) -> StudySpec:
        """Returns the study with the share of data and steps that its searches give to each trial."""
        return next(iter(self._runners.values())).study_of_trials()

    def check(self, inspection: Inspection) -> None:
        """Checks that the data is enough for the searches; see `SearchRunner.check`."""
        for runner in self._runners.values():
            runner.check(inspection)

    def run(self, executor: Executor, listener: Listener, relatives: Sequence[StudyStore] = ()) -> None:
        """Runs what is missing; see `SearchRunner.run`."""
        for runner in self._runners.values():
            runner.run(executor, listener, relatives)

    def others(self) -> list[TrialSpec]:
        """Plans the final trials of arms that this run was not asked for; see `Search.others`."""
        return [trial for runner in self._runners.values() for trial in runner.others()]

    @property
    def chosen(self) -> dict[Searched, Values]:
        """Maps arms, or arms and seeds, to what their search chose, as `plan` takes it."""
        return self._keyed({seed: runner.chosen for seed, runner in self._runners.items()})

    @property
    def hopeless(self) -> dict[Searched, str]:
        """Maps arms, or arms and seeds, of whose search no trial completed to the reason."""
        return self._keyed({seed: runner.hopeless for seed, runner in self._runners.items()})

    @property
    def tried(self) -> Counter[tuple[str, int]]:
        """Counts the search trials that have outcomes, by label and the search's seed."""
        return Counter(
            {
                (label, runner.spec.seed): len(arm.records)
                for runner in self._runners.values()
                for label, arm in runner.arms.items()
            }
        )

    @staticmethod
    def _keyed(found: Mapping[int | None, Mapping[str, Found]]) -> dict[Searched, Found]:
        return {
            label if seed is None else (label, seed): value
            for seed, values in found.items()
            for label, value in values.items()
        }
