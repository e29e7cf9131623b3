"""Limits that a recommendation must keep: sizes, durations and metrics, read strictly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tuneoff.analysis.axes import AXES, Axis
from tuneoff.config.deployability import Form
from tuneoff.errors import StudyError, did_you_mean
from tuneoff.records.record import Metric

BYTES = {
    "B": 1,
    **{unit: 1000**power for power, unit in enumerate(("kB", "MB", "GB", "TB"), 1)},
    **{unit: 1024**power for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB"), 1)},
}
SECONDS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_NUMBER = r"\d+(?:\.\d+)?"


@dataclass(frozen=True)
class Limit:
    """A limit that an arm must keep, by the mean over its seeds.

    Attributes:
        bound: in the figure's own unit (bytes, seconds, the metric's).
        text: the bound as it was given.
        axis: the cost; None for a metric.
        metric: the metric; None for a cost.
        at_least: whether the figure must not be below the bound; else not above.
        form: a form in which the arm's trained models must be shown to work; the figure is then 1 where they do.
        reference: label of an arm: the figure is by how much an arm is worse than this one at most (`most_worse`), in
            the metric's unit, and the bound is the margin. Empty for a limit of the figure itself.
    """

    bound: float
    text: str
    axis: Axis | None = None
    metric: Metric | None = None
    at_least: bool = False
    reference: str = ""
    form: Form | None = None

    @property
    def name(self) -> str:
        """Returns the name of the figure, unit included."""
        if self.form is not None:
            return f"deployable_{self.form}"
        if self.reference and self.metric:
            return f"{self.metric.name} worse than {self.reference}"
        return self.axis.figure if self.axis else self.metric.name if self.metric else ""

    def excess(self, figure: float) -> float:
        """Returns by how much a figure is beyond the bound; 0 or less where it keeps the limit."""
        return self.bound - figure if self.at_least else figure - self.bound


def cost_limit(axis: str, text: str, option: str) -> Limit:
    """Reads an upper limit of a cost that is counted in bytes, in seconds or in money, or of a change.

    Raises:
        StudyError: if the text is no size, no duration, no amount or no change.
    """
    cost = AXES[axis]
    parse = {"bytes": size, "money": amount, "change": change}.get(cost.unit, duration)
    return Limit(parse(text, option), text.strip(), axis=cost)


def metric_limit(text: str, option: str, metrics: Iterable[Metric]) -> Limit:
    """Reads a limit of a test metric, as `NAME=VALUE`: at least with `--min`, at most with `--max`.

    Raises:
        StudyError: if it is not written so, the study has no such metric, or its better side is not limited.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    by_name = {metric.name: metric for metric in metrics}
    if not name or not equals or not re.fullmatch(rf"-?{_NUMBER}(?:e-?\d+)?", value):
        example = next(iter(by_name), "METRIC")
        raise StudyError(f"{option}: {text!r} is not NAME=VALUE", hint=f"For example {option} {example}=0.9.")
    if name not in by_name:
        hint = f"Test metrics of this study: {', '.join(by_name)}." if by_name else ""
        raise StudyError(f"{option}: no test metric {name!r}{did_you_mean(name, by_name)}", hint=hint)
    metric, bound = by_name[name], float(value)
    at_least = option == "--min"
    if at_least != (metric.direction == "higher"):
        other = "--max" if at_least else "--min"
        raise StudyError(
            f"{option}: of {name} the {metric.direction} value is the better, so {option} would keep good arms out",
            hint=f"Write {other} {name}={value}.",
        )
    if metric.unit == "fraction" and bound > 1:
        raise StudyError(f"{option}: {name} is a fraction, never {value}", hint=f"For {value} % write {bound / 100:g}.")
    return Limit(bound, value, metric=metric, at_least=at_least)


def reference_limit(label: str, margin: float | None, metric: Metric, labels: Sequence[str], best: str | None) -> Limit:
    """Reads the limit that an arm is shown to be at most a margin worse than another, or than the `best`.

    Raises:
        StudyError: if there is no such arm, or no margin.
    """
    reference = best if label == "best" and label not in labels else label
    if reference is None or reference not in labels:
        raise StudyError(
            f"--as-good-as: no arm {label!r}{did_you_mean(label, labels)}", hint=f"Arms: best, {', '.join(labels)}."
        )
    if margin is None:
        raise StudyError(
            "--as-good-as needs a margin: by how much an arm may be worse and count as as good",
            hint=f"For example --as-good-as {label} --margin 0.01, in {metric.name}'s unit; "
            "the study's `margin` is of its primary metric.",
        )
    return Limit(margin, f"{margin:g}", metric=metric, reference=reference)


