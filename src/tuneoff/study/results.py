"""What came of a study, from Python: records, tables, a report, a recommendation, and its trained models put to use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.config.deployability import Form
from tuneoff.config.execution import ExecutorSpec
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import StoreError
from tuneoff.records.record import TrialRecord
from tuneoff.store import StudyStore, refuse_overwriting
from tuneoff.study import deployability, display, inputs
from tuneoff.study.executor_choice import ExecutorChoice
from tuneoff.trial import early

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, ConsoleOptions, RenderableType

    from tuneoff.analysis.deployability import ArmDeployability
    from tuneoff.analysis.results import Asked
    from tuneoff.report.advice import Advice


class StudyResults:
    """The results in a study's folder; `Study` adds how they come about.

    Args:
        spec: what is asked.
        device: `auto`, `cpu` or `cuda`.
        executors: where trained models are put to use.

    Attributes:
        folder: of the results; None before the study is run.
    """

    def __init__(self, spec: StudySpec, device: str, executors: ExecutorChoice) -> None:
        self.spec = spec
        self.device = device
        self.folder: Path | None = None
        self._executors = executors
        self._planned: list[TrialSpec] = []

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
        with self._executors.open(ExecutorSpec(), self.device) as executor:
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
        with self._executors.open(ExecutorSpec(), self.device) as executor:
            return executor.call(verb, {**context, "device": self.device, **payload, **paths})

    def refuse_overwriting(self, out: str | Path, *read: Path) -> None:
        """Refuses an output that would replace a file that is read: these files, and the study's own, its rows, what it
        holds and its base model.

        Raises:
            StoreError: says what it would replace.
        """
        store = self._store()
        local_paths = inputs.local_paths(self.spec, store.origin() or Path())
        refuse_overwriting(Path(out), [*read, store.root, *local_paths])

    def __repr__(self) -> str:
        counts = {"arm": len(self.spec.methods), "seed": len(self.spec.protocol.seeds)}
        size = " × ".join(f"{count} {noun}{'s' if count > 1 else ''}" for noun, count in counts.items())
        place = f", folder {str(self.folder)!r}" if self.folder is not None else ""
        return f"<Study {self.spec.name!r}: {self.spec.model.source}, {size}{place}>"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Shows what the study asks and, where it was run, the table of results and the answer."""
        from rich.text import Text

        yield Text(repr(self), style="bold")
        if self.folder is not None and StudyStore(self.folder).is_there:
            yield from display.table_and_answer(self._store(), self.asked, options.max_width)
        else:
            yield Text(f"arms: {', '.join(self.spec.methods)}")

    def _repr_html_(self) -> str:
        return display.html(self)

    def _store(self) -> StudyStore:
        if self.folder is None:
            raise StoreError("this study has not been run yet", hint="Call run() or Study.open(folder).")
        return StudyStore.open(self.folder)
