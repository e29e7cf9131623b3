"""Words and their tags: read from cells, and scored."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuneoff.interfaces import OUTSIDE, Outputs, is_missing, read_entities
from tuneoff.tasks._cells import nearly_all
from tuneoff.tasks._literals import BrokenList, parse_literal
from tuneoff.tasks._words import word_spans

Array = NDArray[np.float64]
SPACED_WORD = r"\S+"
"""A word of a text whose tags have spaces between them."""
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_LABEL_KEYS = ("label", "type", "entity", "tag", "category", "entity_group", "class", "labels")


class TaggedWords(NamedTuple):
    """A text, where its words stand, and their tags; `widened` counts entities that began or ended within a word."""

    text: str
    spans: tuple[tuple[int, int], ...]
    tags: tuple[str, ...]
    widened: int


def _items(cell: Any) -> list[Any] | None:
    """Returns the items of a list, also of one that is written out; None for what is none.

    Raises:
        ValueError: for a written list that cannot be read.
    """
    value = parse_literal(cell)
    if isinstance(value, BrokenList):
        raise ValueError(f"the list {str(value)[:40]} cannot be read: {value.reason}")
    if isinstance(value, str | Mapping | bytes | Real) or not isinstance(value, Iterable):
        return None
    return list(value)


def tagged(text: Any, tags: Any, names: Sequence[str] | None, at_spaces: bool = False) -> TaggedWords:
    """Reads a row.

    Args:
        text: a list of words, or a text.
        tags: a tag for each word, as a list or with spaces between them; or entities.
        names: of tags that are numbers; None leaves numbers as they are.
        at_spaces: split a text with entities at spaces, as one with a tag for each word is.

    Raises:
        ValueError: says what does not fit together.
    """
    words, own = _items(text), _items(tags)
    entities = [_entity(item) for item in own] if own is not None and not _are_tags(own) else None
    if own is not None and not own:
        entities = []
    if words is not None:
        joined = [str(word).replace(" ", "\u00a0") for word in words]
        if not all(word.strip() for word in joined):
            raise ValueError(f"word {next(i for i, word in enumerate(joined, 1) if not word.strip())} is empty")
        spans = _spans_of(joined)
        whole = " ".join(joined)
    elif not isinstance(text, str):
        raise ValueError(f"neither words nor a text: {str(text)[:40]!r}")
    else:
        whole = text
        spans = _spans_of_spaced(text) if at_spaces or entities is None else word_spans(text)
    if not spans:
        raise ValueError("there is no word")
    if entities is not None:
        places = entities if words is not None else _words_of(entities, spans, whole)
        return TaggedWords(whole, spans, _tags_of(places, len(spans)), _count_widened(entities, spans, words is None))
    found = own if own is not None else str(tags).split()
    if len(found) != len(spans):
        raise ValueError(f"{len(spans)} words and {len(found)} tags")
    return TaggedWords(whole, spans, tuple(_tag(tag, names) for tag in found), 0)


def is_spaced(text: Any, tags: Any) -> bool:
    """Tells whether a row is a text, and has a tag for each of its words between spaces."""
    try:
        is_list, own = _items(text) is not None, _items(tags)
    except ValueError:
        return False
    return not is_list and (own is None or (bool(own) and _are_tags(own)))


def _are_tags(items: Sequence[Any]) -> bool:
    return all(isinstance(item, str | Real) for item in items)


def _tag(tag: Any, names: Sequence[str] | None) -> str:
    whole = isinstance(tag, Real) and tag % 1 == 0
    text = str(int(tag) if whole else tag).strip()
    if names is not None and text not in names and _WHOLE.fullmatch(text):
        if not names:
            raise ValueError(f"tag {text} is a number without a name; task.labels names the tags, that of 0 first")
        if not 0 <= int(text) < len(names):
            raise ValueError(f"tag {text} is not among the {len(names)} tags, which are counted from 0")
        return str(names[int(text)])
    if not text or len(text.split()) > 1:
        raise ValueError(f"a tag is {text!r}; it must be one word")
    return text


def _entity(item: Any) -> tuple[int, int, str]:
    """Returns start, end and label of an entity: an object, or a list of the three."""
    if isinstance(item, Mapping):
        label = next((item[key] for key in _LABEL_KEYS if item.get(key) is not None), None)
        label = label[0] if isinstance(label, list) and len(label) == 1 else label
        start, end = item.get("start"), item.get("end")
    elif isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 3:
        start, end, label = item
    else:
        start = end = label = None
    places: list[Any] = [place for place in (start, end) if isinstance(place, Real) and place % 1 == 0]
    if label is None or len(places) != 2 or not 0 <= places[0] < places[1]:
        raise ValueError(f"an entity is {str(item)[:60]}, without whole numbers start < end and a label")
    return int(places[0]), int(places[1]), "_".join(str(label).split())


def _spans_of(words: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Returns where words stand that are joined by one space."""
    spans, start = [], 0
    for word in words:
        spans.append((start, start + len(word)))
        start += len(word) + 1
    return tuple(spans)


