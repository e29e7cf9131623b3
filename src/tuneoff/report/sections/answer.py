"""The page's beginning: the study, the answer and its warnings."""

from __future__ import annotations

from tuneoff.encoding import code, visible
from tuneoff.encoding import markdown as escaped
from tuneoff.report.schema import Report
from tuneoff.report.sections.data import describe_source
from tuneoff.report.wording import after_caveats

MESSAGES_SHOWN = 4


def answer(report: Report) -> str:
    """Writes the title, what was asked, and the answer with its cautions."""
    study, answer = report.study, report.answer
    lines = [f"# {escaped(study.name)}"]
    if study.description:
        # May be several paragraphs, and marked up by whoever wrote the study, but no HTML.
        lines.append(visible(study.description.strip()).replace("<", "\\<"))
    source = describe_source(study.sources.train, "train")
    lines.append(f"Base model {code(study.model)}, task {escaped(study.task)}, data {source}.")
    lines.append("## Answer")
    if answer.doubt:
        lines.append(f"**{escaped(answer.doubt)}**")
    if answer.caveats:
        lines.append("\n".join(f"> **Caution:** {escaped(caveat)}" + "\n>" for caveat in answer.caveats).rstrip(">\n"))
    text = escaped(after_caveats(report))
    lines.append(f"**{text}**" if answer.best is None else text)
    return "\n\n".join(lines)


def warnings(report: Report) -> str:
    """Lists the warnings that the answer's caveats do not say already; long lists are cut."""
    caveats = set(report.answer.caveats)
    by_name: dict[str, list[str]] = {}
    for warning in report.warnings:
        if warning.message not in caveats:
            by_name.setdefault(warning.name, []).append(escaped(warning.message))
    if not by_name:
        return ""
    lines = []
    for name, messages in by_name.items():
        lines += [f"- {code(name)}: {message}" for message in messages[:MESSAGES_SHOWN]]
        if len(messages) > MESSAGES_SHOWN:
            lines.append(f"- {code(name)}: {len(messages) - MESSAGES_SHOWN} more in report.json")
    return "## Warnings\n\n" + "\n".join(lines)
