"""What several commands share: exit codes, options, consoles and JSON."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from tuneoff.encoding import json_text, visible
from tuneoff.errors import TuneoffError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment

    from tuneoff.config.protocol import Protocol
    from tuneoff.config.spec import PricesSpec, StudySpec
    from tuneoff.study.series import Series
    from tuneoff.study.study import Study

C = TypeVar("C", bound=Callable[..., Any])

OK, TRIAL_FAILED, BAD_INPUT, NOTHING_FITS, INTERRUPTED = 0, 1, 2, 3, 130

EXIT_CODES = {
    OK: "all went well",
    TRIAL_FAILED: "a trial failed (the report is written all the same), an essential part is missing (`doctor`), or "
    "tuneoff met an error of its own",
    BAD_INPUT: "the command line, the study or its data cannot be used; nothing was trained",
    NOTHING_FITS: "`recommend` has no answer: no method keeps the limits, or none has a score that can be weighed",
    INTERRUPTED: "interrupted; finished trials are kept and the same command continues",
}


@dataclass
class State:
    """What a command reports to the code that runs it.

    Attributes:
        traceback: show where an error came from.
        exit_code: exit code of a command that ends without an error.
        error_code: exit code of a `TuneoffError`; becomes 1 once training has begun.
    """

    traceback: bool = False
    exit_code: int = OK
    error_code: int = BAD_INPUT


WIDTH_OF_A_FILE = 110
"""Columns of a table written to a file or a pipe, where nothing says how wide it may be."""


def _keep_traceback(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(State).traceback = True


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


traceback_option = click.option(
    "--traceback",
    is_flag=True,
    expose_value=False,
    callback=_keep_traceback,
    help="Show where an error came from (also: TUNEOFF_TRACEBACK=1).",
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes a GPU where there is one.",
)


def json_option(help_text: str) -> Callable[[C], C]:
    """Returns the option `--json`, which passes the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def _finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is no number.", ctx, param)
    return value


margin_option = click.option(
    "--margin",
    type=click.FloatRange(min=0, max=1e9, min_open=True),
    callback=_finite,
    metavar="M",
    help="Also say which arms are shown to be at most M worse than the best, in the primary metric's unit, e.g. 0.01. "
    "In place of the study's `margin`.",
)


