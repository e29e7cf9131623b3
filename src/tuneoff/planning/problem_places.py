"""What models say of a study file, as problems: each with its key as it stands there, and its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from pydantic import BaseModel, ValidationError

from tuneoff.config.data import DataSpec, ModelSpec, SourceSpec, TaskSpec
from tuneoff.config.execution import ExecutionSpec, ExecutorSpec
from tuneoff.config.protocol import Protocol, RaceSpec
from tuneoff.config.retention import HeldSpec, RetentionSpec
from tuneoff.config.search import Candidates, SearchSpec
from tuneoff.config.spec import MethodSpec, PricesSpec, PublishedSpec, StudySpec, TokenPrices
from tuneoff.errors import Problem, did_you_mean
from tuneoff.planning.yaml import Lines


def problems_of(
    error: ValidationError,
    lines: Lines,
    list_keys: Callable[[tuple[str, ...]], Iterable[str]],
    prefix: str = "",
) -> list[Problem]:
    """Returns what is wrong with plain data of a model, each problem with its line.

    Args:
        error: what the model says.
        lines: key -> its line.
        list_keys: the known keys below a key, given as the way to it.
        prefix: the key that holds the data; empty for a whole file.
    """
    problems = []
    for item in error.errors():
        steps = tuple(str(step) for step in item["loc"])
        where = ".".join(part for part in (prefix, *steps) if part)
        message = str(item["msg"]).removeprefix("Value error, ")
        message = re.sub(r"valid dictionary( or instance of \w+)?", "mapping", message[:1].lower() + message[1:])
        if item["type"] == "extra_forbidden":
            keys = list(list_keys(steps[:-1]))
            message = f"unknown key {steps[-1]!r}{did_you_mean(steps[-1], keys)}; known: {', '.join(keys)}"
        elif item["type"] == "missing":
            message = "is required"
        elif not isinstance(item["input"], (dict, list)) and not message.endswith("not true or false"):
            message += f", not {item['input']!r}"
        problems.append(located(where, message, lines))
    return problems


def located(where: str, message: str, lines: Lines) -> Problem:
    """Returns a problem with the line of `where`, or of the nearest enclosing key."""
    steps = where.split(".")
    if steps[0] == "methods" and steps[2:3] == ["search"] and ".".join(steps[:3]) not in lines:
        # The candidates of an option stand below the option's name.
        steps = [*steps[:2], *steps[3:4], "search", *steps[4:]]
        where = ".".join(steps)
    if steps[:3] == ["protocol", "search", "space"] and steps[3:] and "protocol.search.space" not in lines:
        # So do those of a setting of the protocol.
        steps = ["protocol", *steps[3:4], "search", *steps[4:]]
        where = ".".join(steps)
    if steps[:2] == ["protocol", "race"] and "protocol.race" not in lines:
        # A race is written in the place of the seeds.
        steps = ["protocol", "seeds", *steps[2:]]
        where = ".".join(steps)
    while steps and ".".join(steps) not in lines:
        steps.pop()
    return Problem(where, message, lines.get(".".join(steps)))


_SHAPES: dict[tuple[str, ...], type[BaseModel]] = {
    (): StudySpec,
    ("model",): ModelSpec,
    ("task",): TaskSpec,
    ("task", "data"): DataSpec,
    ("protocol",): Protocol,
    ("protocol", "race"): RaceSpec,
    ("protocol", "search"): SearchSpec,
    ("execution",): ExecutionSpec,
    ("executor",): ExecutorSpec,
    ("published",): PublishedSpec,
    ("prices",): PricesSpec,
    ("retention",): RetentionSpec,
}


def known_keys(path: tuple[str, ...]) -> list[str]:
    """Returns the keys of a study file that may stand below a key, given as the way to it."""
    if path[:2] == ("prices", "million_tokens"):
        return list(TokenPrices.model_fields)
    if path[:2] == ("retention", "held") and len(path) > 2:
        # Below a name stand the keys of what is held, and of the parts that these have in common with a study.
        part = path[3:]
        shape: type[BaseModel] = _SHAPES.get(part, SourceSpec) if part else HeldSpec
        return list(shape.model_fields)
    candidates = (path[:1] == ("methods",) and path[2:3] == ("search",)) or path[1:3] == ("search", "space")
    other = SourceSpec if path[:2] == ("task", "data") else Candidates if candidates else MethodSpec
    return list(_SHAPES.get(path, other).model_fields)
