"""`tuneoff list` and `tuneoff show`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import click

from tuneoff.cli import common_options, completion, printing

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

Item = dict[str, Any]


def _methods() -> list[Item]:
    from tuneoff import registry

    items = []
    for name, method in registry.methods().items():
        rate = method.learning_rate.center if method.trains else None
        items.append(
            {
                "name": name,
                "title": method.title,
                "summary": method.summary,
                "trains": method.trains,
                "mergeable": method.mergeable,
                "learning_rate": rate,
                "paper": method.paper,
            }
        )
    for name, family in registry.methods().families().items():
        items.append(
            {
                "name": f"{name}:<variant>",
                "title": family.title,
                "summary": family.summary,
                "trains": True,
                "mergeable": None,
                "learning_rate": None,
                "paper": None,
                "variants": [f"{name}:{variant}" for variant in family.variants()],
            }
        )
    return sorted(items, key=lambda item: bool(item["trains"]))


def _tasks() -> list[Item]:
    from tuneoff import registry

    return [
        {"name": name, "title": task.title, "summary": task.summary, "primary_metric": task.primary_metric}
        for name, task in registry.tasks().items()
    ]


def _metrics() -> list[Item]:
    from tuneoff import registry

    items = [
        {
            "name": name,
            "title": metric.title or name.replace("_", " "),
            "summary": metric.summary + (f" Not installed: pip install {metric.extra!r}" if metric.lacks() else ""),
            "direction": metric.direction,
            "unit": metric.unit,
            "produces": list(metric.produces),
            "installed": not metric.lacks(),
        }
        for name, metric in registry.metrics().items()
    ]
    for name, family in registry.metrics().families().items():
        items.append({"name": f"{name}:<variant>", "title": family.title, "summary": family.summary})
    return items


def _recipes() -> list[Item]:
    from tuneoff.planning import loading

    items = []
    for name in loading.recipe_names():
        study = loading.load(name)
        items.append(
            {
                "name": name,
                "summary": " ".join(study.description.split()),
                "model": study.model.source,
                "data": study.task.data.train.source,
                "task": study.task.name,
                "arms": list(study.methods),
                "seeds": len(study.protocol.seeds),
                "published": study.published.citation if study.published else None,
            }
        )
    return items


def _sources() -> list[Item]:
    from tuneoff import registry

    kinds = sorted(registry.sources().items(), key=lambda item: item[1].priority)
    return [{"name": name, "title": kind.title, "summary": kind.summary} for name, kind in kinds]


def _trackers() -> list[Item]:
    from tuneoff import registry

    items = []
    for name, tracker in registry.trackers().items():
        is_missing = tracker.lacks()
        line = tracker.summary + (
            f" Not installed: pip install {tracker.extra}" if is_missing and tracker.extra else ""
        )
        item = {
            "name": name,
            "title": tracker.title,
            "summary": line,
            "installed": not is_missing,
            "extra": tracker.extra,
        }
        items.append(item)
    return items


def _executors() -> list[Item]:
    from tuneoff import registry

    return [
        {"name": name, "title": executor.title, "summary": executor.summary}
        for name, executor in registry.executors().items()
    ]


def _aliases(kind: Literal["model_aliases", "dataset_aliases"]) -> list[Item]:
    from tuneoff import registry

    return [
        {"name": alias, "summary": line, "source": name}
        for name, source in registry.sources().items()
        for alias, line in getattr(source(), kind)().items()
    ]


def _models() -> list[Item]:
    from tuneoff import architectures

    items = [{**item, "random_weights": False} for item in _aliases("model_aliases")]
    for name in architectures.names():
        ids = ", ".join(architectures.KNOWN_AS[name])
        listed_model = next((item for item in items if item["name"] == name), None)
        if listed_model is not None:
            listed_model["random_weights"] = True
        else:
            items.append(
                {
                    "name": name,
                    "summary": f"Configuration of {ids}; without its weights only with --random-weights.",
                    "source": None,
                    "random_weights": True,
                }
            )
    return items


KINDS: dict[str, Callable[[], list[Item]]] = {
    "methods": _methods,
    "tasks": _tasks,
    "metrics": _metrics,
    "recipes": _recipes,
    "models": _models,
    "datasets": lambda: _aliases("dataset_aliases"),
    "sources": _sources,
    "trackers": _trackers,
    "executors": _executors,
}
BESIDES = {
    "models": "Also any hub id (org/name) with safetensors, and any folder with config.json and safetensors or GGUF.",
    "datasets": "Also any hub id (org/name) and any file of rows: CSV, JSONL, Parquet and more (docs/data.md).",
    "methods": "`tuneoff show method NAME` describes one.",
    "metrics": "A study adds them to its task's own: `task.metrics: [NAME]`; docs/add-a-metric.md.",
    "recipes": "`tuneoff show recipe NAME` prints one.",
    "executors": "`tuneoff show executor NAME` describes one. A study names one: `executor: NAME`, or --executor NAME.",
    "trackers": "None follows a study unasked: tuneoff run STUDY --tracker NAME, or `trackers: [NAME]` in its file.",
}


@click.command("list")
@click.argument("kind", metavar="KIND", type=click.Choice(list(KINDS)))
@common_options.json_option("Print a JSON list of objects, each with a name.")
@common_options.traceback_option
def list_command(kind: str, as_json: bool) -> None:
    """List what there is to choose from.

    KIND is methods, tasks, metrics, recipes, models, datasets, sources, trackers or executors.

    \b
    Examples:
      tuneoff list methods
      tuneoff list datasets --json
    """
    items = KINDS[kind]()
    if as_json:
        printing.print_json(items)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for item in items:
        table.add_row(item["name"], item["summary"])
    console = printing.console()
    console.print(table)
    if kind in BESIDES:
        console.print(f"\n{BESIDES[kind]}")


@click.group("show")
def show_command() -> None:
    """Describe one method, task, executor or recipe.

    \b
    Examples:
      tuneoff show method lora
      tuneoff show method peft:vera
      tuneoff show recipe quickstart > mine.yaml
    """


@show_command.command("method")
@click.argument("name", shell_complete=completion.completer(completion.methods))
@common_options.json_option("Print the description as JSON.")
@common_options.traceback_option
def show_method(name: str, as_json: bool) -> None:
    """What the method NAME is, its options with defaults, its learning rates and its paper."""
    from tuneoff import registry

    method = registry.methods()[name]
    rate, prior = method.learning_rate, method.prior
    data = {
        "name": name,
        "title": method.title,
        "summary": method.summary,
        "description": _description(method),
        "trains": method.trains,
        "mergeable": method.mergeable,
        "learning_rate": {"default": rate.center, "low": rate.low, "high": rate.high} if method.trains else None,
        "options": options(method.Options),
        "other_options": method.Options.model_config.get("extra") == "allow",
        "prior": {"low": prior.low, "high": prior.high, "source": prior.source} if prior else None,
        "paper": method.paper,
    }
    if as_json:
        printing.print_json(data)
        return
    facts = [("training", "none: a baseline to compare with")]
    if method.trains:
        merge = "can be folded into the base model's weights" if method.mergeable else "stays beside the base model"
        facts = [
            ("learning rate", f"{rate.center:g} by default, range {rate.low:g} to {rate.high:g}"),
            ("merge", merge),
        ]
    if prior:
        # `recommend --before` uses it.
        gain = f"{100 * prior.low:.0f} % to {100 * prior.high:.0f} % of full fine-tuning's gain over the baseline"
        facts.append(("prior", f"{gain}: {prior.source}"))
    facts.append(("paper", method.paper or "–"))
    _print_plugin(data, facts)


@show_command.command("task")
@click.argument("name")
@common_options.json_option("Print the description as JSON.")
@common_options.traceback_option
def show_task(name: str, as_json: bool) -> None:
    """What the task NAME is, its options with defaults and its metrics."""
    from tuneoff import registry

    task = registry.tasks()[name]
    data = {
        "name": name,
        "title": task.title,
        "summary": task.summary,
        "description": _description(task),
        "primary_metric": task.primary_metric,
        "metrics": {metric.name: metric.direction for metric in task.metrics},
        "options": options(task.Options),
    }
    if as_json:
        printing.print_json(data)
        return
    metrics = ", ".join(f"{metric.name} ({metric.direction} is better)" for metric in task.metrics)
    _print_plugin(data, [("primary metric", task.primary_metric), ("metrics", metrics)])


@show_command.command("executor")
@click.argument("name", shell_complete=completion.completer(completion.executors))
@common_options.json_option("Print the description as JSON.")
@common_options.traceback_option
def show_executor(name: str, as_json: bool) -> None:
    """Where the executor NAME runs trials, and its options with defaults."""
    from tuneoff import registry

    executor = registry.executors()[name]
    data = {
        "name": name,
        "title": executor.title,
        "summary": executor.summary,
        "description": _description(executor),
        "options": options(executor.Options),
    }
    if as_json:
        printing.print_json(data)
        return
    _print_plugin(data, [])


@show_command.command("recipe")
@click.argument("name", shell_complete=completion.completer(completion.recipes))
@common_options.json_option("Print the whole study, defaults filled in, as JSON.")
@common_options.traceback_option
def show_recipe(name: str, as_json: bool) -> None:
    """The study file of the recipe NAME, to read or to start one's own from."""
    from tuneoff.errors import StudyError, did_you_mean
    from tuneoff.planning import loading

    names = loading.recipe_names()
    if name not in names:
        raise StudyError(f"no recipe called {name!r}{did_you_mean(name, names)}", hint=f"Recipes: {', '.join(names)}.")
    if as_json:
        printing.print_json(loading.load(name).model_dump(mode="json"))
        return
    printing.echo((loading.RECIPES / f"{name}.yaml").read_text(encoding="utf-8"), nl=False)


