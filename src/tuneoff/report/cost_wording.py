"""Words for costs, and for the limits that a user sets on them."""

from __future__ import annotations

from tuneoff.analysis.axes import Axis
from tuneoff.analysis.decisions.limits import Limit
from tuneoff.analysis.figures import metric_name
from tuneoff.config.deployability import TITLES
from tuneoff.report import units

SUPERLATIVES = {
    "time": "trains fastest",
    "memory": "needs the least memory",
    "stored": "stores the least",
    "parameters": "trains the fewest parameters",
    "latency": "answers fastest",
    "energy": "uses the least energy",
    "money": "costs the least money",
    "forgetting": "forgets the least",
}
COST_NAMES = {
    "time": "train time",
    "memory": "peak memory",
    "stored": "stored size",
    "parameters": "trained parameters",
    "latency": "latency",
    "energy": "energy",
    "money": "money",
    "forgetting": "forgetting",
}
"""Every cost in words; `SUPERLATIVES`: what the arm with the least of it does."""
LIMIT_OPTIONS = {
    "memory": "--max-memory",
    "time": "--max-train-time",
    "stored": "--max-stored",
    "latency": "--max-latency",
    "money": "--max-money",
    "forgetting": "--max-forgetting",
}
"""Cost that may be limited -> its option."""


def winner_text(prefer: str | None) -> str:
    """Returns which of several equally good arms a rule names: the one with the least of a cost, where one is
    preferred."""
    return f"the one that {SUPERLATIVES[prefer]}" if prefer else "the best"


def cheapest_text(answer: str | None, prefer: str | None) -> str:
    """Returns the end of a sentence on equally good arms; empty where no cost is preferred."""
    return f"; of these {answer} {SUPERLATIVES[prefer]}" if prefer else ""


def limit_text(limit: Limit) -> str:
    """Formats a limit: `peak memory at most 4GB`, `accuracy at most 0.01 worse than full`."""
    if limit.form is not None:
        return f"a form “{TITLES[limit.form]}” that works"
    if limit.metric and limit.reference:
        return f"{metric_name(limit.metric.name)} at most {limit.text} worse than {limit.reference}"
    name = limit_name(limit)
    return f"{name} {'at least' if limit.at_least else 'at most'} {limit.text}"


def limit_name(limit: Limit) -> str:
    if limit.reference:
        return f"how much worse it is than {limit.reference}"
    return COST_NAMES[limit.axis.name] if limit.axis else metric_name(limit.name)


def figure_text(axis: Axis, value: float, currency: str = "") -> str:
    """Formats a cost in its unit, for people; `currency` is the word for money."""
    if axis.unit == "count":
        return units.count(value)
    if axis.unit == "change":
        return units.change_spread(value, None)
    if axis.unit == "money":
        return f"{units.number(value)} {currency}".rstrip()
    return {"seconds": units.seconds, "bytes": units.size}.get(axis.unit, _joules)(value)


def _joules(value: float) -> str:
    return f"{units.number(value)} J"
