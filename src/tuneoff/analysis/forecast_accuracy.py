"""Compares what was predicted before training with what was measured; docs/plan.md says how predictions are made."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from pydantic import Field

from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.side_by_side import JoinedStore
from tuneoff.config.base import Frozen
from tuneoff.errors import StoreError
from tuneoff.records.forecast import ArmForecast, How
from tuneoff.records.record import TrialRecord

_MEASURED: dict[str, Callable[[TrialRecord], float | None]] = {
    "peak_memory_bytes": lambda record: record.memory.peak_memory_bytes,
    "train_seconds": lambda record: record.timing.train_seconds,
    "total_seconds": lambda record: record.timing.total_seconds,
}
_PREDICTED: dict[str, Callable[[ArmForecast, float], float | None]] = {
    "peak_memory_bytes": lambda arm, share: arm.peak_memory_bytes,
    "train_seconds": lambda arm, share: arm.train_seconds,
    "total_seconds": lambda arm, share: arm.mean_trial_seconds(share),
}
"""Figure -> what the forecast says, given the share of the arm's final trials that compute what frozen blocks give."""


class PredictedFigure(Frozen):
    """One figure of an arm, predicted and measured."""

    predicted: int | float | None = Field(description="by the forecast; null where it does not tell")
    measured: float | None = Field(
        description="mean over the arm's completed final trials (of whole trials: those that time the trained model, "
        "where any does); null without any"
    )
    relative_error: float | None = Field(
        description="predicted / measured − 1; null where one of the two is missing or the forecast was made of other "
        "trials (another configuration, data or device)"
    )
    reason: str = Field(description="why `relative_error` is null; else empty")


class ForecastArm(Frozen):
    """An arm's forecast beside its trials. With a search the forecast is of the configuration that was tried first."""

    method: str = Field(description="the arm's label")
    how: How | None = Field(description="`profile` or `estimate`; null where no forecast was made of it")
    corrected_by: str | None = Field(description="the profiled arm by which an estimated one was corrected, else null")
    device: str | None = Field(description="device that it was made for; null where no forecast was made of it")
    contended: bool = Field(description="whether its times were measured on a busy machine")
    forecast_seconds: float | None = Field(description="what making its forecast took")
    peak_memory_bytes: PredictedFigure = Field(description="peak while training")
    train_seconds: PredictedFigure = Field(description="training steps and their data waits")
    total_seconds: PredictedFigure = Field(
        description="the whole trial; what frozen blocks give for validation and test is computed by one trial of an "
        "arm and counts for each as a part of it"
    )


class Accuracy(Frozen):
    """How far off the predictions of one figure were, in either direction, over the arms that have both."""

    median: float | None = Field(description="median absolute relative error; null where there is none")
    worst: float | None = Field(description="the largest")
    worst_method: str | None = Field(description="the arm that has it")
    arms: int = Field(description="how many arms have a prediction and a measurement")
    reason: str = Field(description="why there is none; else empty")


class ForecastComparison(Frozen):
    """What was predicted before the first trial, beside what was measured."""

    total_seconds: float | None = Field(
        description="predicted for all trials, when it was made; null where it could not be told"
    )
    forecast_seconds: float = Field(description="what making it took")
    arms: tuple[ForecastArm, ...] = Field(description="one object per arm of the table")
    accuracy: dict[str, Accuracy] = Field(description="{figure: accuracy}")
    reason: str = Field(description="why the forecast cannot be read, then `arms` is empty; else empty")


def compare_forecast(results: Results) -> ForecastComparison | None:
    """Compares predicted and measured figures of every arm; None without a forecast, and where studies are joined."""
    if isinstance(results.store, JoinedStore):
        return None
    try:
        forecast = results.store.forecast()
    except StoreError as error:
        return _comparison([], error.message, None)
    if forecast is None:
        return None
    has_search = results.study.protocol.search is not None
    arms = [_arm(arm, forecast.arms.get(arm.trials[0].label), has_search) for arm in results.arms]
    return _comparison(arms, "", forecast.total_seconds)


def _comparison(arms: list[ForecastArm], reason: str, total: float | None) -> ForecastComparison:
    return ForecastComparison(
        total_seconds=total,
        forecast_seconds=sum(arm.forecast_seconds or 0.0 for arm in arms),
        arms=tuple(arms),
        accuracy={name: _accuracy({arm.method: getattr(arm, name) for arm in arms}) for name in _MEASURED},
        reason=reason,
    )


def _arm(arm: Arm, forecast: ArmForecast | None, has_search: bool) -> ForecastArm:
    """Compares an arm's forecast with the mean over its completed final trials."""
    reason = _mismatch(arm, forecast, has_search)
    return ForecastArm(
        method=arm.label,
        how=forecast.how if forecast else None,
        corrected_by=forecast.corrected_by if forecast else None,
        device=forecast.device if forecast else None,
        contended=arm.contended,
        forecast_seconds=forecast.forecast_seconds if forecast else None,
        **{name: _figure(name, arm, forecast, reason, has_search) for name in _MEASURED},
    )


def _mismatch(arm: Arm, forecast: ArmForecast | None, has_search: bool) -> str:
    """Returns why a forecast does not apply to these trials; empty where it does."""
    if forecast is None:
        return "no forecast was made of this arm"
    if not has_search and forecast.trial not in {trial.id for trial in arm.trials}:
        # With a search the rate differs, which costs nothing, and so may what was searched besides; the page says so.
        return "the forecast was made of another configuration or of other data"
    if forecast.batch_sizes is not None:
        return "the forecast is of the most that memory and times could be: the search was still to choose batch sizes"
    devices = {record.environment.device.partition(":")[0] for record in arm.completed if record.environment}
    if devices and forecast.device != "auto" and devices != {forecast.device.partition(":")[0]}:
        return f"the forecast was made for {forecast.device}, the trials ran on {', '.join(sorted(devices))}"
    return ""


def _figure(name: str, arm: Arm, forecast: ArmForecast | None, reason: str, has_search: bool) -> PredictedFigure:
    # A forecast is of a trial that times the trained model, where any does.
    timed = [record for record in arm.completed if record.spec.times_inference]
    records = (timed or arm.completed) if name == "total_seconds" else arm.completed
    values = [value for record in records if (value := _MEASURED[name](record)) is not None]
    measured = statistics.fmean(values) if values else None
    # A search has computed what frozen blocks give.
    share = 0.0 if has_search else 1 / max(1, len(values))
    predicted = _PREDICTED[name](forecast, share) if forecast else None
    if not arm.trains and name == "train_seconds":
        reason = "nothing is trained"
    elif not reason and forecast is not None and predicted is None:
        reason = forecast.missing.get("seconds" if name == "total_seconds" else name, "not forecast")
    elif not reason and not measured:
        reason = "nothing was measured" if arm.completed else "no trial of this arm has completed"
    error = predicted / measured - 1 if predicted is not None and measured and not reason else None
    return PredictedFigure(predicted=predicted, measured=measured, relative_error=error, reason=reason)


def _accuracy(figures: dict[str, PredictedFigure]) -> Accuracy:
    """Summarises how far off the predictions of one figure were; `figures`: arm -> that figure."""
    errors = {label: abs(f.relative_error) for label, f in figures.items() if f.relative_error is not None}
    worst_method = max(errors, key=lambda label: errors[label], default=None)
    return Accuracy(
        median=statistics.median(errors.values()) if errors else None,
        worst=errors[worst_method] if worst_method is not None else None,
        worst_method=worst_method,
        arms=len(errors),
        reason="" if errors else "no arm has both a prediction and a measurement",
    )
