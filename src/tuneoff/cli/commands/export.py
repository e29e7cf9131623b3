"""`tuneoff export` and `tuneoff predict`: uses of a trained trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tuneoff.cli import common_options, completion, printing
from tuneoff.encoding import csv_table, json_text
from tuneoff.errors import StoreError


@click.command("export")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("trial", shell_complete=completion.completer(completion.trials))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--merged", is_flag=True, help="Fold the method into the base model and write a plain model.")
@common_options.json_option("Print what was written as JSON.")
@common_options.traceback_option
def export_command(folder: Path, trial: str, out: Path, merged: bool, as_json: bool) -> None:
    """Write a trained trial as files that PEFT or transformers load.

    TRIAL is the id of a trial in DIR, or the beginning of one. OUT becomes a folder with an adapter in PEFT's layout,
    the head included, or a plain transformers model where the method trains the model's own weights (full, bitfit,
    head, last_block) and with --merged. Tokenizer, labels and settings of writing are in it, and README.md holds
    Python that loads and uses it with transformers and PEFT alone, its test scores as the hub reads them, and the
    comparison with the study's other arms.

    An adapter names its base model by hub id and commit. Where that is no model of the hub, its place in
    adapter_config.json holds FOLDER-OF-THE-BASE-MODEL-see-README.md, and README.md has the folder that the base model
    was in and the checksums of its weights.

    \b
    Examples:
      tuneoff export runs/quickstart-1a2b3c lora-s0 my-adapter
      tuneoff export runs/quickstart-1a2b3c lora-s0 my-model --merged
    """
    from tuneoff.study.study import Study

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out} is there already and not an empty folder", hint="Name a new folder.")
    answer = Study.open(folder).write_export(trial, out.resolve(), merged=merged)
    if as_json:
        printing.print_json(answer)
        return
    printing.echo(f"wrote {answer['kind']} to {out}:")
    for name in answer["files"]:
        printing.echo(f"  {name}")


@click.command("predict")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("trial", shell_complete=completion.completer(completion.trials))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a .csv, .tsv or .jsonl file instead of printing; for classes and labels with the probability of each.",
)
@common_options.device_option
@common_options.json_option("Print all predictions as JSON; for classes and labels with the probability of each.")
@common_options.traceback_option
def predict_command(folder: Path, trial: str, file: Path, out: Path | None, device: str, as_json: bool) -> None:
    """Predict every row of FILE with a trained trial.

    FILE is a file of rows (CSV, JSONL, Parquet and more, docs/data.md) with the columns that the study puts in; it
    needs no labels, tags, numbers or target texts. Prints CSV, a line for each row in the file's order: its index
    (from 0), the output and, for a class, its probability; for a written text, how many tokens were generated; for
    tags, the words that they belong to; for labels (a JSON list) and numbers, nothing more. As JSON: `columns` (role
    and column) and `predictions`, objects with `index`, `output` and for a class `probability` and `scores` (class
    and probability), for labels `scores`, for a text `generated_tokens`, for tags `words` and `entities` (label,
    start, end, text). In CSV and TSV, text that
    a spreadsheet would take for a formula gets an apostrophe before it; JSON has it as it is.

    \b
    Examples:
      tuneoff predict runs/quickstart-1a2b3c lora-s0 new.csv
      tuneoff predict runs/quickstart-summarize-1a2b3c zero_shot-s0 articles.jsonl --json
      tuneoff predict runs/quickstart-1a2b3c lora-s0 new.csv --out predicted.jsonl
    """
    from tuneoff.store import write_atomically
    from tuneoff.study.study import Study

    if out is not None and out.suffix not in WRITERS:
        raise StoreError(f"{out}: cannot write {out.suffix or 'a file without a suffix'}", hint=f"{_SUFFIXES} can be.")
    study = Study.open(folder)
    if out is not None:
        study.refuse_overwriting(out, file)
    study.device = device
    answer = study.call("predict", trial, file=str(file.resolve()))
    if out is not None:
        write_atomically(out, WRITERS[out.suffix](answer["predictions"]))
        printing.echo(f"wrote {len(answer['predictions'])} predictions to {out}", err=True)
    if as_json:
        printing.print_json(answer)
    elif out is None:
        printing.echo(_table(answer["predictions"], ",", every_class=False), nl=False)


def _table(predictions: list[dict[str, Any]], separator: str, every_class: bool = True) -> str:
    """Formats rows with a header: index, output, and the number of tokens of a written text, the probability of a class
    or the words of tags; if wanted, one column for the probability of each class."""
    first: dict[str, Any] = predictions[0] if predictions else {"probability": 1.0}
    named = [name for name in ("probability", "generated_tokens") if name in first]
    classes = list(first.get("scores", ())) if every_class else []
    has_words = "words" in first
    rows = [
        ["index", "output", *(["words"] if has_words else []), *named, *(f"probability of {name}" for name in classes)]
    ]
    for item in predictions:
        figures = [*(item[name] for name in named), *(item["scores"][name] for name in classes)]
        words = [" ".join(item["words"])] if has_words else []
        rows.append([item["index"], item["output"], *words, *(f"{value:.6g}" for value in figures)])
    return csv_table(rows, separator)


def _lines(predictions: list[dict[str, Any]]) -> str:
    return "".join(json_text(item) + "\n" for item in predictions)


WRITERS = {
    ".csv": lambda predictions: _table(predictions, ","),
    ".tsv": lambda predictions: _table(predictions, "\t"),
    ".jsonl": _lines,
}
_SUFFIXES = ", ".join(WRITERS)
