"""Runs the search of a study: the trials that its records still lack, round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuneoff.analysis.search_data import search_data
from tuneoff.analysis.search_rounds import Search
from tuneoff.config.search import SearchSpec
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import Problem, StudyError
from tuneoff.executors.base import Executor, Inspection, Listener
from tuneoff.search import halving, stopping
from tuneoff.search.sampling import rules
from tuneoff.search.space import spaces
from tuneoff.store import StudyStore


class SearchRunner(Search):
    """Runs what is missing of a study's search; takes what `Search` takes, and the study that the folder is of, where
    it is searched seed by seed.

    Attributes:
        contents: what the run's inspection saw of sources that change, for each trial to verify; set by `check`.
    """

    def __init__(
        self, study: StudySpec, fingerprints: Mapping[str, str], store: StudyStore, whole: StudySpec | None = None
    ) -> None:
        super().__init__(study, fingerprints, store)
        self._whole = whole or self.study
        self.contents: dict[str, str] = {}

    def check(self, inspection: Inspection) -> None:
        """Checks that the data is enough for the search; `inspection` is of `study_of_trials`.

        Raises:
            StudyError: if there are fewer steps than its rungs count on, no validation on the way to stop at, or fewer
                rows than its greatest batch size.
        """
        self.contents = dict(inspection.contents)
        if inspection.data is not None:
            rows = inspection.data["splits"]["train"]["rows"]
            halving.check_rows(self._whole.protocol, rows)
            if self.spec.stop != "none":
                stopping.check_rows(self.study_of_trials().protocol, rows)
            _check_batch_sizes(self.spec, rows)

    def run(self, executor: Executor, listener: Listener, relatives: Sequence[StudyStore] = ()) -> None:
        """Runs what is missing of the search; writes the search of all arms of the folder, also where it is
        interrupted.

        Args:
            executor: runs trials.
            listener: called with what they do.
            relatives: folders from which finished trials are taken over.

        Raises:
            KeyboardInterrupt: after running trials were recorded as cancelled.
            StudyError: as `missing`.
        """
        if not spaces(self.study):
            return
        missing = self.missing()
        try:
            # An executor may start a process to find out what it runs on: not for a search that is over.
            together = executor.trains_together(self.study.execution) if missing else 1
            for trials in self.rounds(together):
                StudyStore.create(self.store.root, self._whole, trials)
                self.store.adopt(self._whole, trials, relatives)
                open_trials = []
                for trial in trials:
                    if (record := self.store.trial(trial.id).answer()) is not None:
                        executor.skip(trial, record, listener)
                    else:
                        open_trials.append(trial)
                trials_to_run = [trial.model_copy(update={"contents": self.contents}) for trial in open_trials]
                executor.run(self.store, trials_to_run, listener)
        finally:
            if self.store.is_there:
                # The folder's study may have arms that this run was not asked for; they were searched as well.
                self.store.write_search(search_data(self.store.study(), self.fingerprints, self.store))

    def missing(self) -> list[TrialSpec]:
        """Returns the trials to run of the first round that lacks some; none where the search is over.

        Raises:
            StudyError: if other rules began the search and some of it is missing: these would suggest otherwise.
        """
        missing = super().missing()
        if missing and (others := self.other_rules()):
            present = rules(self.spec.sampler)
            raise StudyError(
                f"the search in {self.store.root} was begun by {others[0]}, and {present} would suggest otherwise: "
                "what is missing of it cannot be run here",
                hint="Go on with the versions that it was begun with, or begin anew in another folder (--out). "
                "`tuneoff report` reads what is there.",
            )
        return missing


def _check_batch_sizes(search: SearchSpec, rows: int) -> None:
    """Checks that a search trial has as many training rows as the greatest batch size that it may try."""
    if search.batch_sizes is not None and (greatest := search.batch_sizes[1]) > rows:
        message = (
            f"up to {greatest:,} is to be searched, and a search trial has {rows:,} training rows: greater sizes are "
            f"all alike. Search up to {rows} at most"
        )
        raise StudyError([Problem("protocol.batch_size", message)])
