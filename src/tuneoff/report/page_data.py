"""What the page's script reads: the explorer's figures, limits and rule, and the figures behind the charts."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from tuneoff.analysis.axes import AXES, QUALITY
from tuneoff.analysis.decisions.limits import BYTES, SECONDS, cost_limit
from tuneoff.analysis.decisions.rule_data import RuleData, WeighedArm
from tuneoff.analysis.figures import metric_name
from tuneoff.encoding import one_line, visible
from tuneoff.report import columns, units
from tuneoff.report.arm_schema import ArmSummary, Figure
from tuneoff.report.charts.chart import Chart
from tuneoff.report.charts.style import COLOURS, MARKERS, assign_styles
from tuneoff.report.cost_wording import COST_NAMES, LIMIT_OPTIONS, SUPERLATIVES, figure_text
from tuneoff.report.schema import Report

_SIZES = {name: BYTES[name] for name in ("TB", "GB", "MB", "kB", "B")}
_DURATIONS = {name: SECONDS[name] for name in ("h", "m", "s", "ms", "us")}


def as_text(data: Mapping[str, Any]) -> str:
    """Returns the data as JSON that may stand in a page: no tag begins or ends in it, hidden characters are shown, and
    what is not finite is null."""
    text = json.dumps(_shown(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(key): _shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


def explorer(report: Report, folder: str) -> dict[str, Any] | None:
    """Returns what the explorer shows; None where fewer than two arms that train can be weighed, or no cost is known.

    Args:
        report: what to show.
        folder: the study's, for the command that asks the same; empty where it is not known.
    """
    rule = report.rule
    if rule is None or sum(arm.trains for arm in rule.arms) < 2:
        return None
    axes = [axis for axis in (_axis(key, rule, report) for key in (QUALITY, *AXES)) if axis is not None]
    if len(axes) < 2:
        return None
    known, looks = [axis["key"] for axis in axes], _looks(report)
    return {
        "folder": shlex.quote(folder or "STUDY"),
        "axes": axes,
        "preferences": [(axis, text) for axis, text in SUPERLATIVES.items() if axis in known],
        "limits": [limit for key in known if (limit := _limit(key, rule, report)) is not None],
        "arms": [_arm(arm, report, known, looks[arm.label]) for arm in rule.arms],
        "rule": rule.model_dump(mode="json", exclude={"arms": {"__all__": {"seed_values"}}})
        | {"arms": [_rule_arm(arm) for arm in rule.arms]},
    }


def _rule_arm(arm: WeighedArm) -> dict[str, Any]:
    return {**arm.model_dump(mode="json", exclude={"seed_values"}), "label": one_line(arm.label)}


def _values(key: str, rule: RuleData) -> list[float]:
    """Lists the figures of the arms that train."""
    if key == QUALITY:
        return [arm.quality for arm in rule.arms if arm.trains]
    return [arm.costs[key] for arm in rule.arms if arm.trains and key in arm.costs]


def _axis(key: str, rule: RuleData, report: Report) -> dict[str, Any] | None:
    values = _values(key, rule)
    if not values:
        return None
    if key == QUALITY:
        name = metric_name(report.study.primary_metric or "")
        return {"key": key, "name": name, "title": f"test {name}", "better": rule.direction, "unit": 1, "log": False}
    name, largest = COST_NAMES[key], max(values)
    unit, unit_name = 1.0, ""
    if AXES[key].unit == "seconds":
        unit_name = next((each for each, size in _DURATIONS.items() if largest >= size), "us")
        unit = _DURATIONS[unit_name]
    elif AXES[key].unit == "bytes":
        unit, unit_name = units.byte_unit(largest)
    elif AXES[key].unit == "joules":
        unit_name = "J"
    elif AXES[key].unit == "money":
        unit_name = _currency(report)
    title = f"{name} ({'min' if unit_name == 'm' else unit_name})" if unit_name else name
    return {
        "key": key,
        "name": name,
        "title": title,
        "better": "lower",
        "unit": unit,
        "log": max(values) > 0 and not AXES[key].signed,
    }


def _arm(arm: WeighedArm, report: Report, keys: Sequence[str], look: Mapping[str, str]) -> dict[str, Any]:
    summary = report.arm(arm.label)
    figures = {}
    for key in keys:
        value = arm.quality if key == QUALITY else arm.costs.get(key)
        if value is None:
            continue
        figure = _figure(key, summary, report)
        figures[key] = {
            "value": value,
            "text": columns.score(value, unit=report.study.primary_unit)
            if key == QUALITY
            else figure_text(AXES[key], value, _currency(report)),
            "low": figure.interval_low if figure else None,
            "high": figure.interval_high if figure else None,
            "seeds": arm.seed_values.get(key, ()),
        }
    return {
        "label": one_line(arm.label),
        "trains": arm.trains,
        **look,
        "figures": figures,
    }


def _looks(report: Report) -> dict[str, dict[str, str]]:
    """Returns the colour and the marker that charts give to each arm."""
    styles = assign_styles(arm.method for arm in report.methods)
    return {
        label: {"colour": COLOURS[style % len(COLOURS)], "marker": MARKERS[style % len(MARKERS)]}
        for label, style in styles.items()
    }


def _figure(key: str, summary: ArmSummary, report: Report) -> Figure | None:
    if key == QUALITY:
        return summary.metrics.get(report.study.primary_metric or "")
    figure = getattr(summary, AXES[key].figure)
    return figure if isinstance(figure, Figure) and figure.interval_low is not None else None


def _limit(key: str, rule: RuleData, report: Report) -> dict[str, Any] | None:
    """Returns a slider's stops, each at an arm's figure, rounded so that the arm keeps it; None where `recommend` has
    no such limit, or all arms have the same figure."""
    values = sorted(set(_values(key, rule)))
    if key == QUALITY:
        metric, at_least = report.study.primary_metric or "", rule.direction == "higher"
        stops = list(dict.fromkeys(_rounded(value, up=not at_least) for value in values))
        named = [(float(text), text) for text in stops]
        title = f"{metric_name(metric)} at {'least' if at_least else 'most'}"
        option, joint = "--min" if at_least else "--max", f" {shlex.quote(metric)}="
    elif key in LIMIT_OPTIONS:
        option, joint, at_least = LIMIT_OPTIONS[key], " ", False
        write = {"bytes": _size, "money": _amount, "change": _amount}.get(AXES[key].unit, _duration)
        texts = dict.fromkeys(write(value) for value in values if value > 0)
        named = [(cost_limit(key, text, option).bound, text) for text in texts]
        title = f"{COST_NAMES[key]} at most"
    else:
        return None
    if len(named) < 2:
        return None
    return {"key": key, "title": title, "option": option, "joint": joint, "atLeast": at_least, "stops": named}


def _rounded(value: float, up: bool) -> str:
    """Returns a number of three digits that is not below the value, or not above it."""
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    digits = min(digits, 12)
    step = 10.0**-digits
    nearest = round(value / step) * step
    if up:
        nearest += step if nearest < value else 0
    else:
        nearest -= step if nearest > value else 0
    text = f"{nearest:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _size(value: float) -> str:
    return _with_unit(value, _SIZES, lambda size: value >= size)


def _duration(value: float) -> str:
    return _with_unit(value, _DURATIONS, lambda size: value >= 2 * size or (size == 1 and value >= size))


def _amount(value: float) -> str:
    return _rounded(value, up=True)


def _currency(report: Report) -> str:
    return report.money.currency if report.money else ""


def _with_unit(value: float, sizes: Mapping[str, float], is_large: Callable[[float], bool]) -> str:
    name, size = next(((name, size) for name, size in sizes.items() if is_large(size)), list(sizes.items())[-1])
    return f"{_rounded(value / size, up=True)}{name}"


def disagreements(report: Report) -> dict[str, Any] | None:
    """Returns the examples that arms answer differently; None without any."""
    return _examples(report, report.disagreements)


def hardest(report: Report) -> dict[str, Any] | None:
    """Returns the hardest examples; None without any."""
    return _examples(report, report.hardness.hardest if report.hardness is not None else ())


def _examples(report: Report, examples: Sequence[BaseModel]) -> dict[str, Any] | None:
    if not examples:
        return None
    return {
        "metric": metric_name(report.study.primary_metric or ""),
        "examples": [each.model_dump(mode="json") for each in examples],
    }


def machine_use(report: Report) -> list[dict[str, Any]]:
    """Returns what each arm's first trial used of the machine over time."""
    return [each.model_dump(mode="json") for each in report.machine_use]


