"""The answer in words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from tuneoff.analysis.checks.caveats import RANDOM_WEIGHTS
from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.outcomes import ALL_DIVERGED, UNWEIGHED
from tuneoff.analysis.statistics.pairs import SEEDS_FOR_SPREAD
from tuneoff.report import columns, units
from tuneoff.report.arm_schema import ArmSummary, Comparison, TestFigure
from tuneoff.report.race_words import race_text
from tuneoff.report.schema import Report, Unsettled

_CHEAPEST = {
    "train_seconds": "trains fastest",
    "peak_memory_bytes": "needs the least memory",
    "stored_bytes": "stores the least",
}
_TEXT = {"train_seconds": units.seconds, "peak_memory_bytes": units.size, "stored_bytes": units.size}
NO_SCORE = "no method that trains has a score that can be weighed, so there is nothing to recommend."
"""The start or the whole of a sentence of the report and the recommendation."""
NOTHING_LEARNED = "Nothing was learned: training diverged at every seed of every method."
IMPORTED = "The arms were trained by another suite, whose results were imported; its settings are its own."
_RIVALS_NAMED = 3


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
        "and texts belong together, search the learning rates (`--search 8`), and train longer or on more rows "
        "(`protocol.epochs`, `protocol.train_rows`)."
    )


def all_the_same(choice: str) -> str:
    """Returns the start of a sentence on the arm to use nevertheless; it follows `unproven`."""
    return f"If you train all the same, use {choice}"


def answer_text(report: Report) -> str:
    """Answers in a few sentences: whether training helps, the best arm, its ties, the cheapest of these, and the
    baseline."""
    answer, trials = report.answer, report.trials
    parts = [answer.doubt] if answer.doubt else []
    if report.study.random_weights:
        parts.append(RANDOM_WEIGHTS)
    if trials.recorded < trials.planned:
        parts.append(f"So far, with {trials.recorded} of {trials.planned} trials:")
    if answer.best is None:
        return " ".join([*parts, NO_SCORE if parts and parts[-1].endswith(":") else capitalised(NO_SCORE)])
    parts += [_best(report), *_rivals(report), *_describe_cheapest(report), *_within_margin(report)]
    parts += [*_baseline(report), race_text(report), answer.scope]
    return " ".join(filter(None, parts))


def headline(report: Report) -> str:
    """Returns the answer in one sentence; `answer_text` says the rest."""
    answer, trials = report.answer, report.trials
    so_far = f"So far, with {trials.recorded} of {trials.planned} trials: " if trials.recorded < trials.planned else ""
    if answer.doubt:
        doubted = answer.if_trained is not None and answer.baseline is not None
        return so_far + (unproven(answer.baseline or "") if doubted else NOTHING_LEARNED)
    if answer.best is None:
        return so_far + (NO_SCORE if so_far else capitalised(NO_SCORE))
    if report.study.random_weights:
        return so_far + RANDOM_WEIGHTS
    score = _score(report, answer.best)
    adjective = "highest" if score.direction == "higher" else "lowest"
    metric = metric_name(report.study.primary_metric or "")
    sentence = f"{answer.best} has the {adjective} test {metric} of the arms that train, {_figure(score)}"
    good = _as_good(report)
    if answer.winner:
        return f"{so_far}{sentence}, and is significantly ahead of all the others{f'; {good}' if good else ''}."
    if good:
        return f"{so_far}{sentence}; {good}."
    clauses = []
    if answer.tied_with:
        clauses.append(f"it cannot be told apart from {_some(answer.tied_with)}")
    if answer.open:
        clauses.append(f"whether it is better than {_some(answer.open)} is open for want of seeds")
    if answer.ahead:
        clauses.append(f"{_some(answer.ahead)} did better on the seeds that they share")
    return f"{so_far}{sentence}" + (f", but {join(clauses)}." if clauses else ".")


def short_answer(report: Report) -> list[str]:
    """Returns the answer's sentences for where there is little room, the most important first; long lists of arms are
    counted."""
    answer = report.answer
    first = headline(report)
    if answer.doubt:
        rest = answer.doubt.removeprefix(first).strip()
        return [first, *([rest] if rest else [])]
    if answer.best is None or report.study.random_weights:
        return [first]
    ahead = [f"It is significantly ahead of {_some(answer.behind)}."] if answer.behind and not answer.winner else []
    # A margin takes the headline's place for ties.
    tied = [f"It cannot be told apart from {_some(answer.tied_with)}."] if answer.tied_with and answer.as_good else []
    return [first, *tied, *ahead, *_describe_cheapest(report), *_within_margin(report), *_baseline(report)]


def _as_good(report: Report) -> str:
    """Says of the arm within the margin that saves the most how much worse than the best it is at most, and what it
    takes; empty without one."""
    answer = report.answer
    if answer.best is None or not answer.as_good:
        return ""
    share, cost, label = _greatest_saving(report, answer.best)
    others = len(answer.as_good) - 1
    beside = f" ({others} more {'is' if others == 1 else 'are'} as good)" if others else ""
    takes = f" and takes {share:.2g} of its {cost}" if share < 1 else ""
    return f"{label} is at most {_bound(report, label)} worse{takes}{beside}"


def _greatest_saving(report: Report, best: str) -> tuple[float, str, str]:
    """Returns the smallest share of one of the best's costs that an arm within the margin takes, that cost's name and
    the arm's label; times count where all were taken on a quiet machine."""
    arms = [report.arm(label) for label in report.answer.as_good]
    costs = {"peak_memory_bytes": "memory"}
    if not any(arm.contended for arm in (report.arm(best), *arms)):
        costs["train_seconds"] = "training time"
    shares = [
        (mean / most, words, arm.method)
        for name, words in costs.items()
        for arm in arms
        if (most := report.arm(best).cost(name).mean) and (mean := arm.cost(name).mean) is not None
    ]
    return min(shares, key=lambda entry: entry[0], default=(1.0, "", arms[0].method))


