"""A look at a data file: which task its columns suit, and what a study of it needs."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff import registry
from tuneoff.cli.doubts import ABOUT, Undecided, filled, is_written, may_be_class, mean_words, refuse_doubt
from tuneoff.errors import DataError, StudyError, TuneoffError, did_you_mean, listed

if TYPE_CHECKING:
    from tuneoff.interfaces import Rows, Task

TOKENS_PER_WORD = 1.4
"""Tokens per word of English text in a usual subword vocabulary; a guess, and the study file says so."""

ROLES = {"classification": ("text", "label"), "generation": ("source", "target")}
"""Tasks that can be recognised from a file, and the roles of its columns: input and output."""


@dataclass(frozen=True)
class DataInspection:
    """What a look at a data file found.

    Attributes:
        task: name of the task that its columns suit.
        columns: role -> column.
        guessed: how the columns were found, for a person.
        classes: label -> rows, most frequent first; empty for a task that writes text.
        words: words per input text: median, 95th percentile, maximum.
        target_words: the same of the texts to write; None for a task with classes.
        repeated: rows whose text stands in an earlier row too.
        concerns: what should be corrected or known before a run.
    """

    task: str
    rows: int
    all_columns: tuple[str, ...]
    columns: dict[str, str]
    guessed: str
    classes: dict[str, int]
    words: tuple[int, int, int]
    target_words: tuple[int, int, int] | None
    repeated: int
    concerns: tuple[str, ...]

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


def look(data: Path, **user_columns: str | None) -> DataInspection:
    """Reads a data file and finds what a study of it needs.

    Args:
        data: the file.
        user_columns: role (text, label, source, target) -> column, where the user names it.

    Raises:
        SourceNotFound, DataError: if it cannot be read, or its columns cannot be told apart.
        StudyError: if roles of two tasks are given.
    """
    from tuneoff.config.spec import SourceSpec
    from tuneoff.interfaces import is_missing
    from tuneoff.sources import read_rows
    from tuneoff.tasks._cells import require_plain

    rows = read_rows(registry.sources(), SourceSpec.model_validate({"source": f"file:{data}"}), "train")
    if not len(rows):
        raise DataError(f"{data} has no rows")
    task_name, columns, how_found = _find_task(
        rows, {role: column for role, column in user_columns.items() if column is not None}
    )
    require_plain(rows, columns, label="label")
    texts, answers = (
        [str(value).strip() for value in rows.columns[columns[role]] if not is_missing(value)]
        for role in ROLES[task_name]
    )
    writes_text = task_named(task_name).produces == "text"
    classes = Counter[str]() if writes_text else Counter(answers)
    return DataInspection(
        task=task_name,
        rows=len(rows),
        all_columns=tuple(rows.columns),
        columns=columns,
        guessed=how_found,
        classes=dict(classes.most_common()),
        words=_word_counts(texts),
        target_words=_word_counts(answers) if writes_text else None,
        repeated=len(texts) - len(set(texts)),
        concerns=tuple(_concerns(task_name, rows, columns, classes)),
    )


def task_named(name: str) -> type[Task]:
    """Returns a task; imports it only now."""
    from tuneoff import registry

    return registry.tasks()[name]


def _word_counts(texts: list[str]) -> tuple[int, int, int]:
    """Counts the words of each text and returns median, 95th percentile and maximum."""
    from tuneoff.tasks._words import count_words

    counts = sorted(map(count_words, texts)) or [0]
    return round(statistics.median(counts)), counts[math.ceil(0.95 * len(counts)) - 1], counts[-1]


def _find_task(rows: Rows, user_columns: dict[str, str]) -> tuple[str, dict[str, str], str]:
    """Returns the task, role -> column, and how they were found: as given, by the task's own guess from the names, or
    by content.

    Each step tries a class before a text to write.
    """
    from tuneoff.tasks._cells import refuse_chat

    for role, column in user_columns.items():
        if column not in rows.columns:
            raise DataError(
                f"{rows.origin} has no column {column!r}{did_you_mean(column, rows.columns)}",
                hint=f"Its columns: {listed(rows.columns)}. Set --{role}.",
            )
    tasks = [name for name, roles in ROLES.items() if set(user_columns) <= set(roles)]
    if not tasks:
        raise StudyError(
            f"{' and '.join('--' + role for role in user_columns)} belong to different tasks",
            hint="Give --text and --label for classes, or --source and --target for text to write.",
        )
    for name in tasks:
        try:
            columns = task_named(name)(dict(user_columns)).columns(rows)
        except DataError:
            continue
        if set(user_columns) == set(ROLES[name]):
            return name, columns, "as given"
        if task_named(name).produces == "class" or user_columns or is_written(filled(rows).get(columns["target"], [])):
            refuse_doubt(rows, columns, user_columns, named=True)
            return name, columns, "guessed from the names"
    by_content = {"classification": _text_and_class, "generation": _two_texts}
    for name in tasks:
        guesses = {**by_content[name](rows, user_columns), **user_columns}
        if set(guesses) == set(ROLES[name]):
            refuse_doubt(rows, guesses, user_columns, named=False)
            return name, task_named(name)(dict(guesses)).columns(rows), "guessed from what the columns hold: check them"
    refuse_chat(rows)
    options = " or ".join(
        " and ".join(f"--{role}" for role in ROLES[name] if role not in user_columns) for name in tasks
    )
    missing = [role for role in ROLES[tasks[0]] if role not in user_columns]
    raise Undecided(
        missing[0],
        list(rows.columns),
        f"cannot tell which column of {rows.origin} holds the {' and the '.join(missing)}",
        hint=f"Its columns: {listed(rows.columns)}. Set {options}.",
    )


def _free(rows: Rows, user_columns: dict[str, str]) -> dict[str, list[str]]:
    """Returns the values of the columns that have no role yet; leaves out columns without values."""
    return {name: values for name, values in filled(rows).items() if name not in user_columns.values()}


def _text_and_class(rows: Rows, user_columns: dict[str, str]) -> dict[str, str]:
    """Guesses the text as the column with the most words, and the class as the column with the fewest different values;
    columns that say where a text comes from are the last choice for the class."""
    unassigned = _free(rows, user_columns)
    columns = {}
    words = {name: mean_words(values) for name, values in unassigned.items()}
    if "text" not in user_columns and words and max(words.values()) >= 2:
        columns["text"] = max(words, key=lambda name: words[name])
    candidates = {
        name: values for name, values in unassigned.items() if name != columns.get("text") and may_be_class(values)
    }
    if "label" not in user_columns and candidates:
        columns["label"] = min(
            candidates, key=lambda name: (ABOUT.fullmatch(name.lower()) is not None, len(set(candidates[name])))
        )
    return columns


def _two_texts(rows: Rows, user_columns: dict[str, str]) -> dict[str, str]:
    """Guesses the column with the most words as the input, and the next one as the text to write."""
    unassigned = _free(rows, user_columns)
    candidates = sorted(
        (name for name in unassigned if is_written(unassigned[name])), key=lambda name: -mean_words(unassigned[name])
    )
    return dict(zip((role for role in ROLES["generation"] if role not in user_columns), candidates, strict=False))


def _concerns(task_name: str, rows: Rows, columns: dict[str, str], classes: Counter[str]) -> list[str]:
    """Lists what a run would refuse or a reader should know, from the task's own checks."""
    concerns = []
    task = task_named(task_name)(dict(columns))
    try:
        task.settle({"train": task.examples(rows, columns, "train")})
    except TuneoffError as error:
        concerns.append(f"a run will refuse this data: {error.message.rstrip('.')}. {error.hint}".strip())
    concerns += [finding.message for finding in task.findings()]
    rare_classes = [label for label, count in classes.items() if count < 5]
    if rare_classes and len(classes) > 1:
        others = f" and {len(rare_classes) - 5} more" if len(rare_classes) > 5 else ""
        concerns.append(
            f"fewer than 5 rows: {', '.join(rare_classes[:5])}{others}; too few to be in train, validation and test"
        )
    return concerns
