"""The study from Python: plan, run, results, report.

study = tuneoff.Study("quickstart", methods=["lora", "full"], seeds=3)
study.run("runs/quickstart")
print(study.results())
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from tuneoff.analysis.decisions import limits
from tuneoff.analysis.search_data import recorded, recorded_choices
from tuneoff.analysis.search_rounds import outline
from tuneoff.checksums import content_hash
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import StudyError, TuneoffError
from tuneoff.executors.base import Executor, Inspection, Listener
from tuneoff.planning import loading
from tuneoff.planning.plan import Searched, plan, question, selection
from tuneoff.records.forecast import ArmForecast, StudyForecast
from tuneoff.store import StudyStore
from tuneoff.study import budget as budgets
from tuneoff.study import clock, deployability, forecast_planner, inputs, notebook, race_runner, starts
from tuneoff.study.budget import Allotment
from tuneoff.study.executor_choice import ExecutorChoice
from tuneoff.study.results import StudyResults
from tuneoff.study.study_runner import StudyRunner
from tuneoff.study.to_come import ToCome, searched_batch_sizes, trials_to_come
from tuneoff.trackers.process import Outlets
from tuneoff.trial import early


class Study(StudyResults):
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
        executors = ExecutorChoice(executor)
        changes: dict[str, Any] = {"methods": methods, "seeds": seeds, "random_weights": random_weights}
        if isinstance(study, StudySpec) and executors.name is not None:
            study = study.model_dump(mode="json")
        if isinstance(study, StudySpec):
            spec = loading.narrow(study, **changes)
        else:
            spec = loading.load(study, overrides, executors.name, **changes)
        super().__init__(starts.resolved(spec), device, executors)
        self.relatives: Sequence[StudyStore] | None = None
        self.out_of_time = False
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
        return plan(self.spec, inputs.fingerprints(self.spec), self.chosen)

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
        with self._open_executor() as executor:
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
        with self._open_executor() as executor:
            return forecast_planner.forecast(
                executor, to_come, profile=profile, memory_limit_bytes=memory_limit, listener=listener
            )

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
        with self._open_executor() as executor:
            inspection = executor.inspect(self.spec, to_come.final, False)
            if inspection.data is None:
                return inspection, None
            forecast = forecast_planner.forecast(
                executor, to_come, profile=profile, memory_limit_bytes=memory_limit, listener=listener
            )
        return inspection, forecast

    def _all_to_come(self) -> ToCome:
        trials = self.plan()
        due = self.first_round(trials) if self.spec.protocol.race is not None else None
        return ToCome(trials, self.plan_search(), self.spec.prices, due, batch_sizes=searched_batch_sizes(self.spec))

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
        self.spec = budgets.as_begun(self.spec, store)
        if arms is None:
            with self._open_executor() as executor:
                to_come = trials_to_come(self.spec, store)
                if to_come.final:
                    early.refuse_study(self.spec, to_come.final, required=True)
                    inspection = executor.inspect(self.spec, to_come.final, require_data=True)
                arms = forecast_planner.forecast_arms(executor, store, to_come, profile=profile, listener=listener)
        allotment = budgets.allot_in_folder(self.spec, self._budget, store, arms)
        self.spec = allotment.study
        splits = inspection.data["splits"] if inspection is not None and inspection.data is not None else {}
        return budgets.with_prospect(allotment, store, self.plan(), splits.get("test", {}).get("rows"))

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
        begun = clock.now()
        if budget is not None:
            self.limit(budget)
        self.folder = Path(out) if out is not None else self.default_folder
        relatives = self.relatives
        if relatives is None:
            relatives = StudyStore(self.folder).relatives if out is None else []
        with ExitStack() as stack:
            stack.enter_context(self.started(self.folder))
            if self._budget is not None:
                # One executor forecasts and runs.
                stack.enter_context(self.using(stack.enter_context(self._open_executor())))
            heard = stack.enter_context(notebook.listening(self._count, listener, progress))
            run_clock = None
            if self._budget is not None:
                allotment = self.allot(profile=profile, listener=forecast_listener)
                if budget_listener is not None:
                    budget_listener(allotment)
                run_clock = clock.Clock(allotment, StudyStore(self.folder), begun)
            runner = StudyRunner(self.spec, StudyStore(self.folder), relatives, run_clock)
            self._run(runner, heard, profile, forecast_listener, form_listener)
        return self

    def _count(self) -> int:
        """Counts the trials that run whatever comes, those of the search too."""
        return len(self.plan_search()) + len(self.first_round(self.plan()))

    def _run(
        self,
        runner: StudyRunner,
        listener: Listener,
        profile: bool,
        forecast_listener: forecast_planner.RunForecastListener | None,
        form_listener: deployability.FormListener,
    ) -> None:
        outlets = Outlets(self.spec.trackers)
        listener = outlets.follow(listener)
        with runner.store.lock(), self._open_executor() as executor, outlets:
            try:
                runner.prepare(executor, listener)
                outlets.open(runner.store)
                runner.forecast(executor, profile=profile, listener=forecast_listener)
                runner.run(executor, listener)
            finally:
                self._planned = runner.planned or self._planned
            self.out_of_time = runner.is_out_of_time
            # Where all that trains has failed, the report says so.
            if runner.is_whole and self.spec.deployability and self._has_trained:
                self._measure_forms((), False, self.spec.deployability, False, form_listener)
            outlets.artifacts(self.report)

    @property
    def _has_trained(self) -> bool:
        """Tells whether a trial that trains is completed."""
        return any(record.status.finished and record.spec.learning_rate is not None for record in self.records())

    @contextmanager
    def started(self, folder: Path) -> Iterator[None]:
        """Begins to start the processes of a run where `folder` holds no study, so that all is still to be done: they
        import libraries for seconds, and the caller may read and plan meanwhile. A run within uses them.

        Starts none where the study cannot be run: a run within says why, in its turn.
        """
        with ExitStack() as stack:
            if not self._executors.is_at_hand and not StudyStore(folder).is_there:
                with suppress(TuneoffError):
                    # Fingerprints play no part in this.
                    early.refuse_study(self.spec, self.first_round(plan(self.spec)), required=True)
                    stack.enter_context(self._executors.started(self.spec.executor, self.device))
            yield

    def using(self, executor: Executor) -> AbstractContextManager[None]:
        """Uses an executor for all that is done within, and leaves it open."""
        return self._executors.using(executor)

    def _open_executor(self) -> AbstractContextManager[Executor]:
        return self._executors.open(self.spec.executor, self.device)
