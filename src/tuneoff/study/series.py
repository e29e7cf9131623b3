"""Several studies that differ in one thing, from Python: how much data, which base model, several data sets.

series = tuneoff.Series("reviews.yaml", overrides=["protocol.train_rows=[250, 500, 1000]"])
series.run("runs/sizes")
print(series.results())
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuneoff.checksums import content_hash
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import Problem, StudyError, TuneoffError
from tuneoff.executors.base import Executor, Listener
from tuneoff.planning import loading
from tuneoff.planning.plan import question, selection
from tuneoff.planning.series import PLACES, Axis, SeriesSpec
from tuneoff.store import SeriesStore, StudyStore
from tuneoff.study import forecast_planner
from tuneoff.study.executor_choice import ExecutorChoice
from tuneoff.study.study import Study
from tuneoff.trial import early

if TYPE_CHECKING:
    import pandas as pd

MemberRunner = Callable[[str, Study, Path], None]
"""Runs a member: its name, its study and its folder."""


class Series:
    """Several studies that differ in one thing, its members, and the folder of all of them.

    Args:
        series: the path of a study file with a list, a mapping of study keys, or a `SeriesSpec`.
        overrides: `dotted.key=value` texts or a mapping of dotted keys to values; they may make the list.
        methods, seeds, random_weights, device: as for `Study`, of all members.
        executor: where trials run, likewise; one that is handed over is used as it is, and left open.

    Attributes:
        members: name -> its study, in the order in which they run.
        problems: name -> why the last run could not run this member; empty where all could be run.

    Raises:
        StudyError: with every problem of all members.
    """

    def __init__(
        self,
        series: str | Path | Mapping[str, Any] | SeriesSpec,
        *,
        overrides: Iterable[str] | Mapping[str, Any] = (),
        methods: Iterable[str] | None = None,
        seeds: int | Literal["race"] | None = None,
        random_weights: bool = False,
        device: str = "auto",
        executor: str | Executor | None = None,
    ) -> None:
        self._executors = ExecutorChoice(executor)
        name = self._executors.name
        changes: dict[str, Any] = {"methods": methods, "seeds": seeds, "random_weights": random_weights}
        if isinstance(series, SeriesSpec) and name is not None:
            series = series.study
        spec = series if isinstance(series, SeriesSpec) else loading.load_series(series, overrides, name)
        self.spec = spec.with_members({key: loading.narrow(study, **changes) for key, study in spec.members.items()})
        self.device = device
        self.folder: Path | None = None
        self.members = {key: Study(study, device=device) for key, study in self.spec.members.items()}
        self.problems: dict[str, TuneoffError] = {}

    @classmethod
    def open(cls, folder: str | Path) -> Series:
        """Opens a series that was run before.

        Raises:
            StoreError: if the folder holds none.
        """
        store = SeriesStore.open(folder)
        series = cls(store.study)
        series._settle(Path(folder))
        return series

    @property
    def axis(self) -> Axis:
        """Returns what the members differ in: `train_rows`, `model` or `data`."""
        return self.spec.axis

    @property
    def store(self) -> SeriesStore:
        """Returns the folder of the series.

        Raises:
            StoreError: if it has not been run.
        """
        return SeriesStore.open(self.folder or self.default_folder)

    @property
    def default_folder(self) -> Path:
        """Returns `runs/NAME-xxxxxx`: one folder for each set of members, arms and seeds."""
        studies = self.spec.members
        identity = [{name: question(study) for name, study in studies.items()}, selection(next(iter(studies.values())))]
        return Path("runs") / f"{self.spec.name}-{content_hash(identity)[:6]}"

    def plan(self) -> dict[str, list[TrialSpec]]:
        """Plans the final trials of every member; see `Study.plan`."""
        return {name: study.plan() for name, study in self.members.items()}

    def run(
        self,
        out: str | Path | None = None,
        listener: Listener | None = None,
        *,
        profile: bool = True,
        forecast_listener: forecast_planner.RunForecastListener | None = None,
        progress: bool | None = None,
    ) -> Series:
        """Runs every trial of every member that has no finished record, member after member.

        Failed trials are in the records. A member that cannot be run stands in `problems`, and the others run all the
        same.

        Args:
            out: the folder of the series; where unset `default_folder`, which takes over what folders beside it have
                finished of the same trials.
            listener, profile, forecast_listener, progress: as for `Study.run`.

        Raises:
            TuneoffError: anything that makes the whole impossible, before training.
            StudyError: if no member could be run; names the reason of each.
            KeyboardInterrupt: after running trials were recorded as cancelled.
        """

        def run_member(_: str, study: Study, folder: Path) -> None:
            study.run(folder, listener, profile=profile, forecast_listener=forecast_listener, progress=progress)

        return self.run_each(run_member, out)

    def run_each(self, run_member: MemberRunner, out: str | Path | None = None) -> Series:
        """Does what `run` does, where each member is run by a function of one's own."""
        folder = Path(out) if out is not None else self.default_folder
        store = SeriesStore(folder)
        relatives = store.relatives if out is None else []
        self.problems = {}
        with store.lock():
            store.set_aside_damage()
            store.check(self.spec)
            self._settle(folder)
            with self.one_executor() as executor:
                self.check_sizes(executor)
                store.create(self.spec)
                for name, study in self.members.items():
                    store.refuse_lost()
                    study.relatives = relatives
                    try:
                        run_member(name, study, store.member(name).root)
                    except TuneoffError as error:
                        self.problems[name] = error
                        store.note_problem(name, str(error))
        if len(self.problems) == len(self.members):
            raise joined(self.problems)
        return self

    def _settle(self, folder: Path) -> None:
        """Gives the series and the members that have been run their folders."""
        self.folder = folder
        for name, study in self.members.items():
            place = SeriesStore(folder).member(name)
            study.folder = place.root if place.is_there else None

    def check_sizes(self, executor: Executor) -> None:
        """Checks numbers of training rows on the rows themselves, in a child process where these are not in small local
        files. Does nothing for other series, or where every trial has been run.

        Raises:
            StudyError: if there are fewer rows than one of the numbers, one leaves a class out, or the rows of one are
                not among those of the next.
            SourceError, DataError: if the rows cannot be read or used.
        """
        if self.axis == "train_rows" and not all(map(_is_whole, self.members.values())):
            sizes = list(self.spec.values.values())
            study = next(iter(self.spec.members.values()))
            if not early.refuse_sizes(study, sizes):
                executor.call("check_sizes", {"study": study.model_dump(mode="json"), "sizes": sizes})

    @contextmanager
    def one_executor(self) -> Iterator[Executor]:
        """Yields one executor that all members use until the block ends, so that they share the machine and what stays
        loaded."""
        with ExitStack() as stack:
            spec = next(iter(self.spec.members.values())).executor
            executor = stack.enter_context(self._executors.open(spec, self.device))
            for study in self.members.values():
                stack.enter_context(study.using(executor))
            yield executor

    def results(self) -> pd.DataFrame:
        """Returns one row per trial of every member that has been run, with its name in `member`; see
        `Study.results`."""
        import pandas as pd

        has_run = [name for name, study in self.members.items() if study.folder and StudyStore(study.folder).is_there]
        frames = [self.members[name].results().assign(member=name) for name in has_run]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def report(self, *, plots: bool = True) -> Path:
        """Writes `report/` inside the series' folder and those of its members; returns the path of `index.html`.

        Raises:
            StoreError: if no member has a completed trial, or a file cannot be written.
        """
        from tuneoff.report.series import files

        return files.write(self.store, plots=plots)

    def __repr__(self) -> str:
        place = f", folder {str(self.folder)!r}" if self.folder is not None else ""
        return f"<Series {self.spec.name!r}: {PLACES[self.axis]} {', '.join(self.members)}{place}>"


def _is_whole(study: Study) -> bool:
    """Tells whether every trial of a member has been tried."""
    try:
        return study.folder is not None and not study.unfinished()
    except TuneoffError:  # what cannot be read is told by its run
        return False


def joined(problems: Mapping[str, TuneoffError]) -> TuneoffError:
    """Returns the errors of several members as one: the same one once."""
    first, *others = problems.values()
    if all(str(error) == str(first) for error in others):
        return first
    return StudyError([Problem(name, error.message) for name, error in problems.items()], hint=first.hint)
