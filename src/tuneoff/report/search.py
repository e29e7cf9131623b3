"""The equal search in the report: what was tried, chosen and spent, how sensitive arms are, and warnings."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.side_by_side import JoinedStore
from tuneoff.encoding import markdown as escaped
from tuneoff.records.record import Finding
from tuneoff.report import columns, units
from tuneoff.report.markup import grid, option
from tuneoff.report.wording import join
from tuneoff.search.space import LEARNING_RATE, SPREAD

Summary = dict[str, Any]
TRIALS_FOR_MEDIAN = 5
"""Fewest trials whose median says something of a range."""
_SAMPLERS = {
    "tpe": f"The first {SPREAD} are spread evenly over the ranges, later ones follow the scores (TPE)",
    "random": "They are drawn at random",
}


def search_data(results: Results) -> dict[str, Any] | None:
    """Returns the content of `search.json`, with the final trials' cost and each arm's sensitivity; None without a
    search."""
    search, settings = results.search, results.study.protocol.search
    if search is None or settings is None:
        return None
    sign = 1.0 if search["metric"]["direction"] == "higher" else -1.0
    arms = [_arm(arm, search["arms"][arm.label], sign, search) for arm in results.arms if arm.label in search["arms"]]
    protocol = results.study.protocol
    name = search["metric"]["name"]
    units_of = [m.unit for r in results.completed for m in r.metrics if (m.name, m.split) == (name, "validation")]
    return {
        **settings.model_dump(mode="json", include={"trials", "seed", "sampler", "grow", "prune"}),
        "rungs": search["rungs"],
        **{
            key: getattr(protocol, key) if getattr(settings, key) is None else getattr(settings, key)
            for key in ("train_rows", "epochs", "max_steps")
        },
        "metric": name,
        "direction": search["metric"]["direction"],
        "unit": units_of[0] if units_of else None,
        "complete": search["complete"],
        "equal": search["equal"],
        **{key: sum(arm[key] for arm in arms) for key in ("tried_count", "failed", *_COSTS)},
        "arms": arms,
        "not_searched": [arm.label for arm in results.arms if arm.trains and arm.label not in search["arms"]],
    }


_COSTS = ("train_seconds", "total_seconds", "final_train_seconds", "final_total_seconds")


def _arm(arm: Arm, result: dict[str, Any], sign: float, search: dict[str, Any]) -> dict[str, Any]:
    best = next((trial for trial in result["tried"] if trial["trial"] == result["best"]), None)
    # Only scores after equally many steps can be held against one another.
    first = [trial for trial in result["tried"] if not rung_of(trial)]
    reference = best if len(first) == len(result["tried"]) else _best(first, sign)
    drop, reason = _median_drop(first[: _spread_count(search["search"])], reference, sign)
    return {
        "method": arm.label,
        "space": result["space"],
        "grown": result["grown"],
        "tried_count": len(result["tried"]),
        "configurations": len(first),
        "failed": result["failed"],
        "exhausted": len(first) >= _size(result["space"]),
        "choice": result["choice"],
        "best": result["best"],
        "score": best["score"] if best else None,
        "at_edge": result["at_edge"],
        "median_drop": drop,
        "median_drop_reason": reason,
        "train_seconds": result["train_seconds"],
        "total_seconds": result["total_seconds"],
        "final_train_seconds": sum(record.timing.train_seconds or 0.0 for record in arm.records),
        "final_total_seconds": sum(record.timing.total_seconds or 0.0 for record in arm.records),
        "tried": result["tried"],
    }


def rung_of(trial: dict[str, Any]) -> int:
    """Returns a trial's rung (its share of the steps), from 0; always 0 without pruning."""
    return int(trial["rung"])


def _best(trials: list[dict[str, Any]], sign: float) -> dict[str, Any] | None:
    scored = [trial for trial in trials if trial["score"] is not None]
    return max(scored, key=lambda trial: sign * float(trial["score"]), default=None)


def _spread_count(settings: dict[str, Any]) -> int:
    """Counts the trials, from the first on, that are spread over the whole space: later ones stand where scores are
    good."""
    return min(settings["trials"], SPREAD) if settings["sampler"] == "tpe" else int(settings["trials"])


