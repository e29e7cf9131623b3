"""What was predicted before training beside what was measured; docs/plan.md says how predictions are made."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from tuneoff.analysis.results import Results, Row
from tuneoff.analysis.side_by_side import JoinedStore
from tuneoff.encoding import markdown as escaped
from tuneoff.errors import StoreError
from tuneoff.records.forecast import RowForecast
from tuneoff.records.record import TrialRecord
from tuneoff.report import units
from tuneoff.report.markup import grid

Summary = dict[str, Any]
_MEASURED: dict[str, Callable[[TrialRecord], float | None]] = {
    "peak_memory_bytes": lambda record: record.memory.peak_memory_bytes,
    "train_seconds": lambda record: record.timing.train_seconds,
    "total_seconds": lambda record: record.timing.total_seconds,
}
_PREDICTED: dict[str, Callable[[RowForecast], float | None]] = {
    "peak_memory_bytes": lambda row: row.peak_memory_bytes,
    "train_seconds": lambda row: row.train_seconds,
    "total_seconds": lambda row: row.trial_seconds,
}
_NAMES = {"peak_memory_bytes": "peak memory", "train_seconds": "train time", "total_seconds": "whole trial"}
_TEXTS: dict[str, Callable[[float], str]] = {
    "peak_memory_bytes": units.size,
    "train_seconds": units.seconds,
    "total_seconds": units.seconds,
}
_TIMES = ("train_seconds", "total_seconds")


def forecast_data(results: Results) -> dict[str, Any] | None:
    """Predicted and measured figures of every row, as described in docs/report-schema.md; None without a forecast."""
    if isinstance(results.store, JoinedStore):
        return None
    try:
        made = results.store.forecast()
    except StoreError as error:
        return _body([], error.message, None)
    if made is None:
        return None
    searched = results.study.protocol.search is not None
    rows = [_row(row, made.rows.get(row.trials[0].label), searched) for row in results.rows]
    return _body(rows, "", made.total_seconds)


def _body(rows: list[dict[str, Any]], reason: str, total: float | None) -> dict[str, Any]:
    return {
        "total_seconds": total,
        "forecast_seconds": sum(row["forecast_seconds"] or 0.0 for row in rows),
        "rows": rows,
        "accuracy": {name: _accuracy(rows, name) for name in _NAMES},
        "reason": reason,
    }


def _row(row: Row, made: RowForecast | None, searched: bool) -> dict[str, Any]:
    """A row's forecast against the mean over its completed trials of the verdict."""
    reason = _unlike(row, made, searched)
    figures = {name: _figure(name, row, made, reason) for name in _NAMES}
    return {
        "method": row.label,
        "how": made.how if made else None,
        "corrected_by": made.corrected_by if made else None,
        "device": made.device if made else None,
        "contended": row.contended,
        "forecast_seconds": made.forecast_seconds if made else None,
        **figures,
    }


def _unlike(row: Row, made: RowForecast | None, searched: bool) -> str:
    """Why a forecast does not speak of these trials; empty where it does."""
    if made is None:
        return "no forecast was made of this row"
    if not searched and made.trial not in {trial.id for trial in row.trials}:
        # With a search the rate differs, which costs nothing, and so may what was searched besides; the page says so.
        return "the forecast was made of another configuration or of other data"
    devices = {record.environment.device.partition(":")[0] for record in row.completed if record.environment}
    if devices and made.device != "auto" and devices != {made.device.partition(":")[0]}:
        return f"the forecast was made for {made.device}, the trials ran on {', '.join(sorted(devices))}"
    return ""


def _figure(name: str, row: Row, made: RowForecast | None, reason: str) -> dict[str, Any]:
    values = [value for record in row.completed if (value := _MEASURED[name](record)) is not None]
    measured = statistics.fmean(values) if values else None
    predicted = _PREDICTED[name](made) if made else None
    if not row.trains and name == "train_seconds":
        reason = "nothing is trained"
    elif not reason and made is not None and predicted is None:
        reason = made.missing.get("seconds" if name == "total_seconds" else name, "not forecast")
    elif not reason and not measured:
        reason = "nothing was measured" if row.completed else "no trial of this row has completed"
    error = predicted / measured - 1 if predicted is not None and measured and not reason else None
    return {"predicted": predicted, "measured": measured, "relative_error": error, "reason": reason}


