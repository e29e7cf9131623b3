"""From a study file, a recipe or plain Python data to a checked `StudySpec`.

All problems of a study are reported at once, with line numbers.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tuneoff import registry
from tuneoff.config.spec import (
    DATA_SUFFIXES,
    MAX_SEEDS,
    Candidates,
    DataSpec,
    ExecutionSpec,
    ExecutorSpec,
    MethodSpec,
    ModelSpec,
    Protocol,
    PublishedSpec,
    SearchSpec,
    SourceSpec,
    StudySpec,
    TaskSpec,
)
from tuneoff.errors import Problem, StudyError, did_you_mean
from tuneoff.files import special_kind
from tuneoff.planning.yaml import Lines
from tuneoff.planning.yaml import read_yaml as read_yaml
from tuneoff.search.halving import rungs
from tuneoff.search.space import LEARNING_RATE, is_number

RECIPES = files("tuneoff.recipes")
MAX_NUMBER = 2**53
"""Greatest integer accepted: a float holds every integer up to it exactly."""
_UNREADABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\U0010ffff]")
"""Control characters and halves of surrogate pairs."""


def recipe_names() -> list[str]:
    """Lists the names of the recipes that come with the package."""
    return sorted(entry.name[:-5] for entry in RECIPES.iterdir() if entry.name.endswith(".yaml"))


def load(
    reference: str | Path,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    executor: str | None = None,
    **changes: Any,
) -> StudySpec:
    """Reads a recipe (by name) or a study file (by path), applies overrides and checks the whole.

    Args:
        reference: a recipe's name or the path of a YAML file.
        overrides: `dotted.key=value` texts; values are read as YAML.
        executor: see `choose_executor`.
        changes: passed to `narrow` (`methods`, `seeds`, `random_weights`).

    Raises:
        StudyError: with every problem found, each with its line.
    """
    text, origin = _read(str(reference))
    raw, lines = read_yaml(text, origin)
    if not isinstance(raw, dict):
        raise StudyError(
            "a study file is a mapping with at least `model`, `task` and `methods`"
            + (", and this one is empty" if raw is None else ""),
            hint="`tuneoff init FILE` writes one after looking at a data file.",
            origin=origin,
        )
    if "name" not in raw:
        raw["name"] = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(str(reference)).stem).strip("-._") or "study"
    return narrow(parse(override(choose_executor(raw, executor), overrides), lines, origin), **changes)


def choose_executor(raw: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """Returns plain study data with the executor of that name; its options stay where the study names it already. None
    leaves the study's own."""
    before = raw.get("executor")
    same = isinstance(before, Mapping) and before.get("name", ExecutorSpec().name) == name
    return dict(raw) if name is None or same else {**raw, "executor": name}


def _read(reference: str) -> tuple[str, str]:
    names = recipe_names()
    path = Path(reference)
    looks_like_path = path.suffix in {".yaml", ".yml"} or path.is_file()
    if reference in names and not path.is_file():
        return (RECIPES / f"{reference}.yaml").read_text(encoding="utf-8"), f"recipe {reference}"
    if kind := special_kind(path):
        raise StudyError(f"{reference} is {kind}, not a file", hint="Write the study to a file and name that.")
    if os.path.isdir(path):  # unlike Path.is_dir, False for what is no path at all
        raise StudyError(
            f"{reference} is a folder that holds no study",
            hint="Name a study file (.yaml), a recipe, or the folder that `tuneoff run` printed.",
        )
    is_data_name = path.suffix.lower() in DATA_SUFFIXES
    if is_data_name and os.path.isfile(path) and not _is_json_object(path):
        raise StudyError(
            f"{reference} is data, not a study",
            hint=f"Write a study of it first: tuneoff init {shlex.quote(reference)}",
        )
    if not looks_like_path and not is_data_name:
        candidates = [f"{reference}{end}" for end in (".study.yaml", ".yaml") if os.path.isfile(f"{reference}{end}")]
        raise StudyError(
            f"no recipe called {reference!r}{did_you_mean(reference, candidates or names)}",
            hint=f"Recipes: {', '.join(names)}. A study file's name ends in .yaml.",
        )
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except FileNotFoundError:
        study_files = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise StudyError(f"no file {reference!r}{did_you_mean(path.name, study_files)}") from None
    except UnicodeDecodeError as error:
        raise StudyError(
            f"{reference} is not UTF-8 text (byte {error.start})", hint="A study is a text file in YAML."
        ) from None
    except OSError as error:
        raise StudyError(f"{reference} cannot be read: {error.strerror}") from None
    except ValueError:
        raise StudyError(f"no file {reference!r}: no name of a file holds a NUL character") from None