def _bound(report: Report, label: str) -> str:
    """Returns by how much an arm within the margin is worse than the best at most."""
    pair = report.arm(label).to_best
    assert isinstance(pair, Comparison)  # only compared arms are within the margin
    assert pair.most_worse is not None
    return columns.bound(pair.most_worse, report.study.primary_unit)


def _within_margin(report: Report) -> list[str]:
    """Says which arms are shown to be as good as the best, within the margin, and of which that is not shown."""
    answer = report.answer
    others = [arm.method for arm in report.methods if arm.trains and arm.method not in (answer.best, *answer.as_good)]
    if answer.margin is None or not (others or answer.as_good):
        return []
    margin = f"shown to be within the margin of {columns.bound(answer.margin, report.study.primary_unit)} of it"
    if not answer.as_good:
        return [f"No arm is {margin}."]
    texts = [f"{label} (at most {_bound(report, label)} worse)" for label in answer.as_good]
    not_shown = f"; not shown of {join(others)}" if others else ""
    return [f"{capitalised(margin)} ({_level(report)} for all of them together): {join(texts)}{not_shown}."]


def _some(labels: Sequence[str]) -> str:
    """Returns the labels, or how many they are where they would fill the sentence."""
    return join(labels) if len(labels) <= _RIVALS_NAMED else f"{len(labels)} other arms"


def doubt_text(report: Report) -> str:
    """Says that it is not shown that training helps, and what to do; it comes before all else. Else empty, also where
    weights are random and quality means nothing."""
    answer, metric = report.answer, report.study.primary_metric
    scores = [m.metrics[metric] for m in report.methods if m.trains and metric is not None and metric in m.metrics]
    if scores and all(score.note == ALL_DIVERGED for score in scores):
        return (
            f"{NOTHING_LEARNED} Lower the learning rates or search them (`--search 8`), and lengthen the warm-up "
            "(`protocol.warmup_ratio`)."
        )
    if answer.if_trained is None or answer.baseline is None or report.study.random_weights:
        return ""
    use = f"{all_the_same(answer.if_trained)} (`tuneoff recommend` says why)."
    learned = _better(_score(report, answer.best), _score(report, answer.baseline))
    return " ".join([unproven(answer.baseline), use, what_to_do(learned)])


def after_caveats(report: Report) -> str:
    """Returns the answer without its doubt and its caveats, which are shown before it: none is said twice."""
    text = report.answer.text.removeprefix(report.answer.doubt).strip()
    for caveat in report.answer.caveats:
        text = text.removeprefix(caveat).strip()
    return text


def _score(report: Report, label: str | None) -> TestFigure:
    """Returns the primary metric of an arm that has it."""
    assert label is not None  # asked only of arms that the answer names
    assert report.study.primary_metric is not None
    return report.arm(label).metrics[report.study.primary_metric]


