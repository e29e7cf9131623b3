"""The race of a study over its seeds, followed from the records in its folder; these are its only state."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tuneoff.analysis.results import Results
from tuneoff.analysis.side_by_side import JoinedStore
from tuneoff.analysis.statistics import Looks, Race, Verdict, replay
from tuneoff.records.record import Status
from tuneoff.search.racing import looks


def follow(results: Results, judge: Callable[[Looks], Verdict | None]) -> Race | None:
    """Follows the race of a study as far as its records go; None where it has none, and of several studies, of which
    each has its own.

    Args:
        results: the study.
        judge: makes the verdict on the primary metric at these looks.
    """
    spec = results.study.protocol.race
    if spec is None or isinstance(results.store, JoinedStore):
        return None
    seeds, counts = results.study.protocol.seeds, looks(spec)
    recorded = _recorded_seeds(results)

    def complete(label: str, count: int) -> bool:
        return recorded[label].issuperset(seeds[:count])

    def judge_at(done: Mapping[str, int]) -> Verdict | None:
        return judge(Looks(seeds, counts, done))

    trained = {arm.label for arm in results.arms if arm.trains}
    # A report may ask about another margin; the race went by the study's own.
    margin = results.store.study().margin
    return replay(list(recorded), counts, complete, judge_at, margin, trained)


def joined_looks(results: Results) -> Looks | None:
    """Returns the looks that the arms of several studies have had, each in the race of its own; None where none raced,
    and of one study.

    Who left a race was decided by the rivals there, so that nothing is followed again: an arm has had every look whose
    seeds it has, and each counts towards the error.
    """
    spec = results.study.protocol.race
    if spec is None or not isinstance(results.store, JoinedStore):
        return None
    seeds, counts = results.study.protocol.seeds, looks(spec)
    done = {
        label: sum(recorded.issuperset(seeds[:count]) for count in counts)
        for label, recorded in _recorded_seeds(results).items()
    }
    return Looks(seeds, counts, done)


def _recorded_seeds(results: Results) -> dict[str, set[int]]:
    """Maps each arm to the seeds that it has run, whatever became of them."""
    ended = {record.spec.id for record in results.records if record.status is not Status.CANCELLED}
    open_trials = {trial.id for arm in results.arms for trial in arm.trials} - ended - results.left_out.keys()
    # A look that was taken without the score of a trial stays when the trial is run again and has not ended yet.
    repeated = {trial_id for trial_id in open_trials if results.store.trial(trial_id).has_failed_before()}
    return {
        arm.label: {trial.seed for trial in arm.trials if trial.id in ended or trial.id in repeated}
        for arm in results.arms
    }
