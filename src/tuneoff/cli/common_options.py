"""Options that several commands have."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tuneoff.cli.exit_codes import State

if TYPE_CHECKING:
    from tuneoff.config.spec import PricesSpec

C = TypeVar("C", bound=Callable[..., Any])


def _keep_traceback(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(State).traceback = True


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
