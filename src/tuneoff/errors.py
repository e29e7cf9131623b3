"""Every error tuneoff raises on purpose, drawn as a tree.

    TuneoffError
    ├── StudyError            the study asks for something that cannot be (all problems at once)
    ├── SourceError           rows or weights cannot be had
    │   ├── SourceNotFound        no such alias, file, split or column
    │   ├── SourceUnreachable     the network or the hub does not answer
    │   ├── ChecksumMismatch      what arrived is not what was pinned
    │   └── ContentChanged        rows or weights are not those that the trial was planned with
    ├── DataError             rows were read but cannot be used
    ├── UnsupportedModel      this method or task cannot take this model
    ├── StoreError            a study folder cannot be read or written
    │   ├── CorruptRecord         a record does not match its checksum
    │   └── RecordExists          a finished trial's record is immutable
    ├── ExecutorError         trials cannot be started here
    └── TrialError            a trial ended early
        ├── OutOfMemory
        ├── Diverged
        ├── Cancelled
        ├── EndpointError         a model that others run gives no usable answer
        └── CannotTrainTogether   several trials cannot share a process and a base model; alone each can be trained

An error has one message that says what is wrong and, where one is known, a hint that says what to do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from tuneoff.synonyms import HERE

ALIKE = 0.75
"""Minimum similarity (`difflib`) of a misspelt word and the word meant: one letter of four may differ, not two of
five."""


class TuneoffError(Exception):
    """Base of all errors a user can cause or meet.

    Args:
        message: what is wrong, in one or two sentences.
        hint: what to do about it; shown on a line of its own.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = without_passwords(message)
        self.hint = without_passwords(hint)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    @property
    def in_one_line(self) -> str:
        """Message and hint as sentences of a longer text."""
        return f"{self.message.rstrip('.')}. {self.hint}" if self.hint else self.message


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a study: where (dotted key, line of the file if any) and what."""

    where: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where, message = shortened(self.where), shortened(self.message, MAX_MESSAGE)
        location = ", ".join(part for part in (f"line {self.line}" if self.line else "", where) if part)
        return f"{location}: {message}" if location else message


MAX_MESSAGE = 2_000
"""Characters that are shown of what is wrong with one key, which may quote what stands there."""


def without_passwords(text: str) -> str:
    """Returns a text whose addresses (`https://user:password@host/`) name no user and no password."""
    # One slash is what a path makes of two.
    return re.sub(r"(:/{1,2})[^/\s@'\"]+:[^/\s@'\"]+@", r"\1…@", text)


def shortened(text: str, most: int = 200) -> str:
    """Returns a text, or its beginning and its length where it is longer than that many characters."""
    return text if len(text) <= most else f"{text[: most * 4 // 5]}… ({len(text)} characters)"


MAX_PROBLEMS = 30
"""Problems that one message lists; it counts the others."""


class StudyError(TuneoffError):
    """The study cannot be run as written; `problems` lists every reason found."""

    def __init__(self, problems: Iterable[Problem] | str, hint: str = "", origin: str = "") -> None:
        self.problems = (Problem("", problems),) if isinstance(problems, str) else tuple(problems)
        if len(self.problems) == 1:
            text = f"{origin}: {self.problems[0]}" if origin else str(self.problems[0])
        else:
            head = f"{origin or 'the study'} has {len(self.problems)} problems:"
            lines = [f"  - {problem}" for problem in self.problems[:MAX_PROBLEMS]]
            rest = [f"  … and {len(self.problems) - len(lines)} more"] if len(self.problems) > len(lines) else []
            text = "\n".join([head, *lines, *rest])
        super().__init__(text, hint)


class SourceError(TuneoffError):
    """Rows or weights cannot be had."""


class SourceNotFound(SourceError):
    """No such alias, file, split or column."""


class SourceUnreachable(SourceError):
    """The network, the package index or the hub does not answer."""


class ChecksumMismatch(SourceError):
    """What arrived is not what was pinned."""


class ContentChanged(SourceError):
    """Rows or weights are not those that the trial was planned with."""


class DataError(TuneoffError):
    """Rows were read but cannot be used."""


class UnsupportedModel(TuneoffError):
    """This method or task cannot take this model."""


class StoreError(TuneoffError):
    """A study folder cannot be read or written."""


class CorruptRecord(StoreError):
    """A record does not match its checksum."""


class RecordExists(StoreError):
    """A finished trial's record is immutable."""


