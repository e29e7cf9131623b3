"""Sums over the forecasts of arms: what a study will take, and what its records will tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tuneoff.records.forecast import ArmForecast, StudyForecast


def recorded_seconds(arm: ArmForecast, timed: int, untimed: int, search_shares: Sequence[float] = ()) -> float | None:
    """Sums what the records of an arm's trials will tell: each as if it had computed what it finds (see `CHARGED`), so
    more than the run takes; None where its times are not known.

    Args:
        arm: its forecast.
        timed, untimed: how many final trials time the trained model, and how many do not.
        search_shares: for each trial of its search, its share of the steps of the forecast.
    """
    count = timed + untimed
    mean = arm.mean_trial_seconds(1 / count) if count else 0.0
    if mean is None or (search_shares and not arm.search_seconds):
        return None
    search = sum(map(arm.search_trial_seconds, search_shares))
    return count * mean - untimed * arm.seconds.get("inference", 0.0) + search


def study_forecast(
    arms: Mapping[str, ArmForecast],
    final: Sequence[str],
    search: Sequence[str] = (),
    *,
    search_shares: Sequence[float] = (),
    untimed: Sequence[str] = (),
    keep_weights: bool = True,
    memory_limit_bytes: int | None = None,
) -> StudyForecast:
    """Adds up the arms. What frozen blocks give is computed once for all trials of an arm, and so are tokens, once for
    those of its search.

    Args:
        arms: label -> forecast of one of its trials.
        final: the label of every final trial.
        search: the label of every trial of the search, which keeps neither weights nor predictions.
        search_shares: for each trial of the search, its share of the steps of its arm's forecast; 1 where not given.
        untimed: the label of every final trial that does not time the trained model (`execution.latency_seeds`).
        keep_weights: whether trained weights stay after the trial.
        memory_limit_bytes: the memory limit that was asked about; None: this machine's.
    """
    missing: dict[str, str] = {}
    unknown_times = [label for label in final if not arms[label].seconds]
    unknown_times += [label for label in search if not arms[label].search_seconds]
    total: float | None = None
    if unknown_times:
        missing["total_seconds"] = f"no time is known of {', '.join(dict.fromkeys(unknown_times))}"
    else:
        total = sum(sum(arms[label].seconds.values()) for label in final)
        counts = Counter(final)
        total -= sum((count - 1) * sum(arms[label].kept_seconds.values()) for label, count in counts.items())
        # What is held is scored by the base model once, for all arms.
        holding = [label for label in counts if "retention" in arms[label].kept_seconds]
        total -= sum(arms[label].kept_seconds["retention"] for label in holding[1:])
        total -= sum(arms[label].seconds.get("inference", 0.0) for label in untimed)
        for label, count in Counter(search).items():
            if "tokenize" in arms[label].kept_seconds:
                total -= (count - 1) * arms[label].search_seconds.get("tokenize", 0.0)
        shares = search_shares or [1.0] * len(search)
        total += sum(arms[label].search_trial_seconds(share) for label, share in zip(search, shares, strict=True))
    sizes = {label: _kept_bytes(arms[label], keep_weights) for label in final}
    unknown_sizes = [label for label, size in sizes.items() if size is None]
    disk = None if unknown_sizes else sum(sizes[label] or 0 for label in final)
    if unknown_sizes:
        missing["disk_bytes"] = f"what is kept is not known of {', '.join(unknown_sizes)}"
    return StudyForecast(
        arms=dict(arms),
        total_seconds=total,
        disk_bytes=disk,
        memory_limit_bytes=memory_limit_bytes,
        missing=missing,
    )


def _kept_bytes(arm: ArmForecast, weights: bool) -> int | None:
    """Returns the bytes that a final trial keeps; None where a part of them is not known."""
    if arm.predictions_bytes is None or (weights and arm.stored_bytes is None):
        return None
    return arm.predictions_bytes + ((arm.stored_bytes or 0) if weights else 0)
