"""A data frame of trials that holds all columns and prints a few of them in readable units."""

from __future__ import annotations

from typing import Any

import pandas as pd

METRICS_SHOWN = 3
SHORT = {
    "train_seconds": ("train s", 1.0, 1),
    "peak_memory_bytes": ("memory MiB", 2**20, 0),
    "stored_bytes": ("stored MiB", 2**20, 2),
    "latency_seconds": ("latency ms", 1e-3, 1),
    "trainable_parameters": ("trained", 1.0, 0),
}
"""Column -> its heading when printed, what it is divided by, and digits after the point."""


class TrialsFrame(pd.DataFrame):
    """The trials as `table.trials_frame` makes them; a selection or computation of it gives a plain data frame."""

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame

    def short(self, metrics: list[str]) -> pd.DataFrame:
        """Returns the columns that are printed: what each trial is, these metrics, and the costs, in readable units."""
        plain = pd.DataFrame(self)
        frame = plain[[name for name in ("label", "seed", "status", *metrics) if name in plain]].copy()
        for name in metrics:
            frame[name] = frame[name].astype("Float64").round(4)
        for name, (heading, divisor, digits) in SHORT.items():
            if name in plain and plain[name].notna().any():
                figures = (plain[name].astype("Float64") / divisor).round(digits)
                frame[heading] = figures if digits else figures.astype("Int64")
        return frame.astype(object).where(frame.notna(), "–")

    def _shown(self) -> tuple[pd.DataFrame, str]:
        short = self.short(list(self.attrs.get("metrics", ()))[:METRICS_SHOWN])
        note = len(self.columns) - len(short.columns)
        return short, f"[{len(self)} trials; {note} more columns in .columns]" if note > 0 else ""

    def __repr__(self) -> str:
        short, note = self._shown()
        text = short.to_string(index=False)
        return f"{text}\n{note}" if note else text

    __str__ = __repr__

    def _repr_html_(self) -> str:
        short, note = self._shown()
        return f"{short.to_html(index=False, escape=True, border=0)}<p>{note}</p>"
