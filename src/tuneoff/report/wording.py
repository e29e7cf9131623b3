"""The answer in words, from the report's plain data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tuneoff.analysis.checks.caveats import RANDOM_WEIGHTS
from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.outcomes import ALL_DIVERGED, UNWEIGHED
from tuneoff.report import columns, units

_CHEAPEST = {
    "train_seconds": "trains fastest",
    "peak_memory_bytes": "needs the least memory",
    "stored_bytes": "stores the least",
}
_TEXT = {"train_seconds": units.seconds, "peak_memory_bytes": units.size, "stored_bytes": units.size}
NO_SCORE = "no method that trains has a score that can be weighed, so there is nothing to recommend."
"""The start or the whole of a sentence of the report and the recommendation."""


def capitalised(text: str) -> str:
    """Returns the text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def join(words: Sequence[str]) -> str:
    """Joins words: `a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def unproven(baseline: str, keeps_limits: bool | None = None) -> str:
    """Says that it is not shown that training helps, as the report and the recommendation say it. `keeps_limits`:
    whether the baseline keeps the limits; None where there are none."""
    among = "method" if keeps_limits is None else "method that keeps the limits"
    whose = "which does not train" + (" and does not keep them" if keeps_limits is False else "")
    return f"It is not shown that training helps: no {among} is clearly better than {baseline}, {whose}."


def what_to_do(learned: bool) -> str:
    """Says what may help where it is not shown that training does; `learned`: whether at least one arm scores
    better."""
    if learned:
        return (
            "More test rows or seeds (`--seeds`) may show it, or more learning: a search of learning rates "
            "(`--search 8`), a longer training (`protocol.epochs`), more training rows (`protocol.train_rows`)."
        )
    return (
        "No method even scores better than that, so nothing was learned. Before you compare methods, see that labels "
        "and texts belong together, search the learning rates (`--search 8`), and train longer or on more arms "
        "(`protocol.epochs`, `protocol.train_rows`)."
    )


def all_the_same(choice: str) -> str:
    """Returns the start of a sentence on the arm to use nevertheless; it follows `unproven`."""
    return f"If you train all the same, use {choice}"


def answer_text(summary: dict[str, Any]) -> str:
    """Answers in a few sentences: whether training helps, the best arm, its ties, the cheapest of these, and the
    baseline."""
    answer, trials = summary["answer"], summary["trials"]
    parts = [answer["doubt"]] if answer["doubt"] else []
    if summary["study"]["random_weights"]:
        parts.append(RANDOM_WEIGHTS)
    if trials["recorded"] < trials["planned"]:
        parts.append(f"So far, with {trials['recorded']} of {trials['planned']} trials:")
    if answer["best"] is None:
        return " ".join([*parts, NO_SCORE if parts and parts[-1].endswith(":") else capitalised(NO_SCORE)])
    parts += [_best(summary), *_rivals(summary), *_describe_cheapest(summary), *_baseline(summary)]
    return " ".join(parts)


def doubt(summary: dict[str, Any]) -> str:
    """Says that it is not shown that training helps, and what to do; it comes before all else. Else empty, also where
    weights are random and quality means nothing."""
    answer, metric = summary["answer"], summary["study"]["primary_metric"]
    scores = [m["metrics"][metric] for m in summary["methods"] if m["trains"] and metric in m["metrics"]]
    if scores and all(score["note"] == ALL_DIVERGED for score in scores):
        return (
            "Nothing was learned: training diverged at every seed of every method. Lower the learning rates or search "
            "them (`--search 8`), and lengthen the warm-up (`protocol.warmup_ratio`)."
        )
    if answer["if_trained"] is None or summary["study"]["random_weights"]:
        return ""
    use = f"{all_the_same(answer['if_trained'])} (`tuneoff recommend` says why)."
    learned = _better(_score(summary, answer["best"]), _score(summary, answer["baseline"]))
    return " ".join([unproven(answer["baseline"]), use, what_to_do(learned)])


def after_caveats(summary: dict[str, Any]) -> str:
    """Returns the answer without its doubt and its caveats, which are shown before it: none is said twice."""
    text: str = summary["answer"]["text"].removeprefix(summary["answer"]["doubt"]).strip()
    for caveat in summary["answer"]["caveats"]:
        text = text.removeprefix(caveat).strip()
    return text


def _by_label(summary: dict[str, Any], label: str) -> dict[str, Any]:
    method: dict[str, Any] = next(m for m in summary["methods"] if m["method"] == label)
    return method


def _score(summary: dict[str, Any], label: str) -> dict[str, Any]:
    metric: dict[str, Any] = _by_label(summary, label)["metrics"][summary["study"]["primary_metric"]]
    return metric


def groups_text(summary: dict[str, Any]) -> str:
    """Says which arms cannot be told apart, by the letters that tables and charts show; empty with fewer than two."""
    verdict = summary["verdict"]
    if verdict is None or len(verdict["pairs"]) == 0:
        return ""
    metric = metric_name(verdict["metric"])
    if not columns.grouped(summary):
        return ties_text(summary, metric)
    letters = {method["method"]: method["ties"] for method in summary["methods"]}
    letter_groups = []
    for group in verdict["groups"]:
        shared = set.intersection(*(set(re.findall(r"[a-z]\d*", letters[label])) for label in group))
        letter_groups.append((min(shared, key=lambda letter: (letter[1:], letter)), ", ".join(group)))
    lines = "; ".join(f"{letter}: {names}" for letter, names in letter_groups)
    return f"{ties_text(summary, metric)} {lines}."


def ties_text(summary: dict[str, Any], metric: str) -> str:
    """Says what the letters of groups mean; without groups, that no two arms were told apart: because seeds are too
    few, or although there are enough. Empty where nothing is compared."""
    if columns.grouped(summary):
        is_open = any(pair["relation"] == "open" for pair in summary["verdict"]["pairs"])
        too_few = " or share too few seeds to tell" if is_open else ""
        return f"Arms that share a letter cannot be told apart by {metric}{too_few}."
    relations = {pair["relation"] for pair in summary["verdict"]["pairs"]}
    required = summary["answer"]["seeds_required"]
    if "tied" not in relations:
        return f"All is open by {metric}: it takes {required} seeds to tell arms apart." if "open" in relations else ""
    few = f"; pairs of fewer than {required} seeds are open" if "open" in relations else ""
    return f"No two arms can be told apart by {metric}{few}."


def _best(summary: dict[str, Any]) -> str:
    best, metric = summary["answer"]["best"], summary["study"]["primary_metric"]
    score = _score(summary, best)
    adjective = "highest" if score["direction"] == "higher" else "lowest"
    way = "" if score["direction"] == "higher" else "; lower is better"
    figure = _figure(score, with_std=True)
    if score["interval_low"] is not None:
        ends = [columns.score(score[end], unit=score["unit"]) for end in ("interval_low", "interval_high")]
        figure += f", {_level(summary)} interval {ends[0]} to {ends[1]}"
    baseline = summary["answer"]["baseline"]
    below = baseline is not None and not _better(score, _score(summary, baseline))
    where = " of the arms that train" if below else ""
    where += " on the seeds that arms share" if summary["answer"]["unequal_seeds"] else ""
    return f"{best} has the {adjective} test {metric_name(metric)}{where}: {figure} ({_seeds(score['n'])}{way})."


def _level(summary: dict[str, Any]) -> str:
    return f"{summary['answer']['interval_level']:.0%}"


def _seeds(count: int) -> str:
    return f"{count} seed" + ("s" if count != 1 else "")


def _figure(score: dict[str, Any], with_std: bool = False) -> str:
    return columns.score(score["mean"], score["std"] if with_std else None, score["unit"])


def _rivals(summary: dict[str, Any]) -> list[str]:
    """Says which arms are tied with the best, which are behind, which are open, and how many seeds would settle it."""
    answer = summary["answer"]
    parts = []
    if answer["tied_with"]:
        parts.append(f"It cannot be told apart from {join(answer['tied_with'])}.")
    if answer["open"]:
        seeds = _fewest(summary, answer["open"])
        few = f"{_seeds(seeds)} {'are' if seeds != 1 else 'is'} too few to tell ({answer['seeds_required']} needed)"
        parts.append(f"Whether it is better than {join(answer['open'])} is open: {few}.")
    if answer["behind"]:
        seeds = _fewest(summary, answer["behind"])
        whom = "every other arm that trains" if answer["winner"] else join(answer["behind"])
        pairs = sum(pair["p"] is not None for pair in summary["verdict"]["pairs"])
        error = f"{1 - answer['interval_level']:.0%}"
        over = f", Holm-corrected over {pairs} pairs" if pairs > 1 else ""
        parts.append(f"It is significantly ahead of {whom} (p below {error}{over}; {_seeds(seeds)}).")
    if answer["ahead"]:
        parts.append(
            f"On the seeds that they share with it, {join(answer['ahead'])} "
            f"{'is' if len(answer['ahead']) == 1 else 'are'} significantly ahead of it: no arm is ahead of all others."
        )
    if answer["not_compared"]:
        parts.append(f"It could not be compared fairly with {join(answer['not_compared'])}.")
    return [*parts, *_to_settle(answer["to_settle"])]


def _fewest(summary: dict[str, Any], labels: Sequence[str]) -> int:
    """Returns the fewest seeds of these arms' comparisons with the best."""
    return min(int(_by_label(summary, label)["to_best"]["seeds"]) for label in labels)


