"""The study or series that a command line names, with the options that change or narrow it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

import click
from click.core import ParameterSource

from tuneoff.cli import completion
from tuneoff.cli.common_options import device_option

if TYPE_CHECKING:
    from tuneoff.study.series import Series
    from tuneoff.study.study import Study

C = TypeVar("C", bound=Callable[..., Any])


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


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
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
        shell_complete=completion.completer(completion.methods),
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
        help="Build the base model from its configuration alone: times and sizes are real, quality means nothing.",
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
        shell_complete=completion.completer(completion.executors),
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


def study_options(function: C) -> C:
    """Adds the options that change or narrow a study (see `StudyOptions`)."""
    for option in reversed(_OPTIONS):
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
