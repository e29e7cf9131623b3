"""`tuneoff show`."""

from __future__ import annotations

import inspect
import re
from typing import Any

import click

from tuneoff.cli import common_options, completion, printing
from tuneoff.cli.option_tables import options

Item = dict[str, Any]


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
