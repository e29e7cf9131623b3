"""From a study to its trials; pure.

A trial's id says what it is and names its content: two trials with the same id are the same trial, whatever
study, folder or machine they come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from tuneoff import registry
from tuneoff.checksums import content_hash
from tuneoff.config.data import TaskSpec
from tuneoff.config.protocol import Protocol
from tuneoff.config.retention import RetentionSpec
from tuneoff.config.spec import SPEC_VERSION, MethodSpec, Purpose, Stopping, StudySpec, TrialSpec
from tuneoff.errors import Problem, StudyError, shortened
from tuneoff.search import space as search
from tuneoff.search.halving import shared_steps
from tuneoff.search.space import Values

Searched: TypeAlias = Any
"""What a search chooses for: an arm's label or, where every final seed is searched by itself, (label, seed). No union,
because a mapping of labels is none of labels and pairs to a type checker."""

# Keys that were added later, with what was done before: at these values they are no part of ids and folder names.
_PROTOCOL_BEFORE = {"gradient_checkpointing": False, "batching": "random", "frozen_dropout": True, "splits": "fixed"}
_SEARCH_BEFORE: dict[str, Any] = {"prune": "none", "per_seed": False, "space": {}, "stop": "none"}
_SOURCE_BEFORE: dict[str, Any] = {"more": [], "rename": {}}
_TASK_OPTIONS_BEFORE: dict[str, Any] = {
    "missing": "refuse",
    "text_pair": None,
    "group": None,
    "metrics": [],
    "primary_metric": None,
}

Found = TypeVar("Found")


def plan(
    study: StudySpec, fingerprints: Mapping[str, str] | None = None, chosen: Mapping[Searched, Values] | None = None
) -> list[TrialSpec]:
    """Returns a study's final trials in the order in which they run: every method at every seed, seeds first.

    At the first seed the arms stand in the study's order. At each further seed the first arm moves to the end, so
    that no arm always runs first, on a cool machine, or always last.

    Args:
        study: a checked study.
        fingerprints: source name -> fingerprint of what it holds now (see `Source.fingerprint`). They enter the
            ids, so that a changed file is a different trial.
        chosen: label, or label and seed -> what the search chose; an arm that is searched and not named here stands at
            the configuration that its search tries first.

    Raises:
        StudyError: if two arms are the same method with the same configuration.
    """
    _refuse_twins(study)
    _refuse_devices(study)
    firsts = {label: search.first(space) for label, space in search.spaces(study).items()}
    configurations: dict[Searched, Values] = {**firsts, **(chosen or {})}
    protocol = study.protocol.model_copy(update={"learning_rate": None, "search": None, "race": None})
    labels = list(study.methods)
    trials = [
        _trial(study, label, for_trial(configurations, label, seed) or {}, _with_seed(protocol, seed), fingerprints)
        for round_number, seed in enumerate(study.protocol.seeds)
        for label in _rotated(labels, round_number)
    ]
    timed_seeds = study.protocol.seeds[: study.execution.latency_seeds]
    return [trial.model_copy(update={"times_inference": trial.seed in timed_seeds}) for trial in trials]


def for_trial(found: Mapping[Searched, Found], label: str, seed: int) -> Found | None:
    """Returns what a search found for a final trial: that of its seed's own search, or of the study's; None without."""
    return found.get((label, seed), found.get(label))


def search_studies(study: StudySpec) -> dict[int | None, StudySpec]:
    """Returns the study of each of its searches: itself under None or, where every final seed has its own, one of each
    seed.

    Raises:
        StudyError: if searches of seeds cannot share the steps of one (see `halving.shared_steps`).
    """
    protocol = study.protocol
    if protocol.search is None or not protocol.search.per_seed:
        return {None: study}
    steps = shared_steps(protocol)
    searches = {seed: protocol.search.of_seed(seed, steps) for seed in protocol.seeds}
    return {
        seed: study.model_copy(update={"protocol": protocol.model_copy(update={"seeds": (seed,), "search": search})})
        for seed, search in searches.items()
    }


def _rotated(labels: Sequence[str], round_number: int) -> list[str]:
    start = round_number % len(labels)
    return [*labels[start:], *labels[:start]]


def search_trial(
    study: StudySpec,
    label: str,
    values: Values,
    fingerprints: Mapping[str, str] | None = None,
    steps: int | None = None,
    stopping: Stopping | None = None,
) -> TrialSpec:
    """Returns the trial that tries a suggestion for one arm, on the share of data and steps that the search gives to
    all; with at most `steps` steps, where it is pruned, and stopped where `stopping` says so."""
    assert study.protocol.search is not None
    protocol = _with_seed(search_protocol(study, steps), study.protocol.search.seed)
    trial = _trial(study, label, values, protocol, fingerprints, "search")
    if stopping is None:
        return trial
    trial = trial.model_copy(update={"stopping": stopping})
    return trial.model_copy(update={"id": trial_id(trial)})


def search_protocol(study: StudySpec, steps: int | None = None) -> Protocol:
    """Returns the protocol of a search's trials: the study's own with the share of data and steps that the search
    gives."""
    assert study.protocol.search is not None
    limits = study.protocol.search.model_dump(include={"train_rows", "epochs", "max_steps"}, exclude_none=True)
    if steps is not None:
        limits["max_steps"] = steps
    return study.protocol.model_copy(update={"learning_rate": None, "search": None, "race": None, **limits})


def _with_seed(protocol: Protocol, seed: int) -> Protocol:
    return protocol.model_copy(update={"seeds": (seed,)})


def _trial(
    study: StudySpec,
    label: str,
    values: Values,
    protocol: Protocol,
    fingerprints: Mapping[str, str] | None,
    purpose: Purpose = "final",
) -> TrialSpec:
    """Returns the trial of one arm at the configuration that `values` make, and at the protocol's only seed."""
    arm = study.methods[label]
    task = study.task.model_copy(update={"options": task_options(study)})
    options, rate = _configuration(study, arm, values)
    devices, shard = devices_of(study, arm)
    protocol = protocol.model_copy(update=search.settings_of(study.protocol, values))
    (seed,) = protocol.seeds
    # What a trial of the search, or a model that is not trained, has forgotten is no question.
    retention = study.retention if purpose == "final" and rate is not None else None
    trial = TrialSpec(
        id="",
        study=study.name,
        label=label,
        purpose=purpose,
        method=arm.method,
        options=options,
        learning_rate=rate,
        seed=seed,
        model=study.model,
        task=task,
        protocol=protocol,
        retention=retention,
        devices=devices,
        shard=shard,
        execution=study.execution,
        start_from=arm.start_from,
        fingerprints=own_fingerprints(study, arm, fingerprints or {}, holds=retention is not None),
    )
    return trial.model_copy(update={"id": trial_id(trial)})


