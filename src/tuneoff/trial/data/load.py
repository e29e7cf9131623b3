"""Loads rows into the same examples and the same splits for every trial of a study."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NoReturn

from tuneoff import registry
from tuneoff.config.data import SourceSpec, TaskSpec
from tuneoff.config.protocol import Protocol
from tuneoff.errors import DataError
from tuneoff.interfaces import Example, Rows, Task, is_missing
from tuneoff.records.record import DataInfo, Finding, SplitInfo
from tuneoff.sources import read_rows
from tuneoff.trial.data import groups
from tuneoff.trial.data.draws import Seed, draw_groups, draw_rows, draw_seed, subset
from tuneoff.trial.exhaustion import loading

CHOSEN_ON_TEST = "what was chosen on validation was chosen on test rows, so test scores flatter every method"


@dataclass(frozen=True)
class TrialData:
    """The examples of each split, and what the record says of them."""

    splits: dict[str, list[Example]]
    info: DataInfo
    findings: tuple[Finding, ...]


@loading("the rows")
def load(task: Task, spec: TaskSpec, protocol: Protocol) -> TrialData:
    """Reads, checks, splits and subsets the rows. The result depends on the protocol's `data_seed` and, with `splits:
    per_seed`, for training and validation rows on the trial's seed.

    Raises:
        SourceError, DataError: the first problem that makes the rows unusable; with `duplicates: refuse`, rows that
            stand in two splits; with `task.group`, groups that do.
    """
    rows = read_rows(registry.sources(), spec.data.train, "train", task.named_columns)
    columns = task.columns(rows)
    files = {"train": dict(rows.files)}
    skipped: dict[str, int] = {}
    splits = {"train": _examples(task, rows, columns, "train", skipped)}
    commits = {"train": rows.commit} if rows.commit else {}
    for name, source in (("validation", spec.data.validation), ("test", spec.data.test)):
        if source is not None:
            source = _at_commit(source, spec.data.train, commits)
            rows = read_rows(registry.sources(), source, name, task.named_columns)
            files[name] = dict(rows.files)
            splits[name] = _examples(task, rows, columns, name, skipped)
            commits |= {name: rows.commit} if rows.commit else {}
    task.fit(splits)
    strata = {task.stratum(example) for example in splits["train"]}
    seeds: dict[str, Seed] = {"test": protocol.data_seed, "validation": draw_seed(protocol)}
    for name, fraction in (("test", protocol.test_fraction), ("validation", protocol.validation_fraction)):
        if name not in splits:
            splits["train"], splits[name] = _cut(task, splits["train"], fraction, seeds[name], name)
    limits = {"validation": protocol.validation_rows, "test": protocol.test_rows}
    for name, limit in limits.items():
        splits[name] = subset(task, splits[name], limit, seeds[name])
    group, groups_removed = task.options.group, dict[str, int]()
    if group is not None:
        if protocol.duplicates == "remove":
            groups_removed = _remove_shared(splits, lambda example: example.group, groups.refuse_emptied)
        groups.check_groups(splits, group)
    removed = _remove_shared(splits, _key, _refuse_emptied) if protocol.duplicates == "remove" else {}
    pool = splits["train"]
    splits["train"] = _training_rows(task, pool, protocol)
    _refuse_lost(strata, {task.stratum(example) for example in splits["train"]}, protocol)
    splits = {name: [replace(e, index=i) for i, e in enumerate(splits[name])] for name in ("train", *limits)}
    task.refit(splits["train"])
    info = DataInfo(
        splits={name: describe(task, examples) for name, examples in splits.items()},
        labels=task.labels,
        fitted=dict(task.fitted_options),
        columns=columns,
        overlap=_overlap(splits, _key),
        overlap_exact=_overlap(splits, _parts),
        overlap_removed=removed.get("train", 0),
        validation_removed=removed.get("validation", 0),
        skipped=skipped,
        train_pool=0 if protocol.splits == "fixed" else len(pool),
        groups=groups.count_groups(splits) if group is not None else {},
        groups_removed=groups_removed,
        commits=commits,
        files={role: checksums for role, checksums in files.items() if checksums},
    )
    if protocol.duplicates == "refuse":
        _refuse_overlap(info)
    group_findings = groups.note_groups(info.groups, splits, groups_removed) if group is not None else []
    return TrialData(splits, info, (*_findings(info, protocol), *group_findings, *task.findings()))


def _examples(task: Task, rows: Rows, columns: dict[str, str], split: str, skipped: dict[str, int]) -> list[Example]:
    """Returns the rows as examples. Rows with a missing value are left out where the task says so; `skipped` counts
    them."""
    group = task.options.group
    all_columns = task.columns_read(columns)
    role = next((role for role, column in all_columns if column == group), None)
    if role is not None:
        raise DataError(
            f"task.group and task.{role} are the same column, {group!r}",
            hint="Set task.group to the column that says which rows belong together.",
        )
    may_be_empty = {role.name for role in task.roles if role.may_be_empty}
    read = [column for role, column in all_columns if role not in may_be_empty]
    used = [*read, *([group] if group is not None else [])]
    used_columns = [rows.columns[column] for column in used if column in rows.columns]
    if task.options.missing == "skip":
        complete_rows = [
            index for index in range(len(rows)) if not any(is_missing(values[index]) for values in used_columns)
        ]
        if len(rows) and not complete_rows:
            raise DataError(f"every row of {rows.origin} ({split}) lacks a value in {', '.join(used)}")
        if len(complete_rows) < len(rows):
            skipped[split] = len(rows) - len(complete_rows)
            rows = rows.only(complete_rows)
    examples = task.examples(rows, columns, split)
    return examples if group is None else groups.grouped(examples, groups.group_values(rows, group, split))


def _at_commit(source: SourceSpec, train: SourceSpec, commits: dict[str, str]) -> SourceSpec:
    """Returns the source at the commit of the training rows if it is the same data set of the hub, whose branch may
    move while it is read."""
    same_source = (source.source, source.revision) == (train.source, train.revision)
    return source.model_copy(update={"revision": commits["train"]}) if same_source and commits else source


def _training_rows(task: Task, pool: list[Example], protocol: Protocol) -> list[Example]:
    """Takes the rows to train on: the same subset at every seed, or a draw of the seed's own."""
    if protocol.splits == "fixed":
        return subset(task, pool, protocol.train_rows, protocol.data_seed)
    count, seed = min(protocol.train_rows or len(pool), len(pool)), draw_seed(protocol)
    if task.options.group is not None:
        return draw_groups(task, pool, count, seed)
    return draw_rows(task, pool, count, seed)


def _cut(
    task: Task, examples: list[Example], fraction: float, seed: Seed, name: str
) -> tuple[list[Example], list[Example]]:
    """Cuts a stratified share off the training rows, of whole groups where there are any; at least one row of every
    stratum stays in them."""
    if task.options.group is not None:
        return groups.cut_groups(task, examples, fraction, seed, name)
    cut_examples = subset(task, examples, max(1, round(fraction * len(examples))), seed, keep_back=1)
    if not cut_examples:
        raise DataError(
            f"{len(examples)} training rows are too few to cut {name} rows from",
            hint=f"Set task.data.{name} to a file of its own, or give more rows.",
        )
    cut_ids = {id(example) for example in cut_examples}
    return [e for e in examples if id(e) not in cut_ids], cut_examples


def _refuse_lost(before: set[str], after: set[str], protocol: Protocol) -> None:
    """Checks that every class still has a training row after duplicates are removed and a subset is taken."""
    lost_classes = sorted(before - after)
    if not lost_classes:
        return
    train_rows = protocol.train_rows
    more_rows = f"Set protocol.train_rows to {len(before)} or more."
    raise DataError(
        f"{len(lost_classes)} of {len(before)} classes would have no training row left, e.g. {lost_classes[0]!r}",
        hint=more_rows if train_rows is not None and train_rows < len(before) else "Set protocol.duplicates to warn.",
    )


def _parts(example: Example) -> tuple[str, ...]:
    """Returns all inputs of an example: its texts, names and values of the template's other columns, its options."""
    pair = (example.text_pair,) if example.text_pair else ()
    history = (part for words in example.history for part in words)
    others = (part for item in sorted(example.fields.items()) for part in item)
    return (example.text, *pair, *history, *others, *example.choices)


def _key(example: Example) -> tuple[str, ...]:
    """Returns the inputs, equal for texts that differ only in case, spaces or Unicode form."""
    return tuple(" ".join(unicodedata.normalize("NFKC", part).casefold().split()) for part in _parts(example))


def count_shared(examples: Sequence[Example], others: Sequence[Example]) -> int:
    """Counts the examples that stand among others too: the same but for case, spaces and Unicode form."""
    keys = set(map(_key, others))
    return sum(_key(example) in keys for example in examples)


def _remove_shared(
    splits: dict[str, list[Example]], key: Callable[[Example], Hashable], refuse: Callable[[str, str], NoReturn]
) -> dict[str, int]:
    """Removes from each split the rows whose key also stands in a later one, so that test stays complete; returns how
    many of each. Where that leaves none, `refuse` is called with the name of the split and with the later ones."""
    removed = {}
    for name, later in (("train", ("validation", "test")), ("validation", ("test",))):
        later_keys = {key(example) for later_split in later for example in splits[later_split]}
        remaining = [example for example in splits[name] if key(example) not in later_keys]
        if not remaining:
            refuse(name, " or ".join(later))
        removed[name] = len(splits[name]) - len(remaining)
        splits[name] = remaining
    return removed


def _refuse_emptied(name: str, later: str) -> NoReturn:
    """Refuses a split whose every row also stands in the later ones."""
    row_kind = "training row" if name == "train" else "validation row"
    raise DataError(
        f"every {row_kind} also stands in {later}; removing them leaves none",
        hint=f"Give task.data.{name} rows of its own"
        + ("." if name == "train" else ", or leave it out: its rows are then cut off train."),
    )


def _overlap(splits: dict[str, list[Example]], key: Callable[[Example], tuple[str, ...]]) -> dict[str, int]:
    """Returns 'train/test' -> rows of the first split that also stand in the second, for every pair of splits."""
    keys = {name: [key(example) for example in examples] for name, examples in splits.items()}
    return {
        f"{one}/{other}": sum(map(set(keys[other]).__contains__, keys[one])) for one, other in combinations(keys, 2)
    }


def describe(task: Task, examples: Sequence[Example]) -> SplitInfo:
    """Returns what the record says of a split's examples."""
    digest = hashlib.sha256()
    for example in examples:
        text, *others = _parts(example)
        digest.update(("\x00".join([text, example.target, *others]) + "\x01").encode())
    return SplitInfo(rows=len(examples), fingerprint=digest.hexdigest(), classes=task.count_classes(examples))


def _shared(info: DataInfo) -> dict[str, str]:
    """Returns the message for each pair of splits that share rows."""
    messages = {}
    for pair, count in info.overlap.items():
        one, _, other = pair.partition("/")
        if count:
            name, rows = "training" if one == "train" else one, info.splits[one].rows
            messages[pair] = (
                f"{count} {name} rows also stand in {other} (of {rows}; {info.overlap_exact[pair]} to the letter)"
            )
    return messages


def _refuse_overlap(info: DataInfo) -> None:
    shared = _shared(info)
    if shared:
        raise DataError(
            f"splits share rows, which protocol.duplicates refuses: {'; '.join(shared.values())}",
            hint="Set protocol.duplicates to remove, or give each split rows of its own.",
        )


def _findings(info: DataInfo, protocol: Protocol) -> tuple[Finding, ...]:
    findings = []
    if info.skipped:
        counts = ", ".join(f"{count} of {split}" for split, count in info.skipped.items())
        message = f"rows with an empty cell were left out (task.missing: skip): {counts}"
        findings.append(Finding(name="rows_skipped", message=message))
    for rows, other_splits, count in (
        ("training", "validation or test", info.overlap_removed),
        ("validation", "test", info.validation_removed),
    ):
        if count:
            message = f"{count} {rows} rows also stood in {other_splits} and were removed"
            findings.append(Finding(name="overlap_removed", message=message))
    for pair, shared in _shared(info).items():
        message = f"{shared}; {CHOSEN_ON_TEST if pair == 'validation/test' else 'its scores flatter every method'}"
        if protocol.duplicates == "warn":
            message += f". Set protocol.duplicates to remove to drop them from {pair.partition('/')[0]}"
        findings.append(Finding(name="overlap", message=message))
    return tuple(findings)
