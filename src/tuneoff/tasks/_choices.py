"""Options to choose from and answers, in the shapes that files hold them: cells, and the columns that they stand in."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tuneoff.errors import DataError
from tuneoff.interfaces import Rows, is_missing, letter_of
from tuneoff.tasks._cells import lower_names, nearly_all
from tuneoff.tasks._literals import BrokenList, parse_literal

CHOICES_NAMES = ("choices", "options", "endings", "candidates", "alternatives", "mc_options")
_STEMS = (
    "ending",
    "choice",
    "option",
    "opt",
    "op",
    "sol",
    "answer",
    "alternative",
    "candidate",
    "hypothesis",
    "hyp",
    "",
)
"""What columns are called that hold an option each, without the number or letter at their end."""
_TEXT_KEYS, _LABEL_KEYS = ("text", "texts", "choice"), ("label", "labels", "key")
_FEWEST, _MOST = 2, 100


class RowOptions(NamedTuple):
    """The options of a row.

    Attributes:
        texts: at least two.
        labels: what the data calls each, as `A`; empty where it does not say.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()


Reading = Callable[[str, RowOptions], "int | None"]
"""Finds the number of the option that an answer names, from 0; None where it names none."""


def _by_label(answer: str, options: RowOptions) -> int | None:
    return options.labels.index(answer) if options.labels.count(answer) == 1 else None


def _by_number(first: int) -> Reading:
    def read(answer: str, options: RowOptions) -> int | None:
        number = int(answer) - first if re.fullmatch(r"\d{1,3}", answer) else -1
        return number if 0 <= number < len(options.texts) else None

    return read


def _by_letter(answer: str, options: RowOptions) -> int | None:
    found = re.fullmatch(r"\(?([A-Za-z])[.):]?", answer)
    number = ord(found[1].upper()) - ord("A") if found else -1
    return number if 0 <= number < len(options.texts) else None


def _by_text(answer: str, options: RowOptions) -> int | None:
    return options.texts.index(answer) if options.texts.count(answer) == 1 else None


READINGS: Mapping[str, Reading] = {
    "label": _by_label,
    "number": _by_number(0),
    "number_from_1": _by_number(1),
    "letter": _by_letter,
    "text": _by_text,
}
"""How an answer may name its option."""


def read_answers(rows: Rows, column: str, options: Sequence[RowOptions], reading: str) -> tuple[list[int], str]:
    """Returns the number of each row's right option, from 0, and how its column was read.

    Args:
        rows: the table.
        column: holds the answers.
        options: of each row.
        reading: a name of `READINGS`; `auto`: the only one by which every row names an option. Labels that the data
            itself gives the options go before the others.

    Raises:
        DataError: for an answer that names no option, or where several readings would give different options.
    """
    answers = [_answer_text(cell) for cell in rows.columns[column]]
    names = [reading] if reading != "auto" else [*READINGS]
    numbers = {name: _read_all(answers, options, name) for name in names}
    whole = {name: [n for n in found if n is not None] for name, found in numbers.items() if None not in found}
    if "label" in whole:
        return whole["label"], "label"
    if not whole:
        best = max(names, key=lambda name: len(answers) - numbers[name].count(None))
        index = numbers[best].index(None)
        raise DataError(
            f"{rows.place(index)}: the answer {answers[index][:60]!r} in column {column!r} is none of the row's "
            f"{len(options[index].texts)} options",
            hint="An answer is the number of an option, its letter, its label or its text, the same in all rows "
            "(task.answer_is says which); hidden test answers are often -1.",
        )
    first, *others = whole
    other = next((name for name in others if whole[name] != whole[first]), None)
    if other is not None:
        index = next(i for i, pair in enumerate(zip(whole[first], whole[other], strict=True)) if pair[0] != pair[1])
        chosen = [f"{letter_of(whole[name][index])} ({name})" for name in (first, other)]
        raise DataError(
            f"{rows.place(index)}: the answer {answers[index][:60]!r} in column {column!r} may mean option "
            f"{' or '.join(chosen)}, and no row tells which",
            hint=f"Set task.answer_is to {first} or {other}.",
        )
    return whole[first], first


