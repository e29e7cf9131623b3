"""Documents changed at random, as damage, careless hands and attackers do: seeded, so that each comes again."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Iterator
from typing import Any

from tuneoff.checksums import content_hash

DEEP: Any = 0
for _ in range(90):
    DEEP = [DEEP]

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e308,
    -1e-320,
    math.nan,
    math.inf,
    10**30,
    2**63,
    "",
    " ",
    "..",
    "../../../etc/passwd",
    "/etc/passwd",
    "~/x",
    "a/b",
    "nul\x00byte",
    "half \ud800",
    "\x1b[31m\x1b]0;x\x07",
    "\u202eevil",
    "x" * 20_000,
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "{{7*7}} %s %n ${x} $(id) `id`",
    "!!python/object/apply:os.system",
    "2001-13-45T99:99",
    [],
    {},
    [None],
    {"": None},
    {"__class__": "x"},
    DEEP,
    ["x"] * 2_000,
)
"""What is put in the place of a value."""

BYTES = (
    b"",
    b"\x00",
    b"\xff\xfe",
    b"\x80\x04",
    b"[" * 3000,
    b"{",
    b"}",
    b'"',
    b"\n",
    b"9" * 5000,
    b"\xed\xa0\x80",
    b"PK",
)
"""What is put into a file at some place."""


def changed_bytes(data: bytes, draw: random.Random) -> bytes:
    """Changes one to four places of a file: bytes are flipped, cut out, put in or doubled, or its end is cut off."""
    for _ in range(draw.randint(1, 4)):
        at, length = draw.randrange(len(data) + 1), draw.choice((1, 1, 8, 64))
        how = draw.choice(("flip", "cut", "insert", "double", "end"))
        if how == "flip":
            data = (
                data[:at]
                + bytes(byte ^ (1 << draw.randrange(8)) for byte in data[at : at + length])
                + data[at + length :]
            )
        elif how == "cut":
            data = data[:at] + data[at + length :]
        elif how == "insert":
            data = data[:at] + draw.choice(BYTES) + data[at:]
        elif how == "double":
            data = data[:at] + data[at : at + length] * 2 + data[at + length :]
        elif draw.random() < 0.3:
            data = data[:at]
    return data


def changed_document(document: Any, draw: random.Random) -> Any:
    """Returns a copy of plain data with one to three values replaced, dropped, renamed or moved."""
    document = copy.deepcopy(document)
    for _ in range(draw.randint(1, 3)):
        places = list(_places(document))
        if not places:
            break
        parent, key = draw.choice(places)
        how = draw.choice(("replace", "replace", "drop", "rename", "move", "add"))
        if how == "replace":
            parent[key] = copy.deepcopy(draw.choice(VALUES))
        elif how == "drop":
            del parent[key]
        elif how == "move":
            other, place = draw.choice(places)
            parent[key] = copy.deepcopy(other[place]) if _has(other, place) else None
        elif isinstance(parent, dict):
            name = draw.choice([value for value in VALUES if isinstance(value, str)])
            parent[name] = parent.pop(key) if how == "rename" else copy.deepcopy(draw.choice(VALUES))
        else:
            parent.insert(key, copy.deepcopy(draw.choice(VALUES)))
    return document


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Yields every place of plain data as what holds it and the key there."""
    if isinstance(document, (dict, list)):
        for key, value in list(document.items() if isinstance(document, dict) else enumerate(document)):
            yield document, key
            yield from _places(value)


def _has(parent: Any, key: Any) -> bool:
    return key in parent if isinstance(parent, dict) else key < len(parent)


def changed_json(data: bytes, draw: random.Random) -> bytes:
    """Changes a file of JSON, or of lines of JSON; where it has a checksum it mostly gets the right one, so that what
    lies behind the check is reached."""
    if draw.random() < 0.25:
        return changed_bytes(data, draw)
    lines = data.splitlines()
    if len(lines) > 1 and lines[0].startswith(b"{") and lines[0].endswith(b"}"):
        at = draw.randrange(len(lines))
        lines[at] = _dumped(changed_document(json.loads(lines[at]), draw))
        return b"\n".join(lines) + b"\n"
    document = json.loads(data)
    changed = changed_document(document, draw)
    if isinstance(changed, dict) and isinstance(document, dict) and "sha256" in document and draw.random() < 0.9:
        body = {key: value for key, value in changed.items() if key != "sha256"}
        changed = {"sha256": content_hash(json.loads(_dumped(body))), **body}
    return _dumped(changed)


def _dumped(document: Any) -> bytes:
    return json.dumps(document).encode()
