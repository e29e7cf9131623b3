"""YAML with the line of every key, read by its 1.2 rules where they matter here: `1e-4` is a number, `no` is a word,
and a key may not stand twice.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from tuneoff.errors import Problem, StudyError

Lines = dict[str, int]
"""Dotted key -> line of the file."""


class _Loader(yaml.SafeLoader):
    """YAML with the 1.2 core rules for booleans and floats."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if not tag.endswith((":bool", ":float", ":timestamp"))]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.nan$"),
    list("-+.0123456789"),
)


def read_yaml(text: str, origin: str = "") -> tuple[Any, Lines]:
    """Parses YAML; returns the data and the line of every dotted key.

    Raises:
        StudyError: for text that is not YAML or that holds a key twice.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        data = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise StudyError([Problem("", f"not valid YAML: {error.problem}", line)], origin=origin) from None
    except yaml.YAMLError as error:
        raise StudyError(f"not valid YAML: {error}", origin=origin) from None
    lines: Lines = {}
    twice: list[Problem] = []
    try:
        _walk(node, "", lines, twice)
    except RecursionError:
        raise StudyError("an alias (`*name`) stands inside what it names", origin=origin) from None
    if twice:
        raise StudyError(twice, origin=origin)
    return data, lines


def _walk(node: Any, path: str, lines: Lines, twice: list[Problem]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{path}.{key.value}" if path else str(key.value)
            line = key.start_mark.line + 1
            if name in lines:
                twice.append(Problem(name, f"stands twice (first on line {lines[name]})", line))
            lines[name] = line
            _walk(value, name, lines, twice)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            name = f"{path}.{index}"
            lines[name] = item.start_mark.line + 1
            _walk(item, name, lines, twice)
