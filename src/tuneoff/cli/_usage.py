"""What to answer to an option or a command that does not exist: the name that is meant, or how a study says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tuneoff.cli.study_arguments import StudyOptions
from tuneoff.errors import nearest

if TYPE_CHECKING:
    from pydantic import BaseModel


def unknown_option(error: click.NoSuchOption) -> click.UsageError:
    """Returns the same error with what to type instead: another option, or `--set` with a key of a study."""
    context = error.ctx
    typed = error.option_name.lstrip("-").replace("-", "_")
    options = {
        spelling.lstrip("-"): spelling
        for parameter in (context.command.get_params(context) if context else [])
        for spelling in parameter.opts
        if isinstance(parameter, click.Option) and spelling.startswith("--")
    }
    takes_study = context is not None and any(p.name == "overrides" for p in context.command.params)
    keys = study_keys() if takes_study else {}
    similar = None if typed in keys else nearest(typed, options)
    if similar is not None:
        advice = f"did you mean {options[similar]}?"
    elif (key := nearest(typed, keys)) is not None:
        advice = f"set {keys[key]} with --set {keys[key]}=VALUE"
    else:
        advice = "--help lists the options that there are"
    return click.UsageError(f"No such option: {error.option_name}; {advice}", context)


def study_keys() -> dict[str, str]:
    """Maps each key's own name to its place in a study, e.g. `max_length` -> `protocol.max_length`.

    A name in several places gets the first one, in the order protocol, study, task, methods.
    """
    from tuneoff import registry
    from tuneoff.config.data import DataSpec, ModelSpec
    from tuneoff.config.execution import ExecutionSpec
    from tuneoff.config.protocol import Protocol
    from tuneoff.config.spec import StudySpec

    keys: dict[str, str] = {}
    sections: list[tuple[str, type[BaseModel]]] = [
        ("protocol", Protocol),
        ("", StudySpec),
        ("model", ModelSpec),
        ("execution", ExecutionSpec),
        *(("task", task.Options) for task in registry.tasks().values()),
        ("task.data", DataSpec),
        *((f"methods.{name}", method.Options) for name, method in registry.methods().items()),
    ]
    for section, spec in sections:
        for name in spec.model_fields:
            if name not in StudyOptions.__annotations__:
                keys.setdefault(name, f"{section}.{name}" if section else name)
    return keys
