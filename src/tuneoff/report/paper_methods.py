"""The paragraph of a paper that says how a study was done, from its report alone: nothing is said that is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tuneoff.analysis.figures import metric_name
from tuneoff.encoding import latex
from tuneoff.report import units
from tuneoff.report.arm_schema import ArmSummary
from tuneoff.report.schema import Report
from tuneoff.report.sections.search import settings_text
from tuneoff.report.wording import IMPORTED, join

if TYPE_CHECKING:
    from tuneoff.interfaces import Reference

_TESTS = {
    "seeds and examples": "tests in which seeds and test examples both vary",
    "seeds and groups": "tests in which seeds and groups of test examples both vary",
    "seeds": "tests over the seeds alone",
    "examples": "tests over the test examples of one seed",
    "groups": "tests over the groups of test examples of one seed",
    "mcnemar": "McNemar's test on one seed",
}
_INTERVALS = {
    "seeds and examples": "seeds and test examples both vary",
    "seeds and groups": "seeds and groups of test examples both vary",
    "seeds": "seeds alone vary",
    "examples": "the examples of one seed vary",
    "groups": "the groups of examples of one seed vary",
}
_RATES = {
    "search": "found by the search",
    "protocol": "one for all arms",
    "study": "set by hand",
    "default": "the method's default in tuneoff",
}


def paragraph(report: Report, references: Mapping[str, Sequence[Reference]]) -> str:
    """Returns the paragraph in LaTeX, a sentence a line.

    Args:
        report: what to tell of.
        references: what each arm's method asks a paper to cite.
    """
    sentences = [
        _data(report),
        _arms(report, references),
        *_training(report),
        _rates(report),
        *_selection(report),
        _seeds(report),
        *_statistics(report),
        *_hardware(report),
    ]
    return "\n".join(sentences) + "\n"


def _data(report: Report) -> str:
    study, data = report.study, report.data
    splits = data.splits if data is not None else {}
    rows = join([f"{split.rows:,} rows of {name}" for name, split in splits.items()])
    weights = " with random weights" if study.random_weights else ""
    model = data.model if data is not None else None
    sources = join(list(study.sources.references))
    known = f" ({model.architecture})" if model is not None else ""
    return latex(
        f"The base model is {study.model}{known}{weights}; the task is {study.task} on {sources}"
        + (f", with {rows}." if rows else ".")
    )


def _arms(report: Report, references: Mapping[str, Sequence[Reference]]) -> str:
    def name(arm: ArmSummary) -> str:
        keys = ",".join(reference.key for reference in references.get(arm.method, ()))
        return f"\\texttt{{{latex(arm.method)}}}" + (f"~\\cite{{{keys}}}" if keys else "")

    trained = [name(arm) for arm in report.methods if arm.trains]
    untrained = [name(arm) for arm in report.methods if not arm.trains]
    text = f"We compare {join(trained)}" if trained else "Nothing is trained"
    return f"{text}{f', beside {join(untrained)} without training' if untrained else ''}."


def _training(report: Report) -> list[str]:
    """Says what was held equal; of an imported study only what its files state of the budget."""
    protocol = report.protocol
    if not report.is_ours:
        return [latex(IMPORTED)]
    steps = f", at most {protocol.max_steps:,} steps" if protocol.max_steps else ""
    warmup = f"{protocol.warmup_steps:,} steps" if protocol.warmup_steps is not None else f"{protocol.warmup_ratio:.0%}"
    searched = protocol.search.space if protocol.search is not None else {}
    clipping = "no clipping" if protocol.clip_norm is None else f"gradients clipped to a norm of {protocol.clip_norm:g}"
    if "clip_norm" in searched:
        clipping = "gradients clipped to a norm as searched"
    decay = "as searched" if "weight_decay" in searched else f"{protocol.weight_decay:g}"
    batch = (
        "as many examples a step as searched"
        if "batch_size" in searched
        else f"{protocol.batch_size:,} examples a step"
    )
    dropout = "dropout as pretrained" if protocol.dropout is None else f"dropout of {protocol.dropout:g}"
    policies = join([policy.policy for policy in report.environments.precision])
    return [
        latex(
            f"At a seed all arms get the same rows, splits{'' if 'batch_size' in searched else ', order and batches'} "
            "and start from the same head."
            + (
                " Every seed draws its training rows anew, with replacement (bootstrap); intervals take in the error "
                "of the rows that all seeds drew from, and test rows are the same."
                if report.protocol.splits == "per_seed"
                else ""
            )
            if report.comparable
            else "All arms follow one protocol."
        ),
        latex(
            f"Training takes {protocol.epochs:,} epoch{'s' if protocol.epochs > 1 else ''}{steps} with AdamW "
            f"(betas {protocol.adam_beta1:g} and {protocol.adam_beta2:g}, epsilon {protocol.adam_epsilon:g}, weight "
            f"decay {decay} of matrices), {batch} of at most "
            f"{protocol.max_length:,} tokens, a {protocol.schedule} schedule after a warm-up of {warmup}, {clipping} "
            f"and {dropout}" + (f"; precision is {policies}." if policies else ".")
        ),
    ]


def _rates(report: Report) -> str:
    """Says where learning rates come from, and each arm's."""
    trained = [arm for arm in report.methods if arm.trains and arm.learning_rate is not None]
    rates = ", ".join(f"{arm.method} {units.rate(arm.learning_rate)}" for arm in trained if arm.learning_rate)
    origins = join([_RATES[key] for key in dict.fromkeys(arm.learning_rate_from for arm in trained) if key is not None])
    if not report.is_ours:
        return latex(f"Learning rates, as recorded: {rates}." if rates else "No learning rate is recorded.")
    known = f"Learning rates are {origins or 'as recorded'}: {rates}." if rates else ""
    search = report.protocol.search
    if search is None or report.search is None:
        return latex(f"No learning rate was searched. {known}".strip())
    metric = metric_name(report.search.metric)
    return latex(
        f"Before the final trials every arm got the same search ({settings_text(search)}), whose best trial by "
        f"validation {metric} was chosen. {known}".strip()
    )