def _better(score: dict[str, Any], other: dict[str, Any]) -> bool:
    sign = 1.0 if score["direction"] == "higher" else -1.0
    return bool(sign * score["ranked_mean"] > sign * other["ranked_mean"])


def _to_settle(unsettled: list[dict[str, Any]]) -> list[str]:
    """Says how many seeds would tell the best from arms that are open or tied with it, and why for some no number is
    named."""
    by_seeds: dict[int, list[str]] = {}
    by_reason: dict[str, list[str]] = {}
    for item in unsettled:
        if item["seeds"] is None:
            by_reason.setdefault(item["reason"], []).append(item["method"])
        else:
            by_seeds.setdefault(item["seeds"], []).append(item["method"])
    parts = []
    if by_seeds:
        texts = [f"about {_seeds(count)} from {join(labels)}" for count, labels in sorted(by_seeds.items())]
        parts.append(f"If differences and spreads are what they seem, telling it apart takes {'; '.join(texts)}.")
    return parts + [_why_open(join(labels), reason) for reason, labels in by_reason.items()]


def _why_open(labels: str, reason: str) -> str:
    if reason.startswith("no number of seeds: "):
        return f"No number of seeds would tell it from {labels}: {reason.partition(': ')[2]}."
    if reason.startswith("more than"):
        return f"Telling it from {labels} would take {reason}."
    return f"How many seeds would tell it from {labels} cannot be said: {reason}."


