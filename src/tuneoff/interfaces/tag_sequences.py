"""Tags of words as targets and predictions hold them: one text, with a space between tags."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

OUTSIDE = "O"
"""The tag of a word that is part of no entity."""
_PREFIXES = ("B", "I", "E", "S", "L", "U")


class Entity(NamedTuple):
    """A run of words that are one entity, from `start` up to and without `end`."""

    kind: str
    start: int
    end: int


def write_tags(tags: Sequence[str]) -> str:
    """Returns tags as one text."""
    return " ".join(tags)


def split_tag(tag: str) -> tuple[str, str]:
    """Returns a tag's prefix and kind: `B` and `person` of `B-person`; a tag without a prefix is inside of its kind."""
    prefix, dash, kind = tag.partition("-")
    if dash and prefix in _PREFIXES:
        return {"L": "E", "U": "S"}.get(prefix, prefix), kind
    return ("O", "") if tag == OUTSIDE else ("I", tag)


@lru_cache(maxsize=100_000)
def read_entities(text: str) -> tuple[Entity, ...]:
    """Returns the entities of a text of tags in the schemes IO, IOB1, BIO, BIOES and BILOU.

    As conlleval and seqeval read them: an entity begins at B or S, after O, E or S, and where the kind changes, so that
    I without a B begins one too.
    """
    entities: list[Entity] = []
    before = ("O", "")
    for place, tag in enumerate(text.split()):
        prefix, kind = split_tag(tag)
        if prefix != "O":
            begins = prefix in "BS" or before[0] in "OES" or before[1] != kind
            start = place if begins else entities.pop().start
            entities.append(Entity(kind, start, place + 1))
        before = (prefix, kind)
    return tuple(entities)
