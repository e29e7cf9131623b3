"""`tuneoff init`: from a data file to a commented study file."""

from __future__ import annotations

import json
import math
import re
import shlex
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuneoff.cli import _common
from tuneoff.errors import DataError, StoreError, StudyError, TuneoffError, did_you_mean

if TYPE_CHECKING:
    from tuneoff.sources.base import Rows

TOKENS_PER_WORD = 1.4
"""Of English text in a usual subword vocabulary; a guess, and the study file says so."""

SHOWN_KEYS = ("seeds", "epochs", "batch_size", "max_length", "duplicates", "precision")
HINTED_KEYS = ("train_rows", "test_fraction", "validation_fraction", "learning_rate", "select_metric")


@dataclass(frozen=True)
class Look:
    """What a look at a data file found.

    Attributes:
        columns: role -> column.
        guessed: how the columns were found, for a person.
        classes: label -> rows, most frequent first.
        words: words per text: median, 95th percentile, maximum.
        repeated: rows whose text stands in an earlier row too.
        concerns: what should be mended or known before a run.
    """

    rows: int
    all_columns: tuple[str, ...]
    columns: dict[str, str]
    guessed: str
    classes: dict[str, int]
    words: tuple[int, int, int]
    repeated: int
    concerns: tuple[str, ...]

    @property
    def max_length(self) -> int:
        """Tokens that hold 95 % of the texts whole, by estimate: a multiple of 32 from 32 to 512."""
        return min(512, max(32, 32 * math.ceil(self.words[1] * TOKENS_PER_WORD / 32)))


@click.command("init")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DATAFILE",
    help="The data file, where FILE is the study file to write.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="STUDY",
    help="The study file to write; NAME.study.yaml here where not given.",
)
@click.option("--text", metavar="COLUMN", help="Column of the text, where it cannot be guessed.")
@click.option("--label", metavar="COLUMN", help="Column of the class, where it cannot be guessed.")
@click.option(
    "--model", metavar="MODEL", default="minilm", show_default=True, help="Base model: alias, hub id or folder."
)
@click.option("--force", is_flag=True, help="Write over a study file that is there already.")
@_common.traceback_option
def init_command(
    file: Path, data: Path | None, out: Path | None, text: str | None, label: str | None, model: str, force: bool
) -> None:
    """Write a commented study file after looking at a data file.

    FILE is the data (CSV, TSV, JSONL or Parquet), and the study file goes to --out; or FILE is the study file
    (.yaml), and the data is --data.

    \b
    Examples:
      tuneoff init reviews.csv
      tuneoff init reviews.csv --text body --label stars --out stars.yaml
      tuneoff init study.yaml --data reviews.csv
    """
    from tuneoff import study_file
    from tuneoff.store import write_atomically

    if file.suffix in {".yaml", ".yml"}:
        if data is None:
            raise StudyError(
                f"{file} is the study file to write", hint=f"Name the data: tuneoff init {file} --data FILE"
            )
        if out is not None:
            raise StudyError(f"two study files are named, {file} and {out}", hint="Name one.")
        out = file
    else:
        if data is not None:
            raise StudyError(f"two data files are named, {file} and {data}", hint="Name one.")
        data = file
    out = out or Path(f"{_name(data)}.study.yaml")
    if out.exists() and not force:
        raise StoreError(f"{out} is there already", hint="Name another file with --out, or add --force.")
    seen = look(data, text, label)
    written = render(data, seen, model)
    study_file.parse(study_file.read_yaml(written, str(out))[0], origin=str(out))
    write_atomically(out, written)
    for line in describe(seen):
        click.echo(line)
    named = shlex.quote(str(out))
    click.echo(f"\nwrote {out}; next: tuneoff plan {named}, then tuneoff run {named}")


