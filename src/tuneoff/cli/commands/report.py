"""`tuneoff report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuneoff.cli import common_options, printing
from tuneoff.errors import StoreError, StudyError

if TYPE_CHECKING:
    from tuneoff.config.spec import PricesSpec
    from tuneoff.store.series import SeriesStore


@click.command("report")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--latex",
    is_flag=True,
    help="Write DIR/report/latex too: a table, a paragraph on methods, its references and charts, for a paper.",
)
@common_options.margin_option
@common_options.prices_option
@common_options.json_option("Print the summary as JSON (docs/report-schema.md) and write nothing.")
@common_options.traceback_option
def report_command(folder: Path, latex: bool, margin: float | None, prices: Path | None, as_json: bool) -> None:
    """Show the results in DIR and write its report anew.

    DIR is a folder that `tuneoff run` made, whole or still growing. Writes DIR/report: report.html (one file for a
    browser, that needs no network), report.md, tables as CSV and plots. Of a series it writes the reports of all its
    studies and one of the whole, DIR/report/index.html.

    \b
    Examples:
      tuneoff report runs/quickstart-1a2b3c
      tuneoff report runs/quickstart-1a2b3c --latex
      tuneoff report runs/quickstart-1a2b3c --margin 0.01
      tuneoff report runs/quickstart-1a2b3c --json
    """
    from tuneoff.analysis.results import gather
    from tuneoff.report import files, terminal
    from tuneoff.report import latex as paper
    from tuneoff.report.builder import build_report
    from tuneoff.store import StudyStore
    from tuneoff.store.series import SeriesStore

    if latex and as_json:
        raise click.UsageError("--json writes nothing, so it goes without --latex")
    series = SeriesStore(folder)
    if series.is_there:
        _report_series(series, latex, margin, common_options.read_prices(prices), as_json)
        return
    results = gather(StudyStore.open(folder), margin=margin, prices=common_options.read_prices(prices))
    built = build_report(results)
    if as_json:
        printing.print_json(built.as_data())
        return
    page = failure = None
    try:
        files.write_built(results, built)
        page = paper.write_built(results, built) if latex else None
    except StoreError as error:
        # The folder may be read-only: its results are shown before the error.
        failure = error
    terminal.render_built(results, built, printing.console())
    if page is not None:
        printing.echo(f"For a paper: {page}")
    if failure is not None:
        raise failure


def _report_series(
    store: SeriesStore, latex: bool, margin: float | None, prices: PricesSpec | None, as_json: bool
) -> None:
    from tuneoff.analysis.series.members import gather_series
    from tuneoff.report.series import files, terminal
    from tuneoff.report.series.builder import build_series

    if latex:
        raise StudyError(
            "--latex is of one study, and this is a series of several", hint=f"Name one of {store.root}/members."
        )
    series = gather_series(store, margin, prices)
    built = build_series(series)
    if as_json:
        printing.print_json(built.as_data())
        return
    failure = None
    try:
        files.write_built(series, built)
    except StoreError as error:
        failure = error
    terminal.render(built, store, printing.console())
    if failure is not None:
        raise failure
