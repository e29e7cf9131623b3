"""Cases where a data file leaves open which columns a study needs: then `init` asks, or refuses and says how to name
them."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuneoff import registry
from tuneoff.errors import DataError, shortened
from tuneoff.interfaces import is_missing

if TYPE_CHECKING:
    from tuneoff.interfaces import ColumnRole, Rows, Task

WRITTEN_WORDS = 3
"""Minimum mean number of words of a column that may hold texts; most values must differ, too."""
MOST_CLASSES = 200
MOST_NUMBERS = 20
"""Maximum number of different numbers in a column of classes, if its name does not call it a label."""
_MIN_LENGTH_RATIO = 1.5
"""Minimum ratio of mean words of the input to those of the text to write, where both are guessed."""
_SIDE_TEXT_NAMES = frozenset(
    {"title", "subject", "headline", "heading", "summary", "name", "url", "link", "author", "keywords"}
)
"""Names of columns of texts that are rarely the one that is meant."""
ABOUT = re.compile(
    r"(.*_)?(id|ids|idx|index|uid|uuid|guid|lang|language|locale|country|region|split|set|fold|partition|source|origin|"
    r"dataset|date|year|month|day|time|timestamp|author|user|username|annotator|version|license)"
)
"""Names of columns that say where a row comes from, not what it holds."""


class Undecided(DataError):
    """Several columns could have a role.

    Attributes:
        role: the role, e.g. `text`.
        choices: the columns that could have it.
    """

    def __init__(self, role: str, choices: Sequence[str], message: str, hint: str = "") -> None:
        super().__init__(message, hint or f"Name it with --{role}, one of: {', '.join(choices)}.")
        self.role, self.choices = role, tuple(choices)


def filled(rows: Rows) -> dict[str, list[str]]:
    """Returns column -> its values as text, without empty ones; leaves out columns without values, and those of lists
    and objects."""
    columns = {
        name: [str(v).strip() for v in values if not is_missing(v)]
        for name, values in rows.columns.items()
        if not any(isinstance(value, (list, tuple, dict, set)) for value in values)
    }
    return {name: values for name, values in columns.items() if values}


def mean_words(values: Sequence[str]) -> float:
    """Counts words and returns the mean over a column's values."""
    from tuneoff.tasks._words import count_words

    return statistics.fmean(map(count_words, values))


def is_written(values: Sequence[str]) -> bool:
    """Tells whether the values may be texts: several words each, and most of them different."""
    return bool(values) and mean_words(values) >= WRITTEN_WORDS and len(set(values)) > len(values) / 2