def _is_json_object(path: Path) -> bool:
    """Tells whether a file is one JSON object, which may be a study; rows are a list, or several objects."""
    if path.suffix.lower() != ".json":
        return False
    with suppress(OSError, ValueError, RecursionError):
        return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    return False


def override(raw: dict[str, Any], overrides: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Returns plain study data with `dotted.key=value` texts (values read as YAML) or dotted keys applied to it.

    Raises:
        StudyError: for a text that is not of that form, or a key below a plain value.
    """
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            raw = _put(raw, key, value)
        return raw
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise StudyError(f"--set {text!r}: expected dotted.key=value, e.g. protocol.epochs=2")
        raw = _put(raw, key.strip(), read_yaml(value, f"--set {key}")[0])
    return raw


def _put(raw: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    root = dict(raw)
    node = root
    steps = key.split(".")
    for depth, step in enumerate(steps[:-1]):
        child = node.get(step)
        if isinstance(child, str) and step in {"model", "data", "train", "validation", "test"}:
            child = DataSpec.model_validate(child).model_dump() if step == "data" else {"source": child}
        elif isinstance(child, (list, str)) and step == "methods":
            child = [child] if isinstance(child, str) else child
            child = {k: v for item in child for k, v in (item if isinstance(item, dict) else {item: {}}).items()}
        elif isinstance(child, int) and steps[: depth + 1] == ["protocol", "search"]:
            child = {"trials": child}
        elif isinstance(child, str) and steps[: depth + 1] == ["executor"]:
            child = {"name": child}
        elif child is None:
            child = {}
        elif not isinstance(child, dict):
            where = ".".join(steps[: depth + 1])
            raise StudyError(f"cannot set {key}: {where} is a value, it has no keys of its own")
        node[step] = dict(child)
        node = node[step]
    node[steps[-1]] = value
    return root


def parse(raw: Mapping[str, Any], lines: Lines | None = None, origin: str = "") -> StudySpec:
    """Checks plain data (as from YAML) and returns the study.

    Raises:
        StudyError: with every problem found, plug-ins' options included.
    """
    lines = lines or {}
    problems = list(_unreadable_values(raw, "", lines))
    if problems:
        raise StudyError(_in_order(problems), origin=origin)
    study: StudySpec | None = None
    try:
        study = StudySpec.model_validate(dict(raw))
    except ValidationError as error:
        problems += _problems(error, "", lines, _known_keys)
    task, methods = (study.task, study.methods) if study is not None else _sound_parts(raw)
    problems += _plugin_problems(task, methods, lines)
    if study is not None:
        problems += _tracker_problems(study, lines)
        problems += _executor_problems(study, lines)
        problems += _metric_problems(study, lines)
        problems += _search_problems(study, lines)
    if problems or study is None:
        raise StudyError(_in_order(problems), origin=origin)
    return study


def _unreadable_values(value: Any, where: str, lines: Lines) -> Iterator[Problem]:
    """Yields a problem for each text or number, keys included, that no file, model or terminal could take."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            path = f"{where}.{key}" if where else str(key)
            yield from _unreadable_values(key, path, lines)
            yield from _unreadable_values(item, path, lines)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _unreadable_values(item, f"{where}.{index}", lines)
    elif isinstance(value, str) and (unreadable := _UNREADABLE.search(value)):
        yield _problem(where, f"holds the character {unreadable[0]!r}, which no text should", lines)
    elif isinstance(value, int) and abs(value) > MAX_NUMBER:
        yield _problem(where, f"the number is greater than {MAX_NUMBER:,}", lines)


def _in_order(problems: list[Problem]) -> list[Problem]:
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line or 0, problem.where))


def _sound_parts(raw: Mapping[str, Any]) -> tuple[TaskSpec | None, dict[str, MethodSpec]]:
    """Returns the task and the arms of a study that has errors elsewhere, so that their own problems are reported
    too."""
    task: TaskSpec | None = None
    if isinstance(raw.get("task"), Mapping):
        # A placeholder for data that is missing or wrong, which is reported as a problem of its own.
        with suppress(ValidationError):
            task = TaskSpec.model_validate({**raw["task"], "data": "-"})
    methods: dict[str, MethodSpec] = {}
    with suppress(ValueError):
        arms = StudySpec._arms(raw.get("methods"))
        for label, body in arms.items() if isinstance(arms, Mapping) else ():
            with suppress(ValidationError):
                methods[str(label)] = MethodSpec.model_validate(body)
    return task, methods