def _size(space: dict[str, Any]) -> float:
    """Counts the configurations of a space."""
    return math.prod(_values(dimension) for dimension in space.values())


def _values(dimension: dict[str, Any]) -> float:
    if "choices" in dimension:
        return len(dimension["choices"])
    low, high = dimension["low"], dimension["high"]
    return high - low + 1 if isinstance(low, int) and isinstance(high, int) else math.inf


def _median_drop(trials: list[dict[str, Any]], best: dict[str, Any] | None, sign: float) -> tuple[float | None, str]:
    """Returns how much worse the median of these trials is than the best; or None and why. A failed trial is the
    worst."""
    if best is None:
        return None, "no trial completed"
    if len(trials) < TRIALS_FOR_MEDIAN:
        return None, f"fewer than {TRIALS_FOR_MEDIAN} trials"
    scores = [-math.inf if trial["score"] is None else sign * trial["score"] for trial in trials]
    median = statistics.median(scores)
    if median == -math.inf:
        return None, "half of the trials or more failed"
    return sign * best["score"] - median, ""


def rate_from(results: Results, arm: Arm) -> str | None:
    """Returns where an arm's learning rate comes from: `search`, `protocol` (one for all), `study`, or `default` (the
    method).

    None of an arm that does not train, and where studies are joined: each of them may have been searched or not.
    """
    if not arm.trains or isinstance(results.store, JoinedStore):
        return None
    result = results.search["arms"].get(arm.label) if results.search and results.study.protocol.search else None
    if result and result["choice"] and arm.learning_rate == result["choice"].get(LEARNING_RATE):
        return "search"
    if results.study.protocol.learning_rate is not None:
        return "protocol"
    method = results.study.methods.get(arm.trials[0].label)
    return "study" if method is not None and method.learning_rate == arm.learning_rate else "default"


def search_warnings(results: Results) -> list[Finding]:
    """Returns the warnings `unequal_search`, `search_unfinished`, `best_at_edge` and `failed_search_trials`."""
    search = search_data(results)
    if search is None:
        return []
    warnings = []
    arms = search["arms"]
    most = max((arm["configurations"] for arm in arms), default=0)
    unequal_arms = [arm for arm in arms if arm["configurations"] < most and not arm["exhausted"]]
    if not search["complete"]:
        listed = _listed((arm["method"], arm["tried_count"]) for arm in arms)
        message = f"The search is not over, so nothing is chosen by it yet (trials so far: {listed})."
        warnings.append(Finding(name="search_unfinished", message=message))
    elif unequal_arms or search["not_searched"]:
        counts = [
            *((arm["method"], arm["configurations"]) for arm in arms),
            *((label, 0) for label in search["not_searched"]),
        ]
        message = f"Arms were not searched equally (search trials: {_listed(counts)}), so their ranking is not fair."
        warnings.append(Finding(name="unequal_search", message=message))
    edges = [f"{arm['method']}: {_describe_edge(arm, name)}" for arm in arms for name in arm["at_edge"]]
    if edges:
        message = (
            f"The best value lies at an edge of its range ({'; '.join(edges)}): the range may be too narrow, and a "
            "better one may lie beyond."
        )
        warnings.append(Finding(name="best_at_edge", message=message))
    if search["failed"]:
        listed = "; ".join(f"{arm['method']}: {_count_failures(arm)}" for arm in arms if arm["failed"])
        message = f"{search['failed']} of {search['tried_count']} search trials did not complete ({listed})."
        warnings.append(Finding(name="failed_search_trials", message=message))
    return warnings


def _listed(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{label} {count}" for label, count in counts)


def _count_failures(arm: dict[str, Any]) -> str:
    counts = Counter(trial["status"] for trial in arm["tried"] if trial["score"] is None)
    return ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in counts.items())


def _describe_edge(arm: dict[str, Any], name: str) -> str:
    """Describes a value at an edge: `learning rate 0.01, upper edge of 0.0001 to 0.01`, or of a list `r 16, greatest of
    4, 8, 16`."""
    best = next(trial for trial in arm["tried"] if trial["trial"] == arm["best"])
    dimension, side = arm["space"][name], arm["at_edge"][name]
    where = {"lower": "least", "upper": "greatest"}[side] if "choices" in dimension else f"{side} edge"
    return f"{_format_setting(name, best['values'][name])}, {where} of {_format_range(dimension)}"


