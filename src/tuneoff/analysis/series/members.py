"""The members of a series: their results, and which of them have none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import Arm, Results, gather
from tuneoff.config.spec import PricesSpec
from tuneoff.errors import CorruptRecord, StoreError
from tuneoff.records.record import Metric
from tuneoff.store.series import SeriesStore

NOTHING_COMPLETED = "no trial of it is completed"
NOT_RUN = "it has not been run"


@dataclass(frozen=True)
class MemberResults:
    """One study of a series.

    Attributes:
        name: of its folder.
        value: what it has of the list.
        results: its trials; some are completed.
    """

    name: str
    value: Any
    results: Results

    @cached_property
    def outcomes(self) -> Outcomes:
        """Returns its estimates and comparisons."""
        return Outcomes(self.results)

    @property
    def metric(self) -> Metric:
        """Returns its primary metric."""
        metric = self.results.primary
        assert metric is not None  # some trial is completed
        return metric

    @property
    def train_rows(self) -> int:
        """Returns how many rows its trials were trained on, by their records; else how many were asked for."""
        records = (record for record in self.results.completed if record.data is not None)
        counted = [data.splits["train"].rows for record in records if (data := record.data) and "train" in data.splits]
        return max(counted) if counted else int(self.value)

    @cached_property
    def ranked(self) -> list[Arm]:
        """Returns the arms that can be weighed by the primary metric, best first."""
        ranked = self.outcomes.ranked(self.results.arms, self.metric)
        return [arm for arm in ranked if self.outcomes.mean(arm, self.metric) is not None]


@dataclass(frozen=True)
class SeriesResults:
    """What a series' report describes.

    Attributes:
        store: the series' folder.
        members: those with a completed trial, in the series' order.
        left_out: name of a member -> why it is not among them.
    """

    store: SeriesStore
    members: tuple[MemberResults, ...]
    left_out: Mapping[str, str]


def gather_series(store: SeriesStore, margin: float | None = None, prices: PricesSpec | None = None) -> SeriesResults:
    """Reads the members of a series.

    Args:
        store: the series' folder.
        margin: in place of the studies' own.
        prices: likewise.

    Raises:
        StoreError: if no member has a completed trial.
        StudyError: if the margin cannot be one of the primary metric.
    """
    members, left_out = [], {}
    for each in store.members:
        # A hint stands on a line of its own, and sentences are made of this.
        problem = " ".join(each.problem.split()).rstrip(".")
        if not each.store.is_there:
            left_out[each.name] = problem or NOT_RUN
            continue
        try:
            results = gather(each.store, margin=margin, prices=prices)
        except CorruptRecord as error:
            left_out[each.name] = error.message
            continue
        if results.primary is None:
            left_out[each.name] = problem or NOTHING_COMPLETED
        else:
            members.append(MemberResults(each.name, each.value, results))
    if not members:
        raise StoreError(f"no trial of {store.root} is completed yet", hint="Run the series first, or let it go on.")
    return SeriesResults(store, tuple(members), left_out)
