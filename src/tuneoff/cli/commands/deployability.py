"""`tuneoff deployability`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuneoff.cli import common_options, completion, printing
from tuneoff.config.deployability import FORMS, MEANINGS, TITLES, Form

if TYPE_CHECKING:
    from tuneoff.records.deployability import FormResult
    from tuneoff.records.record import TrialRecord


def _arms(ctx: click.Context) -> list[str]:
    """Lists the arms of the folder typed before; none where it holds no study."""
    from contextlib import suppress

    from tuneoff.errors import TuneoffError
    from tuneoff.store import StudyStore

    with suppress(TuneoffError, TypeError):
        return list(StudyStore.open(ctx.params["folder"]).study().methods)
    return []


@click.command(
    "deployability",
    epilog="\b\nForms:\n" + "\n".join(f"  {form:11}{MEANINGS[form]}" for form in FORMS),
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--arm",
    "arms",
    multiple=True,
    metavar="ARM",
    shell_complete=completion.completer(_arms),
    help="Measure this arm; may be repeated. The one that `recommend` gives where none is named.",
)
@click.option("--all", "every", is_flag=True, help="Measure all arms that train.")
@click.option(
    "--form",
    "forms",
    multiple=True,
    type=click.Choice(FORMS),
    help="Only this form, beside the model as trained; may be repeated.",
)
@click.option("--again", is_flag=True, help="Measure again what was measured before and works.")
@common_options.device_option
@common_options.json_option("Print what all measured arms come to as JSON: `deployability` of docs/report-schema.md.")
@common_options.traceback_option
def deployability_command(
    folder: Path, arms: tuple[str, ...], every: bool, forms: tuple[str, ...], again: bool, device: str, as_json: bool
) -> None:
    """Score trained models of DIR again: merged, packed, converted.

    Each form in which a trial's model may be deployed is made from the kept weights, loaded in a process of its own,
    scored on the same test rows and timed, and set beside the model as it was trained: difference of the score with
    its interval, answers that changed, size, latency and memory. A form that does not work is a row with its reason.
    Results stand in DIR/trials/ID/deployability.json and in the report, and `recommend --deployable FORM` asks for
    them. What works already is not measured again.

    \b
    Examples:
      tuneoff deployability runs/quickstart-1a2b3c
      tuneoff deployability runs/quickstart-1a2b3c --arm lora --form merged --form onnx
      tuneoff deployability runs/quickstart-1a2b3c --all --form merged
    """
    from tuneoff.report import terminal
    from tuneoff.study.study import Study

    if arms and every:
        raise click.UsageError("--all measures every arm that trains, so it goes without --arm")
    study = Study.open(folder)
    study.device = device
    measured = study.measure_deployability(
        arms, every=every, forms=forms, again=again, listener=lambda *told: printing.echo(form_line(*told), err=True)
    )
    page = study.report()
    if as_json:
        printing.print_json([arm.model_dump(mode="json") for arm in measured])
        return
    console = printing.console()
    for arm in measured:
        console.print(terminal.deployability_table(arm, console.width))
        for note in terminal.deployability_notes(arm):
            console.print(note)
    printing.echo(f"Report: {page}")


def form_line(record: TrialRecord, form: Form, result: FormResult | None) -> str:
    """Tells of a form of a trial that is about to be measured, or of what became of it."""
    name = f"{record.spec.id}, {TITLES[form]}"
    if result is None:
        return f"{name} …"
    value = next((metric for metric in result.metrics if metric.name == record.primary_metric), None)
    score = "" if value is None else f" ({value.name} {value.value:.4g})"
    return f"{name}: works{score}" if result.works else f"{name}: does not work: {result.reason}"