def _format_setting(name: str, value: Any) -> str:
    return f"{name.replace('_', ' ')} {option(value)}"


def _format_range(dimension: dict[str, Any]) -> str:
    if "choices" in dimension:
        return ", ".join(map(option, dimension["choices"]))
    return f"{option(dimension['low'])} to {option(dimension['high'])}"


# --- in words


def settings_text(search: dict[str, Any]) -> str:
    """Returns the search's settings in one line: `8 trials per arm, seed 1000, 500 training rows, sampler tpe`."""
    return ", ".join([f"{search['trials']} trials per arm", f"seed {search['seed']}", *_describe_budget(search)]) + (
        f", sampler {search['sampler']}" + (", ranges may grow" if search["grow"] else "") + _pruning_suffix(search)
    )


def _pruning_suffix(search: dict[str, Any]) -> str:
    return "" if search["prune"] == "none" else ", pruned by successive halving"


def _describe_budget(search: dict[str, Any]) -> list[str]:
    parts = {"train_rows": "{:,} training rows", "epochs": "{:,} epochs", "max_steps": "at most {:,} steps"}
    return [what.format(search[key]) for key, what in parts.items() if search[key] is not None]


def section(summary: Summary) -> str:
    """Writes the page's section on the search, or says that there was none; empty where no arm trains."""
    search = summary["search"]
    if search is None:
        line = _not_searched(summary)
        return f"## Search\n\n{line}" if line else ""
    metric = metric_name(search["metric"])
    arrow = "↑" if search["direction"] == "higher" else "↓"
    heads = ["arm", "searched", "trials", "chosen", f"validation {escaped(metric)} {arrow}", "median drop"]
    heads += ["train time, search", "train time, final"]
    arms = [_cells(arm, search) for arm in search["arms"]]
    sentences = [
        _describe_equality(search),
        _describe_trials(search),
        *_describe_pruning(search),
        _describe_cost(search),
    ]
    best = "the best of these" if search["rungs"] else "its best"
    explanation = [
        "Trials that did not complete count as the worst. Train times are summed over trials.",
        f"Median drop is an arm's sensitivity: how much worse the median of {_describe_median_trials(search)} scores "
        f"than {best}. Values taken blindly from the ranges cost at least that half of the time. Validation noise is "
        f"part of it, and a wider range gives a larger one; – with fewer than {TRIALS_FOR_MEDIAN} trials, or half "
        "of them failed.",
    ]
    return "\n\n".join(["## Search", escaped(" ".join(sentences)), grid(heads, arms), " ".join(explanation)])


def _describe_median_trials(search: dict[str, Any]) -> str:
    count = _spread_count(search)
    if search["rungs"]:
        first = search["rungs"][0]
        number = f"{count} " if count < first["trials"] else ""
        return f"its first {number}trials, of {first['steps']:,} steps each,"
    if search["sampler"] == "tpe" and search["tried_count"] > count * len(search["arms"]):
        return f"its first {count} trials, which are spread over the ranges,"
    return "its trials"


def _describe_pruning(search: dict[str, Any]) -> list[str]:
    """Says what was pruned, and what that took and saved in steps; empty where nothing is pruned."""
    first, *rest = search["rungs"] or [None]
    if first is None:
        return []
    later_rungs = [f"the best {rung['trials']} with {rung['steps']:,}" for rung in rest]
    trials, full_steps = sum(rung["trials"] for rung in search["rungs"]), search["rungs"][-1]["steps"]
    steps = sum(rung["trials"] * rung["steps"] for rung in search["rungs"])
    return [
        f"It was pruned by successive halving: {first['trials']} trials of an arm got {first['steps']:,} steps, then, "
        f"anew, {join(later_rungs)}. Each schedule ran its course within its trial's steps, and the choice is among "
        f"trials that came furthest. That is {trials} trials and {steps:,} steps of an arm, where {first['trials']} "
        f"trials of {full_steps:,} steps would have taken {first['trials'] * full_steps:,}."
    ]


