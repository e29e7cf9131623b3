"""Several trials of one arm in one process: each goes its way from specification to record, and they train at once.

They load and evaluate one after the other. Their frozen weights lie in memory once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tuneoff.errors import Cancelled
from tuneoff.measure.utilisation import Sampler
from tuneoff.records.record import Memory
from tuneoff.store import TrialStore
from tuneoff.trial.distributed.aggregation import OnlookerTrialStore
from tuneoff.trial.distributed.context import ALONE
from tuneoff.trial.exhaustion import exhausted
from tuneoff.trial.modeling.precision import choose_device
from tuneoff.trial.phases import Measured
from tuneoff.trial.recording import without_figures_of_process
from tuneoff.trial.run import Begun, ReadyTrial, begin, conclude, make_checkpointer, prepare, seal
from tuneoff.trial.training.resume import Continuation
from tuneoff.trial.training.stacked_model import find_dropout, share_frozen
from tuneoff.trial.training.together import Member, check_together, train_together
from tuneoff.trial.training.trainer import Trainer

Fail = Callable[[TrialStore, Exception], None]
"""Takes a trial's folder and what ended it."""


@dataclass(frozen=True)
class _Trial:
    """A trial of the group, ready to be trained."""

    begun: Begun
    prepared: ReadyTrial
    member: Member


def run_together(
    places: Sequence[TrialStore],
    wanted_device: str,
    started: float,
    fail: Fail,
    commit: str | None = None,
    scratch: Path | None = None,
) -> None:
    """Runs the trials whose specifications are in `places` and writes the record of each that does not fail.

    Args:
        places: the trials' folders, at least two; all of one arm. One that is an `OnlookerTrialStore` is of a trial
            that has ended: it is computed on, for the sake of the others that go on where they were.
        wanted_device: auto, cpu or cuda.
        started: `time.perf_counter()` at the start of the process.
        fail: called for each trial that diverges or otherwise ends alone.
        commit, scratch: as for `run`.

    Raises:
        CannotTrainTogether: with the reason, before any of them is trained.
        TuneoffError: whatever ended them all before that.
    """
    ids = [place.spec().id for place in places]
    told = next(place for place in places if not isinstance(place, OnlookerTrialStore))
    with ExitStack() as stack:
        # One samples for all.
        sampler = stack.enter_context(Sampler(device=choose_device(wanted_device), emit=told.append_event))
        trials: list[_Trial] = []
        for place in places:
            begun = stack.enter_context(begin(place, wanted_device, started, commit, ALONE, scratch, sampler=sampler))
            trials.append(_prepare(begun, trials[0] if trials else None, ids, fail))
            if len(trials) == 2:
                check_together(*(trial.member.trainer for trial in trials))
        train_together([trial.member for trial in trials])
        for trial in trials:
            if trial.member.trained is not None:
                _conclude(trial, len(trials), fail)


def _prepare(begun: Begun, lead: _Trial | None, ids: Sequence[str], fail: Fail) -> _Trial:
    """Makes a trial ready to be trained beside the first one, `lead`; `ids` are those of all."""
    # Its speed could not be told from the others'.
    spec = begun.context.spec.model_copy(update={"times_inference": False})
    begun = replace(begun, context=replace(begun.context, spec=spec))
    prepared = prepare(begun)
    runner, features = prepared.trial.runner, prepared.trial.features["train"]
    if lead is None:
        find_dropout(runner, features)
    else:
        share_frozen(runner, lead.prepared.trial.runner)
    trainer = Trainer(begun.context, runner, prepared.trial.method, features)
    trainer.fill_prefix()
    has_ended = isinstance(begun.place, OnlookerTrialStore)
    member = Member(
        trainer,
        prepared.selection.validate,
        partial(fail, begun.place),
        None if has_ended else make_checkpointer(begun, prepared, ids),
        has_ended,
    )
    return _Trial(begun, prepared, member)


def _conclude(trial: _Trial, count: int, fail: Fail) -> None:
    """Evaluates a trial that was trained, and writes its record."""
    begun = trial.begun
    try:
        checkpointer = trial.member.checkpointer
        continuation = checkpointer.continuation if checkpointer is not None else Continuation()
        results = conclude(begun, trial.prepared, trial.member.trained, continuation)
        measured = Measured(begun.context.phases.watch.timing(), Memory(), {})
        others = f"{count - 1} other" + ("s" if count > 2 else "")
        seal(begun, results, measured, partial(without_figures_of_process, f"trained together with {others}"))
    except Cancelled:
        raise
    except Exception as error:
        if exhausted(error):
            raise
        fail(begun.place, error)
