"""Compares what was predicted before training with what was measured; docs/plan.md says how predictions are made."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.side_by_side import JoinedStore
from tuneoff.encoding import markdown as escaped
from tuneoff.errors import StoreError
from tuneoff.records.forecast import ArmForecast
from tuneoff.records.record import TrialRecord
from tuneoff.report import units
from tuneoff.report.markup import grid

Summary = dict[str, Any]
_MEASURED: dict[str, Callable[[TrialRecord], float | None]] = {
    "peak_memory_bytes": lambda record: record.memory.peak_memory_bytes,
    "train_seconds": lambda record: record.timing.train_seconds,
    "total_seconds": lambda record: record.timing.total_seconds,
}
_PREDICTED: dict[str, Callable[[ArmForecast], float | None]] = {
    "peak_memory_bytes": lambda arm: arm.peak_memory_bytes,
    "train_seconds": lambda arm: arm.train_seconds,
    "total_seconds": lambda arm: arm.trial_seconds,
}
_NAMES = {"peak_memory_bytes": "peak memory", "train_seconds": "train time", "total_seconds": "whole trial"}
_TEXTS: dict[str, Callable[[float], str]] = {
    "peak_memory_bytes": units.size,
    "train_seconds": units.seconds,
    "total_seconds": units.seconds,
}
_TIMES = ("train_seconds", "total_seconds")


def forecast_data(results: Results) -> dict[str, Any] | None:
    """Returns predicted and measured figures of every arm, described in docs/report-schema.md; None without a
    forecast."""
    if isinstance(results.store, JoinedStore):
        return None
    try:
        forecast = results.store.forecast()
    except StoreError as error:
        return _body([], error.message, None)
    if forecast is None:
        return None
    has_search = results.study.protocol.search is not None
    arms = [_arm(arm, forecast.arms.get(arm.trials[0].label), has_search) for arm in results.arms]
    return _body(arms, "", forecast.total_seconds)


def _body(arms: list[dict[str, Any]], reason: str, total: float | None) -> dict[str, Any]:
    return {
        "total_seconds": total,
        "forecast_seconds": sum(arm["forecast_seconds"] or 0.0 for arm in arms),
        "arms": arms,
        "accuracy": {name: _accuracy(arms, name) for name in _NAMES},
        "reason": reason,
    }


def _arm(arm: Arm, forecast: ArmForecast | None, has_search: bool) -> dict[str, Any]:
    """Compares an arm's forecast with the mean over its completed final trials."""
    reason = _mismatch(arm, forecast, has_search)
    figures = {name: _figure(name, arm, forecast, reason) for name in _NAMES}
    return {
        "method": arm.label,
        "how": forecast.how if forecast else None,
        "corrected_by": forecast.corrected_by if forecast else None,
        "device": forecast.device if forecast else None,
        "contended": arm.contended,
        "forecast_seconds": forecast.forecast_seconds if forecast else None,
        **figures,
    }


def _mismatch(arm: Arm, forecast: ArmForecast | None, has_search: bool) -> str:
    """Returns why a forecast does not apply to these trials; empty where it does."""
    if forecast is None:
        return "no forecast was made of this arm"
    if not has_search and forecast.trial not in {trial.id for trial in arm.trials}:
        # With a search the rate differs, which costs nothing, and so may what was searched besides; the page says so.
        return "the forecast was made of another configuration or of other data"
    devices = {record.environment.device.partition(":")[0] for record in arm.completed if record.environment}
    if devices and forecast.device != "auto" and devices != {forecast.device.partition(":")[0]}:
        return f"the forecast was made for {forecast.device}, the trials ran on {', '.join(sorted(devices))}"
    return ""


def _figure(name: str, arm: Arm, forecast: ArmForecast | None, reason: str) -> dict[str, Any]:
    values = [value for record in arm.completed if (value := _MEASURED[name](record)) is not None]
    measured = statistics.fmean(values) if values else None
    predicted = _PREDICTED[name](forecast) if forecast else None
    if not arm.trains and name == "train_seconds":
        reason = "nothing is trained"
    elif not reason and forecast is not None and predicted is None:
        reason = forecast.missing.get("seconds" if name == "total_seconds" else name, "not forecast")
    elif not reason and not measured:
        reason = "nothing was measured" if arm.completed else "no trial of this arm has completed"
    error = predicted / measured - 1 if predicted is not None and measured and not reason else None
    return {"predicted": predicted, "measured": measured, "relative_error": error, "reason": reason}