def _cells(arm: dict[str, Any], search: dict[str, Any]) -> list[str]:
    unit = search["unit"]
    space = "; ".join(f"{name.replace('_', ' ')} {_format_range(d)}" for name, d in arm["space"].items())
    chosen = "; ".join(
        _format_setting(name, value) + (f" ({arm['at_edge'][name]} edge)" if name in arm["at_edge"] else "")
        for name, value in (arm["choice"] or {}).items()
    )
    count = str(arm["tried_count"])
    if search["rungs"]:
        count += f" ({arm['configurations']} different)"
    if arm["failed"]:
        count += f" ({arm['failed']} failed)"
    if arm["exhausted"]:
        count += " (all there are)"
    return [
        escaped(arm["method"]),
        escaped(space) + (" (widened)" if arm["grown"] else ""),
        count,
        escaped(chosen) or "–",
        "–" if arm["score"] is None else columns.score(arm["score"], unit=unit),
        "–" if arm["median_drop"] is None else columns.score(arm["median_drop"], unit=unit),
        units.seconds(arm["train_seconds"]),
        units.seconds(arm["final_train_seconds"]),
    ]


def _describe_equality(search: dict[str, Any]) -> str:
    """Says how many trials arms got, and whether that was equal."""
    arms = search["arms"]
    most = max((arm["configurations"] for arm in arms), default=0)
    if not search["complete"]:
        return f"The search is not over: {_listed((arm['method'], arm['tried_count']) for arm in arms)} trials so far."
    trials = f"{most} search trial" + ("s" if most != 1 else "") + (" in the first rung" if search["rungs"] else "")
    more = f" ({search['trials']}, then more because ranges were widened)" if most > search["trials"] else ""
    if all(arm["configurations"] == most for arm in arms) and not search["not_searched"]:
        return f"Every arm that trains got the same {trials}{more} before the final trials."
    arms_behind = [arm for arm in arms if arm["configurations"] < most]
    if all(arm["exhausted"] for arm in arms_behind) and not search["not_searched"]:
        names = join([arm["method"] for arm in arms_behind])
        other = f"or all the configurations there are of it ({names})"
        return f"Every arm that trains got the same {trials}{more} before the final trials, {other}."
    return f"Arms were not searched equally; the most search trials of an arm are {most}."


def _describe_trials(search: dict[str, Any]) -> str:
    budget = ", ".join(_describe_budget(search)) or "the protocol's budget"
    sampler = _SAMPLERS[search["sampler"]] if search["tried_count"] else "Nothing was tried yet"
    if search["sampler"] == "tpe" and search["trials"] <= SPREAD:
        sampler = "After the defaults, they are spread evenly over the ranges"
    return (
        f"Each ran with seed {search['seed']}, which no final trial uses, and {budget}, and was scored by "
        f"validation {metric_name(search['metric'])}; the test split had no part in it. {sampler}."
    )


def _describe_cost(search: dict[str, Any]) -> str:
    return (
        f"{search['tried_count']} trials of the search trained for {units.seconds(search['train_seconds'])} "
        f"({units.seconds(search['total_seconds'])} with loading and validation); the final trials for "
        f"{units.seconds(search['final_train_seconds'])} ({units.seconds(search['final_total_seconds'])})."
    )


def in_short(summary: Summary) -> str:
    """Returns one line for a terminal; empty where no arm trains."""
    search = summary["search"]
    if search is None:
        return _not_searched(summary, short=True)
    return (
        f"Search: {search['tried_count']} trials of {len(search['arms'])} arms by validation "
        f"{metric_name(search['metric'])}{_pruning_suffix(search)}, {units.seconds(search['train_seconds'])} of "
        f"training beside the final trials' "
        f"{units.seconds(search['final_train_seconds'])}."
    )


def _not_searched(summary: Summary, short: bool = False) -> str:
    """Says that learning rates were not searched, and where they come from."""
    arms = [entry for entry in summary["methods"] if entry["trains"]]
    if not arms:
        return ""
    if summary["protocol"]["search"] is not None:
        return "The search has not begun."
    if short:
        return "Learning rates were not searched; a guessed rate can decide a ranking."
    words = {"protocol": "one for all", "study": "set in the study", "default": "the method's default"}
    rates = [
        f"{escaped(e['method'])} {units.rate(e['learning_rate'])} ({words[e['learning_rate_from']]})" for e in arms
    ]
    return f"Learning rates were not searched, and a guessed rate can decide a ranking: {', '.join(rates)}."