def _plugin_problems(task: TaskSpec | None, methods: Mapping[str, MethodSpec], lines: Lines) -> list[Problem]:
    """Returns the problems that the task and the methods find in their own keys."""
    problems: list[Problem] = []
    if task is not None and task.name in registry.tasks():
        problems += _options_problems(
            registry.tasks()[task.name].Options, task.options, "task", lines, extra=("name", "data")
        )
    elif task is not None:
        message = f"unknown task {task.name!r}{did_you_mean(task.name, registry.tasks())}"
        problems.append(_problem("task.name", message, lines))
    for label, arm in methods.items():
        where = f"methods.{label}"
        if arm.method not in registry.methods():
            problems.append(_problem(where, registry.methods().why_unknown(arm.method), lines))
            continue
        options = registry.methods()[arm.method].Options
        extra = ("learning_rate", "method")
        problems += _options_problems(options, _plain_options(arm, options), where, lines, extra)
        problems += _candidate_problems(options, arm, where, lines, extra)
    return problems


def _tracker_problems(study: StudySpec, lines: Lines) -> list[Problem]:
    """Returns a problem for each tracker that does not exist; whether it is installed is checked when the study is
    run."""
    unknown = [name for name in study.trackers if name not in registry.trackers()]
    return [_problem("trackers", registry.trackers().why_unknown(name), lines) for name in unknown]


def _executor_problems(study: StudySpec, lines: Lines) -> list[Problem]:
    """Returns the problems of the executor's name, or of its options; whether it can be used here is checked when the
    study is run."""
    name = study.executor.name
    if name not in registry.executors():
        return [_problem("executor", registry.executors().why_unknown(name), lines)]
    options = registry.executors()[name].Options
    return _options_problems(options, study.executor.options, "executor", lines, extra=("name",))


def _metric_problems(study: StudySpec, lines: Lines) -> list[Problem]:
    """Checks whether the task has the metric that selects the checkpoint."""
    name = study.protocol.select_metric
    if name is None or study.task.name not in registry.tasks():
        return []
    metrics = [metric.name for metric in registry.tasks()[study.task.name].metrics]
    if name in metrics:
        return []
    message = f"unknown metric {name!r}{did_you_mean(name, metrics)}; known: {', '.join(metrics)}"
    return [_problem("protocol.select_metric", message, lines)]


def _search_problems(study: StudySpec, lines: Lines) -> list[Problem]:
    """Checks whether each option to search can be searched, and is not set to one value elsewhere."""
    problems: list[Problem] = []
    searched = [label for label, arm in study.methods.items() if set(arm.search) - {LEARNING_RATE}]
    if study.protocol.search is not None and study.protocol.learning_rate is not None and not searched:
        message = "one rate for all leaves nothing to search: remove it, or protocol.search, or search other options"
        problems.append(_problem(f"protocol.{LEARNING_RATE}", message, lines))
    try:
        rungs(study.protocol)
    except StudyError as error:
        problems += [_problem(problem.where, problem.message, lines) for problem in error.problems]
    is_reported = False
    for label, arm in study.methods.items():
        if arm.method not in registry.methods():
            continue
        for name in arm.search:
            message = ""
            if not registry.methods()[arm.method].trains:
                message = f"{arm.method} does not train, so nothing of it is searched"
            elif study.protocol.search is None:
                if not is_reported:
                    message = "is to be searched, but the protocol has no search: set protocol.search.trials, e.g. to 8"
                is_reported = True
            elif name == LEARNING_RATE and study.protocol.learning_rate is not None:
                message = "cannot be searched while protocol.learning_rate sets one rate for all"
            if message:
                problems.append(_problem(f"methods.{label}.{name}", message, lines))
    return problems


def _candidate_problems(
    model: type[BaseModel], arm: MethodSpec, where: str, lines: Lines, extra: tuple[str, ...]
) -> list[Problem]:
    """Returns the problems that the method finds in each value to be tried."""
    problems: list[Problem] = []
    for name, candidates in arm.search.items():
        prefix = f"{where}.{name}"
        if name == LEARNING_RATE:
            positions = [position for position, value in _values(candidates) if not is_number(value) or value <= 0]
            problems += [
                _problem(f"{prefix}.search.{position}", "a learning rate is a number above 0", lines)
                for position in positions
            ]
            continue
        if name not in model.model_fields:
            keys = [*model.model_fields, *extra]
            problems.append(
                _problem(prefix, f"unknown key {name!r}{did_you_mean(name, keys)}; known: {', '.join(keys)}", lines)
            )
            continue
        for position, value in _values(candidates):
            for problem in _options_problems(model, {**_plain_options(arm, model), name: value}, where, {}):
                if problem.where.startswith(prefix):
                    problems.append(_problem(f"{prefix}.search.{position}", problem.message, lines))
    return problems


