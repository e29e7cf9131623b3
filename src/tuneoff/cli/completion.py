"""What a shell offers to complete a command line with. Nothing is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from tuneoff.errors import TuneoffError

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def completer(names: Callable[[click.Context], Iterable[str]], files: bool = False) -> Completer:
    """Returns a shell completer. It offers the names that begin with the text after the last comma; where there are
    none, files and folders, if wanted."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        prefix, comma, word = incomplete.rpartition(",")
        items = [CompletionItem(prefix + comma + name) for name in names(ctx) if name.startswith(word)]
        return items or ([CompletionItem(incomplete, type="file")] if files else [])

    return complete


def recipes(ctx: click.Context | None = None) -> list[str]:
    """Lists the recipes' names; imports nothing before it is called."""
    from tuneoff.planning.loading import recipe_names

    return recipe_names()


def methods(ctx: click.Context | None = None) -> list[str]:
    """Lists the methods' names."""
    from tuneoff import registry

    return list(registry.methods())


def executors(ctx: click.Context | None = None) -> list[str]:
    """Lists the executors' names."""
    from tuneoff import registry

    return list(registry.executors())


def trials(ctx: click.Context) -> list[str]:
    """Lists the ids of the trials in the folder typed before; none where it holds no study."""
    from tuneoff.store import StudyStore

    with suppress(TuneoffError, TypeError):
        return StudyStore.open(ctx.params["folder"]).trial_ids()
    return []