def own_fingerprints(
    study: StudySpec, arm: MethodSpec, fingerprints: Mapping[str, str], *, holds: bool
) -> dict[str, str]:
    """Returns a trial's part of a study's fingerprints: without those of weights that other arms start from and, unless
    it `holds` something, of what it does not score before and after training."""
    others = {other.start_from for other in study.methods.values()} - {arm.start_from}
    if study.retention is not None and not holds:
        others |= {*study.retention.references} - {*study.task.data.references, study.model.source}
    return {name: fingerprint for name, fingerprint in fingerprints.items() if name not in others}


def trial_id(trial: TrialSpec) -> str:
    """Makes the id of a trial from its content: `ARM-sSEED-HASH`, of a search `ARM-search-sSEED-HASH`."""
    content = {
        "version": SPEC_VERSION,
        "model": trial.model.model_dump(mode="json"),
        "task": _task_content(trial.task),
        # A trial is the same whatever chose it or gave it its seed, so `search` and `race` are no part of its content.
        "protocol": _without_later_keys(
            trial.protocol.model_dump(mode="json", exclude={"search", "race"}), _PROTOCOL_BEFORE
        ),
        "method": trial.method,
        "options": trial.options,
        "learning_rate": trial.learning_rate,
        "fingerprints": trial.fingerprints or {},
    }
    content |= _spread(trial.devices, trial.shard) | _retention_content(trial.retention)
    if trial.learning_rate is not None and trial.execution.engine != "plain":
        # The plain engine adds nothing: it trains as versions without this key did.
        content["engine"] = trial.execution.engine
    if trial.stopping is not None:
        content["stopping"] = trial.stopping.model_dump(mode="json")
    name = _slug(trial.label)
    if trial.purpose != "final":
        content["purpose"] = trial.purpose
        name = f"{name}-{trial.purpose}"
    return f"{name}-s{trial.seed}-{content_hash(content)[:10]}"


def _refuse_twins(study: StudySpec) -> None:
    """Refuses two arms that are the same method, configured and searched alike: they would be the same arm twice."""
    problems: list[Problem] = []
    labels_by_content: dict[str, str] = {}
    spaces = search.spaces(study)
    for label, arm in study.methods.items():
        space = spaces.get(label, ())
        options, rate = _configuration(study, arm, search.first(space))
        device_keys = _spread(*devices_of(study, arm))
        start = [] if arm.start_from is None else [arm.start_from]
        content = content_hash(
            [arm.method, options, rate, [repr(dimension) for dimension in space], device_keys, *start]
        )
        if content in labels_by_content:
            problems.append(
                Problem(f"methods.{label}", f"has the same method and configuration as {labels_by_content[content]!r}")
            )
        labels_by_content[content] = label
    if problems:
        raise StudyError(problems)


def devices_of(study: StudySpec, arm: MethodSpec) -> tuple[int, bool]:
    """Returns on how many devices an arm's trials run, and whether its weights are sharded over them. An arm that uses
    no model runs on one device, and one that does not train is not sharded."""
    method = registry.methods()[arm.method]
    if not method.uses_model:
        return 1, False
    shard = study.shard if arm.shard is None else arm.shard
    return arm.devices or study.devices, bool(shard and method.trains)


def _spread(devices: int, shard: bool) -> dict[str, Any]:
    """Returns devices as part of a trial's content: one device adds nothing, so that ids stay as they were."""
    return {**({"devices": devices} if devices > 1 else {}), **({"shard": True} if shard else {})}


