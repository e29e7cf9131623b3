"""The equal search: what was tried, chosen and spent, and how sensitive arms are, on the page and in a terminal."""

from __future__ import annotations

from tuneoff.analysis.checks.search import listed_counts, range_text, setting_text
from tuneoff.analysis.figures import metric_name, option_text
from tuneoff.analysis.search_summary import TRIALS_FOR_MEDIAN, SearchedArm, SearchSummary, spread_count
from tuneoff.config.search import Candidates, SearchSpec
from tuneoff.encoding import markdown as escaped
from tuneoff.report import columns, units
from tuneoff.report.markup import grid
from tuneoff.report.schema import Report
from tuneoff.report.wording import join
from tuneoff.search.sampling import SPREAD

_SAMPLERS = {
    "gp": f"The first {SPREAD} are spread evenly over the ranges, later ones follow the scores (Gaussian process)",
    "tpe": f"The first {SPREAD} are spread evenly over the ranges, later ones follow the scores (TPE)",
    "random": "They are drawn at random",
}


def settings_text(search: SearchSpec) -> str:
    """Returns the search's settings in one line: `8 trials per arm, seed 1000, 500 training rows, sampler tpe`."""
    trials = f"{search.trials} trials per arm"
    if search.per_seed:
        shared = f", sharing the steps of {search.trials} among {search.sharers} seeds" if search.sharers > 1 else ""
        trials = f"for every seed {search.seed_trials} trials per arm{shared}"
    return ", ".join([trials, f"seed {search.seed}", *_describe_budget(search)]) + (
        f", sampler {search.sampler}" + (", ranges may grow" if search.grow else "") + _pruning_suffix(search)
    )


def candidates_text(candidates: Candidates) -> str:
    """Returns what may be chosen: `4, 8, 16` or `0.0001 to 0.01`."""
    values = [option_text(value) for value in candidates.ends().values()]
    return (", " if candidates.choices is not None else " to ").join(values)


def _pruning_suffix(search: SearchSpec | SearchSummary) -> str:
    stopped = "" if search.stop == "none" else ", stopped by their curves"
    return stopped if search.prune == "none" else ", pruned by successive halving"


def _describe_budget(search: SearchSpec | SearchSummary) -> list[str]:
    parts = {"train_rows": "{:,} training rows", "epochs": "{:,} epochs", "max_steps": "at most {:,} steps"}
    values = {key: getattr(search, key) for key in parts}
    return [what.format(values[key]) for key, what in parts.items() if values[key] is not None]


def section(report: Report) -> str:
    """Writes the page's section on the search, or says that there was none; empty where no arm trains."""
    search = report.search
    if search is None:
        line = _not_searched(report)
        return f"## Search\n\n{line}" if line else ""
    metric = metric_name(search.metric)
    arrow = "↑" if search.direction == "higher" else "↓"
    heads = ["arm", "searched", "trials", "chosen", f"validation {escaped(metric)} {arrow}", "median drop"]
    heads += ["train time, search", "train time, final"]
    arms = [_cells(arm, search) for arm in search.arms]
    sentences = [
        _describe_equality(search),
        _describe_trials(search),
        *_describe_pruning(search),
        *_describe_stopping(search),
        *_describe_sharing(report.protocol.search),
        *_describe_batches(report.protocol.search),
        _describe_cost(search),
    ]
    best = "the best of these" if search.rungs else "its best"
    explanation = [
        "Trials that did not complete count as the worst. Train times are summed over trials.",
        f"Median drop is an arm's sensitivity: how much worse the median of {_describe_median_trials(search)} scores "
        f"than {best}. Values taken blindly from the ranges cost at least that half of the time. Validation noise is "
        f"part of it, and a wider range gives a larger one; – with fewer than {TRIALS_FOR_MEDIAN} trials, or half "
        "of them failed.",
    ]
    return "\n\n".join(["## Search", escaped(" ".join(sentences)), grid(heads, arms), " ".join(explanation)])


