"""The forecast that is kept in a study's folder, and grows with its arms."""

from __future__ import annotations

from collections.abc import Mapping

from tuneoff.errors import StoreError
from tuneoff.records.forecast import ArmForecast, StudyForecast
from tuneoff.store import StudyStore
from tuneoff.study.to_come import ToCome


def kept(store: StudyStore) -> StudyForecast | None:
    """Reads the forecast in a study's folder; None where there is none that can be read."""
    try:
        return store.forecast()
    except StoreError:
        return None


def arms(store: StudyStore, to_come: ToCome) -> dict[str, ArmForecast]:
    """Returns label -> forecast of the arms that a study's folder has forecasts of, but for those that were of the most
    that a search could choose, and it has chosen."""
    earlier = kept(store)
    known = earlier.arms if earlier is not None else {}
    return {label: arm for label, arm in known.items() if arm.batch_sizes is None or to_come.longest(label) is not None}


def keep(store: StudyStore, to_come: ToCome, arms: Mapping[str, ArmForecast]) -> None:
    """Keeps forecasts of arms with trials to come in a study's folder, beside those that it has of other arms."""
    earlier = kept(store)
    new_labels = [label for label in to_come.labels if earlier is None or label not in earlier.arms]
    if new_labels:
        added = to_come.only(new_labels).total(arms)
        store.write_forecast(added if earlier is None else merge_forecasts(earlier, added))


def merge_forecasts(before: StudyForecast, added: StudyForecast) -> StudyForecast:
    """Merges an earlier forecast with one of other arms."""
    missing = {**added.missing, **before.missing}
    total = (before.total_seconds or 0.0) + (added.total_seconds or 0.0)
    disk = (before.disk_bytes or 0) + (added.disk_bytes or 0)
    known = [each.money for each in (before, added) if each.money is not None]
    return StudyForecast(
        arms={**before.arms, **added.arms},
        total_seconds=None if "total_seconds" in missing else total,
        disk_bytes=None if "disk_bytes" in missing else disk,
        currency=added.currency,
        money=sum(known) if len(known) == 2 and before.currency == added.currency else None,
        missing=missing,
    )
