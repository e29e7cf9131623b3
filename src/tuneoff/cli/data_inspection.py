"""A look at a data file: which task its columns suit, and what a study of it needs."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff import registry
from tuneoff.cli.doubts import (
    ABOUT,
    Undecided,
    contradicts,
    filled,
    is_written,
    may_be_class,
    may_be_number,
    mean_words,
    refuse_doubt,
    why_no_number,
)
from tuneoff.errors import DataError, StudyError, TuneoffError, did_you_mean, listed

if TYPE_CHECKING:
    from tuneoff.interfaces import Rows, Task

BY_CONTENT = "guessed from what the columns hold: check them"
TOKENS_PER_WORD = 1.4
"""Tokens per word of English text in a usual subword vocabulary; a guess, and the study file says so."""


@dataclass(frozen=True)
class DataInspection:
    """What a look at a data file found.

    Attributes:
        task: name of the task that its columns suit.
        columns: role -> column, or columns where several make a role.
        guessed: how the columns were found, for a person.
        classes: class or label -> rows, most frequent first; empty for a task without.
        words: words per input text: median, 95th percentile, maximum.
        target_words: the same of the texts to write; None for a task with classes.
        numbers: least, median and greatest number of a task of numbers; None elsewhere.
        repeated: rows whose text stands in an earlier row too.
        concerns: what should be corrected or known before a run.
        splits: names of the splits that the data holds; empty where it is one table.
    """

    task: str
    rows: int
    all_columns: tuple[str, ...]
    columns: dict[str, str | tuple[str, ...]]
    guessed: str
    classes: dict[str, int]
    words: tuple[int, int, int]
    target_words: tuple[int, int, int] | None
    numbers: tuple[float, float, float] | None
    repeated: int
    concerns: tuple[str, ...]
    splits: tuple[str, ...] = ()

    @property
    def max_length(self) -> int:
        """Estimates the number of tokens that holds 95 % of the texts whole: a multiple of 32 from 32 to 512."""
        return _tokens(self.words[1], 32)

    @property
    def max_target_length(self) -> int:
        """Estimates the same for the texts to write: a multiple of 16 from 16 to 512."""
        return _tokens(self.target_words[1] if self.target_words else 0, 16)


def _tokens(words: int, step: int) -> int:
    return min(512, max(step, step * math.ceil(words * TOKENS_PER_WORD / step)))


def inspect_data(data: Path, **user_columns: str | None) -> DataInspection:
    """Reads a data file and finds what a study of it needs.

    Args:
        data: the file.
        user_columns: role of some task (text, label, source, target) -> column, where the user names it.

    Raises:
        SourceNotFound, DataError: if it cannot be read, or its columns cannot be told apart.
        StudyError: if no task has all roles that are given.
    """
    from tuneoff.config.data import SourceSpec
    from tuneoff.sources import read_rows, splits

    named_columns = [column for column in user_columns.values() if column is not None]
    wanted = [name for column in named_columns for name in (column, *map(str.strip, column.split(",")))]
    rows = read_rows(registry.sources(), SourceSpec.model_validate({"source": f"file:{data}"}), "train", wanted)
    if not len(rows):
        raise DataError(f"{data} has no rows")
    task_name, named, how_chosen = _find_task(
        rows, {role: _one_or_several(rows, column) for role, column in user_columns.items() if column is not None}
    )
    task = task_named(task_name)
    columns = task(dict(named)).columns(rows)
    texts, answers = _texts_and_answers(task, rows, named, columns)
    writes_text = task.produces == "text"
    classes, concerns = _look_closer(task, rows, named, columns, answers)
    return DataInspection(
        task=task_name,
        rows=len(rows),
        all_columns=tuple(rows.columns),
        columns=named,
        guessed=how_chosen,
        classes=dict(classes.most_common()),
        words=_word_counts(texts),
        target_words=_word_counts(answers) if writes_text else None,
        numbers=_numbers(answers) if task.produces == "number" else None,
        repeated=len(texts) - len(set(texts)),
        concerns=tuple(concerns),
        splits=splits(registry.sources(), f"file:{data}"),
    )


def _texts_and_answers(
    task: type[Task], rows: Rows, named: dict[str, Any], columns: dict[str, str]
) -> tuple[list[str], list[str]]:
    """Returns what is put in and what is to come out, of the rows that have both.

    Raises:
        DataError: for cells that cannot be used.
    """
    from tuneoff.interfaces import is_missing
    from tuneoff.tasks._cells import require_plain

    if not any(role.holds for role in task.roles):
        # What is no column of texts, such as messages, the task itself can read.
        examples = task(dict(named)).examples(rows, columns, "train")
        return [example.input_text for example in examples], [example.target for example in examples]
    last = task.roles[-1]
    plain = {role.name: columns[role.name] for role in task.roles if role.holds and role.name in columns}
    require_plain(rows, plain, label=last.name if last.holds == "class" else None)
    answers = [str(value).strip() for value in rows.columns[columns[last.name]] if not is_missing(value)]
    inputs = [rows.columns[columns[role.name]] for role in task.roles[:-1] if role.name in columns]
    texts = [
        " ".join(str(part).strip() for part in parts)
        for parts in zip(*inputs, strict=True)
        if not any(map(is_missing, parts))
    ]
    return texts, answers


def recognised_tasks() -> dict[str, type[Task]]:
    """Returns the tasks that a file can be recognised for, by name, in the order in which they are tried."""
    tasks = registry.tasks()
    return {name: tasks[name] for name in sorted(tasks, key=lambda name: (tasks[name].init_order, name))}


def task_named(name: str) -> type[Task]:
    """Returns a task; imports it only now."""
    return registry.tasks()[name]


def _word_counts(texts: list[str]) -> tuple[int, int, int]:
    """Counts the words of each text and returns median, 95th percentile and maximum."""
    from tuneoff.tasks._words import count_words

    counts = sorted(map(count_words, texts)) or [0]
    return round(statistics.median(counts)), counts[math.ceil(0.95 * len(counts)) - 1], counts[-1]


def _numbers(cells: list[str]) -> tuple[float, float, float] | None:
    """Returns the least, the median and the greatest number; None where a cell is no number, or all are empty,
    which is refused."""
    try:
        numbers = sorted(map(float, cells))
    except ValueError:
        return None
    return (numbers[0], statistics.median(numbers), numbers[-1]) if numbers else None


def _one_or_several(rows: Rows, named: str) -> str | tuple[str, ...]:
    """Returns the column that a user names, or the columns, where they are separated by commas."""
    several = tuple(dict.fromkeys(name.strip() for name in named.split(",")))
    return named if named in rows.columns else several if len(several) > 1 else several[0]


def _find_task(rows: Rows, user_columns: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    """Returns the task, role -> column or columns, and how they were found: as given, by the task's own guess from the
    names, or by content."""
    from tuneoff.tasks._cells import refuse_chat, refuse_pictures, refuse_preferences

    if not user_columns:
        refuse_preferences(rows)
    for role, named in user_columns.items():
        for column in (named,) if isinstance(named, str) else named:
            if column not in rows.columns:
                raise DataError(
                    f"{rows.origin} has no column {column!r}{did_you_mean(column, rows.columns)}",
                    hint=f"Its columns: {listed(rows.columns)}. Set --{role}.",
                )
    tasks = {name: task for name, task in recognised_tasks().items() if set(user_columns) <= set(role_names(task))}
    several = [role for role, named in user_columns.items() if not isinstance(named, str)]
    if several and tasks:
        tasks = {name: task for name, task in tasks.items() if _takes(task, user_columns)}
        if not tasks:
            raise StudyError(f"--{several[0]}: no task reads several columns there", hint="Name one.")
    if not tasks:
        pairs = [f"{_flags(role_names(task))} ({name})" for name, task in recognised_tasks().items()]
        raise StudyError(
            f"{_flags(user_columns)} belong to different tasks", hint=f"Give those of one: {', or '.join(pairs)}."
        )
    for name, task in tasks.items():
        if own := task(dict(user_columns)).recognise(rows):
            columns = _recognised(task, rows, {**user_columns, **own})
            refuse_doubt(task, rows, columns, user_columns, named=False)
            return name, columns, "as given" if set(user_columns) >= set(_required(task)) else BY_CONTENT
    no_number = ""
    # Of the others a column's name or what it holds says enough.
    tasks = {name: task for name, task in tasks.items() if task.roles[-1].holds} or tasks
    for name, task in tasks.items():
        try:
            columns = task(dict(user_columns)).columns(rows)
        except DataError:
            continue
        if set(user_columns) >= set(_required(task)):
            return name, columns, "as given"
        target = task.roles[-1]
        answers = filled(rows).get(columns.get(target.name, ""), [])
        if target.name not in user_columns and contradicts(target, answers):
            no_number = no_number or why_no_number(target, columns[target.name], answers)
            continue
        if target.holds != "text" or user_columns or is_written(answers):
            refuse_doubt(task, rows, columns, user_columns, named=True)
            return name, columns, "guessed from the names"
    for name, task in tasks.items():
        guesses = {**_guess_by_content(task, rows, user_columns), **user_columns}
        if set(guesses) >= set(_required(task)):
            refuse_doubt(task, rows, guesses, user_columns, named=False)
            return name, task(dict(guesses)).columns(rows), BY_CONTENT
    refuse_chat(rows)
    refuse_pictures(rows)
    missing = {name: [role for role in _required(task) if role not in user_columns] for name, task in tasks.items()}
    first_missing = next(iter(missing.values()))
    raise Undecided(
        first_missing[0],
        list(rows.columns),
        f"cannot tell which column of {rows.origin} holds the {' and the '.join(first_missing)}{no_number}",
        hint=f"Its columns: {listed(rows.columns)}. Set {' or '.join(map(_flags, missing.values()))}.",
    )


def _takes(task: type[Task], columns: dict[str, Any]) -> bool:
    """Tells whether a task's options take these columns."""
    try:
        task(dict(columns))
    except ValueError:
        return False
    return True