def _describe_median_trials(search: SearchSummary) -> str:
    count = spread_count(search.trials, search.sampler)
    if search.rungs:
        first = search.rungs[0]
        number = f"{count} " if count < first.trials else ""
        return f"its first {number}trials, of {first.steps:,} steps each,"
    if search.sampler != "random" and search.tried_count > count * len(search.arms):
        return f"its first {count} trials, which are spread over the ranges,"
    return "its trials"


def _describe_pruning(search: SearchSummary) -> list[str]:
    """Says what was pruned, and what that took and saved in steps; empty where nothing is pruned."""
    if not search.rungs:
        return []
    first, *rest = search.rungs
    later_rungs = [f"the best {rung.trials} with {rung.steps:,}" for rung in rest]
    trials, full_steps = sum(rung.trials for rung in search.rungs), search.rungs[-1].steps
    steps = sum(rung.trials * rung.steps for rung in search.rungs)
    return [
        f"It was pruned by successive halving: {first.trials} trials of an arm got {first.steps:,} steps, then, "
        f"anew, {join(later_rungs)}. Each schedule ran its course within its trial's steps, and the choice is among "
        f"trials that came furthest. That is {trials} trials and {steps:,} steps of an arm, where {first.trials} "
        f"trials of {full_steps:,} steps would have taken {first.trials * full_steps:,}."
    ]


def _describe_stopping(search: SearchSummary) -> list[str]:
    """Says how many trials were stopped on the way, and what that saved in steps; empty without the rule."""
    if search.stop == "none":
        return []
    trials = [trial for arm in search.arms for trial in arm.tried if trial.steps is not None]
    whole = max((trial.steps or 0 for trial in trials), default=0)
    taken = sum(trial.steps or 0 for trial in trials)
    return [
        "A trial was stopped at a validation on the way where its best score so far was worse than three in four of "
        f"what the arm's own earlier trials had reached there, from the fifth on: {sum(t.stopped for t in trials)} of "
        f"{len(trials)} trials, which took {taken:,} steps instead of {len(trials) * whole:,}. A stopped trial is not "
        "chosen, and its score is that of then."
    ]


def _describe_sharing(search: SearchSpec | None) -> list[str]:
    """Says what searches of seeds that share the steps of one get; empty where none share."""
    if search is None or search.sharers < 2:
        return []
    is_short = search.trials < search.seed_trials * search.sharers
    short = "; short trials may favour other rates than whole ones do, alike for all arms" if is_short else ""
    return [f"The searches of {search.sharers} seeds take as many steps as one of {search.trials} whole trials{short}."]


def _describe_batches(search: SearchSpec | None) -> list[str]:
    if search is None or "batch_size" not in search.space:
        return []
    return [
        "Batch sizes were searched at equal epochs: every trial saw the same rows equally often, in more or fewer "
        "steps."
    ]


def _cells(arm: SearchedArm, search: SearchSummary) -> list[str]:
    unit = search.unit
    space = "; ".join(f"{name.replace('_', ' ')} {range_text(d)}" for name, d in arm.space.items())
    chosen = "; ".join(
        setting_text(name, value) + (f" ({arm.at_edge[name]} edge)" if name in arm.at_edge else "")
        for name, value in (arm.choice or {}).items()
    )
    count = str(arm.tried_count)
    if search.rungs:
        count += f" ({arm.configurations} different)"
    if stopped := sum(trial.stopped for trial in arm.tried):
        count += f" ({stopped} stopped)"
    if arm.failed:
        count += f" ({arm.failed} failed)"
    if arm.exhausted:
        count += " (all there are)"
    return [
        escaped(arm.name),
        escaped(space) + (" (widened)" if arm.grown else ""),
        count,
        escaped(chosen) or "–",
        "–" if arm.score is None else columns.score(arm.score, unit=unit),
        "–" if arm.median_drop is None else columns.score(arm.median_drop, unit=unit),
        units.seconds(arm.train_seconds),
        units.seconds(arm.final_train_seconds),
    ]