def _describe_cheapest(summary: dict[str, Any]) -> list[str]:
    """Says what the best costs, or which of the tied arms is cheapest."""
    answer = summary["answer"]
    arms = [answer["best"], *answer["tied_with"]]
    by_arm: dict[str, list[str]] = {}
    for name, label in answer["cheapest"].items():
        method = _by_label(summary, label)
        mark = "†" if name == "train_seconds" and method["contended"] else ""
        by_arm.setdefault(label, []).append(f"{_CHEAPEST[name]} ({_TEXT[name](method[name]['mean'])}{mark})")
    if not by_arm:
        return []
    if len(arms) == 1:
        method = _by_label(summary, arms[0])
        figures = [("trains in", "train_seconds"), ("needs", "peak_memory_bytes"), ("stores", "stored_bytes")]
        mark = "†" if method["contended"] else ""
        texts = [
            f"{verb} {_TEXT[name](method[name]['mean'])}{mark if name == 'train_seconds' else ''}"
            + (" of memory" if name == "peak_memory_bytes" else "")
            for verb, name in figures
            if name in answer["cheapest"]
        ]
        return [f"It {join(texts)}."]
    texts = [f"{label} {join(claims)}" for label, claims in by_arm.items()]
    return [f"Of these {len(arms)}, {'; '.join(texts)}."]


def _baseline(summary: dict[str, Any]) -> list[str]:
    answer = summary["answer"]
    if answer["baseline"] is None:
        return []
    best, baseline = _score(summary, answer["best"]), _score(summary, answer["baseline"])
    gap = abs(best["ranked_mean"] - baseline["ranked_mean"])
    scores = [m["metrics"].get(summary["study"]["primary_metric"]) for m in summary["methods"] if not m["trains"]]
    baselines = sum(score is not None and score["note"] not in UNWEIGHED for score in scores)
    how = "no training" if baselines == 1 else f"the best of {baselines} arms without training"
    parts = [
        f"The baseline, {answer['baseline']} ({how}), is at {_figure(baseline)}; "
        f"{answer['best']} is {columns.score(gap, unit=best['unit'])} {_side(best, baseline)} it."
    ]
    if answer["not_above_baseline"] and answer["if_trained"] is None:
        parts.append(f"Not clearly better than the baseline: {join(answer['not_above_baseline'])}.")
    return parts


def _side(best: dict[str, Any], baseline: dict[str, Any]) -> str:
    return "above" if best["ranked_mean"] >= baseline["ranked_mean"] else "below"