def _plain_options(arm: MethodSpec, model: type[BaseModel]) -> dict[str, Any]:
    """Returns the arm's options, with a first value for each that is searched and required."""
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    stand_ins = {name: _values(candidates)[0][1] for name, candidates in arm.search.items() if name in required}
    return {**stand_ins, **arm.options}


def _values(candidates: Candidates) -> list[tuple[str, Any]]:
    """Returns where each value stands below `search`, and the value; of a range both ends."""
    if candidates.choices is not None:
        return [(str(index), choice) for index, choice in enumerate(candidates.choices)]
    return [("low", candidates.low), ("high", candidates.high)]


def _options_problems(
    model: type[BaseModel], options: Mapping[str, Any], where: str, lines: Lines, extra: tuple[str, ...] = ()
) -> list[Problem]:
    try:
        model.model_validate(dict(options))
    except ValidationError as error:
        return _problems(error, where, lines, lambda _: [*model.model_fields, *extra])
    return []


def _problems(
    error: ValidationError, prefix: str, lines: Lines, list_keys: Callable[[tuple[str, ...]], Iterable[str]]
) -> list[Problem]:
    problems = []
    for item in error.errors():
        steps = tuple(str(step) for step in item["loc"])
        where = ".".join(part for part in (prefix, *steps) if part)
        message = str(item["msg"]).removeprefix("Value error, ")
        message = re.sub(r"valid dictionary or instance of \w+", "mapping", message[:1].lower() + message[1:])
        if item["type"] == "extra_forbidden":
            keys = list(list_keys(steps[:-1]))
            message = f"unknown key {steps[-1]!r}{did_you_mean(steps[-1], keys)}; known: {', '.join(keys)}"
        elif item["type"] == "missing":
            message = "is required"
        elif not isinstance(item["input"], (dict, list)):
            message += f", not {item['input']!r}"
        problems.append(_problem(where, message, lines))
    return problems


def _problem(where: str, message: str, lines: Lines) -> Problem:
    """Returns a problem with the line of `where`, or of the nearest enclosing key."""
    steps = where.split(".")
    if steps[0] == "methods" and steps[2:3] == ["search"] and ".".join(steps[:3]) not in lines:
        # The candidates of an option stand below the option's name.
        steps = [*steps[:2], *steps[3:4], "search", *steps[4:]]
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
    ("protocol", "search"): SearchSpec,
    ("execution",): ExecutionSpec,
    ("executor",): ExecutorSpec,
    ("published",): PublishedSpec,
}


def _known_keys(path: tuple[str, ...]) -> list[str]:
    candidates = path[:1] == ("methods",) and path[2:3] == ("search",)
    other = SourceSpec if path[:2] == ("task", "data") else Candidates if candidates else MethodSpec
    shape: type[BaseModel] = _SHAPES.get(path, other)
    return list(shape.model_fields)


def narrow(
    study: StudySpec,
    methods: Iterable[str] | None = None,
    seeds: int | None = None,
    random_weights: bool = False,
) -> StudySpec:
    """Returns the same study with fewer (or other) methods, another number of seeds, or random weights.

    `methods` names arms of the study by label; a method that the study has no arm for is added with its
    defaults.

    Raises:
        StudyError: for a name that is neither an arm nor a method, or for no seed.
    """
    changes: dict[str, Any] = {}
    if methods is not None:
        arms: dict[str, MethodSpec] = {}
        problems: list[Problem] = []
        for name in [methods] if isinstance(methods, str) else methods:
            if name in study.methods:
                arms[name] = study.methods[name]
            elif name in registry.methods():
                arms[name] = MethodSpec(method=name)
            else:
                names = [*study.methods, *registry.methods()]
                problems.append(Problem("--methods", f"unknown method {name!r}{did_you_mean(name, names)}"))
        if problems or not arms:
            raise StudyError(problems or "--methods names no method", hint=f"Arms: {', '.join(study.methods)}.")
        changes["methods"] = arms
    if seeds is not None:
        if not 1 <= seeds <= MAX_SEEDS:
            raise StudyError(f"--seeds must be 1 or more, and at most {MAX_SEEDS:,}")
        changes["protocol"] = study.protocol.model_copy(update={"seeds": tuple(range(seeds))})
    search = study.protocol.search
    if search is not None and seeds is not None and search.seed < seeds:
        raise StudyError(
            f"--seeds {seeds} takes in protocol.search.seed {search.seed}; a seed of the search is never used for a "
            "final trial",
            hint="Give the search another seed.",
        )
    if random_weights:
        changes["model"] = study.model.model_copy(update={"random_weights": True})
    return study.model_copy(update=changes) if changes else study
