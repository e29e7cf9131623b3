"""The answer in words, from the report's plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuneoff.analysis.caveats import RANDOM_WEIGHTS
from tuneoff.report import units

_CHEAPEST = {
    "train_seconds": "trains fastest",
    "peak_memory_bytes": "needs the least memory",
    "stored_bytes": "stores the least",
}
_TEXT = {"train_seconds": units.seconds, "peak_memory_bytes": units.size, "stored_bytes": units.size}


def join(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def answer_text(summary: dict[str, Any]) -> str:
    """A few sentences: the best row, who is tied, what is cheapest among them, and the floor."""
    answer, trials = summary["answer"], summary["trials"]
    parts = []
    if summary["study"]["random_weights"]:
        parts.append(RANDOM_WEIGHTS)
    if trials["recorded"] < trials["planned"]:
        parts.append(f"So far, with {trials['recorded']} of {trials['planned']} trials:")
    if answer["best"] is None:
        return " ".join([*parts, "no method that trains has a completed trial, so there is nothing to recommend."])
    if answer["best"] in answer["not_above_floor"]:
        parts.append("No method is clearly better than doing without training, so none is recommended.")
    parts += [_best(summary), *_rivals(summary), *_thrift(summary), *_floor(summary)]
    return " ".join(parts)


def after_caveats(summary: dict[str, Any]) -> str:
    """The answer where its caveats stand before it anyway: none is said twice."""
    text: str = summary["answer"]["text"]
    for caveat in summary["answer"]["caveats"]:
        text = text.removeprefix(caveat).strip()
    return text


def _by_label(summary: dict[str, Any], label: str) -> dict[str, Any]:
    found: dict[str, Any] = next(m for m in summary["methods"] if m["method"] == label)
    return found


def _score(summary: dict[str, Any], label: str) -> dict[str, Any]:
    found: dict[str, Any] = _by_label(summary, label)["metrics"][summary["study"]["primary_metric"]]
    return found


def _best(summary: dict[str, Any]) -> str:
    best, metric = summary["answer"]["best"], summary["study"]["primary_metric"]
    score = _score(summary, best)
    adjective = "highest" if score["direction"] == "higher" else "lowest"
    seeds = f"{score['n']} seed" + ("s" if score["n"] != 1 else "")
    return f"{best} has the {adjective} test {metric}: {units.score(score['mean'], score['std'])} ({seeds})."


def _rivals(summary: dict[str, Any]) -> list[str]:
    answer = summary["answer"]
    parts = []
    if answer["tied_with"]:
        interval = "the 95% interval of the difference includes 0"
        if len(answer["tied_with"]) > 1:
            interval = "the 95% interval of each difference includes 0"
        parts.append(f"It cannot be told apart from {join(answer['tied_with'])} ({interval}).")
    if answer["behind"]:
        whom = join(answer["behind"])
        if answer["significant"]:
            parts.append(f"It is ahead of {whom} (95% interval of the difference, {answer['seeds']} seeds).")
        else:
            few = f"{answer['seeds']} seed" + ("s are" if answer["seeds"] != 1 else " is")
            parts.append(
                f"It is ahead of {whom} in this sample; {few} too few to call it significant "
                f"({answer['seeds_needed']} needed)."
            )
    if answer["not_compared"]:
        parts.append(f"It could not be compared fairly with {join(answer['not_compared'])}.")
    return parts


def _thrift(summary: dict[str, Any]) -> list[str]:
    """What the best costs, or which of the tied rows is cheapest."""
    answer = summary["answer"]
    rows = [answer["best"], *answer["tied_with"]]
    by_row: dict[str, list[str]] = {}
    for name, label in answer["cheapest"].items():
        method = _by_label(summary, label)
        mark = "†" if name == "train_seconds" and method["contended"] else ""
        by_row.setdefault(label, []).append(f"{_CHEAPEST[name]} ({_TEXT[name](method[name]['mean'])}{mark})")
    if not by_row:
        return []
    if len(rows) == 1:
        method = _by_label(summary, rows[0])
        figures = [("trains in", "train_seconds"), ("needs", "peak_memory_bytes"), ("stores", "stored_bytes")]
        mark = "†" if method["contended"] else ""
        told = [
            f"{verb} {_TEXT[name](method[name]['mean'])}{mark if name == 'train_seconds' else ''}"
            + (" of memory" if name == "peak_memory_bytes" else "")
            for verb, name in figures
            if name in answer["cheapest"]
        ]
        return [f"It {join(told)}."]
    told = [f"{label} {join(what)}" for label, what in by_row.items()]
    return [f"Of these {len(rows)}, {'; '.join(told)}."]


def _floor(summary: dict[str, Any]) -> list[str]:
    answer = summary["answer"]
    if answer["floor"] is None:
        return []
    best, floor = _score(summary, answer["best"]), _score(summary, answer["floor"])
    gap = abs(best["mean"] - floor["mean"])
    parts = [
        f"The floor, {answer['floor']} (no training), is at {units.score(floor['mean'])}; "
        f"{answer['best']} is {units.score(gap)} {_side(best, floor)} it."
    ]
    if answer["not_above_floor"]:
        parts.append(f"Not clearly better than the floor: {join(answer['not_above_floor'])}.")
    return parts


def _side(best: dict[str, Any], floor: dict[str, Any]) -> str:
    return "above" if best["mean"] >= floor["mean"] else "below"