def _selection(report: Report) -> list[str]:
    if not report.is_ours:
        return []
    chosen = report.study.selected_by
    tested = f"the best by validation {metric_name(chosen)}" if chosen else "the last"
    return [latex(f"The tested checkpoint is {tested}; test is scored once.")]


def _seeds(report: Report) -> str:
    seeds, trials = report.study.seeds, report.trials
    counts_run = sorted({len(arm.planned_seeds) for arm in report.methods})
    if report.race is not None:
        looks = ", ".join(str(look.seeds) for look in report.race.looks)
        planned = (
            f"Seeds were given by racing, {counts_run[0]} to {counts_run[-1]} an arm, with looks at {looks} of them, "
            "over which the error is spent (Lan and DeMets, 1983)"
        )
    else:
        planned = f"Each arm has {len(seeds)} seed{'s' if len(seeds) > 1 else ''} ({', '.join(map(str, seeds))})"
    if trials.completed == trials.planned:
        return latex(f"{planned}; all {trials.planned:,} trials completed.")
    counts: dict[str, int] = {}
    for arm in report.methods:
        for status, count in arm.statuses.items():
            if status != "completed":
                counts[status] = counts.get(status, 0) + count
    others = join([f"{count} {status.replace('_', ' ')}" for status, count in counts.items()])
    return latex(f"{planned}; {trials.completed:,} of {trials.planned:,} trials completed ({others}).")


def _statistics(report: Report) -> list[str]:
    answer, verdict = report.answer, report.verdict
    level = f"{answer.interval_level:.0%}"
    scores = [arm.metrics.get(report.study.primary_metric or "") for arm in report.methods]
    over = list(dict.fromkeys(score.interval_over for score in scores if score is not None and score.interval_over))
    text = []
    if over:
        ways = join([_INTERVALS.get(way, f"{way} vary") for way in over])
        text.append(
            latex(f"Intervals of test {metric_name(report.study.primary_metric or '')} are of {level}; {ways}.")
        )
    tests = [pair.test for pair in verdict.pairs if pair.test is not None] if verdict is not None else []
    if verdict is not None and tests:
        ways = join([_TESTS.get(way, f"tests over {way}") for way in dict.fromkeys(tests)])
        text.append(
            latex(
                f"Arms are compared in {len(tests):,} pairs on the seeds and examples that both have, by {ways}; "
                f"p-values are corrected by {verdict.correction}'s method, and under {answer.seeds_required} seeds in "
                "common nothing is called significant."
            )
        )
        compared = {name for pair in verdict.pairs if pair.test is not None for name in (pair.first, pair.second)}
        if len(compared) > 2 and any(way.startswith("seeds") for way in tests):
            text.append(
                latex("In these tests pairs inform one another of how much seeds differ (a moderated variance).")
            )
    return text


def _hardware(report: Report) -> list[str]:
    environments = report.environments
    if not environments.machines:
        return []
    machines = [
        f"{', '.join(dict.fromkeys(name for name in (m.device_name, m.processor) if name)) or m.device} ({m.cores} "
        f"cores, {m.threads} threads, {units.size(m.memory_bytes)} of memory, computing on {m.device})"
        for m in environments.machines
    ]
    versions = join([f"{name} {version}" for name, version in environments.versions.items()])
    commit = f", commit {environments.commit}" if environments.commit else ""
    text = [latex(f"Trials ran on {join(machines)}"), latex(f", with {versions}{commit}." if versions else ".")]
    busy = [arm.method for arm in report.methods if arm.contended]
    sentences = ["".join(text)]
    if busy:
        sentences.append(
            latex(f"Something else used the machine while {join(busy)} {'was' if len(busy) == 1 else 'were'} timed.")
        )
    return sentences
