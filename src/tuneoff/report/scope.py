"""What a verdict speaks of: which of a study's draws vary in it, and which of them are one draw."""

from __future__ import annotations

from tuneoff.config.protocol import Protocol
from tuneoff.report.schema import Report
from tuneoff.report.wording import join


def answer_scope(report: Report) -> str:
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
    return f"{_subject(report.protocol)}: {varied} vary in it, {join(_unvaried(report.protocol))} do not."


def unvaried_text(protocol: Protocol) -> str:
    """Says what a verdict speaks of by what it does not vary alone."""
    return f"{_subject(protocol)}: {join(_unvaried(protocol))} are not varied in it."


def _subject(protocol: Protocol) -> str:
    place = "test set" if protocol.splits == "per_seed" else "split"
    subject = "these methods, each with its search" if _searched_per_seed(protocol) else "these configurations"
    return f"This is of {subject}, on this {place}"


def _searched_per_seed(protocol: Protocol) -> bool:
    return protocol.search is not None and bool(protocol.search.per_seed)


def _unvaried(protocol: Protocol) -> list[str]:
    """Returns what is one draw in the whole study."""
    searches = [] if _searched_per_seed(protocol) else ["searches"]
    rows = ["training and validation rows"] if protocol.splits == "fixed" else []
    return [*searches, *rows, "base models"]