def _describe_equality(search: SearchSummary) -> str:
    """Says how many trials arms got, and whether that was equal."""
    arms = search.arms
    most = max((arm.configurations for arm in arms), default=0)
    if not search.complete:
        return f"The search is not over: {listed_counts((arm.name, arm.tried_count) for arm in arms)} trials so far."
    trials = f"{most} search trial" + ("s" if most != 1 else "") + (" in the first rung" if search.rungs else "")
    more = f" ({search.trials}, then more because ranges were widened)" if most > search.trials else ""
    if all(arm.configurations == most for arm in arms) and not search.not_searched:
        own = " for each of its seeds" if search.per_seed else ""
        return f"Every arm that trains got the same {trials}{more}{own} before the final trials."
    arms_behind = [arm for arm in arms if arm.configurations < most]
    if all(arm.exhausted for arm in arms_behind) and not search.not_searched:
        names = join([arm.name for arm in arms_behind])
        other = f"or all the configurations there are of it ({names})"
        return f"Every arm that trains got the same {trials}{more} before the final trials, {other}."
    return f"Arms were not searched equally; the most search trials of an arm are {most}."


def _describe_trials(search: SearchSummary) -> str:
    budget = ", ".join(_describe_budget(search)) or "the protocol's budget"
    sampler = _SAMPLERS[search.sampler] if search.tried_count else "Nothing was tried yet"
    if search.sampler != "random" and search.trials <= SPREAD:
        sampler = "After the defaults, they are spread evenly over the ranges"
    return (
        f"Each ran with seed {search.seed}{' + the final one' if search.per_seed else ''}, which no final trial uses, "
        f"and {budget}, and was scored by "
        f"validation {metric_name(search.metric)}; the test split had no part in it. {sampler}."
        + (f" {search.first_rates[:1].upper()}{search.first_rates[1:]}." if search.first_rates else "")
    )


def _describe_cost(search: SearchSummary) -> str:
    untimed = sum(t.train_seconds is None and t.status == "completed" for arm in search.arms for t in arm.tried)
    others = (
        f" The time of {untimed} search trials that shared a process or a device is not counted." if untimed else ""
    )
    whole, final = (
        "not known" if seconds is None else units.seconds(seconds)
        for seconds in (search.total_seconds, search.final_total_seconds)
    )
    return (
        f"{search.tried_count} trials of the search trained for {units.seconds(search.train_seconds)} "
        f"({whole} with loading and validation); the final trials for "
        f"{units.seconds(search.final_train_seconds)} ({final}).{others}"
    )


def in_short(report: Report) -> str:
    """Returns one line for a terminal; empty where no arm trains."""
    search = report.search
    if search is None:
        return _not_searched(report, short=True)
    return (
        f"Search: {search.tried_count} trials of {len({arm.method for arm in search.arms})} arms by validation "
        f"{metric_name(search.metric)}{_pruning_suffix(search)}, {units.seconds(search.train_seconds)} of "
        f"training beside the final trials' "
        f"{units.seconds(search.final_train_seconds)}."
    )


def _not_searched(report: Report, short: bool = False) -> str:
    """Says that learning rates were not searched, and where they come from."""
    arms = [entry for entry in report.methods if entry.trains]
    if not arms:
        return ""
    if report.protocol.search is not None:
        return "The search has not begun."
    if short:
        return "Learning rates were not searched; a guessed rate can decide a ranking."
    words = {"protocol": "one for all", "study": "set in the study", "default": "the method's default"}
    rates = [
        f"{escaped(arm.method)} {units.rate(arm.learning_rate)} ({words[arm.learning_rate_from]})"
        for arm in arms
        if arm.learning_rate is not None and arm.learning_rate_from is not None
    ]
    return f"Learning rates were not searched, and a guessed rate can decide a ranking: {', '.join(rates)}."
