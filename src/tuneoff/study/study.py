"""The study from Python: plan, run, results, report.

study = tuneoff.Study("quickstart", methods=["lora", "full"], seeds=3)
study.run("runs/quickstart")
print(study.results())
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuneoff import registry, sources
from tuneoff.analysis.decisions import limits
from tuneoff.analysis.search_rounds import outline, recorded, recorded_choices
from tuneoff.checksums import content_hash
from tuneoff.config.deployability import Form
from tuneoff.config.execution import ExecutorSpec
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import StoreError, StudyError
from tuneoff.executors.base import Executor, Inspection, Listener, Progress
from tuneoff.planning import loading
from tuneoff.planning.plan import Searched, for_trial, plan, question, selection
from tuneoff.records.forecast import ArmForecast, StudyForecast
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore, refuse_overwriting
from tuneoff.study import budget as budgets
from tuneoff.study import deployability, forecast_planner, notebook, race_runner, starts
from tuneoff.study.budget import Allotment
from tuneoff.study.forecast_planner import ToCome
from tuneoff.study.searches import SearchRunners
from tuneoff.trackers.process import Outlets
from tuneoff.trial import early

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, ConsoleOptions, RenderableType

    from tuneoff.analysis.deployability import ArmDeployability
    from tuneoff.analysis.results import Asked
    from tuneoff.report.advice import Advice


class Study:
    """One study: its question, and the folder of its results.

    Args:
        study: a recipe's name, the path of a study file, a mapping of study keys, or a `StudySpec`.
        overrides: `dotted.key=value` texts or a mapping of dotted keys to values.
        methods: arms or methods to run instead of the study's own.
        seeds: number of seeds, or `race`, instead of the study's own.
        random_weights: build the base model's architecture alone; quality then means nothing.
        device: `auto`, `cpu` or `cuda`.
        executor: where trials run instead of the study's own: a name, or an executor that is used as it is, on its own
            device, and left open.

    Attributes:
        relatives: studies whose finished trials a run takes over; None: those beside `default_folder`, where that is
            where it runs.

    Raises:
        StudyError: with every problem of the study; also where a list makes it a series (`tuneoff.Series`).
    """

    def __init__(
        self,
        study: str | Path | Mapping[str, Any] | StudySpec,
        *,
        overrides: Iterable[str] | Mapping[str, Any] = (),
        methods: Iterable[str] | None = None,
        seeds: int | Literal["race"] | None = None,
        random_weights: bool = False,
        device: str = "auto",
        executor: str | Executor | None = None,
    ) -> None:
        name = executor if isinstance(executor, str) else None
        self._own_executor = executor if isinstance(executor, Executor) else None
        changes: dict[str, Any] = {"methods": methods, "seeds": seeds, "random_weights": random_weights}
        if isinstance(study, StudySpec) and name is not None:
            study = study.model_dump(mode="json")
        if isinstance(study, StudySpec):
            self.spec = loading.narrow(study, **changes)
        else:
            self.spec = loading.load(study, overrides, name, **changes)
        self.spec = starts.resolved(self.spec)
        self.device = device
        self.folder: Path | None = None
        self.relatives: Sequence[StudyStore] | None = None
        self.out_of_time = False
        self._planned: list[TrialSpec] = []
        self._budget: float | None = None

    @classmethod
    def open(cls, folder: str | Path) -> Study:
        """Opens a study that was run before.

        Raises:
            StoreError: if the folder holds none.
        """
        study = cls(StudyStore.open(folder).study())
        study.folder = Path(folder)
        return study

    @property
    def default_folder(self) -> Path:
        """Returns `runs/NAME-xxxxxx`: one folder for each question, its arms and its seeds.

        A re-run continues where it stopped, and a folder's report is of what was asked for.
        """
        identity = [question(self.spec), selection(self.spec)]
        return Path("runs") / f"{self.spec.name}-{content_hash(identity)[:6]}"

    def plan(self) -> list[TrialSpec]:
        """Plans the final trials, without looking at weights; local files are read for their fingerprints
        only.

        Arms that are searched have the configuration that their search chose, or before it is over the one that it
        tries first.

        Raises:
            SourceNotFound: if a local file is not there.
        """
        return plan(self.spec, self._fingerprints(), self.chosen)

    def plan_search(self) -> list[TrialSpec]:
        """Plans a trial for each that the search has before its ranges grow, round by round; empty for a study without
        a search.

        All have the configuration that is tried first, because what comes after it depends on outcomes.
        """
        return outline(self.spec)

    def first_round(self, trials: list[TrialSpec]) -> list[TrialSpec]:
        """Returns the final trials that run whatever comes: those of a race's first look, or all."""
        return race_runner.first_round(self.spec, trials)

    def unfinished(self) -> list[TrialSpec]:
        """Returns the final trials that the same run would run: those of a race's next look, or all."""
        trials = self.plan()
        return race_runner.outstanding(self.spec, self._store(), trials)[0]

    @property
    def chosen(self) -> dict[Searched, dict[str, Any]]:
        """Returns what the search chose: label -> option or `learning_rate` -> value; with a search per seed, label and
        seed -> the same. Empty before a search is over."""
        store = StudyStore(self.folder) if self.folder is not None else None
        search = recorded(store) if store is not None and store.is_there else None
        choices = recorded_choices(search) if search is not None else {}
        arms = self.spec.methods
        return {key: choice for key, choice in choices.items() if (key if isinstance(key, str) else key[0]) in arms}

    def inspect(self, trials: list[TrialSpec] | None = None, *, require_data: bool = False) -> Inspection:
        """Counts parameters and looks at the data in a child process; trains nothing."""
        trials = self.plan() if trials is None else trials
        early.refuse_study(self.spec, trials, require_data)
        with self._executor() as executor:
            return executor.inspect(self.spec, trials, require_data)

    def forecast(
        self,
        *,
        profile: bool = True,
        memory_limit: int | None = None,
        listener: forecast_planner.ForecastListener | None = None,
    ) -> StudyForecast:
        """Forecasts what all trials of the study will take, arm by arm in child processes; docs/plan.md says how.

        Args:
            profile: run a few real steps of each arm on this machine; else nothing is run, and times are rough.
            memory_limit: bytes of another device, to know what would fit there; this machine's where unset.
            listener: called for each arm before it is forecast.
        """
        to_come = self._all_to_come()
        early.refuse_study(self.spec, to_come.final, required=True)
        with self._executor() as executor:
            return forecast_planner.forecast(
                executor, to_come, profile=profile, memory_limit_bytes=memory_limit, listener=listener
            )

    def _all_to_come(self) -> ToCome:
        trials = self.plan()
        due = self.first_round(trials) if self.spec.protocol.race is not None else None
        return ToCome(trials, self.plan_search(), self.spec.prices, due, batch_sizes=_batch_sizes(self.spec))

    def preview(
        self,
        *,
        profile: bool = True,
        memory_limit: int | None = None,
        listener: forecast_planner.ForecastListener | None = None,
    ) -> tuple[Inspection, StudyForecast | None]:
        """Inspects and forecasts the study in one call; gives no forecast where the rows of data cannot be read."""
        to_come = self._all_to_come()
        early.refuse_study(self.spec, to_come.final, required=False)
        with self._executor() as executor:
            inspection = executor.inspect(self.spec, to_come.final, False)
            if inspection.data is None:
                return inspection, None
            forecast = forecast_planner.forecast(
                executor, to_come, profile=profile, memory_limit_bytes=memory_limit, listener=listener
            )
        return inspection, forecast

    def limit(self, budget: str) -> None:
        """Gives the study a budget of time for all its runs together, e.g. `30m`; its seeds are then given by racing.

        Raises:
            StudyError: if it cannot be read.
        """
        self._budget = limits.duration(budget, "--budget")
        self.spec = budgets.raced(self.spec)

    def allot(
        self,
        arms: Mapping[str, ArmForecast] | None = None,
        inspection: Inspection | None = None,
        *,
        profile: bool = True,
        listener: forecast_planner.ForecastListener | None = None,
    ) -> Allotment:
        """Finds what of the study fits into its budget; it is then what is planned and run.

        Args:
            arms: forecasts of its arms; made where unset.
            inspection: of its trials; made with the forecasts.
            profile: run a few real steps for it, or only estimate.
            listener: called for each arm before it is forecast.

        Raises:
            StudyError: if there is no budget, or not even the least fits.
        """
        if self._budget is None:
            raise StudyError("the study has no budget of time", hint="Give it one by limit().")
        store = StudyStore(self.folder or self.default_folder)
        store.check(self.spec)
        search = self.spec.protocol.search
        before = store.study().protocol.search if store.is_there else None
        if search is not None and before is not None:
            # A search that has been run, or begun, is not made longer: it would choose anew.
            self.spec = budgets.with_trials(self.spec, min(search.trials, before.trials))
        if arms is None:
            with self._executor() as executor:
                to_come = self._to_come(self.spec, store)
                if to_come.final:
                    early.refuse_study(self.spec, to_come.final, required=True)
                    inspection = executor.inspect(self.spec, to_come.final, require_data=True)
                arms = forecast_planner.forecast_arms(executor, store, to_come, profile=profile, listener=listener)
        spent = store.spent_seconds() if store.is_there else 0.0
        allotment = budgets.allot(
            self.spec, self._budget, spent, arms, lambda spec: self._to_come(spec, store), self._begun(store)
        )
        self.spec = allotment.study
        splits = inspection.data["splits"] if inspection is not None and inspection.data is not None else {}
        return budgets.with_prospect(allotment, store, self.plan(), splits.get("test", {}).get("rows"))

    def _begun(self, store: StudyStore) -> int:
        """Returns how many search trials of an arm must stay, because the folder's search has begun with them.

        All where it is pruned: those that there are would belong to no rung of a shorter one.
        """
        if self.spec.protocol.search is None:
            return 0
        search = SearchRunners(self.spec, self._fingerprints(), store)
        search.missing()
        tried = max(search.tried.values(), default=0)
        return self.spec.protocol.search.trials if tried and self.spec.protocol.search.prune != "none" else tried

    def _to_come(self, spec: StudySpec, store: StudyStore) -> ToCome:
        """Returns the trials that a study still has to run, of the final ones all that there may be."""
        fingerprints = self._fingerprints()
        search = SearchRunners(spec, fingerprints, store)
        searching = search.missing()
        trials = plan(spec, fingerprints, search.chosen)
        final = race_runner.outstanding(spec, store, trials)[1]
        search_to_come = _search_to_come(spec, search) if searching else []
        return ToCome(final, search_to_come, spec.prices, planned=trials, batch_sizes=_batch_sizes(spec))

    def run(
        self,
        out: str | Path | None = None,
        listener: Listener | None = None,
        *,
        budget: str | None = None,
        profile: bool = True,
        forecast_listener: forecast_planner.RunForecastListener | None = None,
        budget_listener: Callable[[Allotment], None] | None = None,
        form_listener: deployability.FormListener = deployability.quiet,
        progress: bool | None = None,
    ) -> Study:
        """Runs the search, if there is one, and then every trial that has no finished record.

        Failed trials are in the records, not raised.

        Args:
            out: the study's folder; where unset `default_folder`, which takes over what folders beside it have finished
                of the same trials.
            listener: called with what the trials do.
            budget: the time of all runs of this study together, e.g. `30m` (see `limit`); docs/protocol.md says what is
                done with it.
            profile: let the forecast before it profile where that pays; else it only estimates (docs/plan.md).
            forecast_listener: called for each arm that is forecast, and then with the whole forecast.
            budget_listener: called with what fits into the budget.
            form_listener: called for each form in which trained models are measured in the end (`deployability`).
            progress: show a bar; where unset, in a notebook and without a listener of one's own.

        Raises:
            TuneoffError: anything that makes the study impossible, before training.
            KeyboardInterrupt: after running trials were recorded as cancelled.
        """
        begun = budgets.now()
        if budget is not None:
            self.limit(budget)
        self.folder = Path(out) if out is not None else self.default_folder
        relatives = self.relatives
        if relatives is None:
            relatives = StudyStore(self.folder).relatives if out is None else []
        held = self._one_executor() if self._budget is not None else nullcontext()
        with held, notebook.listening(self._count, listener, progress) as heard:
            clock = None
            if self._budget is not None:
                allotment = self.allot(profile=profile, listener=forecast_listener)
                if budget_listener is not None:
                    budget_listener(allotment)
                clock = budgets.Clock(allotment, StudyStore(self.folder), begun)
            self._run(
                heard,
                relatives,
                clock,
                profile=profile,
                forecast_listener=forecast_listener,
                form_listener=form_listener,
            )
        return self

    def _count(self) -> int:
        """Counts the trials that run whatever comes, those of the search too."""
        return len(self.plan_search()) + len(self.first_round(self.plan()))

    def _run(
        self,
        listener: Listener,
        relatives: Sequence[StudyStore],
        clock: budgets.Clock | None,
        *,
        profile: bool,
        forecast_listener: forecast_planner.RunForecastListener | None,
        form_listener: deployability.FormListener,
    ) -> None:
        assert self.folder is not None
        fingerprints = self._fingerprints()
        folder_store = StudyStore(self.folder)
        search = SearchRunners(self.spec, fingerprints, folder_store)
        outlets = Outlets(self.spec.trackers)
        listener = outlets.follow(listener)
        with folder_store.lock(), self._executor() as executor, outlets:
            folder_store.set_aside_damage()
            folder_store.check(self.spec)
            # Checked before anything is written, so that an impossible study leaves nothing to clean up.
            search_trials = search.missing()
            self._planned = trials = plan(self.spec, fingerprints, search.chosen)
            if relatives:
                for batch in race_runner.rounds(self.spec, folder_store, trials):
                    folder_store.adopt(self.spec, batch, relatives)
            inspection = None
            due, missing = race_runner.outstanding(self.spec, folder_store, trials)
            if due:
                early.refuse_study(self.spec, due, required=True)
                inspection = executor.inspect(self.spec, due, require_data=True)
                missing += _repeat_changed(folder_store, trials, inspection, listener)
            if search_trials:
                # The search's share of the data may be too small where all of the data is enough.
                search.check(executor.inspect(search.study_of_trials(), search_trials, require_data=True))
            if not folder_store.is_there:
                # The planned trials, until the search chooses; a search that continues keeps what was chosen before.
                StudyStore.create(self.folder, self.spec, self.first_round(trials))
            outlets.open(folder_store)
            search_to_come = _search_to_come(self.spec, search) if search_trials else []
            due_first = due if self.spec.protocol.race is not None else None
            to_come = ToCome(missing, search_to_come, self.spec.prices, due_first, trials, _batch_sizes(self.spec))
            if clock is not None:
                forecast_planner.keep(folder_store, to_come, clock.allotment.arms)
            forecast_planner.forecast_before_run(
                executor, folder_store, to_come, inspection, profile=profile, listener=forecast_listener
            )
            contents = dict(inspection.contents) if inspection is not None else {}
            heard = clock.follow(listener) if clock is not None else listener
            with clock.ending() if clock is not None else nullcontext():
                search.run(executor, heard, relatives)
                self._planned = trials = plan(self.spec, fingerprints, search.chosen)
                self._run_rounds(folder_store, trials, contents, search, executor, heard, relatives, clock)
            is_whole = not search.missing() and race_runner.all_tried(self.spec, folder_store, trials)
            if clock is not None:
                # The last trial may have ended as the time did.
                self.out_of_time = clock.spent and not is_whole
                clock.keep()
            if is_whole:
                folder_store.note_look(self.spec, relatives)
                # Where all that trains has failed, the report says so.
                if self.spec.deployability and any(
                    record.status.finished and record.spec.learning_rate is not None for record in self.records()
                ):
                    self._measure_forms((), False, self.spec.deployability, False, form_listener)
            outlets.artifacts(self.report)

    def _run_rounds(
        self,
        store: StudyStore,
        trials: list[TrialSpec],
        contents: dict[str, str],
        search: SearchRunners,
        executor: Executor,
        listener: Listener,
        relatives: Sequence[StudyStore],
        clock: budgets.Clock | None,
    ) -> None:
        """Runs the final trials, round by round, as far as the budget goes."""
        others = search.others()
        for batch in race_runner.rounds(self.spec, store, trials):
            if clock is not None:
                due = [trial for trial in batch if store.trial(trial.id).answer() is None]
                if due and not clock.fits(due):
                    return
            StudyStore.create(store.root, self.spec, [*batch, *others])
            store.adopt(self.spec, batch, relatives)
            trials_to_run = [trial.model_copy(update={"contents": contents}) for trial in batch]
            self._run_final_trials(store, trials_to_run, search.hopeless, executor, listener)

    def _run_final_trials(
        self,
        store: StudyStore,
        trials: list[TrialSpec],
        hopeless: Mapping[Searched, str],
        executor: Executor,
        listener: Listener,
    ) -> None:
        """Runs the trials, except those that diverged before, and those whose search found nothing: these get a record
        that says so."""
        ended = []
        for trial in trials:
            reason, answer = for_trial(hopeless, trial.label, trial.seed), store.trial(trial.id).answer()
            if answer is not None and not answer.status.finished:
                executor.skip(trial, answer, listener)
                ended.append(trial)
            if reason is None or answer is not None:
                continue
            ended.append(trial)
            record = TrialRecord(spec=trial, status=Status.FAILED, cause=reason)
            store.trial(trial.id).begin_attempt()
            store.trial(trial.id).write_record(record)
            listener(Progress("ended", trial, record=record))
        executor.run(store, [trial for trial in trials if trial not in ended], listener)

    def records(self) -> list[TrialRecord]:
        """Returns the records of the arms and seeds asked for, without those of the search.

        Raises:
            StoreError: if the study has not been run.
        """
        asked_ids = {trial.id for trial in self._planned}
        return [record for record in self._store().records() if not asked_ids or record.spec.id in asked_ids]

    @property
    def asked(self) -> Asked | None:
        """Returns what the last run asked for, of a folder that may hold more; None for a study that was opened."""
        from tuneoff.analysis.results import Asked

        return Asked(self.spec, tuple(self._planned)) if self._planned else None

    def results(self) -> pd.DataFrame:
        """Returns one row per trial: label, method, seed, status, every test metric and every cost."""
        from tuneoff.analysis import table
        from tuneoff.analysis.money import with_money

        return table.trials_frame(with_money(record, self.spec.prices) for record in self.records())

    def report(self, *, plots: bool = True, margin: float | None = None) -> Path:
        """Writes `report/` inside the study's folder and returns the path of `report.md`; `report.html` lies beside it.

        Where the folder holds arms or seeds that the last run did not ask for, those that it did go to a folder beside.
        A `margin` stands in place of the study's own.
        """
        from tuneoff import report

        return report.write(self._store(), plots=plots, asked=self.asked, margin=margin)

    def recommend(
        self,
        *,
        max_memory: str | None = None,
        max_train_time: str | None = None,
        max_stored: str | None = None,
        max_latency: str | None = None,
        max_money: str | None = None,
        max_forgetting: str | None = None,
        at_least: Mapping[str, float] | None = None,
        at_most: Mapping[str, float] | None = None,
        metric: str | None = None,
        prefer: str = "time",
        pareto: Iterable[str] = (),
        as_good_as: str | None = None,
        margin: float | None = None,
        deployable: Iterable[str] = (),
    ) -> Advice:
        """Recommends which arm to use, of those that the last run asked for; docs/recommend.md says how. Print it for
        the words.

        Args:
            max_memory: limit with its unit, e.g. `4GB`.
            max_train_time: likewise, e.g. `15m`.
            max_stored: likewise, of what must be kept beside the base model.
            max_latency: likewise, of one example.
            max_money: likewise, of a whole trial, in the currency of the study's `prices`; a number alone.
            max_forgetting: by how much what the study holds first may be worse after training, in its unit; a number
                alone.
            at_least: test metric -> lower limit.
            at_most: test metric -> upper limit.
            metric: what quality is judged by; the primary metric where unset.
            prefer: the cost that decides among arms that are equally good.
            pareto: axes of each front to find, e.g. `quality,memory`.
            as_good_as: an arm, or `best`, than which an arm must be shown to be worse by no more than the margin.
            margin: in the metric's unit; the study's own where unset.
            deployable: forms in which `measure_deployability` must have found the arm's models to work.

        Raises:
            StoreError: if no trial is completed.
            StudyError: if a limit, the metric or an axis cannot be read.
        """
        from tuneoff.report.advice import Criteria, advise

        costs = {"memory": max_memory, "time": max_train_time, "stored": max_stored, "latency": max_latency}
        costs |= {"money": max_money, "forgetting": max_forgetting}
        min_limits, max_limits = (
            [f"{name}={value}" for name, value in (bounds or {}).items()] for bounds in (at_least, at_most)
        )
        names = tuple(deployable)
        forms = tuple(form for form in deployability.chosen_forms(names) if form in names)
        criteria = Criteria(
            costs, min_limits, max_limits, metric, prefer, tuple(pareto), as_good_as, margin, forms=forms
        )
        return advise(self._store(), criteria, self.asked)

    def measure_deployability(
        self,
        arms: Iterable[str] = (),
        *,
        every: bool = False,
        forms: Iterable[str] | None = None,
        again: bool = False,
        listener: deployability.FormListener = deployability.quiet,
    ) -> tuple[ArmDeployability, ...]:
        """Scores kept trained weights again on the same test rows, in the forms in which they may be deployed; returns
        what all measured arms come to. docs/deployability.md says how.

        Args:
            arms: labels; where unset the arm that `recommend` gives, or would give among those that train.
            every: all arms that train.
            forms: `merged`, `onnx` and so on; all where unset. What works already is not measured again.
            again: measure it again all the same.
            listener: called with the trial's record and the form before each form, and with its result after.

        Raises:
            StudyError: for an arm that there is none of or that trains nothing, or an unknown form.
            StoreError: if nothing is trained, a trial kept no weights, or a run writes to the folder.
        """
        from tuneoff.analysis.deployability import summarise_deployability
        from tuneoff.analysis.outcomes import Outcomes
        from tuneoff.analysis.results import gather

        store, chosen_forms = self._store(), deployability.chosen_forms(tuple(forms or ()))
        with store.lock():
            self._measure_forms(tuple(arms), every, chosen_forms, again, listener)
        results = gather(store, self.asked)
        return summarise_deployability(results, Outcomes(results))

    def _measure_forms(
        self,
        labels: Sequence[str],
        every: bool,
        forms: Sequence[Form],
        again: bool,
        listener: deployability.FormListener,
    ) -> None:
        """Does what `measure_deployability` does, in a folder that is locked."""
        from tuneoff.analysis.results import gather

        store = self._store()
        results = gather(store, self.asked)
        winner = None if labels or every or results.primary is None else self.recommend().trained
        chosen = deployability.chosen_arms(results, labels, every, winner)
        # What was trained anywhere is used here.
        with self._executor(ExecutorSpec()) as executor:
            measurer = deployability.FormMeasurer(store, executor, self.device, again, listener)
            measurer.measure([record for arm in chosen for record in arm.completed], forms)

    def export(self, trial: str, out: str | Path, *, merged: bool = False) -> Path:
        """Writes a trained trial as files that PEFT or transformers load; returns their folder.

        Args:
            trial: its id, or the beginning of it.
            out: a new folder.
            merged: fold the method into the base model and write a plain model.

        Raises:
            StoreError: if there is no such trial, it cannot be exported, or `out` is not empty.
        """
        return Path(self.write_export(trial, out, merged=merged)["folder"])

    def write_export(self, trial: str, out: str | Path, *, merged: bool = False) -> dict[str, Any]:
        """Does what `export` does; returns `folder`, `files` and `kind`, what the files are."""
        from tuneoff import report

        answer: dict[str, Any] = self.call("export", trial, out=str(out), merged=merged)
        report.add_comparison(self._store(), Path(answer["folder"]))
        return answer

    def predict(self, trial: str, file: str | Path) -> pd.DataFrame:
        """Predicts every row of a file: `index`, `output`, and for classes `probability` and `scores` (class ->
        probability), for written text `generated_tokens`.

        Args:
            trial: its id, or the beginning of it.
            file: CSV, JSONL, Parquet or another that is read, with the columns that the study puts in.

        Raises:
            StoreError: if there is no such trial, or it kept no weights.
            SourceError, DataError: if the file cannot be read or lacks a column.
        """
        import pandas as pd

        return pd.DataFrame(self.call("predict", trial, file=str(file))["predictions"])

    def __repr__(self) -> str:
        counts = {"arm": len(self.spec.methods), "seed": len(self.spec.protocol.seeds)}
        size = " × ".join(f"{count} {noun}{'s' if count > 1 else ''}" for noun, count in counts.items())
        place = f", folder {str(self.folder)!r}" if self.folder is not None else ""
        return f"<Study {self.spec.name!r}: {self.spec.model.source}, {size}{place}>"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Shows what the study asks and, where it was run, the table of results and the answer."""
        from rich.text import Text

        yield Text(repr(self), style="bold")
        if self.folder is None or not StudyStore(self.folder).is_there:
            yield Text(f"arms: {', '.join(self.spec.methods)}")
            return
        from tuneoff import report
        from tuneoff.report import terminal

        results = report.build(self._store(), self.asked)
        yield terminal.table(results, options.max_width)
        yield Text(results.answer.text)

    def _repr_html_(self) -> str:
        import io

        from rich.console import Console

        from tuneoff.report.terminal import WIDTH_ELSEWHERE

        console = Console(record=True, file=io.StringIO(), width=WIDTH_ELSEWHERE, force_jupyter=False)
        console.print(self)
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    def call(self, verb: str, trial: str, **payload: Any) -> Any:
        """Asks a child process for `export` or `predict` of one trial (its id or the beginning of it).

        What it is given as `file` or `out` is meant from the current folder, as everywhere; the paths that the study
        names, of its base model and its rows, from the folder that it was run from.
        """
        store = self._store()
        trial_store, origin = store.find_trial(trial), store.origin()
        paths = {key: str(Path(value).resolve()) for key, value in payload.items() if key in ("file", "out")}
        if "out" in paths:
            self.refuse_overwriting(paths["out"])
        if verb == "export":
            early.refuse_export(trial_store, Path(payload["out"]), payload["merged"])
        if verb == "predict":
            early.rows_to_predict(trial_store, paths["file"])
        context = {"folder": str(trial_store.folder.resolve()), "origin": str(origin) if origin is not None else None}
        # What was trained anywhere is used here.
        with self._executor(ExecutorSpec()) as executor:
            return executor.call(verb, {**context, "device": self.device, **payload, **paths})

    def refuse_overwriting(self, out: str | Path, *read: Path) -> None:
        """Refuses an output that would replace a file that is read: these files, and the study's own, its rows, what it
        holds and its base model.

        Raises:
            StoreError: says what it would replace.
        """
        store = self._store()
        origin = store.origin() or Path()
        local_paths = [origin / name.removeprefix("file:") for name in (*self._rows, self.spec.model.source)]
        refuse_overwriting(Path(out), [*read, store.root, *local_paths])

    @property
    def _rows(self) -> tuple[str, ...]:
        """Returns all sources of rows, those of what is held included."""
        held = self.spec.retention.references if self.spec.retention is not None else ()
        return (*self.spec.task.data.references, *held)

    def _fingerprints(self) -> dict[str, str]:
        references = [*self._rows]
        if not self.spec.model.random_weights:
            references.append(self.spec.model.source)
        fingerprints = starts.fingerprints(self.spec)
        for reference in references:
            if fingerprint := sources.fingerprint(registry.sources(), reference):
                fingerprints[reference] = fingerprint
        return fingerprints

    def _store(self) -> StudyStore:
        if self.folder is None:
            raise StoreError("this study has not been run yet", hint="Call run() or Study.open(folder).")
        return StudyStore.open(self.folder)

    @contextmanager
    def using(self, executor: Executor) -> Iterator[None]:
        """Uses an executor for all that is done within, and leaves it open."""
        before, self._own_executor = self._own_executor, executor
        try:
            yield
        finally:
            self._own_executor = before

    @contextmanager
    def _one_executor(self) -> Iterator[None]:
        """Uses one executor for all that is done within."""
        with self._executor() as executor, self.using(executor):
            yield

    @contextmanager
    def _executor(self, executor: ExecutorSpec | None = None) -> Iterator[Executor]:
        """Yields what runs trials, the study's own executor where none is named; ends its processes, unless it was
        handed to this study."""
        if self._own_executor is not None:
            yield self._own_executor
            return
        executor = executor or self.spec.executor
        with registry.executors()[executor.name].create(self.device, executor.options) as own:
            yield own


def _batch_sizes(spec: StudySpec) -> tuple[int, int] | None:
    """Returns the least and the greatest batch size that a study's search may choose; None where it chooses none."""
    return spec.protocol.search.batch_sizes if spec.protocol.search is not None else None


def _search_to_come(spec: StudySpec, search: SearchRunners) -> list[TrialSpec]:
    """Plans a trial for each that the search has still to run, as far as can be told; see `Study.plan_search`."""
    done = search.tried
    remaining = []
    for trial in outline(spec):
        if done[trial.label, trial.seed] > 0:
            done[trial.label, trial.seed] -= 1
        else:
            remaining.append(trial)
    return remaining


def _repeat_changed(
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
