"""`tuneoff recommend`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from tuneoff.analysis.axes import AXES
from tuneoff.cli import common_options, exit_codes, printing, study_arguments
from tuneoff.cli.commands import forecast
from tuneoff.config.deployability import FORMS, Form
from tuneoff.errors import StudyError

if TYPE_CHECKING:
    from tuneoff.cli.commands.recommend_before import AdviceBefore
    from tuneoff.report.advice import Advice
    from tuneoff.report.series.advice import SeriesAdvice


@click.command("recommend")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--before",
    is_flag=True,
    help="Answer before anything is trained, from a forecast and stated priors alone; DIR may be a STUDY as for `run`.",
)
@click.option(
    "--prior",
    "priors",
    multiple=True,
    metavar="NAME=LOW..HIGH",
    help="With --before: the share of full fine-tuning's gain over the baseline that an arm is expected to reach, e.g. "
    "lora=0.8..1; in place of its method's. May be repeated.",
)
@forecast.no_profile_option
@study_arguments.study_options
@click.option("--max-memory", metavar="SIZE", help="Peak memory of training at most this, e.g. 4GB or 4GiB.")
@click.option("--max-train-time", metavar="TIME", help="Train time at most this, e.g. 15m or 1h30m.")
@click.option("--max-stored", metavar="SIZE", help="What is kept beside the base model at most this, e.g. 20MB.")
@click.option("--max-latency", metavar="TIME", help="Median latency of one example at most this, e.g. 20ms.")
@click.option("--max-money", metavar="AMOUNT", help="A whole trial at most this, in the currency of the prices.")
@click.option(
    "--max-forgetting",
    metavar="CHANGE",
    help="What the study holds first (`retention`) at most this much worse after training, in its unit, e.g. 0.05.",
)
@click.option("--min", "at_least", multiple=True, metavar="METRIC=VALUE", help="A test metric at least this.")
@click.option("--max", "at_most", multiple=True, metavar="METRIC=VALUE", help="A metric of which less is better.")
@click.option(
    "--as-good-as",
    metavar="ARM",
    help="Only arms that are shown to be worse than this one (or than the `best`) by no more than --margin.",
)
@click.option(
    "--deployable",
    "forms",
    multiple=True,
    type=click.Choice(FORMS),
    help="Only arms that `tuneoff deployability` measured to work in this form; may be repeated.",
)
@common_options.margin_option
@common_options.prices_option
@click.option("--metric", metavar="NAME", help="Judge quality by this test metric; the primary one otherwise.")
@click.option(
    "--prefer",
    type=click.Choice(list(AXES)),
    default="time",
    show_default=True,
    help="The cost that decides among equally good arms.",
)
@click.option(
    "--pareto",
    multiple=True,
    metavar="AXES",
    help="Show the Pareto front of two or three of quality, time, memory, stored, parameters, latency, energy, "
    "money and forgetting, e.g. quality,memory; may be repeated. quality,time where none is named.",
)
@common_options.json_option("Print the recommendation as JSON (docs/recommend.md).")
@common_options.traceback_option
@click.pass_context
def recommend_command(
    ctx: click.Context,
    folder: Path,
    before: bool,
    priors: tuple[str, ...],
    no_profile: bool,
    max_memory: str | None,
    max_train_time: str | None,
    max_stored: str | None,
    max_latency: str | None,
    max_money: str | None,
    max_forgetting: str | None,
    at_least: tuple[str, ...],
    at_most: tuple[str, ...],
    as_good_as: str | None,
    forms: tuple[Form, ...],
    margin: float | None,
    prices: Path | None,
    metric: str | None,
    prefer: str,
    pareto: tuple[str, ...],
    as_json: bool,
    **options: Unpack[study_arguments.StudyOptions],
) -> None:
    """Say which method of DIR to use, under limits where there are any.

    Says why, what it gives up, what it is tied with or open against, what came close, what would change the answer, and
    how often draws of all true figures would give it. Arms that do not train are never recommended unless nothing beats
    them. Where no arm keeps the limits the exit code is 3, so that a script does not go on.

    Of a series it weighs the arms of all base models together, answers for the largest number of training rows, or
    takes the best average rank over data sets.

    What changes or narrows a study (--set, --methods, --seeds and the like) is for --before with a STUDY: results are
    what was measured.

    \b
    Examples:
      tuneoff recommend runs/quickstart-1a2b3c
      tuneoff recommend runs/quickstart-1a2b3c --max-memory 4GB --max-train-time 15m
      tuneoff recommend runs/quickstart-1a2b3c --as-good-as full --margin 0.01
      tuneoff recommend runs/quickstart-1a2b3c --min accuracy=0.9 --prefer stored --pareto quality,stored,latency
      tuneoff recommend runs/quickstart-1a2b3c --deployable merged --deployable onnx
      tuneoff recommend runs/quickstart-1a2b3c --prices prices.yaml --max-money 0.02
      tuneoff recommend runs/quickstart-1a2b3c --max-forgetting 0.02 --pareto quality,forgetting
      tuneoff recommend --before reviews.study.yaml --max-memory 2GB
      tuneoff recommend --before quickstart --set protocol.batch_size=4 --methods full,lora
    """
    from tuneoff.report.advice import Criteria, advise
    from tuneoff.report.series.advice import advise_series
    from tuneoff.store import StudyStore
    from tuneoff.store.series import SeriesStore

    costs = {"memory": max_memory, "time": max_train_time, "stored": max_stored, "latency": max_latency}
    costs |= {"money": max_money, "forgetting": max_forgetting}
    stated = common_options.read_prices(prices)
    criteria = Criteria(costs, at_least, at_most, metric, prefer, pareto, as_good_as, margin, stated, forms)
    advice: Advice | AdviceBefore | SeriesAdvice
    command = ""
    if before:
        from tuneoff.cli.commands.recommend_before import advise_before

        advice = advise_before(folder, options, criteria, priors, profile=not no_profile)
        command = advice.command
    else:
        _refuse_before(priors, no_profile)
        series = SeriesStore(folder)
        advice = advise_series(series, criteria) if series.is_there else advise(StudyStore.open(folder), criteria)
    if as_json:
        printing.print_json(advice.as_data())
    else:
        printing.console().print(advice)
        if command:
            printing.echo(command)
    if advice.answer is None:
        ctx.ensure_object(exit_codes.State).exit_code = exit_codes.NOTHING_FITS


def _refuse_before(priors: Sequence[str], no_profile: bool) -> None:
    """Refuses options that only an answer before training reads.

    Raises:
        StudyError: if one of them was given.
    """
    if priors or no_profile:
        option = "--prior" if priors else "--no-profile"
        raise StudyError(f"{option} is for --before: measured results need no prior and no forecast")
    if option_name := study_arguments.study_option_given():
        raise StudyError(
            f"{option_name} is for --before: results that were measured do not change with it",
            hint=f"Leave it out, or ask `tuneoff recommend --before STUDY {option_name} …` with a study file or a "
            "recipe.",
        )
