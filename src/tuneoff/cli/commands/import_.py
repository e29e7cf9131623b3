"""`tuneoff import`."""

from __future__ import annotations

from pathlib import Path

import click

from tuneoff.cli import common_options, printing, wording


@click.group("import")
def import_command() -> None:
    """Read results that somebody else's suite measured.

    They become a study folder, so that `report`, `recommend` and `compare` work on them. What they do not tell is shown
    as missing, with the reason.

    \b
    Examples:
      tuneoff import peft-benchmark peft/method_comparison/MetaMathQA/results --out runs/metamath
    """


@import_command.command("peft-benchmark")
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Where the study goes; a new folder."
)
@click.option("--model", metavar="ID", help="Only runs of this base model, where FOLDER holds several.")
@common_options.traceback_option
def peft_benchmark_command(folder: Path, out: Path, model: str | None) -> None:
    """Read the result files of PEFT's method comparison in FOLDER.

    FOLDER holds the suite's JSON files, as in method_comparison/MetaMathQA/results. Of runs of the same experiment the
    newest is taken. The runs have one seed: intervals are over test examples alone, and nothing is significant.

    \b
    Examples:
      tuneoff import peft-benchmark peft/method_comparison/MetaMathQA/results --out runs/metamath
      tuneoff recommend runs/metamath --max-memory 20GiB
    """
    from tuneoff.importers.peft_benchmark import import_folder

    imported = import_folder(folder, out, model)
    printing.echo(f"Imported {wording.count(imported.results, 'result')} to {out}.")
    if imported.replaced:
        printing.echo(f"Left out, for a newer run of the same experiment is there: {', '.join(imported.replaced)}.")
    if imported.one_seed:
        printing.echo(imported.one_seed)
    printing.echo(f"Next: tuneoff report {out}")
