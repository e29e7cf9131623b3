"""Rows -> the same examples in the same splits for every trial of a study."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuneoff.errors import DataError
from tuneoff.record import DataInfo, Finding, SplitInfo
from tuneoff.sources import read_rows
from tuneoff.spec import Protocol, TaskSpec
from tuneoff.tasks.base import Example, Task


@dataclass(frozen=True)
class TrialData:
    """The examples of each split, and what the record says of them."""

    splits: dict[str, list[Example]]
    info: DataInfo
    findings: tuple[Finding, ...]


def load(task: Task, spec: TaskSpec, protocol: Protocol) -> TrialData:
    """Reads, checks, splits and subsets the rows. Depends on the protocol's `data_seed`, not on a trial's seed.

    Raises:
        SourceError, DataError: the first thing that makes the rows unusable.
    """
    rows = read_rows(spec.data.train, "train")
    columns = task.columns(rows)
    splits = {"train": task.examples(rows, columns, "train")}
    for name, source in (("validation", spec.data.validation), ("test", spec.data.test)):
        if source is not None:
            splits[name] = task.examples(read_rows(source, name), columns, name)
    task.settle(splits)
    strata = {task.stratum(example) for example in splits["train"]}
    for name, fraction in (("test", protocol.test_fraction), ("validation", protocol.validation_fraction)):
        if name not in splits:
            splits["train"], splits[name] = _cut(task, splits["train"], fraction, protocol.data_seed, name)
    limits = {"validation": protocol.validation_rows, "test": protocol.test_rows}
    for name, limit in limits.items():
        splits[name] = subset(task, splits[name], limit, protocol.data_seed)
    removed = 0
    if protocol.duplicates == "remove":
        elsewhere = {_key(e) for name in limits for e in splits[name]}
        kept = [e for e in splits["train"] if _key(e) not in elsewhere]
        removed = len(splits["train"]) - len(kept)
        splits["train"] = kept
        if not kept:
            raise DataError("every training row also stands in validation or test; removing them leaves none")
    splits["train"] = subset(task, splits["train"], protocol.train_rows, protocol.data_seed)
    _refuse_lost(strata, {task.stratum(example) for example in splits["train"]}, protocol)
    splits = {name: [replace(e, index=i) for i, e in enumerate(splits[name])] for name in ("train", *limits)}
    info = DataInfo(
        splits={name: _describe(task, examples) for name, examples in splits.items()},
        labels=task.labels,
        columns=columns,
        overlap=_overlap(splits),
        overlap_removed=removed,
    )
    return TrialData(splits, info, _findings(info, protocol))


def subset(task: Task, examples: Sequence[Example], limit: int | None, seed: int, keep_back: int = 0) -> list[Example]:
    """At most `limit` examples in their own order, every stratum in proportion.

    None is left out unless there are more strata than `limit`; the largest go first then. Of each stratum,
    `keep_back` examples are never taken.
    """
    if not keep_back and (limit is None or limit >= len(examples)):
        return list(examples)
    strata: dict[str, list[int]] = defaultdict(list)
    for position, example in enumerate(examples):
        strata[task.stratum(example)].append(position)
    sizes = {name: len(members) for name, members in strata.items()}
    counts = _apportion(sizes, len(examples) if limit is None else limit, keep_back)
    rng = np.random.default_rng(seed)
    chosen = [int(p) for name in sorted(strata) for p in rng.permutation(strata[name])[: counts[name]]]
    return [examples[position] for position in sorted(chosen)]


def _apportion(sizes: dict[str, int], limit: int, keep_back: int) -> dict[str, int]:
    """How many of each stratum to take: its share, by largest remainder, and at least one where it can be had."""
    room = {name: size - keep_back for name, size in sizes.items() if size > keep_back}
    limit = min(limit, sum(room.values()))
    exact = {name: limit * sizes[name] / sum(sizes.values()) for name in room}
    counts = {name: min(room[name], max(1, int(share))) for name, share in exact.items()}
    by_remainder = sorted(room, key=lambda name: (counts[name] - exact[name], name))
    while sum(counts.values()) < limit:
        for name in by_remainder:
            if sum(counts.values()) < limit and counts[name] < room[name]:
                counts[name] += 1
    for _ in range(sum(counts.values()) - limit):
        # The small ones' single examples are paid for by those that can spare one.
        most = max(counts, key=lambda name: (counts[name] > 1, counts[name] and counts[name] / exact[name], name))
        counts[most] -= 1
    return {name: counts.get(name, 0) for name in sizes}


def _cut(
    task: Task, examples: list[Example], fraction: float, seed: int, name: str
) -> tuple[list[Example], list[Example]]:
    """Cuts a stratified share off the training rows, which keep at least one row of every stratum."""
    part = subset(task, examples, max(1, round(fraction * len(examples))), seed, keep_back=1)
    if not part:
        raise DataError(
            f"{len(examples)} training rows are too few to cut {name} rows from",
            hint=f"Set task.data.{name} to a file of its own, or give more rows.",
        )
    taken = {id(example) for example in part}
    return [e for e in examples if id(e) not in taken], part


def _refuse_lost(before: set[str], after: set[str], protocol: Protocol) -> None:
    """Every class must keep a training row through the removal of duplicates and the choice of a subset."""
    lost = sorted(before - after)
    if not lost:
        return
    rows = protocol.train_rows
    few = f"Set protocol.train_rows to {len(before)} or more."
    raise DataError(
        f"{len(lost)} of {len(before)} classes would have no training row left, e.g. {lost[0]!r}",
        hint=few if rows is not None and rows < len(before) else "Set protocol.duplicates to warn.",
    )


def _parts(example: Example) -> list[str]:
    """All that is put in: the text, and the names and values of the template's other columns."""
    return [example.text, *(part for item in sorted(example.fields.items()) for part in item)]


def _key(example: Example) -> tuple[str, ...]:
    return tuple(" ".join(part.split()).casefold() for part in _parts(example))


def _overlap(splits: dict[str, list[Example]]) -> dict[str, int]:
    found = {}
    for name in ("validation", "test"):
        elsewhere = {_key(example) for example in splits[name]}
        found[f"train/{name}"] = sum(_key(example) in elsewhere for example in splits["train"])
    return found


def _describe(task: Task, examples: Sequence[Example]) -> SplitInfo:
    digest = hashlib.sha256()
    for example in examples:
        text, *others = _parts(example)
        digest.update(("\x00".join([text, example.target, *others]) + "\x01").encode())
    classes = Counter(task.stratum(example) for example in examples) if task.labels else Counter[str]()
    ordered = {label: classes[label] for label in task.labels}
    return SplitInfo(rows=len(examples), fingerprint=digest.hexdigest(), classes=ordered)


def _findings(info: DataInfo, protocol: Protocol) -> tuple[Finding, ...]:
    found = []
    if info.overlap_removed:
        message = f"{info.overlap_removed} training rows also stood in validation or test and were removed"
        found.append(Finding(name="overlap_removed", message=message))
    for pair, count in info.overlap.items():
        if count:
            message = f"{count} training rows also stand in {pair.partition('/')[2]}; its scores flatter every method"
            if protocol.duplicates == "warn":
                message += ". Set protocol.duplicates to remove to drop them from train"
            found.append(Finding(name="overlap", message=message))
    return tuple(found)