def _accuracy(arms: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Returns how far off the predictions of one figure were, in either direction."""
    errors = {
        arm["method"]: abs(arm[name]["relative_error"]) for arm in arms if arm[name]["relative_error"] is not None
    }
    worst_method = max(errors, key=lambda label: errors[label], default=None)
    return {
        "median": statistics.median(errors.values()) if errors else None,
        "worst": errors[worst_method] if worst_method is not None else None,
        "worst_method": worst_method,
        "arms": len(errors),
        "reason": "" if errors else "no arm has both a prediction and a measurement",
    }


def section(summary: Summary) -> str:
    """Writes the page's section; empty where no forecast was made."""
    forecast = summary["forecast"]
    if forecast is None:
        return ""
    if forecast["reason"]:
        return f"## Predicted and measured\n\nThe forecast cannot be read: {escaped(forecast['reason'])}."
    notes: dict[str, int] = {}
    arms = [_row_cells(arm, notes) for arm in forecast["arms"]]
    table = grid(["method", *(_NAMES[name] for name in _NAMES), "how"], arms)
    footnotes = [f"[{number}] {escaped(reason)}." for reason, number in notes.items()]
    explanation = (
        "Each cell is predicted → measured, the mean over completed trials, with the relative error of the prediction. "
        "Predictions were made before the first trial (docs/plan.md): `profile` by a few real steps on this machine, "
        "`estimate` by counting, without running any, so with rough times."
    )
    corrected_by = next((arm["corrected_by"] for arm in forecast["arms"] if arm["corrected_by"]), None)
    if corrected_by is not None:
        explanation += (
            f" `corrected`: estimated, and corrected by what the estimate missed of {escaped(corrected_by)}, "
            "which was profiled."
        )
    if summary["protocol"]["search"] is not None:
        explanation += " They are of the configuration that the search tried first."
    if any("†" in text for cells in arms for text in cells):
        footnotes.append("† Something else used the machine while this was timed.")
    duration = f"Making the forecast took {units.seconds(forecast['forecast_seconds'])}."
    parts = [
        "## Predicted and measured",
        table,
        *(["  \n".join(footnotes)] if footnotes else []),
        _accuracy_text(forecast),
    ]
    return "\n\n".join([*(part for part in parts if part), f"{explanation} {duration}"])


def _row_cells(arm: dict[str, Any], notes: dict[str, int]) -> list[str]:
    cells = [escaped(arm["method"])]
    for name in _NAMES:
        figure, text = arm[name], _TEXTS[name]
        if figure["relative_error"] is None:
            number = notes.setdefault(figure["reason"], len(notes) + 1)
            sides = ["–" if figure[side] is None else text(figure[side]) for side in ("predicted", "measured")]
            cells.append(f"– [{number}]" if sides == ["–", "–"] else f"{sides[0]} → {sides[1]} [{number}]")
            continue
        mark = " †" if arm["contended"] and name in _TIMES else ""
        error = _percent(figure["relative_error"], signed=True)
        cells.append(f"{text(figure['predicted'])} → {text(figure['measured'])}{mark} ({error})")
    return [*cells, "corrected" if arm["corrected_by"] else arm["how"] or "–"]


def _accuracy_text(forecast: dict[str, Any]) -> str:
    accuracies = []
    for name, accuracy in forecast["accuracy"].items():
        if accuracy["median"] is not None:
            accuracies.append(
                f"{_NAMES[name]} off by {_percent(accuracy['median'])} at the median and "
                f"{_percent(accuracy['worst'])} at the worst ({escaped(accuracy['worst_method'])})"
            )
    return f"Predictions: {'; '.join(accuracies)}." if accuracies else ""


def in_short(summary: Summary) -> str:
    """Returns one line for a terminal; empty where nothing can be compared."""
    forecast = summary["forecast"]
    if forecast is None:
        return ""
    accuracies = []
    for name in ("peak_memory_bytes", "train_seconds"):
        median, worst = (forecast["accuracy"][name][key] for key in ("median", "worst"))
        if median is not None:
            accuracies.append(f"{_NAMES[name]} off by {_percent(median)} at the median, {_percent(worst)} at the worst")
    return f"Predicted before training: {'; '.join(accuracies)}." if accuracies else ""


def _percent(value: float, signed: bool = False) -> str:
    return f"{100 * value:+.1f} %" if signed else f"{100 * value:.1f} %"