prices_option = click.option(
    "--prices",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A file with what an hour of your devices costs (docs/recommend.md#money), to tell money too. In place of the "
    "study's `prices`.",
)


def read_prices(path: Path | None) -> PricesSpec | None:
    """Reads the file of `--prices`; None where it is not given.

    Raises:
        StudyError: with every problem of it.
    """
    from tuneoff.planning import prices

    return None if path is None else prices.read_prices(path)


class Seeds(click.IntRange):
    """A number of seeds, or `race`."""

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "race" else super().convert(value, param, ctx)


class StudyOptions(TypedDict):
    """The options that change or narrow a study, as click passes them."""

    model: str | None
    data: str | None
    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    overrides: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: int | Literal["race"] | None
    search: int | None
    random_weights: bool
    devices: int | None
    trackers: tuple[str, ...]
    executor: str | None
    ray_address: str | None
    device: str


SHORT_FOR = {
    "model": "model",
    "data": "task.data",
    "epochs": "protocol.epochs",
    "batch_size": "protocol.batch_size",
    "learning_rate": "protocol.learning_rate",
    "devices": "devices",
    "ray_address": "executor.address",
}
"""Option -> the key of a study that it sets."""


def study_options(function: C) -> C:
    """Adds the options that change or narrow a study (see `StudyOptions`)."""
    for option in reversed(
        (
            click.option("--model", metavar="MODEL", help="Base model: alias, hub id or folder. Sets model."),
            click.option("--data", metavar="DATA", help="Rows: alias, hub id or file. Sets task.data."),
            click.option(
                "--epochs", type=click.IntRange(min=1), metavar="N", help="Passes over the rows. Sets protocol.epochs."
            ),
            click.option(
                "--batch-size",
                type=click.IntRange(min=1),
                metavar="N",
                help="Examples per optimizer step. Sets protocol.batch_size.",
            ),
            click.option(
                "--learning-rate",
                "--lr",
                type=click.FloatRange(min=0, min_open=True),
                metavar="RATE",
                help="One rate for every arm, in place of each method's own. Sets protocol.learning_rate.",
            ),
            click.option(
                "--set",
                "overrides",
                multiple=True,
                metavar="KEY=VALUE",
                help="Set one key of the study, e.g. protocol.epochs=2; may be repeated.",
            ),
            click.option(
                "--methods",
                multiple=True,
                metavar="NAMES",
                shell_complete=completer(methods),
                help="Only these arms of the study, or other methods, e.g. lora,full; may be repeated.",
            ),
            click.option(
                "--seeds",
                type=Seeds(),
                metavar="N",
                help="Number of seeds; race: 6 for every arm, and up to 20 for those that may still be the best.",
            ),
            click.option(
                "--search",
                type=click.IntRange(min=0),
                metavar="N",
                help="Search the learning rate of every arm that trains, with N trials each on validation data, before "
                "the final trials; 0: no search. Sets protocol.search.trials.",
            ),
            click.option(
                "--random-weights",
                is_flag=True,
                help="Build the base model from its configuration alone: times and sizes are real, quality means "
                "nothing.",
            ),
            click.option(
                "--tracker",
                "trackers",
                multiple=True,
                metavar="NAME",
                help="Follow the run with a tracker, e.g. tensorboard, instead of the study's own; may be repeated.",
            ),
            click.option(
                "--executor",
                metavar="NAME",
                shell_complete=completer(executors),
                help="Where the trials run, e.g. local, instead of the study's own. Sets executor.",
            ),
            click.option(
                "--ray-address",
                metavar="HOST:PORT",
                help="Run the trials on the Ray cluster there. Sets executor to ray, and executor.address.",
            ),
            device_option,
            click.option(
                "--devices",
                type=click.IntRange(min=1),
                metavar="N",
                help="Devices of each trial, one process each: GPUs, or shares of the cores. Sets devices.",
            ),
        )
    ):
        function = option(function)
    return function


def study_option_given() -> str | None:
    """Returns the first study option on this command's command line, e.g. `--set`; None where there is none."""
    context = click.get_current_context()
    for parameter in context.command.params:
        typed = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if typed and parameter.name in StudyOptions.__annotations__:
            return parameter.opts[0]
    return None


def open_study(reference: str, options: StudyOptions) -> Study:
    """Opens the study that a command line names.

    Raises:
        StudyError: with every problem of it; where it names a series.
    """
    from tuneoff.study.study import Study

    return Study(**_arguments(reference, options))


def open_study_or_series(reference: str, options: StudyOptions) -> Study | Series:
    """Opens what a command line names: a study or, where a list makes it one, a series.

    Raises:
        StudyError: with every problem of it.
    """
    from tuneoff.planning import loading
    from tuneoff.planning.series import listed_axes
    from tuneoff.study.series import Series
    from tuneoff.study.study import Study

    arguments = _arguments(reference, options)
    raw, _, _ = loading.read(arguments["study"], arguments["overrides"], arguments["executor"])
    if listed_axes(raw):
        return Series(arguments.pop("study"), **arguments)
    return Study(**arguments)


def refuse_for_series(option: str, value: Any) -> None:
    """Refuses an option that only one study takes.

    Raises:
        StudyError: if it was given.
    """
    from tuneoff.errors import StudyError

    if value is not None:
        raise StudyError(
            f"{option} is for one study, and this is a series of several",
            hint=f"Leave it out, or give {option} to the folder of one member (members/NAME) once it has begun.",
        )


def _arguments(reference: str, options: StudyOptions) -> dict[str, Any]:
    """Returns what `Study` and `Series` are made with."""
    from tuneoff.errors import StudyError

    names = [name.strip() for text in options["methods"] for name in text.split(",") if name.strip()]
    if options["methods"] and not names:
        raise StudyError("--methods names no method", hint="Give names with commas between, e.g. --methods lora,full.")
    # --set comes last, so that it overrides the short options.
    overrides = [
        f"{key}={json.dumps(options[name])}"  # type: ignore[literal-required]
        for name, key in SHORT_FOR.items()
        if options[name] is not None  # type: ignore[literal-required]
    ]
    overrides += options["overrides"]
    if options["search"] is not None:
        overrides.append(f"protocol.search.trials={options['search']}" if options["search"] else "protocol.search=null")
    if options["trackers"]:
        trackers = [name.strip() for text in options["trackers"] for name in text.split(",") if name.strip()]
        overrides.append(f"trackers={json.dumps(trackers)}")
    return {
        "study": _kept_study(reference) or reference,
        "overrides": overrides,
        "methods": list(dict.fromkeys(names)) or None,
        "seeds": options["seeds"],
        "random_weights": options["random_weights"],
        "device": options["device"],
        "executor": options["executor"] or ("ray" if options["ray_address"] else None),
    }


def folder_of(reference: str) -> Path | None:
    """Returns the folder of an earlier run by which a command line names its study or series; None for a recipe or a
    study file."""
    from tuneoff.planning.loading import recipe_names
    from tuneoff.store import SeriesStore, StudyStore

    folder = Path(reference)
    is_there = StudyStore(folder).is_there or SeriesStore(folder).is_there
    return folder if is_there and reference not in recipe_names() else None


def _kept_study(reference: str) -> dict[str, Any] | None:
    from tuneoff.store import SeriesStore, StudyStore

    folder = folder_of(reference)
    if folder is None:
        return None
    if SeriesStore(folder).is_there:
        return SeriesStore(folder).study
    return StudyStore(folder).study().model_dump(mode="json")


def console(stderr: bool = False) -> Console:
    """Returns a console that prints plain text as it stands: no markup, no coloured numbers, and no control characters
    but those of rich's own styles."""
    from rich.console import Console

    class Plain(Console):
        def render(self, *args: Any, **kwargs: Any) -> Iterator[Segment]:
            for segment in super().render(*args, **kwargs):
                yield segment if segment.control else segment._replace(text=visible(segment.text))

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH_OF_A_FILE
    return Plain(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)


def print_json(value: Any) -> None:
    """Prints plain data on stdout as JSON; refuses numbers that are not finite, instead of writing NaN."""
    echo(json_text(value, indent=2))


def echo(text: str, *, err: bool = False, nl: bool = True, style: str | None = None) -> None:
    """Prints text with its control characters made visible, so that no terminal obeys them.

    Args:
        err: print on stderr.
        nl: end the line after the text.
        style: its colour, for a terminal.
    """
    click.secho(visible(text), err=err, nl=nl, fg=style)


def deployability_line(spec: StudySpec) -> str:
    """Says that trained models are measured again in the end, and that their time is not forecast; empty where none
    are."""
    if not spec.deployability:
        return ""
    forms = ", ".join(spec.deployability)
    return (
        f"in the end the recommended arm's trained models are scored again: {forms} (no forecast or budget counts the "
        "time of that)"
    )


def search_line(study: Study) -> str:
    """Describes a study's search in one line; empty where there is no search."""
    from tuneoff.search.rates import describe_first_rates
    from tuneoff.search.space import LEARNING_RATE, first, spaces

    planned = study.plan_search()
    if not planned:
        return ""
    arms = count(len({trial.label for trial in planned}), "arm")
    protocol = study.spec.protocol
    is_per_seed = protocol.search is not None and bool(protocol.search.per_seed)
    per_seed = f", for each of {count(len(protocol.seeds), 'seed')} by itself" if is_per_seed else ""
    trials = count(len(planned), "trial")
    settings = protocol.search.space if protocol.search is not None else {}
    also = f", of {', '.join(name.replace('_', ' ') for name in settings)} too" if settings else ""
    line = f"search before the final trials: {trials} of {arms}{per_seed}{also}, scored on validation data alone"
    firsts = {
        label: first(space)[LEARNING_RATE]
        for label, space in spaces(study.spec).items()
        if LEARNING_RATE in first(space)
    }
    return f"{line}; {describe_first_rates(study.spec, firsts)}" if firsts else line


def seeds_text(protocol: Protocol) -> str:
    """Describes the seeds of every arm: `3 seeds`, or `6 to 20 seeds by racing`."""
    race = protocol.race
    return count(len(protocol.seeds), "seed") if race is None else f"{race.min} to {race.max} seeds by racing"


def count(number: int, noun: str) -> str:
    """Formats a number with its noun: `1 arm`, `3 arms`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def seconds(value: float | None) -> str:
    """Formats a duration as a running clock shows it, less exact than the report: `0.4 s`, `3 min 05 s`, `2 h 10 min`.

    `–` where it is unknown.
    """
    if value is None:
        return "–"
    if value < 10:
        return f"{value:.1f} s"
    rounded = round(value)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60:02d} min"