def _recognised(task: type[Task], rows: Rows, known: dict[str, Any]) -> dict[str, Any]:
    """Returns role -> column or columns, where cells of a kind that the task alone reads are known: the others by their
    names, or else by what they hold."""
    # A list of two texts is a text and its pair.
    options = task(dict(known)).options
    known = {role: named for role in role_names(task) if (named := getattr(options, role)) is not None}
    try:
        return {**task(dict(known)).columns(rows), **known}
    except DataError:
        guesses = {**_guess_by_content(task, rows, known), **known}
        return {**task(dict(guesses)).columns(rows), **guesses}


def role_names(task: type[Task]) -> list[str]:
    """Returns the names of a task's roles, which are also options of `init`."""
    return [role.name for role in task.roles]


def _required(task: type[Task]) -> list[str]:
    """Returns the names of the roles that a column must have."""
    return [role.name for role in task.roles if not role.optional]


def _flags(roles: Iterable[str]) -> str:
    return " and ".join(f"--{role}" for role in roles)


def _guess_by_content(task: type[Task], rows: Rows, user_columns: dict[str, Any]) -> dict[str, Any]:
    """Guesses role -> column from what columns hold that have no role yet; leaves out roles that none suits."""
    named = task(dict(user_columns)).columns_by_name(rows)
    taken = {**named, **user_columns}
    unassigned = {name: values for name, values in filled(rows).items() if name not in taken.values()}
    open_roles = [role for role in task.roles if role.name not in taken and not role.optional]
    text_roles = [role.name for role in open_roles if role.holds == "text"]
    if task.roles[-1].holds == "text":
        texts = [name for name, values in unassigned.items() if is_written(values)]
    else:
        texts = [name for name, values in unassigned.items() if mean_words(values) >= 2]
    texts.sort(key=lambda name: -mean_words(unassigned[name]))
    columns = {**named, **dict(zip(text_roles, texts, strict=False))}
    for role in open_roles:
        # The fewest different values; columns that say where a text comes from are the last choice.
        candidates = {
            name: (ABOUT.fullmatch(name.lower()) is not None, len(set(values)))
            for name, values in unassigned.items()
            if name not in columns.values()
            and ((role.holds == "class" and may_be_class(values)) or (role.holds == "number" and may_be_number(values)))
        }
        if candidates:
            columns[role.name] = min(candidates, key=lambda name: candidates[name])
    return columns


def _look_closer(
    task: type[Task], rows: Rows, named: dict[str, Any], columns: dict[str, str], answers: list[str]
) -> tuple[Counter[str], list[str]]:
    """Returns how many rows each class has, and what a run would refuse or a reader should know, from the task's own
    checks."""
    concerns, plugin = [], task(dict(named))
    classes = Counter(answers) if task.produces == "class" else Counter[str]()
    try:
        examples = plugin.examples(rows, columns, "train")
        plugin.fit({"train": examples})
        classes = classes or Counter(plugin.count_classes(examples))
    except TuneoffError as error:
        concerns.append(f"a run will refuse this data: {error.in_one_line.rstrip('.')}.")
    concerns += [finding.message for finding in plugin.findings()]
    rare_classes = [label for label, count in classes.items() if count < 5]
    if rare_classes and len(classes) > 1:
        others = f" and {len(rare_classes) - 5} more" if len(rare_classes) > 5 else ""
        concerns.append(
            f"fewer than 5 rows: {', '.join(rare_classes[:5])}{others}; too few to be in train, validation and test"
        )
    return classes, concerns
