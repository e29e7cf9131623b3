"""A series over base models: the arms of all bases in one comparison, on the same test examples.

Every arm of every base is an arm of one study here (`lora [minilm]`), so the tests, their correction over all pairs,
the costs, and the recommendation are those of a study. What is counted per token is left out: tokenizers cut texts into
other pieces, and a loss per piece is of another unit for each. Bits per byte of the targets takes its place.
"""

from __future__ import annotations

from dataclasses import replace

from tuneoff.analysis.metrics import definition
from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.series.members import SeriesResults
from tuneoff.analysis.side_by_side import Joined, merge
from tuneoff.records.record import TrialRecord

BITS_PER_BYTE = "bits_per_byte"


def join_bases(series: SeriesResults) -> Joined:
    """Joins the members of a series into one study of all arms of all bases. A baseline that uses no model is one arm,
    because it is the same for all."""
    studies: dict[str, Results] = {}
    dropped: set[str] = set()
    shared: set[str] = set()
    for member in series.members:
        arms = []
        for arm in member.results.arms:
            if not _uses_model(arm):
                if arm.label in shared:
                    continue
                shared.add(arm.label)
            arms.append(replace(arm, records=tuple(_per_text(record, dropped) for record in arm.records)))
        studies[member.name] = replace(member.results, arms=tuple(arms))
    notes = [_left_out(dropped)] if dropped else []
    notes += [f"{name} takes no part: {reason}." for name, reason in series.left_out.items()]
    joined = merge(studies, notes)
    study = joined.results.study.model_copy(update={"name": series.store.name})
    return replace(joined, results=replace(joined.results, study=study))


def _uses_model(arm: Arm) -> bool:
    return arm.trains or any(record.model is not None for record in arm.completed)


def _per_text(record: TrialRecord, dropped: set[str]) -> TrialRecord:
    """Returns a record without the metrics that are counted per token; adds their names to `dropped`."""
    task = record.spec.task.name
    names = {metric.name for metric in record.metrics if definition(task, metric).per_token}
    if not names:
        return record
    dropped |= names
    kept = tuple(metric for metric in record.metrics if metric.name not in names)
    primary = record.primary_metric if record.primary_metric not in names else BITS_PER_BYTE
    return record.model_copy(update={"metrics": kept, "primary_metric": primary})


def _left_out(dropped: set[str]) -> str:
    names = " and ".join(sorted(dropped))
    return (
        f"Test {names} {'are' if len(dropped) > 1 else 'is'} left out here: they are per token, and each base has "
        "tokens of its own. Bits per byte of the targets compares bases."
    )
