"""One run of a study in its folder: its search, if it has one, and then its final trials, round by round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext

from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.executors.base import Executor, Inspection, Listener, Progress
from tuneoff.planning.plan import for_trial, plan
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.study import forecast_planner, inputs, kept_forecast, race_runner
from tuneoff.study.clock import Clock
from tuneoff.study.searches import SearchRunners
from tuneoff.study.to_come import ToCome, searched_batch_sizes
from tuneoff.trial import early


class StudyRunner:
    """Runs what a study's folder lacks: `prepare`, perhaps `forecast`, then `run`, all while the folder is locked.

    Args:
        study: what is asked.
        store: its folder, there or not yet.
        relatives: folders whose finished trials are taken over.
        clock: keeps the budget of time; None without one.

    Attributes:
        planned: the final trials, in the configurations that are known so far; empty before `prepare`.
        is_whole: whether all that was asked for has been tried.

    Raises:
        SourceNotFound: if a local file is not there.
    """

    def __init__(
        self, study: StudySpec, store: StudyStore, relatives: Sequence[StudyStore], clock: Clock | None = None
    ) -> None:
        self.study, self.store, self.relatives, self.clock = study, store, relatives, clock
        self.fingerprints = inputs.fingerprints(study)
        self.search = SearchRunners(study, self.fingerprints, store)
        self.planned: list[TrialSpec] = []
        self.is_whole = False
        self._inspection: Inspection | None = None
        self._to_come = ToCome([])

    @property
    def is_out_of_time(self) -> bool:
        """Tells whether the budget ended before the study was whole: the last trial may have ended as the time did."""
        return self.clock is not None and self.clock.spent and not self.is_whole

    def prepare(self, executor: Executor, listener: Listener) -> None:
        """Checks that the study can be run, takes over what is finished elsewhere and creates the folder.

        Raises:
            TuneoffError: anything that makes the study impossible; nothing new is written then.
        """
        store = self.store
        store.set_aside_damage()
        store.check(self.study)
        # Checked before anything is written, so that an impossible study leaves nothing to clean up.
        search_trials = self.search.missing()
        self._plan()
        if self.relatives:
            for batch in race_runner.rounds(self.study, store, self.planned):
                store.adopt(self.study, batch, self.relatives)
        due, missing = race_runner.outstanding(self.study, store, self.planned)
        if due:
            early.refuse_study(self.study, due, required=True)
            self._inspection = executor.inspect(self.study, due, require_data=True)
            missing += repeat_changed(store, self.planned, self._inspection, listener)
        if search_trials:
            # The search's share of the data may be too small where all of the data is enough.
            self.search.check(executor.inspect(self.search.study_of_trials(), search_trials, require_data=True))
        if not store.is_there:
            # The planned trials, until the search chooses; a search that continues keeps what was chosen before.
            StudyStore.create(store.root, self.study, race_runner.first_round(self.study, self.planned))
        search_to_come = self.search.to_come() if search_trials else []
        due_first = due if self.study.protocol.race is not None else None
        batch_sizes = searched_batch_sizes(self.study)
        self._to_come = ToCome(missing, search_to_come, self.study.prices, due_first, self.planned, batch_sizes)

    def forecast(
        self, executor: Executor, *, profile: bool, listener: forecast_planner.RunForecastListener | None
    ) -> None:
        """Forecasts the run where that pays; see `forecast_planner.forecast_before_run`."""
        if self.clock is not None:
            kept_forecast.keep(self.store, self._to_come, self.clock.allotment.arms)
        forecast_planner.forecast_before_run(
            executor, self.store, self._to_come, self._inspection, profile=profile, listener=listener
        )

    def run(self, executor: Executor, listener: Listener) -> None:
        """Runs what is missing, as far as the budget goes.

        Raises:
            KeyboardInterrupt: after running trials were recorded as cancelled.
        """
        clock = self.clock
        heard = clock.follow(listener) if clock is not None else listener
        with clock.ending() if clock is not None else nullcontext():
            self.search.run(executor, heard, self.relatives)
            self._plan()
            self._run_rounds(executor, heard)
        self.is_whole = not self.search.missing() and race_runner.all_tried(self.study, self.store, self.planned)
        if clock is not None:
            clock.keep()
        if self.is_whole:
            self.store.note_look(self.study, self.relatives)

    def _plan(self) -> None:
        """Plans the final trials with what the search has chosen so far."""
        self.planned = plan(self.study, self.fingerprints, self.search.chosen)

    def _run_rounds(self, executor: Executor, listener: Listener) -> None:
        """Runs the final trials, round by round, as far as the budget goes."""
        contents = dict(self._inspection.contents) if self._inspection is not None else {}
        others = self.search.others()
        for batch in race_runner.rounds(self.study, self.store, self.planned):
            if self.clock is not None:
                due = [trial for trial in batch if self.store.trial(trial.id).answer() is None]
                if due and not self.clock.fits(due):
                    return
            StudyStore.create(self.store.root, self.study, [*batch, *others])
            self.store.adopt(self.study, batch, self.relatives)
            self._run_trials([trial.model_copy(update={"contents": contents}) for trial in batch], executor, listener)

    def _run_trials(self, trials: list[TrialSpec], executor: Executor, listener: Listener) -> None:
        """Runs final trials, except those that diverged before, and those whose search found nothing: these get a
        record that says so."""
        ended = []
        hopeless = self.search.hopeless
        for trial in trials:
            store = self.store.trial(trial.id)
            reason, answer = for_trial(hopeless, trial.label, trial.seed), store.answer()
            if answer is not None and not answer.status.finished:
                executor.skip(trial, answer, listener)
                ended.append(trial)
            if reason is None or answer is not None:
                continue
            ended.append(trial)
            record = TrialRecord(spec=trial, status=Status.FAILED, cause=reason)
            store.begin_attempt()
            store.write_record(record)
            listener(Progress("ended", trial, record=record))
        executor.run(self.store, [trial for trial in trials if trial not in ended], listener)


def repeat_changed(
    store: StudyStore, trials: Iterable[TrialSpec], inspection: Inspection, listener: Listener
) -> list[TrialSpec]:
    """Sets aside results that loaded something else than is there now, and returns them.

    What is no part of their ids is meant: rows and weights of a hub, whose names stay while they move on.
    """
    changed = []
    for trial in trials:
        record = store.trial(trial.id).answer()
        if record is None or record.spec.fingerprints is None:
            continue
        if any(inspection.contents.get(name, content) != content for name, content in record.contents.items()):
            message = "rows or base model have moved on since it was run; it is set aside and run again"
            finding = {"kind": "finding", "name": "changed_content", "message": message}
            listener(Progress("event", trial, event=finding))
            store.trial(trial.id).begin_attempt(again=True)
            changed.append(trial)
    return changed
