"""What a verdict speaks of: which of a study's draws vary in it, and which of them are one draw."""

from __future__ import annotations

from tuneoff.analysis.results import Results
from tuneoff.config.protocol import Protocol
from tuneoff.report.schema import Report
from tuneoff.report.wording import join


def answer_scope(report: Report, results: Results) -> str:
    """Says what the verdict speaks of, and what it does not vary; empty without a best arm."""
    if report.answer.best is None:
        return ""
    over = report.arm(report.answer.best).metrics[report.study.primary_metric or ""].interval_over
    if over is None:
        return f"{_subject(report.protocol)} alone."
    group = report.study.task_options.get("group")
    draws = ["searches"] if _searched_per_seed(report.protocol) else []
    draws += ["draws of training rows"] if report.protocol.splits == "per_seed" else []
    words = {
        "seeds": ["seeds", *draws],
        "examples": ["test examples"],
        "groups": [f"groups of test examples ({group})" if group else "groups of test examples"],
    }
    varied = join([word for part in over.split(" and ") for word in words[part]])
    return f"{_subject(report.protocol)}: {varied} vary in it, {join(_unvaried(results))} do not."


def unvaried_text(results: Results) -> str:
    """Says what a verdict speaks of by what it does not vary alone."""
    return f"{_subject(results.study.protocol)}: {join(_unvaried(results))} are not varied in it."


def _subject(protocol: Protocol) -> str:
    place = "test set" if protocol.splits == "per_seed" else "split"
    subject = "these methods, each with its search" if _searched_per_seed(protocol) else "these configurations"
    return f"This is of {subject}, on this {place}"


def _searched_per_seed(protocol: Protocol) -> bool:
    return protocol.search is not None and bool(protocol.search.per_seed)


def _unvaried(results: Results) -> list[str]:
    """Returns what is one draw in the whole study; base models are not where arms of several are compared."""
    protocol = results.study.protocol
    searches = [] if _searched_per_seed(protocol) else ["searches"]
    rows = ["training and validation rows"] if protocol.splits == "fixed" else []
    models = {record.spec.model.model_dump_json() for arm in results.arms for record in arm.records if arm.trains}
    # A study always has one draw at the least to name: with a search and splits per seed it is the base model.
    several = len(models) > 1 and bool(searches or rows)
    return [*searches, *rows, *([] if several else ["base models"])]
