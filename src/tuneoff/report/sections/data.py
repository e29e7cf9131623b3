"""The page's section on the rows of the study."""

from __future__ import annotations

from tuneoff.config.data import SourceSpec
from tuneoff.encoding import code
from tuneoff.encoding import markdown as escaped
from tuneoff.report.markup import grid
from tuneoff.report.schema import Report

FINGERPRINT_DIGITS = 12


def section(report: Report) -> str:
    """Writes the section; empty while no trial is completed."""
    data = report.data
    if data is None:
        return ""
    heads = ["split", "rows", "classes", "truncated", "longest (tokens)", "source", "fingerprint"]
    rows = [
        [
            split,
            f"{split_data.rows:,}",
            f"{len(split_data.classes)}",
            f"{split_data.truncated:,}",
            f"{split_data.longest_tokens:,}",
            describe_source(getattr(report.study.sources, split, None), split),
            split_data.fingerprint[:FINGERPRINT_DIGITS],
        ]
        for split, split_data in data.splits.items()
    ]
    if not data.labels:
        heads, rows = [heads[0], heads[1], *heads[3:]], [[*row[:2], *row[3:]] for row in rows]
    if data.groups:
        heads.insert(2, "groups")
        rows = [[*row[:2], f"{data.groups[split]:,}", *row[2:]] for split, row in zip(data.splits, rows, strict=True)]
    lines = ["## Data", grid(heads, rows)]
    facts = [
        f"- Fingerprint: the first {FINGERPRINT_DIGITS} digits of a SHA-256 over the rows that were used, in order; "
        "whole in report.json"
    ]
    if data.labels:
        facts.append(f"- Classes: {', '.join(map(escaped, data.labels[:20]))}{' …' if len(data.labels) > 20 else ''}")
    if data.columns:
        columns_read = (f"{escaped(role)} from {code(column)}" for role, column in data.columns.items())
        facts.append(f"- Columns: {', '.join(columns_read)}")
    if data.train_pool:
        facts.append(
            f"- Training rows: at every seed another draw of {data.splits['train'].rows:,} from {data.train_pool:,}, "
            "with replacement, and other validation rows where these are cut from train; the table is of one seed, and "
            "the trials' records tell of the others"
        )
    facts += [f"- Left out of {split} for an empty cell: {count}" for split, count in data.skipped.items()]
    for pair, count in data.overlap.items():
        first, _, other = pair.partition("/")
        facts.append(
            f"- {'Training' if first == 'train' else first.capitalize()} rows that also stand in {other}: {count}"
        )
    facts += [
        f"- Removed from {split} because their group stands in a later split: {count}"
        for split, count in data.groups_removed.items()
        if count
    ]
    removed = {"training": data.overlap_removed, "validation": data.validation_removed}
    facts += [f"- Removed from {split} for that: {count}" for split, count in removed.items() if count]
    return "\n\n".join([*lines, "\n".join(facts)])


def describe_source(source: SourceSpec | None, role: str) -> str:
    """Describes a source, as far as it differs from the default: `somebody/news, config 3.0.0, split validation,
    revision 1a2b3c`."""
    if source is None:
        return "cut from train"
    details = {"config": source.config, "split": source.split, "revision": source.revision}
    named = (f"{key} {escaped(value)}" for key, value in details.items() if value is not None and value != role)
    return ", ".join([*map(escaped, source.references), *named])