def groups_text(report: Report) -> str:
    """Says which arms cannot be told apart, by the letters that tables and charts show; empty with fewer than two."""
    verdict = report.verdict
    if verdict is None or len(verdict.pairs) == 0:
        return ""
    metric = metric_name(verdict.metric)
    if not columns.grouped(report):
        return ties_text(report, metric)
    letters = {method.method: method.ties for method in report.methods}
    letter_groups = []
    for group in verdict.groups:
        shared = set.intersection(*(set(re.findall(r"[a-z]\d*", letters[label])) for label in group))
        letter_groups.append((min(shared, key=lambda letter: (letter[1:], letter)), ", ".join(group)))
    lines = "; ".join(f"{letter}: {names}" for letter, names in letter_groups)
    return f"{ties_text(report, metric)} {lines}."


def ties_text(report: Report, metric: str) -> str:
    """Says what the letters of groups mean; without groups, that no two arms were told apart: because seeds are too
    few, or although there are enough. Empty where nothing is compared."""
    relations = {pair.relation for pair in report.verdict.pairs} if report.verdict is not None else set()
    if columns.grouped(report):
        too_few = " or share too few seeds to tell" if "open" in relations else ""
        return f"Arms that share a letter cannot be told apart by {metric}{too_few}."
    required = report.answer.seeds_required
    if "tied" not in relations:
        return f"All is open by {metric}: it takes {required} seeds to tell arms apart." if "open" in relations else ""
    few = f"; pairs of fewer than {required} seeds are open" if "open" in relations else ""
    return f"No two arms can be told apart by {metric}{few}."


def _best(report: Report) -> str:
    best, score = report.answer.best, _score(report, report.answer.best)
    adjective = "highest" if score.direction == "higher" else "lowest"
    way = "" if score.direction == "higher" else "; lower is better"
    figure = _figure(score, with_std=True)
    if score.interval_low is not None and score.interval_high is not None:
        ends = [columns.score(end, unit=score.unit) for end in (score.interval_low, score.interval_high)]
        figure += f", {_level(report)} interval {ends[0]} to {ends[1]}"
    baseline = report.answer.baseline
    below = baseline is not None and not _better(score, _score(report, baseline))
    where = " of the arms that train" if below else ""
    where += " on the seeds that arms share" if report.answer.unequal_seeds else ""
    metric = metric_name(report.study.primary_metric or "")
    return f"{best} has the {adjective} test {metric}{where}: {figure} ({_seeds(score.n)}{way})."


def _level(report: Report) -> str:
    return f"{report.answer.interval_level:.0%}"


def _seeds(count: int) -> str:
    return f"{count} seed" + ("s" if count != 1 else "")


def _figure(score: TestFigure, with_std: bool = False) -> str:
    assert score.mean is not None  # a metric of an arm has a value
    return columns.score(score.mean, score.std if with_std else None, score.unit)


def _rivals(report: Report) -> list[str]:
    """Says which arms are tied with the best, which are behind, which are open, and how many seeds would settle it."""
    answer = report.answer
    compared = report.verdict.pairs if report.verdict is not None else ()
    parts = []
    if answer.tied_with:
        parts.append(f"It cannot be told apart from {join(answer.tied_with)}.")
    if answer.open:
        seeds = _fewest(report, answer.open)
        few = f"{_seeds(seeds)} {'are' if seeds != 1 else 'is'} too few to tell ({answer.seeds_required} needed)"
        parts.append(f"Whether it is better than {join(answer.open)} is open: {few}.")
    if answer.behind:
        seeds = _fewest(report, answer.behind)
        whom = "every other arm that trains" if answer.winner else join(answer.behind)
        pairs = sum(pair.p is not None for pair in compared)
        error = f"{1 - answer.interval_level:.0%}"
        metric = metric_name(report.study.primary_metric or "")
        looks = " and looks" if report.protocol.race else ""
        over = f", Shaffer-corrected over all {pairs} pairs{looks} by {metric}" if pairs > 1 else ""
        parts.append(f"It is significantly ahead of {whom} (p below {error}{over}; {_seeds(seeds)}).")
    if answer.ahead:
        parts.append(
            f"On the seeds that they share with it, {join(answer.ahead)} "
            f"{'is' if len(answer.ahead) == 1 else 'are'} significantly ahead of it: no arm is ahead of all others."
        )
    if answer.not_compared:
        parts.append(f"It could not be compared fairly with {join(answer.not_compared)}.")
    return [*parts, *_to_settle(answer.to_settle)]


def _fewest(report: Report, labels: Sequence[str]) -> int:
    """Returns the fewest seeds of these arms' comparisons with the best."""
    comparisons = (report.arm(label).to_best for label in labels)
    return min(comparison.seeds for comparison in comparisons if isinstance(comparison, Comparison))


def _better(score: TestFigure, other: TestFigure) -> bool:
    gap = _gap(score, other)
    return gap > 0 if score.direction == "higher" else gap < 0