def _accuracy(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """How far off the predictions of one figure were, whichever way."""
    errors = {
        row["method"]: abs(row[name]["relative_error"]) for row in rows if row[name]["relative_error"] is not None
    }
    worst = max(errors, key=lambda label: errors[label], default=None)
    return {
        "median": statistics.median(errors.values()) if errors else None,
        "worst": errors[worst] if worst is not None else None,
        "worst_method": worst,
        "rows": len(errors),
        "reason": "" if errors else "no row has both a prediction and a measurement",
    }


def section(summary: Summary) -> str:
    """The page's section; empty where no forecast was made."""
    found = summary["forecast"]
    if found is None:
        return ""
    if found["reason"]:
        return f"## Predicted and measured\n\nThe forecast cannot be read: {escaped(found['reason'])}."
    notes: dict[str, int] = {}
    rows = [_cells(row, notes) for row in found["rows"]]
    table = grid(["method", *(_NAMES[name] for name in _NAMES), "how"], rows)
    told = [f"[{number}] {escaped(reason)}." for reason, number in notes.items()]
    about = (
        "Each cell is predicted → measured, the mean over completed trials, with the relative error of the prediction. "
        "Predictions were made before the first trial (docs/plan.md): `probed` by a few real steps on this machine, "
        "`counted` without running any, so with rough times."
    )
    by = next((row["corrected_by"] for row in found["rows"] if row["corrected_by"]), None)
    if by is not None:
        about += f" `corrected`: counted, and corrected by what counting missed of {escaped(by)}, which was probed."
    if summary["protocol"]["search"] is not None:
        about += " They are of the configuration that the search tried first."
    if any("†" in text for cells in rows for text in cells):
        told.append("† Something else used the machine while this was timed.")
    took = f"Making the forecast took {units.seconds(found['forecast_seconds'])}."
    parts = ["## Predicted and measured", table, *(["  \n".join(told)] if told else []), _accuracy_text(found)]
    return "\n\n".join([*(part for part in parts if part), f"{about} {took}"])


def _cells(row: dict[str, Any], notes: dict[str, int]) -> list[str]:
    cells = [escaped(row["method"])]
    for name in _NAMES:
        figure, text = row[name], _TEXTS[name]
        if figure["relative_error"] is None:
            number = notes.setdefault(figure["reason"], len(notes) + 1)
            sides = ["–" if figure[side] is None else text(figure[side]) for side in ("predicted", "measured")]
            cells.append(f"– [{number}]" if sides == ["–", "–"] else f"{sides[0]} → {sides[1]} [{number}]")
            continue
        mark = " †" if row["contended"] and name in _TIMES else ""
        error = _percent(figure["relative_error"], signed=True)
        cells.append(f"{text(figure['predicted'])} → {text(figure['measured'])}{mark} ({error})")
    return [*cells, "corrected" if row["corrected_by"] else row["how"] or "–"]


def _accuracy_text(found: dict[str, Any]) -> str:
    told = []
    for name, accuracy in found["accuracy"].items():
        if accuracy["median"] is not None:
            told.append(
                f"{_NAMES[name]} off by {_percent(accuracy['median'])} at the median and "
                f"{_percent(accuracy['worst'])} at the worst ({escaped(accuracy['worst_method'])})"
            )
    return f"Predictions: {'; '.join(told)}." if told else ""


def in_short(summary: Summary) -> str:
    """One line for a terminal; empty where nothing can be compared."""
    found = summary["forecast"]
    if found is None:
        return ""
    told = []
    for name in ("peak_memory_bytes", "train_seconds"):
        median, worst = (found["accuracy"][name][key] for key in ("median", "worst"))
        if median is not None:
            told.append(f"{_NAMES[name]} off by {_percent(median)} at the median, {_percent(worst)} at the worst")
    return f"Predicted before training: {'; '.join(told)}." if told else ""


def _percent(value: float, signed: bool = False) -> str:
    return f"{100 * value:+.1f} %" if signed else f"{100 * value:.1f} %"
