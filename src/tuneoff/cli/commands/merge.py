"""`tuneoff merge`."""

from __future__ import annotations

from pathlib import Path

import click

from tuneoff.cli import common_options, printing, wording


@click.command("merge")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@common_options.json_option("Print what became of the trials as JSON: `taken`, `equal`, `different` and `unfinished`.")
@common_options.traceback_option
def merge_command(out: Path, folders: tuple[Path, ...], as_json: bool) -> None:
    """Join folders of parts of one study in OUT.

    The parts have other arms, other seeds or the same ones again, run on any machine; they stay as they are. Of a trial
    that was run twice the first record is kept, and what the second gave is compared with it. `tuneoff run OUT` then
    runs what no part has finished.

    \b
    Examples:
      tuneoff merge runs/whole runs/quickstart-1a2b3c runs/quickstart-4d5e6f
      tuneoff merge runs/whole /mnt/other-machine/part --json
    """
    from dataclasses import asdict

    from tuneoff.store.merging import merge

    merged = merge(out, folders)
    if as_json:
        printing.print_json(asdict(merged))
        return
    printing.echo(f"{out}: {wording.count(len(merged.taken), 'trial')} taken over")
    if merged.equal:
        printing.echo(f"run twice with the same result: {', '.join(merged.equal)}")
    for trial, differences in merged.different.items():
        printing.echo(f"run twice with another result: {trial}: {'; '.join(differences)}. The first is kept.", err=True)
    if merged.unfinished:
        printing.echo(f"still to run: {', '.join(merged.unfinished)}. Run them: tuneoff run {out}")
