"""The problems of a study, all of them at once, each with its key and its line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeGuard, get_args

from pydantic import BaseModel, ValidationError

from tuneoff import registry
from tuneoff.config.data import TaskSpec
from tuneoff.config.search import SearchedSetting
from tuneoff.config.spec import MethodSpec, StudySpec
from tuneoff.errors import Problem, StudyError, did_you_mean
from tuneoff.planning.plan import devices_of, search_studies
from tuneoff.planning.problem_places import known_keys, located, problems_of
from tuneoff.planning.yaml import Lines
from tuneoff.search.halving import rungs
from tuneoff.search.space import LEARNING_RATE, is_number, size, spaces
from tuneoff.search.stopping import WHERE as STOP
from tuneoff.search.stopping import idle_reason

if TYPE_CHECKING:
    from tuneoff.interfaces import Task

MAX_NUMBER = 2**53
"""Greatest integer accepted: a float holds every integer up to it exactly."""
_UNREADABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\U0010ffff]")
"""Control characters and halves of surrogate pairs."""


def check(raw: Mapping[str, Any], lines: Lines) -> tuple[StudySpec | None, list[Problem]]:
    """Returns the study that plain data describes and its problems, plug-ins' options included, in order of lines.

    There is no study where the data does not describe one; then there are problems.
    """
    problems = list(_unreadable_values(raw, "", lines))
    study: StudySpec | None = None
    if not problems:
        try:
            study = StudySpec.model_validate(dict(raw))
        except ValidationError as error:
            problems += problems_of(error, lines, known_keys)
        task, methods = (study.task, study.methods) if study is not None else _sound_parts(raw)
        problems += _plugin_problems(task, methods, lines)
    if study is not None:
        problems += _tracker_problems(study, lines)
        problems += _executor_problems(study, lines)
        problems += _metric_problems(study, lines)
        problems += _margin_problems(study, lines)
        problems += _search_problems(study, lines)
        problems += _deployability_problems(study, lines)
        problems += _start_problems(study, lines)
        problems += _retention_problems(study, lines)
    return study, sorted(dict.fromkeys(problems), key=lambda problem: (problem.line or 0, problem.where))


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
        yield located(where, f"holds the character {unreadable[0]!r}, which no text should", lines)
    elif isinstance(value, int) and abs(value) > MAX_NUMBER:
        yield located(where, f"the number is greater than {MAX_NUMBER:,}", lines)


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
    problems = _task_problems(task, "task", lines) if task is not None else []
    for label, arm in methods.items():
        where = f"methods.{label}"
        if arm.method not in registry.methods():
            problems.append(located(where, registry.methods().why_unknown(arm.method), lines))
            continue
        options = registry.methods()[arm.method].Options
        extra = ("learning_rate", "method")
        problems += _options_problems(options, _plain_options(arm, options), where, lines, extra)
        problems += _candidate_problems(options, arm, where, lines, extra)
    return problems


def _task_problems(task: TaskSpec, where: str, lines: Lines) -> list[Problem]:
    """Returns the problems of a task's name, or of its options."""
    if task.name not in registry.tasks():
        message = f"unknown task {task.name!r}{did_you_mean(task.name, registry.tasks())}"
        return [located(f"{where}.name", message, lines)]
    options = registry.tasks()[task.name].Options
    return _options_problems(options, task.options, where, lines, extra=("name", "data"))


def _tracker_problems(study: StudySpec, lines: Lines) -> list[Problem]:
    """Returns a problem for each tracker that does not exist; whether it is installed is checked when the study is
    run."""
    unknown = [name for name in study.trackers if name not in registry.trackers()]
    return [located("trackers", registry.trackers().why_unknown(name), lines) for name in unknown]


def _executor_problems(study: StudySpec, lines: Lines) -> list[Problem]:
    """Returns the problems of the executor's name, or of its options; whether it can be used here is checked when the
    study is run."""
    name = study.executor.name
    if name not in registry.executors():
        return [located("executor", registry.executors().why_unknown(name), lines)]
    options = registry.executors()[name].Options
    return _options_problems(options, study.executor.options, "executor", lines, extra=("name",))


def _deployability_problems(study: StudySpec, lines: Lines) -> list[Problem]:
    """Refuses forms of trained models where none are kept, or none are trained."""
    if not study.deployability:
        return []
    known = [arm.method for arm in study.methods.values() if arm.method in registry.methods()]
    if not any(registry.methods()[name].trains for name in known):
        return [located("deployability", "no arm trains, so there is no trained model to deploy", lines)]
    if not study.execution.keep_weights:
        reason = "it needs the trained weights: leave execution.keep_weights at true"
        return [located("deployability", reason, lines)]
    return []


