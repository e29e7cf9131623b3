"""From a study file, a recipe or plain Python data to a checked `StudySpec`.

All problems of a study are reported at once, with line numbers.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from tuneoff import registry
from tuneoff.config.base import MAX_SEEDS
from tuneoff.config.data import DataSpec
from tuneoff.config.execution import ExecutorSpec
from tuneoff.config.protocol import Protocol, RaceSpec
from tuneoff.config.spec import MethodSpec, StudySpec
from tuneoff.errors import Problem, StudyError, did_you_mean
from tuneoff.files import special_kind
from tuneoff.planning.prices import with_prices
from tuneoff.planning.problem_places import problems_of
from tuneoff.planning.problems import check
from tuneoff.planning.series import SeriesSpec, parse_series, refuse_series
from tuneoff.planning.yaml import Lines
from tuneoff.planning.yaml import read_yaml as read_yaml
from tuneoff.suffixes import is_data_file

RECIPES = files("tuneoff.recipes")


def recipe_names() -> list[str]:
    """Lists the names of the recipes that come with the package."""
    return sorted(entry.name[:-5] for entry in RECIPES.iterdir() if entry.name.endswith(".yaml"))


def load(
    reference: str | Path | Mapping[str, Any],
    overrides: Iterable[str] | Mapping[str, Any] = (),
    executor: str | None = None,
    **changes: Any,
) -> StudySpec:
    """Reads a recipe (by name), a study file (by path) or plain data, applies overrides and checks the whole.

    Args:
        reference: a recipe's name, the path of a YAML file, or plain data.
        overrides: `dotted.key=value` texts; values are read as YAML.
        executor: see `choose_executor`.
        changes: passed to `narrow` (`methods`, `seeds`, `random_weights`).

    Raises:
        StudyError: with every problem found, each with its line.
    """
    return narrow(parse(*read(reference, overrides, executor)), **changes)


def load_series(
    reference: str | Path | Mapping[str, Any],
    overrides: Iterable[str] | Mapping[str, Any] = (),
    executor: str | None = None,
) -> SeriesSpec:
    """Does what `load` does, for a series.

    Raises:
        StudyError: with every problem found, each with its line; also where no list makes it a series.
    """
    return parse_series(*read(reference, overrides, executor))


def read(
    reference: str | Path | Mapping[str, Any],
    overrides: Iterable[str] | Mapping[str, Any] = (),
    executor: str | None = None,
) -> tuple[dict[str, Any], Lines, str]:
    """Reads a recipe, a study file or plain data, and applies overrides; returns plain data, the line of each of its
    keys, and what messages call it.

    Raises:
        StudyError: if it cannot be read as a mapping of keys, or an override cannot be applied.
    """
    if isinstance(reference, Mapping):
        return override(choose_executor(reference, executor), overrides), {}, ""
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
    return override(choose_executor(raw, executor), overrides), lines, origin


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
    is_data_name = is_data_file(path.name)
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
        elif depth == 1 and steps[:-1] == ["protocol", "seeds"] and steps[-1] in RaceSpec.model_fields:
            child = child if isinstance(child, dict) else {}
        elif isinstance(child, str) and steps[: depth + 1] == ["executor"]:
            child = {"name": child}
        elif isinstance(child, (str, list)) and steps[: depth + 1] == ["retention"]:
            child = {"held": child}
        elif child is None:
            child = {}
        elif not isinstance(child, dict):
            where = ".".join(steps[: depth + 1])
            kind = "a list" if isinstance(child, (list, tuple)) else "a value"
            raise StudyError(f"cannot set {key}: {where} is {kind}, it has no keys of its own")
        node[step] = dict(child)
        node = node[step]
    node[steps[-1]] = value
    return root


def parse(raw: Mapping[str, Any], lines: Lines | None = None, origin: str = "") -> StudySpec:
    """Checks plain data (as from YAML) and returns the study.

    Raises:
        StudyError: with every problem found, plug-ins' options included; where a list makes it a series.
    """
    refuse_series(raw, lines or {}, origin)
    study, problems = check(with_prices(raw), lines or {})
    if problems or study is None:
        raise StudyError(problems, origin=origin)
    return study


def narrow(
    study: StudySpec,
    methods: Iterable[str] | None = None,
    seeds: int | Literal["race"] | None = None,
    random_weights: bool = False,
) -> StudySpec:
    """Returns the same study with fewer (or other) methods, another number of seeds or a race, or random weights.

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
    protocol = study.protocol
    if isinstance(seeds, int):
        if not 1 <= seeds <= MAX_SEEDS:
            raise StudyError(f"--seeds must be 1 or more, and at most {MAX_SEEDS:,}")
        protocol = _with_seeds(protocol, range(seeds), None, f"--seeds {seeds}")
    elif seeds == "race" or protocol.race is not None:
        protocol = race_seeds(protocol, "--seeds race")
    if protocol != study.protocol:
        changes["protocol"] = protocol
    if protocol.splits == "per_seed" and len(protocol.seeds) == 1:
        message = "per_seed draws other rows at every seed, and the study has one: give it more seeds, or set fixed"
        raise StudyError([Problem("protocol.splits", message)])
    if random_weights:
        changes["model"] = study.model.model_copy(update={"random_weights": True})
    return study.model_copy(update=changes) if changes else study


def race_seeds(protocol: Protocol, option: str) -> Protocol:
    """Returns a protocol whose seeds are given by racing, as its own race says or as the default one does.

    Its own seeds come first; where they are too few, others follow, counted from 0.

    Raises:
        StudyError: if its search does not go with the race or with these seeds; says that `option` asked for them.
    """
    race, own = protocol.race or RaceSpec(), protocol.seeds
    seeds = [*own, *(seed for seed in range(race.max) if seed not in own)][: race.max]
    return _with_seeds(protocol, seeds, race, option)


def _with_seeds(protocol: Protocol, seeds: Iterable[int], race: RaceSpec | None, option: str) -> Protocol:
    fields = {name: getattr(protocol, name) for name in protocol.model_fields_set}
    try:
        return Protocol.model_validate({**fields, "seeds": tuple(seeds), "race": race})
    except ValidationError as error:
        raise StudyError(problems_of(error, {}, lambda _: ()), origin=option) from None
