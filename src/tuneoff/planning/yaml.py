"""Reads YAML as plain data with the line of every key.

Read by the rules of YAML 1.2 where they matter here: `1e-4` is a number, `no` is a word, `010` is ten and `1:30` is a
word. Only plain values are read: no tags but those of the core schema, every key once, nothing larger or deeper than a
study can be.

PyYAML parses and this builds, because no library does all of it: ruamel.yaml reads `1_000` as a thousand, `0b11` as
three and `!!set` and `!!binary` as data, and limits neither values behind aliases nor depth.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml

from tuneoff.errors import Problem, StudyError

Lines = dict[str, int]
"""Dotted key -> line of the file."""

MAX_CHARACTERS = 2**20
"""Length of the longest text read: a study of a thousand arms takes a tenth of it."""
MAX_VALUES = 100_000
"""Number of values of a text, each alias (`*name`) counted with all that it stands for."""
MAX_DEPTH = 40
"""Number of lists and mappings inside one another."""
MAX_DIGITS = 300
"""Digits of the longest whole number: all that a float can hold."""

_CORE = "tag:yaml.org,2002:"
_INT = re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars by the core schema of YAML 1.2."""


_Loader.yaml_implicit_resolvers = {}
for _name, _rule, _first in (
    ("null", _NULL, ["~", "n", "N", ""]),
    ("bool", _BOOL, list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("merge", re.compile(r"^<<$"), ["<"]),
):
    _Loader.add_implicit_resolver(f"{_CORE}{_name}", _rule, _first)


def _to_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits is too large")
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text if base == 10 else text[2:], base)


def _to_float(text: str) -> float:
    return float(text.replace(".inf", "inf").replace(".nan", "nan") if text.lower()[-4:] in {".inf", ".nan"} else text)


_SCALARS: dict[str, tuple[re.Pattern[str], Callable[[str], Any]]] = {
    "null": (_NULL, lambda _: None),
    "bool": (_BOOL, lambda text: text.lower() == "true"),
    "int": (_INT, _to_int),
    "float": (_FLOAT, lambda text: _to_float(text.lower())),
    "str": (re.compile(r"", re.DOTALL), str),
}
"""Core tag -> what such a scalar looks like, and how it is read."""


def read_yaml(text: str, origin: str = "") -> tuple[Any, Lines]:
    """Parses YAML; returns the data and the line of every dotted key.

    Raises:
        StudyError: for text that is not YAML, is too large or too deep, holds a key twice, or has a tag beyond plain
            values.
    """
    if len(text) > MAX_CHARACTERS:
        raise StudyError(
            f"holds {len(text):,} characters; a study has at most {MAX_CHARACTERS:,}", origin=origin, hint=_IS_DATA
        )
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise StudyError([Problem("", f"not valid YAML: {error.problem}", line)], origin=origin) from None
    except yaml.YAMLError as error:
        raise StudyError(f"not valid YAML: {error}", origin=origin) from None
    except RecursionError:
        raise StudyError(f"not valid here: {_TOO_DEEP}", origin=origin) from None
    except (ValueError, OverflowError) as error:  # an escape such as "\UFFFFFFFF", a version such as %YAML 1.x
        raise StudyError(f"not valid YAML: {error}", origin=origin) from None
    builder = _Builder()
    data = None if node is None else builder.build(node, "", 0)
    if builder.problems:
        raise StudyError(builder.problems, origin=origin)
    return data, builder.lines


_TOO_DEEP = f"lists and mappings stand more than {MAX_DEPTH} deep inside one another"
_IS_DATA = "Rows of data stand in a file of their own: `tuneoff init FILE` looks at one and writes a study."


class _Builder:
    """Builds plain data from parsed YAML.

    Attributes:
        lines: dotted key -> line of the file.
        problems: all problems, each with its line.
    """

    def __init__(self) -> None:
        self.lines: Lines = {}
        self.problems: list[Problem] = []
        self._values = 0
        self._open: list[yaml.Node] = []

    def build(self, node: yaml.Node, path: str, depth: int) -> Any:
        """Returns the value of a node; None where there is a problem with it."""
        self._values += 1
        if self._values > MAX_VALUES:
            if self._values == MAX_VALUES + 1:
                self._refuse(node, path, f"holds more than {MAX_VALUES:,} values, each alias counted in full")
            return None
        if depth > MAX_DEPTH:
            return self._refuse(node, path, _TOO_DEEP)
        if any(node is outer for outer in self._open):
            return self._refuse(node, path, "an alias (`*name`) stands inside what it names")
        kind = node.tag.removeprefix(_CORE)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, kind, path)
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode) and kind == "map":
                return self._mapping(node, path, depth)
            if isinstance(node, yaml.SequenceNode) and kind == "seq":
                return self._sequence(node, path, depth)
        finally:
            self._open.pop()
        return self._refuse_tag(node, path)

    def _scalar(self, node: yaml.ScalarNode, kind: str, path: str) -> Any:
        rule, read = _SCALARS.get(kind, (None, None))
        if kind == "merge":
            return str(node.value)
        if rule is None or read is None:
            return self._refuse_tag(node, path)
        if not rule.match(node.value):
            return self._refuse(node, path, f"{_short(node.value)} is no {kind}")
        try:
            return read(node.value)
        except ValueError as error:
            return self._refuse(node, path, str(error))

    def _sequence(self, node: yaml.SequenceNode, path: str, depth: int) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            if self._values > MAX_VALUES:
                break
            item_path = f"{path}.{index}"
            self.lines[item_path] = item.start_mark.line + 1
            items.append(self.build(item, item_path, depth + 1))
        return items

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[Any, Any]:
        entries: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        first_lines: Lines = {}
        for key, value in node.value:
            if self._values > MAX_VALUES:
                break
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(key, path, "a key is a word, not a list or a mapping")
                continue
            key_path = f"{path}.{key.value}" if path else str(key.value)
            line = key.start_mark.line + 1
            if key.value in first_lines:
                self.problems.append(Problem(key_path, f"stands twice (first on line {first_lines[key.value]})", line))
            first_lines[key.value] = self.lines[key_path] = line
            if key.tag == f"{_CORE}merge":
                merged = self._merged(value, path, key_path, depth)
            else:
                name = self._scalar(key, key.tag.removeprefix(_CORE), key_path)
                entries[name] = self.build(value, key_path, depth + 1)
        return {**merged, **entries}

    def _merged(self, node: yaml.Node, path: str, key_path: str, depth: int) -> dict[Any, Any]:
        """Returns what stands below a merge key (`<<`): a mapping, or several merged into one, of which the first has
        priority."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not all(isinstance(part, yaml.MappingNode) for part in parts):
            self._refuse(node, key_path, "what stands here is merged into its mapping, so it must be a mapping")
            return {}
        merged: dict[Any, Any] = {}
        for part in parts:
            merged = {**self.build(part, path, depth + 1), **merged}
        return merged

    def _refuse_tag(self, node: yaml.Node, path: str) -> None:
        tag = node.tag.replace(_CORE, "!!")
        self._refuse(node, path, f"the tag {_short(tag)} is not read here: write a plain text, number, list or mapping")

    def _refuse(self, node: yaml.Node, path: str, message: str) -> None:
        self.problems.append(Problem(path, message, node.start_mark.line + 1))


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