def chart_rows(charts: Sequence[Chart]) -> dict[str, list[list[Any]]]:
    """Returns the figures behind each chart, a heading and a line per point."""
    return {chart.name: _rows(chart) for chart in charts}


def _rows(chart: Chart) -> list[list[Any]]:
    rows: list[list[Any]]
    if chart.kind == "forecast":
        heads = ["arm", *(f"{series.label}: predicted / measured" for series in chart.series)]
        by_row = [dict(zip(series.y, series.x, strict=True)) for series in chart.series]
        return [
            heads,
            *([one_line(n), *(known.get(float(-at), "") for known in by_row)] for at, n in enumerate(chart.names)),
        ]
    if chart.kind == "ties":
        numbers = [
            " ".join(str(n) for n, group in enumerate(chart.groups, 1) if at in group)
            for at in range(len(chart.series))
        ]
        return [
            ["arm", chart.x.label, "low", "high", "groups"],
            *(
                [one_line(s.label), s.x[0], s.low[0], s.high[0], groups]
                for s, groups in zip(chart.series, numbers, strict=True)
            ),
        ]
    if chart.kind == "forest":
        return [
            ["arm", "difference to the best", "low", "high"],
            *([one_line(series.label), series.x[0], series.low[0], series.high[0]] for series in chart.series),
        ]
    if chart.kind == "matrix":
        rows = [["arm", chart.y.label, *map(one_line, chart.names)]]
        for panel in chart.panels:
            cells = zip(chart.names, panel.cells, strict=True)
            rows += [[one_line(panel.label), one_line(name), *values] for name, values in cells]
        return rows
    if chart.kind in ("classes", "counts"):
        heads = [chart.y.label, chart.x.label] if chart.kind == "classes" else [chart.x.label, chart.y.label]
        rows = [["arm", *heads]]
        for series in chart.series:
            values = series.x if chart.kind == "classes" else series.y
            rows += [[one_line(series.label), one_line(n), value] for n, value in zip(chart.names, values, strict=True)]
        return rows
    y = chart.y.label
    rows = [["arm", chart.x.label, y, f"{y} low", f"{y} high"]]
    for series in chart.series:
        points = zip(series.x, series.y, series.low, series.high, strict=True)
        rows += [[one_line(series.label), *point] for point in points]
        rows += [[one_line(series.label), x, value, "", ""] for x, value in series.early]
    return rows