def _without_later_keys(content: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Returns content without keys that were added later and say what was done before, so that ids and folders stay as
    they were."""
    return {key: value for key, value in content.items() if key not in before or value != before[key]}


def _task_content(task: TaskSpec) -> dict[str, Any]:
    """Returns a task as part of a trial's content."""
    content: dict[str, Any] = task.model_dump(mode="json")
    sources = {role: source and _without_later_keys(source, _SOURCE_BEFORE) for role, source in content["data"].items()}
    return {**content, "data": sources}


def _retention_content(retention: RetentionSpec | None) -> dict[str, Any]:
    """Returns what is scored before and after training as part of a trial's or a study's content; nothing without."""
    return {} if retention is None else {"retention": retention.model_dump(mode="json")}


def _refuse_devices(study: StudySpec) -> None:
    """Refuses weights sharded over fewer than two devices, or with a method that changes the model's modules."""
    problems = []
    for label, arm in study.methods.items():
        devices, shard = devices_of(study, arm)
        if shard and devices == 1:
            problems.append(Problem(f"methods.{label}", "shard spreads weights over several devices; set devices too"))
        elif shard and not registry.methods()[arm.method].shardable:
            shardable = [name for name, method in registry.methods().items() if method.shardable]
            reason = f"{arm.method} cannot be sharded; {', '.join(shardable)} can: set shard there, not for the study"
            problems.append(Problem(f"methods.{label}", reason))
    if problems:
        raise StudyError(problems)


def _configuration(study: StudySpec, arm: MethodSpec, values: Values) -> tuple[dict[str, Any], float | None]:
    """Returns the arm's options, defaults filled in, and its learning rate, None for a method that does not train.

    Rates in order of priority: the search's suggestion, the protocol's one rate for all, the arm's own rate, the
    method's default.
    """
    method = registry.methods()[arm.method]
    others = {search.LEARNING_RATE, *search.settings_of(study.protocol, values)}
    searched_options = {key: value for key, value in values.items() if key not in others}
    options = _filled_in(method.Options, {**arm.options, **searched_options}, f"method {arm.method}")
    if not method.trains:
        return options, None
    rate = values.get(search.LEARNING_RATE) or study.protocol.learning_rate or arm.learning_rate
    return options, rate if rate is not None else method.learning_rate.center


def _filled_in(kind: type[BaseModel], options: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Returns options with defaults filled in.

    Raises:
        StudyError: if the plug-in does not take them, as where a study was recorded with another version of it.
    """
    try:
        return kind.model_validate(dict(options)).model_dump(mode="json")
    except ValidationError as error:
        keys = ", ".join(sorted({".".join(map(str, problem["loc"])) for problem in error.errors()}))
        raise StudyError(
            f"{owner} does not take these options: {shortened(keys)}",
            hint="They may be of another version of it; `tuneoff show` lists those that it takes.",
        ) from None


def _slug(label: str) -> str:
    return "".join(c if c.isalnum() or c in "_." else "_" for c in label)


def task_options(study: StudySpec) -> dict[str, Any]:
    """Returns the task's options with defaults filled in."""
    task = registry.tasks()[study.task.name]
    options = _filled_in(task.Options, study.task.options, f"task {study.task.name}")
    return _without_later_keys(options, _TASK_OPTIONS_BEFORE)


def question(study: StudySpec) -> dict[str, Any]:
    """Returns what a study asks, apart from which methods, how many seeds and how many search trials. Studies with
    equal questions may share a folder and a table."""
    protocol = study.protocol.model_dump(mode="json", exclude={"seeds": True, "race": True, "search": {"trials"}})
    protocol = _without_later_keys(protocol, _PROTOCOL_BEFORE)
    if study.protocol.search is None:
        del protocol["search"]
    else:
        protocol["search"] = _without_later_keys(protocol["search"], _SEARCH_BEFORE)
    return {
        "model": study.model.model_dump(mode="json"),
        "task": {**_task_content(study.task), "options": task_options(study)},
        "protocol": protocol,
        **_spread(study.devices, study.shard),
        **_retention_content(study.retention),
        "engine": study.execution.engine,
    }


def selection(study: StudySpec) -> list[Any]:
    """Returns the arms and seeds, in which studies of one question may differ."""
    arms = {label: arm.model_dump(mode="json", exclude_defaults=True) for label, arm in study.methods.items()}
    race = study.protocol.race
    return [arms, sorted(study.protocol.seeds), *([race.model_dump()] if race is not None else [])]


def difference(before: StudySpec, after: StudySpec) -> str:
    """Describes the first few keys in which two studies' questions differ."""
    old, new = _flat(question(before)), _flat(question(after))
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    changes = [f"{key}: {old.get(key)} there, {new.get(key)} here" for key in keys[:3]]
    return "; ".join(changes) + ("; …" if len(keys) > 3 else "")


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        flat: dict[str, Any] = {}
        for key, item in value.items():
            flat |= _flat(item, f"{path}.{key}" if path else str(key))
        return flat
    return {path: value}