def _metric_problems(study: StudySpec, lines: Lines) -> list[Problem]:
    """Checks the metrics that the study adds, and whether there is one that is to select or to compare."""
    return _task_metric_problems(study.task, "task", lines, {"protocol.select_metric": study.protocol.select_metric})


def _task_metric_problems(
    spec: TaskSpec, where: str, lines: Lines, selecting: Mapping[str, str | None] | None = None
) -> list[Problem]:
    """Checks the metrics that a task adds, and whether it has the one to compare by, and those of `selecting`: dotted
    key -> metric."""
    if spec.name not in registry.tasks():
        return []
    task = registry.tasks()[spec.name]
    names = [metric.name for metric in task.metrics]
    added_names = spec.options.get("metrics")
    problems = []
    # What is no text is a problem of the options.
    for name in filter(_is_text, added_names if isinstance(added_names, (list, tuple)) else ()):
        reason = "it stands twice" if name in names else _why_not_added(name, task)
        if reason:
            problems.append(located(f"{where}.metrics", reason, lines))
        names.append(name)
    for place, name in {f"{where}.primary_metric": spec.options.get("primary_metric"), **(selecting or {})}.items():
        if _is_text(name) and name not in names:
            added = (
                f"; `tuneoff list metrics` names more, for {where}.metrics: [{name}]"
                if name in registry.metrics()
                else ""
            )
            message = f"unknown metric {name!r}{did_you_mean(name, names)}; known: {', '.join(names)}{added}"
            problems.append(located(place, message, lines))
    return problems


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str)


def _why_not_added(name: str, task: type[Task]) -> str:
    """Explains why a study of a task cannot add a metric; empty where it can."""
    if name not in registry.metrics():
        return registry.metrics().why_unknown(name)
    try:
        metric = registry.metrics()[name]
    except StudyError as error:
        return error.in_one_line
    if metric.produces and task.produces not in metric.produces:
        return f"{name} scores a {' or a '.join(metric.produces)}, and the task produces a {task.produces}"
    return f"{name} needs {metric.needs}: pip install {metric.extra!r}" if metric.lacks() else ""


def _margin_problems(study: StudySpec, lines: Lines) -> list[Problem]:
    """Checks whether the margin can be one of the task's primary metric."""
    if study.margin is None or study.task.name not in registry.tasks():
        return []
    try:
        task = registry.create_task(study.task)
        metric = task.metric(task.main_metric)
    except (StudyError, KeyError):
        return []  # a problem of its own
    message = margin_problem(study.margin, metric.name, metric.unit)
    return [located("margin", message, lines)] if message else []


def margin_problem(margin: float, metric: str, unit: str) -> str:
    """Returns what is wrong with a margin of a metric; empty where nothing is."""
    if unit == "fraction" and margin >= 1:
        return (
            f"{metric} is a fraction, so every arm lies within {margin:g}; for {margin:g} points write {margin / 100:g}"
        )
    return ""


def _search_problems(study: StudySpec, lines: Lines) -> list[Problem]:
    """Checks whether each option to search can be searched, and is not set to one value elsewhere."""
    problems: list[Problem] = []
    shared = study.protocol.search.space if study.protocol.search is not None else {}
    searched = [label for label, arm in study.methods.items() if set(arm.search) - {LEARNING_RATE}]
    if study.protocol.search is not None and study.protocol.learning_rate is not None and not (searched or shared):
        message = "one rate for all leaves nothing to search: remove it, or protocol.search, or search other options"
        problems.append(located(f"protocol.{LEARNING_RATE}", message, lines))
    try:
        rungs(next(iter(search_studies(study).values())).protocol)
    except StudyError as error:
        problems += [located(problem.where, problem.message, lines) for problem in error.problems]
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
            elif name in shared:
                message = f"is searched for all arms as protocol.{name}; name one of the two alone"
            if message:
                problems.append(located(f"methods.{label}.{name}", message, lines))
    return [*problems, *_idle_search_problems(study, lines)]