def look(data: Path, text: str | None = None, label: str | None = None) -> Look:
    """Reads a data file and finds what a study of it needs.

    Raises:
        SourceNotFound, DataError: if it cannot be read, or its columns cannot be told apart.
    """
    from tuneoff.sources.base import read_rows
    from tuneoff.spec import SourceSpec

    rows = read_rows(SourceSpec.model_validate({"source": f"file:{data}"}), "train")
    if not len(rows):
        raise DataError(f"{data} has no rows")
    columns, guessed = _columns(rows, {"text": text, "label": label})
    texts = [str(value) for value in rows.columns[columns["text"]] if not _blank(value)]
    labels = [str(value).strip() for value in rows.columns[columns["label"]] if not _blank(value)]
    counts = sorted(len(value.split()) for value in texts) or [0]
    return Look(
        rows=len(rows),
        all_columns=tuple(rows.columns),
        columns=columns,
        guessed=guessed,
        classes=dict(Counter(labels).most_common()),
        words=(round(statistics.median(counts)), counts[math.ceil(0.95 * len(counts)) - 1], counts[-1]),
        repeated=len(texts) - len(set(texts)),
        concerns=tuple(_concerns(rows, columns, Counter(labels))),
    )


def _blank(value: Any) -> bool:
    return value is None or value != value or not str(value).strip()


def _columns(rows: Rows, given: dict[str, str | None]) -> tuple[dict[str, str], str]:
    """role -> column: as given, by the task's own guess from the names, or by what the columns hold."""
    from tuneoff import registry
    from tuneoff.spec import TaskSpec

    for role, column in given.items():
        if column is not None and column not in rows.columns:
            raise DataError(
                f"{rows.origin} has no column {column!r}{did_you_mean(column, rows.columns)}",
                hint=f"Its columns: {', '.join(rows.columns)}. Set --{role}.",
            )
    task = registry.tasks()[TaskSpec.model_fields["name"].default]
    chosen = {role: column for role, column in given.items() if column is not None}
    if len(chosen) == len(given):
        return task(dict(chosen)).columns(rows), "as given"
    try:
        return task(dict(chosen)).columns(rows), "guessed from the names"
    except DataError:
        by_content = {**_by_content(rows, chosen), **chosen}
        missing = [role for role in given if role not in by_content]
        if missing:
            raise DataError(
                f"cannot tell which column of {rows.origin} holds the {' and the '.join(missing)}",
                hint=f"Its columns: {', '.join(rows.columns)}. Set {' and '.join('--' + role for role in missing)}.",
            ) from None
        return task(dict(by_content)).columns(rows), "guessed from what the columns hold: check them"