def form_limit(form: Form) -> Limit:
    """Returns the limit that an arm's trained models are shown to work in a form."""
    return Limit(1.0, form, form=form, at_least=True)


MOST = 2.0**63
"""Greatest size in bytes, and duration in seconds, that is taken for a limit."""


def size(text: str, option: str) -> float:
    """Reads a size in bytes. `4GB` is 4,000,000,000, `4GiB` is 4,294,967,296; a size without a unit is refused.

    Raises:
        StudyError: if it is not a positive number with one of the units of `BYTES`.
    """
    match = re.fullmatch(rf"({_NUMBER})\s*([A-Za-z]*)", text.strip())
    hint = f"Units: {', '.join(BYTES)}; 1 MB is 1,000,000 bytes, 1 MiB is 1,048,576."
    if match is None:
        raise StudyError(f"{option}: {text!r} is not a size", hint=f"For example {option} 4GB. {hint}")
    number, unit = match.groups()
    if not unit:
        raise StudyError(f"{option}: {text!r} has no unit", hint=hint)
    if unit not in BYTES:
        raise StudyError(f"{option}: no unit of size {unit!r}{did_you_mean(unit, BYTES)}", hint=hint)
    return _positive(float(number) * BYTES[unit], text, option)


def duration(text: str, option: str) -> float:
    """Reads a duration in seconds. `20ms`, `90s`, `15m` (or `15min`), `1h30m`; a duration without a unit is refused.

    Raises:
        StudyError: if it is not made of numbers with one of the units of `SECONDS`, largest first.
    """
    hint = f"For example {option} 15m or {option} 1h30m. Units: {', '.join(SECONDS)}; m and min are minutes."
    stripped = re.sub(r"\s+", "", text)
    parts = re.findall(rf"({_NUMBER})([A-Za-z]*)", stripped)
    if not parts or "".join(number + unit for number, unit in parts) != stripped:
        raise StudyError(f"{option}: {text!r} is not a duration", hint=hint)
    if any(not unit for _, unit in parts):
        raise StudyError(f"{option}: {text!r} has no unit", hint=hint)
    for _, unit in parts:
        if unit not in SECONDS:
            raise StudyError(f"{option}: no unit of time {unit!r}{did_you_mean(unit, SECONDS)}", hint=hint)
    units = [SECONDS[unit] for _, unit in parts]
    if sorted(set(units), reverse=True) != units:
        raise StudyError(f"{option}: {text!r} does not name each unit once, the largest first", hint=hint)
    return _positive(sum(float(number) * SECONDS[unit] for number, unit in parts), text, option)


def amount(text: str, option: str) -> float:
    """Reads an amount of money, in the currency of the study's prices: a number alone.

    Raises:
        StudyError: if it is not a positive number.
    """
    if re.fullmatch(_NUMBER, text.strip()) is None:
        hint = f"For example {option} 2.50, in the currency of the study's prices."
        raise StudyError(f"{option}: {text!r} is not an amount", hint=hint)
    return _positive(float(text), text, option)


def change(text: str, option: str) -> float:
    """Reads by how much a metric may be worse, in its own unit: a number alone, 0 or more.

    Raises:
        StudyError: if it is none.
    """
    if re.fullmatch(_NUMBER, text.strip()) is None:
        hint = f"For example {option} 0.05, in the unit of what the study holds first, such as bits per byte."
        raise StudyError(f"{option}: {text!r} is not a number of 0 or more", hint=hint)
    return _countable(float(text), text, option)


def _countable(value: float, text: str, option: str) -> float:
    if value > MOST:
        raise StudyError(f"{option}: {text!r} is more than can be counted", hint="Leave it out for no limit.")
    return value


def _positive(value: float, text: str, option: str) -> float:
    _countable(value, text, option)
    if value <= 0:
        raise StudyError(f"{option}: {text!r} leaves no room for any method", hint="Give a limit above 0.")
    return value