def _gap(score: TestFigure, other: TestFigure) -> float:
    """Returns how far two scores lie apart, the first minus the second, on the seeds that arms share."""
    assert score.ranked_mean is not None  # both are weighed, or the answer would not name them
    assert other.ranked_mean is not None
    return score.ranked_mean - other.ranked_mean


def _to_settle(unsettled: Sequence[Unsettled]) -> list[str]:
    """Says how many seeds would tell the best from arms that are open or tied with it, and why for some no number is
    named."""
    by_range: dict[tuple[int, int | None], list[str]] = {}
    by_reason: dict[str, list[str]] = {}
    for item in unsettled:
        if item.least is None:
            by_reason.setdefault(item.reason, []).append(item.method)
        else:
            by_range.setdefault((item.least, item.most), []).append(item.method)
    return [*to_settle_text(by_range), *(_why_open(join(labels), reason) for reason, labels in by_reason.items())]


def to_settle_text(by_range: Mapping[tuple[int, int | None], Sequence[str]]) -> list[str]:
    """Says how many seeds would tell an arm from others, by the range of that number; empty where there is none."""
    ordered = sorted(by_range.items(), key=lambda item: (item[0][0], item[0][1] or math.inf))
    texts = [f"{columns.seeds_range(*ends)} from {join(labels)}" for ends, labels in ordered]
    return [f"Telling it apart takes {'; '.join(texts)} (80% ranges)."] if texts else []


def _why_open(labels: str, reason: str) -> str:
    if reason.startswith("no number of seeds: "):
        return f"No number of seeds would tell it from {labels}: {reason.partition(': ')[2]}."
    if reason.startswith("more than"):
        return f"Telling it from {labels} would take {reason}."
    return f"How many seeds would tell it from {labels} cannot be said: {reason}."


def _describe_cheapest(report: Report) -> list[str]:
    """Says what the best costs, or which of the tied arms is cheapest."""
    answer = report.answer
    count = 1 + len(answer.tied_with)
    by_arm: dict[str, list[str]] = {}
    for name, label in answer.cheapest.items():
        method = report.arm(label)
        mark = "†" if name == "train_seconds" and method.contended else ""
        by_arm.setdefault(label, []).append(f"{_CHEAPEST[name]} ({_TEXT[name](_mean(method, name))}{mark})")
    if not by_arm:
        return []
    if count == 1:
        method = report.arm(answer.best or "")
        figures = [("trains in", "train_seconds"), ("needs", "peak_memory_bytes"), ("stores", "stored_bytes")]
        mark = "†" if method.contended else ""
        texts = [
            f"{verb} {_TEXT[name](_mean(method, name))}{mark if name == 'train_seconds' else ''}"
            + (" of memory" if name == "peak_memory_bytes" else "")
            for verb, name in figures
            if name in answer.cheapest
        ]
        return [f"It {join(texts)}."]
    texts = [f"{label} {join(claims)}" for label, claims in by_arm.items()]
    return [f"Of these {count}, {'; '.join(texts)}."]


def _mean(arm: ArmSummary, cost: str) -> float:
    mean = arm.cost(cost).mean
    assert mean is not None  # the cheapest are named of costs that all have
    return mean


def _baseline(report: Report) -> list[str]:
    answer = report.answer
    if answer.baseline is None:
        return []
    best, baseline = _score(report, answer.best), _score(report, answer.baseline)
    gap = _gap(best, baseline)
    scores = [m.metrics.get(report.study.primary_metric or "") for m in report.methods if not m.trains]
    baselines = sum(score is not None and score.note not in UNWEIGHED for score in scores)
    how = "no training" if baselines == 1 else f"the best of {baselines} arms without training"
    parts = [
        f"The baseline, {answer.baseline} ({how}), is at {_figure(baseline)}; "
        f"{answer.best} is {columns.score(abs(gap), unit=best.unit)} {'above' if gap >= 0 else 'below'} it."
    ]
    pair = report.arm(answer.best or "").to_baseline
    if pair is not None and 0 < pair.seeds < SEEDS_FOR_SPREAD and _better(best, baseline):
        parts.append(
            f"Whether training helps is open: {_seeds(pair.seeds)} {'is' if pair.seeds == 1 else 'are'} too few to "
            f"tell ({SEEDS_FOR_SPREAD} needed)."
        )
    if answer.not_above_baseline and answer.if_trained is None:
        parts.append(f"Not clearly better than the baseline: {join(answer.not_above_baseline)}.")
    return parts
