"""What a verdict speaks of: which of a study's draws vary in it, and which of them are one draw."""

from __future__ import annotations

from tuneoff.analysis.results import Results
from tuneoff.config.spec import StudySpec
from tuneoff.report.schema import Report
from tuneoff.report.wording import join
from tuneoff.search.validation import advise_own_rows, draws_validation_rows, searches_each_seed


def answer_scope(report: Report, results: Results) -> str:
    """Says what the verdict speaks of, and what it does not vary; empty without a best arm."""
    if report.answer.best is None:
        return ""
    study = results.study
    over = report.arm(report.answer.best).metrics[report.study.primary_metric or ""].interval_over
    if over is None:
        return f"{_subject(study)} alone."
    group = report.study.task_options.get("group")
    rows = "training and validation rows" if draws_validation_rows(study) else "training rows"
    draws = ["searches"] if searches_each_seed(study) else []
    draws += [f"draws of {rows}"] if study.protocol.splits == "per_seed" else []
    words = {
        "seeds": ["seeds", *draws],
        "examples": ["test examples"],
        "groups": [f"groups of test examples ({group})" if group else "groups of test examples"],
    }
    varied = join([word for part in over.split(" and ") for word in words[part]])
    inside = f"{_subject(study)}: {varied} vary in it, {join(_unvaried(results))} do not."
    return " ".join(filter(None, (inside, advise_own_rows(study))))


def unvaried_text(results: Results) -> str:
    """Says what a verdict speaks of by what it does not vary alone."""
    inside = f"{_subject(results.study)}: {join(_unvaried(results))} are not varied in it."
    return " ".join(filter(None, (inside, advise_own_rows(results.study))))


def _subject(study: StudySpec) -> str:
    subject, place = "these configurations", "split" if study.protocol.splits == "fixed" else "test set"
    if searches_each_seed(study):
        where = "" if draws_validation_rows(study) else " on these validation rows"
        subject = f"these methods, each with its search{where}"
    return f"This is of {subject}, on this {place}"


def _unvaried(results: Results) -> list[str]:
    """Returns what is one draw in the whole study; base models are not where arms of several are compared."""
    study = results.study
    searches = [] if searches_each_seed(study) else ["searches"]
    rows = [] if draws_validation_rows(study) else ["validation rows"]
    rows = ["training and validation rows"] if study.protocol.splits == "fixed" else rows
    models = {record.spec.model.model_dump_json() for arm in results.arms for record in arm.records if arm.trains}
    # A study always has one draw at the least to name: with a search and splits per seed it is the base model.
    several = len(models) > 1 and bool(searches or rows)
    return [*searches, *rows, *([] if several else ["base models"])]