def may_be_class(values: Sequence[str]) -> bool:
    """Tells whether the values may be classes: a few values that repeat."""
    return 2 <= len(set(values)) <= max(2, min(MOST_CLASSES, len(values) // 4))


def may_be_number(values: Sequence[str]) -> bool:
    """Tells whether the values may be amounts: numbers, some with a fraction or many different ones."""
    numbers = {_number(value) for value in values}
    if None in numbers:
        return False
    return len(numbers) > MOST_NUMBERS or (len(numbers) > 1 and any(number % 1 for number in numbers if number))


def contradicts(role: ColumnRole, values: Sequence[str]) -> bool:
    """Tells whether a column that is named like a role holds something else: amounts for a class, or no amounts for a
    number."""
    if role.holds == "number":
        return not may_be_number(values)
    return role.holds == "class" and may_be_number(values) and any((_number(value) or 0) % 1 for value in values)


def why_no_number(role: ColumnRole, column: str, values: Sequence[str]) -> str:
    """Explains, to follow a message, why a column that is named like a number is not taken for one; empty where all
    its values are numbers, or most of them hold no digit."""
    others = [value for value in values if _number(value) is None]
    digits = sum(any(character.isdigit() for character in value) for value in values)
    if role.holds != "number" or not others or 2 * digits < len(values):
        return ""
    return f"; column {column!r} is named like a {role.name} and holds {shortened(others[0], 40)!r}, which is no number"


def _number_roles() -> list[tuple[str, str]]:
    """Returns the tasks that predict numbers, each with the role of their column."""
    last_roles = {name: task.roles[-1] for name, task in registry.tasks().items()}
    return [(name, role.name) for name, role in last_roles.items() if role.holds == "number"]


def refuse_doubt(
    task: type[Task], rows: Rows, columns: Mapping[str, str], user_columns: Mapping[str, str], named: bool
) -> None:
    """Checks that columns that were guessed are the only ones that could be meant.

    Args:
        task: the task that they suit.
        rows: the data.
        columns: role -> column.
        user_columns: role -> column, as far as the user named them.
        named: whether the others were guessed from their names, not from what they hold.

    Raises:
        Undecided: for the first role that several columns could have.
    """
    from tuneoff.tasks._label_sets import are_flags

    values = filled(rows)
    source, target = task.roles[0], task.roles[-1]
    if target.holds == "class" and target.name not in user_columns:
        for message in _doubts_of_class(target, values, columns, named):
            choices = [name for name in values if name != columns[source.name] and may_be_class(values[name])]
            choices = choices or [columns[target.name]]
            numbers = [name for name in choices if may_be_number(values[name])]
            hint = f"Name it with --{target.name}, one of: {', '.join(choices)}."
            flags = [name for name in choices if are_flags(values[name])]
            if len(flags) > 1:
                hint += f" If a row may have several of them, name all: --{target.name} {','.join(flags)}."
            for name, role in _number_roles() if numbers else ():
                hint += f" To predict numbers ({name}), name theirs with --{role}, as {numbers[0]}."
            raise Undecided(target.name, choices, f"{rows.origin}: {message}", hint)
    if source.holds != "text" or source.name in user_columns or columns[source.name] not in values:
        return
    texts = [
        name
        for name, cells in values.items()
        if name == columns[source.name]
        or (name not in columns.values() and is_written(cells) and name.lower() not in _SIDE_TEXT_NAMES)
    ]
    if len(texts) > 1:
        problem = f"{rows.origin}: columns {', '.join(texts)} all hold texts"
        hint = f"Name it with --{source.name}, or join them into one column first."
        second = next((role.name for role in task.roles if role.optional and role.name not in columns), None)
        if second is not None:
            flag = f"--{second.replace('_', '-')}"
            hint = f"Name the one that is meant with --{source.name}; for pairs of texts the second with {flag}."
        if target.holds == "text" and "template" in task.Options.model_fields:
            example = f'"{{{texts[-1]}}}\\n{{{source.name}}}"'
            hint = f"Name it with --{source.name}; task.template may put in others by name, e.g. {example}."
        raise Undecided(source.name, texts, problem, hint)
    if target.holds == "text" and not named and target.name not in user_columns:
        pair = columns[source.name], columns[target.name]
        lengths = [mean_words(values[column]) for column in pair]
        if lengths[0] < _MIN_LENGTH_RATIO * lengths[1]:
            message = f"{rows.origin}: columns {pair[0]} and {pair[1]} hold texts of like length; which is put in?"
            raise Undecided(source.name, pair, message, f"Name both with --{source.name} and --{target.name}.")


def _doubts_of_class(
    role: ColumnRole, values: Mapping[str, Sequence[str]], columns: Mapping[str, str], named: bool
) -> Iterator[str]:
    """Yields what speaks against the column that was chosen as the class."""
    column = columns[role.name]
    cells = values.get(column, [])
    distinct = set(cells)
    others = [name for name in values if name not in columns.values() and may_be_class(values[name])]
    numbers = [number for number in map(_number, distinct) if number is not None]
    if numbers and len(numbers) == len(distinct):
        if any(number % 1 for number in numbers):
            example = _shortest_fraction(distinct)
            yield f"column {column!r} holds numbers with a fraction, such as {example}: amounts, not classes"
        if not named and len(numbers) > MOST_NUMBERS:
            yield f"column {column!r} holds {len(numbers)} different numbers: they look like amounts, not classes"
    if not named and ABOUT.fullmatch(column.lower()):
        yield f"no column is called a {role.name}, and {column!r} tells of a text where it comes from"
    if not named and (alternatives := [name for name in others if not ABOUT.fullmatch(name.lower())]):
        yield f"columns {', '.join((column, *alternatives))} could all be the class"
    if named and column.lower() not in (role.name, f"{role.name}s"):
        label_columns = [name for name in others if name.lower() in role.guesses]
        if label_columns:
            yield f"columns {', '.join((column, *label_columns))} could all be the class"


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number and abs(number) != float("inf") else None


def _shortest_fraction(values: set[str]) -> str:
    return min((value for value in values if (number := _number(value)) is not None and number % 1), key=_shortest)


def _shortest(value: str) -> tuple[int, str]:
    return len(value), value