def name_options(cells: Sequence[Any], options: Sequence[RowOptions]) -> bool:
    """Tells whether some reading of the answers gives every row an option."""
    answers = list(map(_answer_text, cells))
    return any(None not in _read_all(answers, options, name) for name in READINGS)


def _read_all(answers: Sequence[str], options: Sequence[RowOptions], reading: str) -> list[int | None]:
    return [READINGS[reading](answer, own) for answer, own in zip(answers, options, strict=True)]


def _answer_text(cell: Any) -> str:
    return str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell).strip()


# --- cells


def read_options(cell: Any) -> RowOptions | None:
    """Reads the options of a cell: a list of texts, a list of objects with text and label, an object that holds both
    as lists or a text for each label. None where it holds none of these, or fewer than two options."""
    value = parse_literal(cell)
    if isinstance(value, Mapping):
        options = _of_object(value)
    elif isinstance(value, BrokenList) or not _is_list(value):
        return None
    elif value and all(isinstance(item, Mapping) for item in value):
        options = _of_objects(value)
    else:
        options = _options(value, ())
    return options


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or hasattr(value, "__array__")


def _of_object(value: Mapping[str, Any]) -> RowOptions | None:
    texts = next((value[key] for key in _TEXT_KEYS if _is_list(value.get(key))), None)
    labels = next((value[key] for key in _LABEL_KEYS if _is_list(value.get(key))), ())
    if texts is not None:
        return _options(texts, labels)
    # Tables in columns fill in every key of any row.
    pairs = {str(key): text for key, text in value.items() if text is not None}
    return _options([*pairs.values()], [*pairs])


def _of_objects(items: Sequence[Mapping[str, Any]]) -> RowOptions | None:
    text = next((key for key in _TEXT_KEYS if all(key in item for item in items)), None)
    label = next((key for key in _LABEL_KEYS if all(key in item for item in items)), None)
    if text is None:
        return None
    return _options([item[text] for item in items], [item[label] for item in items] if label else ())


def _options(texts: Sequence[Any], labels: Sequence[Any]) -> RowOptions | None:
    """Returns the options; None for what is no text, or too few or many."""
    values, names = list(texts), [str(label).strip() for label in labels]
    is_plain = all(isinstance(value, (str, int, float)) and not is_missing(value) for value in values)
    if not is_plain or not _FEWEST <= len(values) <= _MOST:
        return None
    return RowOptions(tuple(str(value).strip() for value in values), tuple(names) if len(names) == len(values) else ())


# --- columns


def option_columns(rows: Rows) -> tuple[str, ...]:
    """Returns the columns that hold an option each, by their names: `ending0` to `ending3`, `option_a`, `sol1`, or `A`
    to `D`; empty where there are no such. None may be left out between them."""
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for name in rows.columns:
        found = re.fullmatch(r"(.*?)[ _-]?([0-9]|[a-h])", name.strip().lower())
        if found and found[1] in _STEMS:
            groups[found[1]][found[2]] = name
    for stem in _STEMS:
        for order in ("0123456789", "123456789", "abcdefgh"):
            marks = [mark for mark in order if mark in groups[stem]]
            if len(marks) >= _FEWEST and marks == [*order[: len(marks)]]:
                return tuple(groups[stem][mark] for mark in marks)
    return ()


def choices_column(rows: Rows) -> str | None:
    """Returns the column whose cells hold options, by its name; None where there is none."""
    lower = lower_names(rows)
    for name in CHOICES_NAMES:
        # A part of an object too: `question.choices`.
        for own in (lower.get(name), *(column for key, column in lower.items() if key.endswith(f".{name}"))):
            if own is not None and _holds_options(rows.columns[own]):
                return own
    return None


def _holds_options(cells: Sequence[Any]) -> bool:
    filled = [cell for cell in cells if not is_missing(cell)]
    return nearly_all([read_options(cell) is not None for cell in filled])
