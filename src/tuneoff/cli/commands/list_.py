"""`tuneoff list`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import click

from tuneoff.cli import common_options, printing

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
