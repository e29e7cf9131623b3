"""What was predicted before training beside what was measured, on the page and in a terminal."""

from __future__ import annotations

from collections.abc import Callable

from tuneoff.analysis.forecast_accuracy import ForecastArm, ForecastComparison, PredictedFigure
from tuneoff.encoding import markdown as escaped
from tuneoff.report import units
from tuneoff.report.markup import grid
from tuneoff.report.schema import Report

_NAMES = {"peak_memory_bytes": "peak memory", "train_seconds": "train time", "total_seconds": "whole trial"}
_TEXTS: dict[str, Callable[[float], str]] = {
    "peak_memory_bytes": units.size,
    "train_seconds": units.seconds,
    "total_seconds": units.seconds,
}
_TIMES = ("train_seconds", "total_seconds")


def section(report: Report) -> str:
    """Writes the page's section; empty where no forecast was made."""
    forecast = report.forecast
    if forecast is None:
        return ""
    if forecast.reason:
        return f"## Predicted and measured\n\nThe forecast cannot be read: {escaped(forecast.reason)}."
    notes: dict[str, int] = {}
    arms = [_row_cells(arm, notes) for arm in forecast.arms]
    table = grid(["method", *(_NAMES[name] for name in _NAMES), "how"], arms)
    footnotes = [f"[{number}] {escaped(reason)}." for reason, number in notes.items()]
    explanation = (
        "Each cell is predicted → measured, the mean over completed trials, with the relative error of the prediction. "
        "Predictions were made before the first trial (docs/plan.md): `profile` by a few real steps on this machine, "
        "`estimate` by counting, without running any, so with rough times."
    )
    corrected_by = next((arm.corrected_by for arm in forecast.arms if arm.corrected_by), None)
    if corrected_by is not None:
        explanation += (
            f" `corrected`: estimated, and corrected by what the estimate missed of {escaped(corrected_by)}, "
            "which was profiled."
        )
    if report.protocol.search is not None:
        explanation += " They are of the configuration that the search tried first."
    if any("†" in text for cells in arms for text in cells):
        footnotes.append("† Something else used the machine while this was timed.")
    duration = f"Making the forecast took {units.seconds(forecast.forecast_seconds)}."
    parts = [
        "## Predicted and measured",
        table,
        *(["  \n".join(footnotes)] if footnotes else []),
        _accuracy_text(forecast),
    ]
    return "\n\n".join([*(part for part in parts if part), f"{explanation} {duration}"])


def _row_cells(arm: ForecastArm, notes: dict[str, int]) -> list[str]:
    cells = [escaped(arm.method)]
    for name, text in _TEXTS.items():
        figure: PredictedFigure = getattr(arm, name)
        sides = ["–" if value is None else text(value) for value in (figure.predicted, figure.measured)]
        if figure.relative_error is None:
            number = notes.setdefault(figure.reason, len(notes) + 1)
            cells.append(f"– [{number}]" if sides == ["–", "–"] else f"{sides[0]} → {sides[1]} [{number}]")
            continue
        mark = " †" if arm.contended and name in _TIMES else ""
        cells.append(f"{sides[0]} → {sides[1]}{mark} ({_percent(figure.relative_error, signed=True)})")
    return [*cells, "corrected" if arm.corrected_by else arm.how or "–"]


def _accuracy_text(forecast: ForecastComparison) -> str:
    accuracies = []
    for name, accuracy in forecast.accuracy.items():
        if accuracy.median is not None and accuracy.worst is not None:
            accuracies.append(
                f"{_NAMES[name]} off by {_percent(accuracy.median)} at the median and "
                f"{_percent(accuracy.worst)} at the worst ({escaped(accuracy.worst_method or '')})"
            )
    return f"Predictions: {'; '.join(accuracies)}." if accuracies else ""


def in_short(report: Report) -> str:
    """Returns one line for a terminal; empty where nothing can be compared."""
    forecast = report.forecast
    if forecast is None:
        return ""
    accuracies = []
    for name in ("peak_memory_bytes", "train_seconds"):
        accuracy = forecast.accuracy[name]
        if accuracy.median is not None and accuracy.worst is not None:
            accuracies.append(
                f"{_NAMES[name]} off by {_percent(accuracy.median)} at the median, "
                f"{_percent(accuracy.worst)} at the worst"
            )
    return f"Predicted before training: {'; '.join(accuracies)}." if accuracies else ""


def _percent(value: float, signed: bool = False) -> str:
    return units.with_sign(value, f"{100 * abs(value):.1f} %") if signed else f"{100 * value:.1f} %"