class ExecutorError(TuneoffError):
    """Trials cannot be started here."""


class TrialError(TuneoffError):
    """A trial ended early."""


class OutOfMemory(TrialError):
    """The device or the machine had no memory left."""


class Diverged(TrialError):
    """The loss or the gradients stopped being finite."""


class Cancelled(TrialError):
    """The user or the system asked the trial to stop."""


class EndpointError(TrialError):
    """A model that others run, and that is asked over a network, gives no usable answer."""


class CannotTrainTogether(TrialError):
    """Several trials cannot share a process and a base model; alone each can be trained."""


def first_line(error: BaseException, limit: int | None = None) -> str:
    """Returns the first line of an error's message, of at most `limit` characters; where it has none, its type."""
    text = without_passwords(str(error).strip())
    return text.splitlines()[0][:limit] if text else type(error).__name__


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns `" (did you mean 'lora'?)"` for the known word that is meant, or an empty string."""
    suggestion = nearest(word, known)
    return "" if suggestion is None else f" (did you mean {suggestion!r}?)"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Returns the known word that is meant: the name used here for a word of other tools, the same word misspelt, or
    the same with parts left out or cut short. None where no word is near enough: a wrong suggestion would be worse than
    none."""
    names = {_plain(name): name for name in known}
    typed = _plain(word)
    matches = [name for name in (typed, *HERE.get(typed, ())) if name in names]
    if matches:
        return names[matches[0]]
    similarity = {name: difflib.SequenceMatcher(None, typed, name).ratio() for name in names}
    misspelt = [
        name
        for name in names
        if similarity[name] >= ALIKE or sorted(name) == sorted(typed) or _undoubled(name) == _undoubled(typed)
    ]
    if misspelt:
        return names[max(misspelt, key=lambda name: similarity[name])]
    shortened = [name for name in names if _parts_begin(typed, name, 3) or _parts_begin(name, typed, 4)]
    # With several candidates, none is certain.
    return names[shortened[0]] if len(shortened) == 1 else None


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _undoubled(word: str) -> str:
    """Writes every doubled letter of a word once."""
    return re.sub(r"(.)\1", r"\1", word)


def _parts_begin(shorter: str, longer: str, min_length: int) -> bool:
    """Tells whether each part of a name has at least `min_length` letters and begins one of the other's parts, in
    order: `max_len` and `max_length`, `epochs` and `num_epochs`."""
    parts = iter(longer.split("_"))
    return all(
        len(part) >= min_length and any(other.startswith(part) for other in parts) for part in shorter.split("_")
    )


def by_name(name: str) -> type[TuneoffError]:
    """Returns the error class called `name`, or `TuneoffError`; used to rebuild a child process's error."""
    pending: list[type[TuneoffError]] = [TuneoffError]
    while pending:
        kind = pending.pop()
        if kind.__name__ == name and kind is not StudyError:
            return kind
        pending.extend(kind.__subclasses__())
    return TuneoffError


MAX_LISTED = 30
"""Names that a message lists; it counts the others."""


def listed(names: Iterable[str]) -> str:
    """Lists names with commas between, the first ones of many."""
    all_names = list(names)
    shown = ", ".join(all_names[:MAX_LISTED])
    return f"{shown}, … ({len(all_names)} in all)" if len(all_names) > MAX_LISTED else shown
