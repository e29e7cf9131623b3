"""`tuneoff export` and `tuneoff predict`: what a trained trial is good for."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import click

from tuneoff.cli import _common
from tuneoff.errors import StoreError


@click.command("export")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("trial")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--merged", is_flag=True, help="Fold the method into the base model and write a plain model.")
@_common.json_option("Print what was written as JSON.")
@_common.traceback_option
def export_command(folder: Path, trial: str, out: Path, merged: bool, as_json: bool) -> None:
    """Write a trained trial as files that PEFT or transformers load.

    TRIAL is the id of a trial in DIR, or the beginning of one. OUT becomes a folder with the adapter in PEFT's
    layout, the head included, and a card; with --merged a plain transformers model.

    \b
    Examples:
      tuneoff export runs/quickstart-1a2b3c lora-s0 my-adapter
      tuneoff export runs/quickstart-1a2b3c lora-s0 my-model --merged
    """
    from tuneoff.study import Study

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out} is there already and not an empty folder", hint="Name a new folder.")
    answer = Study.open(folder).call("export", trial, out=str(out.resolve()), merged=merged)
    if as_json:
        _common.print_json(answer)
        return
    click.echo(f"wrote {answer['kind']} to {out}:")
    for name in answer["files"]:
        click.echo(f"  {name}")


@click.command("predict")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("trial")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a .csv, .tsv or .jsonl file, with the probability of every class, instead of printing.",
)
@_common.device_option
@_common.json_option("Print all predictions with the probability of every class as JSON.")
@_common.traceback_option
def predict_command(folder: Path, trial: str, file: Path, out: Path | None, device: str, as_json: bool) -> None:
    """Predict every row of FILE with a trained trial.

    FILE is CSV, TSV, JSONL or Parquet and has the study's text column; it needs no labels. Prints CSV, a line for
    each row in the file's order: its index (from 0), the predicted output and its probability.

    \b
    Examples:
      tuneoff predict runs/quickstart-1a2b3c lora-s0 new.csv
      tuneoff predict runs/quickstart-1a2b3c lora-s0 new.csv --out predicted.jsonl
    """
    from tuneoff.store import write_atomically
    from tuneoff.study import Study

    if out is not None and out.suffix not in WRITERS:
        raise StoreError(f"{out}: cannot write {out.suffix or 'a file without a suffix'}", hint=f"{_KNOWN} can be.")
    if not file.is_file():
        raise StoreError(f"no file {str(file)!r}", hint="Name a CSV, TSV, JSONL or Parquet file.")
    study = Study.open(folder)
    study.device = device
    answer = study.call("predict", trial, file=str(file.resolve()))
    if out is not None:
        write_atomically(out, WRITERS[out.suffix](answer["predictions"]))
        click.echo(f"wrote {len(answer['predictions'])} predictions to {out}", err=True)
    if as_json:
        _common.print_json(answer)
    elif out is None:
        click.echo(_table(answer["predictions"], ",", every_class=False), nl=False)


def _table(predictions: list[dict[str, Any]], separator: str, every_class: bool = True) -> str:
    """Rows with a header: index, output, probability and, if wanted, one column for each class."""
    classes = list((predictions[0].get("scores") or {}) if predictions and every_class else {})
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(["index", "output", "probability", *(f"probability of {name}" for name in classes)])
    for item in predictions:
        scores = item.get("scores") or {}
        figures = [item["probability"], *(scores.get(name) for name in classes)]
        shown = ["" if figure is None else f"{figure:.6g}" for figure in figures]
        writer.writerow([item["index"], item["output"], *shown])
    return text.getvalue()


def _lines(predictions: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n" for item in predictions)


WRITERS = {
    ".csv": lambda predictions: _table(predictions, ","),
    ".tsv": lambda predictions: _table(predictions, "\t"),
    ".jsonl": _lines,
}
_KNOWN = ", ".join(WRITERS)