def _idle_search_problems(study: StudySpec, lines: Lines) -> list[Problem]:
    """Returns a problem for a search, or its rule of stopping, that would do nothing."""
    search = study.protocol.search
    if search is None or not all(arm.method in registry.methods() for arm in study.methods.values()):
        return []
    if not any(registry.methods()[arm.method].trains for arm in study.methods.values()):
        message = "no arm trains, so nothing is searched: leave it out, or add an arm that trains"
        return [located("protocol.search", message, lines)]
    reason = idle_reason(search, [size(space) for space in spaces(study).values()])
    return [located(STOP, reason, lines)] if reason else []


def _start_problems(study: StudySpec, lines: Lines) -> list[Problem]:
    """Returns a problem for each arm that is to go on from trained weights and does not train."""
    return [
        located(f"methods.{label}.start_from", f"{arm.method} does not train, so it starts from no weights", lines)
        for label, arm in study.methods.items()
        if arm.start_from is not None and arm.method in registry.methods() and not registry.methods()[arm.method].trains
    ]


def _retention_problems(study: StudySpec, lines: Lines) -> list[Problem]:
    """Checks what is held; whether the base model can do it is checked when its configuration is known."""
    if study.retention is None:
        return []
    problems: list[Problem] = []
    arms = [(label, arm) for label, arm in study.methods.items() if arm.method in registry.methods()]
    if not any(registry.methods()[arm.method].trains for _, arm in arms):
        message = "no arm trains, so nothing can be forgotten: leave it out, or add an arm that trains"
        problems.append(located("retention", message, lines))
    if sharded := [label for label, arm in arms if devices_of(study, arm)[1]]:
        message = f"is scored by models that one device holds, and shard spreads those of {', '.join(sharded)}"
        problems.append(located("retention", message, lines))
    for label, held in study.retention.held.items():
        if held.task is None:
            continue
        where = f"retention.held.{label}.task"
        own_problems = _task_problems(held.task, where, lines) + _task_metric_problems(held.task, where, lines)
        if not own_problems and registry.create_task(held.task).adds_head:
            message = (
                f"{held.task.name} puts a fresh head on the model, which the base model does not have: hold a task "
                "that writes text, or classification with scoring: likelihood"
            )
            own_problems = [located(where, message, lines)]
        problems += own_problems
    return problems


def _candidate_problems(
    model: type[BaseModel], arm: MethodSpec, where: str, lines: Lines, extra: tuple[str, ...]
) -> list[Problem]:
    """Returns the problems that the method finds in each value to be tried."""
    problems: list[Problem] = []
    for name, candidates in arm.search.items():
        prefix = f"{where}.{name}"
        if name == LEARNING_RATE:
            positions = [
                position
                for position, value in candidates.ends().items()
                if not is_number(value) or not 0 < value < math.inf
            ]
            problems += [
                located(f"{prefix}.search.{position}", "a learning rate is a number above 0", lines)
                for position in positions
            ]
            continue
        if name not in model.model_fields:
            keys = [*model.model_fields, *extra]
            message = f"unknown key {name!r}{did_you_mean(name, keys)}; known: {', '.join(keys)}"
            if name in get_args(SearchedSetting):
                message = f"it is searched for all arms alike: write it as protocol.{name}"
            problems.append(located(prefix, message, lines))
            continue
        values = {f".{position}": value for position, value in candidates.ends().items()}
        low, high = candidates.low, candidates.high
        if low is not None and high is not None and not (isinstance(low, int) and isinstance(high, int)):
            # Such a range holds fractions, also where its ends are none.
            values[""] = low + (high - low) / math.pi
        for position, value in values.items():
            for problem in _options_problems(model, {**_plain_options(arm, model), name: value}, where, {}):
                if problem.where.startswith(prefix):
                    between = "" if position else "of what lies between its ends, "
                    problems.append(located(f"{prefix}.search{position}", f"{between}{problem.message}", lines))
    return problems


def _plain_options(arm: MethodSpec, model: type[BaseModel]) -> dict[str, Any]:
    """Returns the arm's options, with a first value for each that is searched and required."""
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    stand_ins = {
        name: next(iter(candidates.ends().values())) for name, candidates in arm.search.items() if name in required
    }
    return {**stand_ins, **arm.options}


def _options_problems(
    model: type[BaseModel], options: Mapping[str, Any], where: str, lines: Lines, extra: tuple[str, ...] = ()
) -> list[Problem]:
    try:
        model.model_validate(dict(options))
    except ValidationError as error:
        return problems_of(error, lines, lambda _: [*model.model_fields, *extra], where)
    return []
