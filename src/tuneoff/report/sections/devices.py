"""The page's section on arms on several devices beside the same arms on one."""

from __future__ import annotations

from collections.abc import Callable

from tuneoff.analysis.devices import DeviceComparison
from tuneoff.encoding import markdown as escaped
from tuneoff.report import units
from tuneoff.report.markup import grid
from tuneoff.report.schema import Report


def section(report: Report) -> str:
    """Writes the section in report.md; empty where no arm runs on several devices."""
    entries = report.devices
    if not entries:
        return ""
    heads = ["arm", "devices", "beside", "train time", "on one", "speed-up", "efficiency", "memory per rank", "waits"]
    rows = [
        [
            escaped(entry.method),
            f"{entry.devices}{', sharded' if entry.shard else ''}",
            escaped(entry.beside) if entry.beside else "–",
            _format_value(entry.train_seconds, units.seconds),
            _format_value(entry.one_device_train_seconds, units.seconds),
            _format_value(entry.speed_up, lambda value: f"{value:.2f}×") + _contended_mark(entry),
            _format_value(entry.efficiency, lambda value: f"{value:.0%}"),
            _format_range(entry.peak_memory_bytes_least, entry.peak_memory_bytes_greatest, units.size),
            _format_range(entry.data_wait_seconds_least, entry.data_wait_seconds_greatest, units.seconds),
        ]
        for entry in entries
    ]
    explanation = (
        "Speed-up is the train time on one device over that on several, on the seeds that both have; efficiency is "
        "that over the number of devices (†: timed on a busy machine). Memory is the peak of a rank and “waits” its "
        "wait for data, least to greatest."
    )
    reasons = [f"{escaped(e.method)}: no speed-up, because {e.speed_up_reason}." for e in entries if e.speed_up_reason]
    return "\n\n".join(["## Several devices", grid(heads, rows), explanation, *reasons])


def _contended_mark(entry: DeviceComparison) -> str:
    return "†" if entry.contended and entry.speed_up is not None else ""


def _format_value(value: float | None, show: Callable[[float], str]) -> str:
    return "–" if value is None else show(value)


def _format_range(least: float | None, greatest: float | None, show: Callable[[float], str]) -> str:
    if least is None or greatest is None:
        return "–"
    return " – ".join(dict.fromkeys((show(least), show(greatest))))