def _description(plugin: object) -> str:
    """Returns the plug-in's own docstring; empty where it only inherits the one of its base class."""
    return inspect.cleandoc(plugin.__dict__.get("__doc__") or "")


def options(model: type[BaseModel]) -> list[Item]:
    """Lists the fields of an options model: name, type, default, required, description."""
    return [
        {
            "name": name,
            "type": _type(field),
            "required": field.is_required(),
            "default": None if field.is_required() else _plain(field.get_default(call_default_factory=True)),
            "description": field.description or "",
        }
        for name, field in model.model_fields.items()
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (tuple, set, frozenset)) else value


def _type(field: FieldInfo) -> str:
    """Describes a field's type and limits: `integer ≥ 1`, `'pfeiffer' or 'houlsby'`, `list of text, or null`."""
    words = _type_words(field.annotation)
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        f"{sign} {getattr(limit, name)}"
        for limit in field.metadata
        for name, sign in signs.items()
        if getattr(limit, name, None) is not None
    ]
    return " ".join([words, " and ".join(limits)]).strip()


def _type_words(annotation: Any) -> str:
    names = {int: "integer", float: "number", str: "text", bool: "true or false", NoneType: "null"}
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(repr(part) for part in parts)
    if origin in (Union, UnionType):
        return " or ".join(_type_words(part) for part in parts)
    if origin in (tuple, list, set, frozenset) and parts:
        return f"list of {_type_words(parts[0])}"
    if annotation in names:
        return names[annotation]
    return re.sub(r"\b[a-z_]+\.", "", getattr(annotation, "__name__", None) or str(annotation))


def _unwrapped(text: str) -> str:
    """Joins the lines of each paragraph, so that only the terminal's width breaks them. Lists and other indented lines
    stay as they are."""
    return re.sub(r"(?<=\S)\n(?=[^\s*-])", " ", text)


def _print_plugin(data: Item, facts: list[tuple[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    console = printing.console()
    console.print(Text(f"{data['name']}: {data['title']}", style="bold"))
    console.print(data["summary"])
    if data["description"] and data["description"] != data["summary"]:
        console.print(f"\n{_unwrapped(data['description'])}")
    console.print()
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts:
        table.add_row(key, value)
    console.print(table)
    if not data["options"]:
        # The plug-in's description says which.
        if not data.get("other_options"):
            console.print("\nIt has no options.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("option", "default", "type", "what it does"):
        table.add_column(heading, overflow="fold")
    for option in data["options"]:
        default = "required" if option["required"] else _yaml(option["default"])
        table.add_row(option["name"], default, option["type"], option["description"])
    console.print()
    console.print(table)


def _yaml(value: Any) -> str:
    """Formats a default as it would stand in a study file."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return str(value)
