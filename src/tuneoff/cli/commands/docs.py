"""Writes what of the documentation is generated: `python -m tuneoff.cli.commands.docs docs`.

That is docs/cli.md, from the commands themselves, and the tables of keys of other pages, from the models' fields.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from tuneoff.cli.commands import plan
from tuneoff.cli.exit_codes import EXIT_CODES
from tuneoff.cli.key_tables import with_tables
from tuneoff.cli.main import COMMANDS, cli

HEAD = """\
# The command line

<!-- Made by `python -m tuneoff.cli.commands.docs docs`; a test says when it is out of date. -->

`tuneoff` and `python -m tuneoff` are the same. Results and JSON go to stdout, progress and messages to stderr. What
`--json` prints is described where the option is, or on the page that it names.

Shells complete commands, options and the names of recipes, methods, executors and trials after this line, once for each
shell:

```
eval "$(_TUNEOFF_COMPLETE=bash_source tuneoff)"       # in ~/.bashrc; bash 4.4 or newer
eval "$(_TUNEOFF_COMPLETE=zsh_source tuneoff)"        # in ~/.zshrc
_TUNEOFF_COMPLETE=fish_source tuneoff | source        # in ~/.config/fish/config.fish
```

| exit code | meaning |
|---|---|
"""


def markdown() -> str:
    """Returns the whole page as Markdown."""
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    parts = [HEAD + codes]
    context = click.Context(cli, info_name="tuneoff")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        if command is None:
            raise LookupError(f"no command {name!r}, though COMMANDS lists it")
        parts += _section(command, context, name, level=2)
        if name == "plan":
            parts.append(f"The JSON of `plan`, version {plan.SCHEMA_VERSION}:\n\n{_keys(plan.KEYS)}")
            parts.append(f"And of a series ([series.md](series.md)):\n\n{_keys(plan.SERIES_KEYS)}")
    return "\n".join(parts)


def _keys(keys: Mapping[str, str]) -> str:
    """Returns a table of keys and their meanings."""
    return "| key | meaning |\n|---|---|\n" + "".join(f"| `{key}` | {meaning} |\n" for key, meaning in keys.items())


def _section(command: click.Command, parent: click.Context, name: str, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    yield f"{'#' * level} {context.command_path}\n"
    parameters = command.get_params(context)
    arguments = [p.metavar or (p.name or "").upper() for p in parameters if isinstance(p, click.Argument)]
    pieces = "COMMAND NAME" if isinstance(command, click.Group) else " ".join(arguments)
    yield f"```\n{context.command_path} [OPTIONS] {pieces}".rstrip() + "\n```\n"
    prose, _, examples = inspect.cleandoc(command.help or "").partition("\b\n")
    yield prose.strip() + "\n"
    options = [p for p in parameters if isinstance(p, click.Option) and "--help" not in p.opts]
    if options:
        yield "| option | meaning |\n|---|---|\n" + "".join(f"{_row(option)}\n" for option in options)
    if examples:
        yield f"```\n{inspect.cleandoc(examples.partition(chr(10))[2])}\n```\n"
    if isinstance(command, click.Group):
        for sub in command.commands.values():
            yield from _section(sub, context, sub.name or "", level + 1)


def _row(option: click.Option) -> str:
    kind = option.type
    if option.is_flag:
        value = ""
    elif isinstance(kind, click.Choice):
        value = " " + "\\|".join(map(str, kind.choices))
    else:
        value = " " + (option.metavar or kind.name.upper())
    default = f" Default: {option.default}." if option.show_default and option.default is not None else ""
    return f"| `{option.opts[0]}{value}` | {option.help}{default} |"


def generated(folder: Path) -> dict[Path, str]:
    """Returns the text of every page of the documentation that is generated, whole or in part."""
    return {folder / "cli.md": markdown(), **with_tables(folder)}


if __name__ == "__main__":
    for path, text in generated(Path(sys.argv[1])).items():
        path.write_text(text, encoding="utf-8")