def _spans_of_spaced(text: str) -> tuple[tuple[int, int], ...]:
    return tuple(found.span() for found in re.finditer(SPACED_WORD, text))


def _words_of(
    entities: Sequence[tuple[int, int, str]], spans: Sequence[tuple[int, int]], text: str
) -> list[tuple[int, int, str]]:
    """Returns entities counted in characters as entities counted in words: all words that they touch."""
    counted = []
    touched = touching(spans, [(start, end) for start, end, _ in entities])
    for (start, end, label), own in zip(entities, touched, strict=True):
        if not own or end > len(text):
            raise ValueError(f"entity {start} to {end} ({label}) holds no word of the text's {len(text)} characters")
        counted.append((own.start, own.stop, label))
    return counted


def touching(parts: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[range]:
    """Returns for each span, start and end, which of the parts of a text it touches; those are in their order."""
    starts, ends = [start for start, _ in parts], [end for _, end in parts]
    return [range(bisect_right(ends, start), bisect_left(starts, end)) for start, end in spans]


def _count_widened(entities: Sequence[tuple[int, int, str]], spans: Sequence[tuple[int, int]], characters: bool) -> int:
    if not characters:
        return 0
    inside = {place for first, last in spans for place in range(first + 1, last)}
    return sum(start in inside or end in inside for start, end, _ in entities)


def _tags_of(entities: Sequence[tuple[int, int, str]], count: int) -> tuple[str, ...]:
    """Returns BIO tags; of entities that overlap the longest counts."""
    tags = [OUTSIDE] * count
    for start, end, label in sorted(entities, key=lambda entity: entity[0] - entity[1]):
        if end > count:
            raise ValueError(f"entity {start} to {end} ({label}) ends after the last of {count} words")
        if tags[start:end] == [OUTSIDE] * (end - start):
            tags[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
    return tuple(tags)


def holds_words(texts: Sequence[Any], tags: Sequence[Any]) -> bool:
    """Tells whether two columns hold words and a tag for each, or texts and entities.

    Of lists nearly all rows must fit, of tags with spaces between them all: classes of several words are texts, too.
    """
    pairs = [pair for pair in zip(texts, tags, strict=True) if not any(map(is_missing, pair))]
    found = [_read_pair(*pair) for pair in pairs]
    read = [row for row in found if row is not None]
    if not nearly_all([row is not None for row in found]):
        read = [row for pair in pairs if (row := _read_spaced(*pair)) is not None]
        if len(read) < len(pairs) or not any(len(row.tags) > 1 for row in read):
            return False
    return len({tag for row in read for tag in row.tags}) < sum(len(row.tags) for row in read) / 2


def _read_pair(text: Any, tags: Any) -> TaggedWords | None:
    """Reads a row of words and a tag for each, or of a text and entities; None where it is neither."""
    try:
        words, own = _items(text), _items(tags)
        if own is None or (words is None and own and _are_tags(own)):
            return None
        return tagged(text, tags, None)
    except ValueError:
        return None


def _read_spaced(text: Any, tags: Any) -> TaggedWords | None:
    """Reads a row of a text and a text of tags, with spaces between them; None where it is none."""
    try:
        return tagged(text, tags, None) if _items(text) is None and _items(tags) is None else None
    except ValueError:
        return None


# --- metrics


def entity_counts(outputs: Outputs) -> Array:
    """Returns how many entities of each kind are right, true and said in each example, shape (examples, 3 · kinds).

    An entity is right where kind, beginning and end are.
    """
    true, said = ([set(read_entities(text)) for text in texts] for texts in (outputs.targets, outputs.outputs))
    kinds = sorted({entity.kind for sets in (true, said) for own in sets for entity in own})
    number = {kind: i for i, kind in enumerate(kinds)}
    counts = np.zeros((len(true), 3, max(len(kinds), 1)))
    for row, (target, output) in enumerate(zip(true, said, strict=True)):
        for part, entities in enumerate((target & output, target, output)):
            for entity in entities:
                counts[row, part, number[entity.kind]] += 1
    return counts.reshape(len(true), -1)


def right_words(outputs: Outputs) -> Array:
    """Returns how many words of each example have the right tag, and how many there are, shape (examples, 2)."""
    pairs = [(t.split(), o.split()) for t, o in zip(outputs.targets, outputs.outputs, strict=True)]
    counts = [(sum(map(str.__eq__, target, output)), len(target)) for target, output in pairs]
    return np.array(counts, dtype=np.float64)


def share(sums: Array) -> float:
    """Computes a share from the sums of parts and wholes."""
    return float(sums[0] / sums[1])


def nats_and_words(outputs: Outputs) -> Any:
    """Returns nats and labelled words of each example, shape (examples, 2); None where they were not counted."""
    if None in outputs.losses or not any(count or 0 for count in outputs.target_tokens):
        return None
    return np.array([outputs.losses, outputs.target_tokens], dtype=np.float64).T


def nats_per_word(sums: Array) -> float:
    """Computes the mean loss of a word from the sums of `nats_and_words`."""
    return float(sums[0] / max(sums[1], 1))
