"""`tuneoff run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from tuneoff.cli import common_options, completion, printing, study_arguments
from tuneoff.cli.commands import forecast
from tuneoff.cli.commands.budget import budget_option
from tuneoff.cli.exit_codes import State

if TYPE_CHECKING:
    from tuneoff.analysis.results import Results
    from tuneoff.report.schema import Report


@click.command("run")
@click.argument("study", shell_complete=completion.completer(completion.recipes, files=True))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the results; runs/NAME-xxxxxx where not given.",
)
@forecast.no_profile_option
@budget_option
@study_arguments.study_options
@common_options.margin_option
@common_options.json_option(
    "Print every event as a line of JSON on stdout, the last one with the report (docs/events.md); progress for people "
    "goes to stderr."
)
@common_options.traceback_option
@click.pass_context
def run_command(
    ctx: click.Context,
    study: str,
    out: Path | None,
    no_profile: bool,
    budget: str | None,
    margin: float | None,
    as_json: bool,
    **options: Unpack[study_arguments.StudyOptions],
) -> None:
    """Fine-tune with every method of STUDY under one protocol and report.

    STUDY is the name of a recipe (`tuneoff list recipes`), a study file in YAML, or the folder of an earlier run, which
    goes on. Finished trials are kept: the same command runs what is missing and nothing else. Other arms or seeds get a
    folder of their own, which takes over the trials that are finished already. With a list of sizes, base models or
    data sets, STUDY is a series: one study of each (docs/series.md).

    \b
    Examples:
      tuneoff run quickstart
      tuneoff run quickstart --methods lora,full --seeds 6
      tuneoff run quickstart --search 8
      tuneoff run quickstart --budget 30m
      tuneoff run quickstart-summarize
      tuneoff run quickstart --set 'protocol.train_rows=[100, 200, 400]'
      tuneoff run reviews.study.yaml --set protocol.epochs=1 --set methods.lora.r=4
      tuneoff run gpt2-ag-news --random-weights --set protocol.max_steps=20
      tuneoff run runs/quickstart-1a2b3c
    """
    from tuneoff.cli.commands.running import run_study
    from tuneoff.cli.commands.running_series import run_series
    from tuneoff.cli.live.stream import Stream
    from tuneoff.study.series import Series

    if margin is not None:
        options["overrides"] += (f"margin={margin!r}",)
    opened = study_arguments.open_study_or_series(study, options)
    out = out or study_arguments.folder_of(study)
    state = ctx.ensure_object(State)
    with Stream(as_json) as stream:
        if isinstance(opened, Series):
            study_arguments.refuse_for_series("--budget", budget)
            run_series(opened, out, state, stream, profile=not no_profile)
            return
        if budget is not None:
            opened.limit(budget)
        run_study(opened, out, state, stream, _show, profile=not no_profile)


def _show(results: Results, report: Report) -> None:
    """Shows the whole report on stdout."""
    from tuneoff.report import terminal

    terminal.render_built(results, report, printing.console())