def _by_content(rows: Rows, chosen: dict[str, str]) -> dict[str, str]:
    """The wordiest column is the text; the column with the fewest repeated values is the class."""
    free = {
        name: [str(v) for v in values if not _blank(v)]
        for name, values in rows.columns.items()
        if name not in chosen.values()
    }
    found = {}
    words = {name: statistics.fmean(len(v.split()) for v in values) for name, values in free.items() if values}
    if "text" not in chosen and words and max(words.values()) >= 2:
        found["text"] = max(words, key=lambda name: words[name])
    few = {
        name: len(set(values))
        for name, values in free.items()
        if name != found.get("text") and 2 <= len(set(values)) <= max(2, min(200, len(values) // 4))
    }
    if "label" not in chosen and few:
        found["label"] = min(few, key=lambda name: few[name])
    return found


def _concerns(rows: Rows, columns: dict[str, str], classes: Counter[str]) -> list[str]:
    """What a run would refuse or a reader should know, from the task's own checks."""
    from tuneoff import registry
    from tuneoff.spec import TaskSpec

    found = []
    task = registry.tasks()[TaskSpec.model_fields["name"].default](dict(columns))
    try:
        task.settle({"train": task.examples(rows, columns, "train")})
    except TuneoffError as error:
        found.append(f"a run will refuse this data: {error.message.rstrip('.')}. {error.hint}".strip())
    rare = [name for name, count in classes.items() if count < 5]
    if rare and len(classes) > 1:
        more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""
        found.append(f"fewer than 5 rows: {', '.join(rare[:5])}{more}; too few to be in train, validation and test")
    return found


def describe(seen: Look) -> list[str]:
    """Lines that say what the file holds."""
    median, long, longest = seen.words
    shown = [f"{name} ({count:,})" for name, count in list(seen.classes.items())[:8]]
    more = f", and {len(seen.classes) - 8} more" if len(seen.classes) > 8 else ""
    lines = [
        f"{seen.rows:,} rows; columns: {', '.join(seen.all_columns)}",
        f"text: column {seen.columns['text']}; label: column {seen.columns['label']} ({seen.guessed})",
        f"{len(seen.classes)} classes: {', '.join(shown)}{more}",
        f"words per text: median {median:,}, 95 % have at most {long:,}, longest {longest:,}",
    ]
    if seen.repeated:
        lines.append(f"{_common.count(seen.repeated, 'row')} with the text of an earlier row")
    return [*lines, *(f"note: {concern}" for concern in seen.concerns)]


def _name(data: Path) -> str:
    """A study's name from its data file's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", data.stem).strip("-._") or "study"


def scalar(value: str) -> str:
    """Text as YAML: plain where that is safe, else quoted."""
    if re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", value) and value.lower() not in {"true", "false", "null", "y", "n"}:
        return value if not re.fullmatch(r"(?i)yes|no|on|off|\.(nan|inf)|\.[0-9]+", value) else json.dumps(value)
    return json.dumps(value, ensure_ascii=False)


def render(data: Path, seen: Look, model: str) -> str:
    """The study file's text."""
    head = [
        "# A study: one base model, one task, several methods, one protocol.",
        f"# Written by `tuneoff init` after looking at {json.dumps(data.name, ensure_ascii=False)}:",
        *(f"#   {' '.join(line.split())}" for line in describe(seen)),
        "",
        f"name: {scalar(_name(data))}",
        f"model: {scalar(model)}    # alias (tuneoff list models), hub id (org/name) or folder",
        "",
        "task:",
        "  data:",
        f"    train: {scalar(str(data))}    # a relative path counts from where tuneoff is started",
        "    # validation: FILE    # where not given, rows are cut off train, the same for every method",
        "    # test: FILE",
        *(f"  {role}: {scalar(column)}" for role, column in seen.columns.items()),
        "",
        "protocol:    # what is held equal for every method",
    ]
    return "\n".join([*head, *_protocol(seen), "", *_methods()]) + "\n"


def _protocol(seen: Look) -> list[str]:
    from tuneoff.spec import Protocol

    fields = Protocol.model_fields
    values: dict[str, Any] = {key: fields[key].default for key in (*SHOWN_KEYS, *HINTED_KEYS)}
    values["seeds"] = len(fields["seeds"].default)
    values["max_length"] = seen.max_length
    values["train_rows"] = min(2000, seen.rows)
    values["select_metric"] = "macro_f1"
    values["learning_rate"] = "2e-4"
    notes = {"max_length": f"; an estimate that keeps 95 % of the texts whole ({TOKENS_PER_WORD} tokens a word)"}
    lines = [f"  {key}: {values[key]}    # {fields[key].description}{notes.get(key, '')}" for key in SHOWN_KEYS]
    return [*lines, *(f"  # {key}: {values[key]}    # {fields[key].description}" for key in HINTED_KEYS)]


def _methods() -> list[str]:
    """All methods that need no option set, floors first; the rest as comments."""
    from pydantic import ValidationError

    from tuneoff import registry

    lines = ["methods:    # delete the rows you do not need; options: tuneoff show method NAME"]
    for name, method in sorted(registry.methods().items(), key=lambda item: (item[1].trains, item[0])):
        try:
            method.Options()
            mark = ""
        except ValidationError:
            mark = "# "
        lines.append(f"  {mark}{name}: {{}}    # {method.title}")
    return lines
