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
    from tuneoff.tasks.base import Task

TOKENS_PER_WORD = 1.4
"""Of English text in a usual subword vocabulary; a guess, and the study file says so."""

MODELS = {"class": "minilm", "text": "smollm2-135m"}
"""What a task produces -> the base model where none is named."""

ROLES = {"classification": ("text", "label"), "generation": ("source", "target")}
"""Tasks that can be told from a file, and the roles of its columns: what is put in and what is to come out."""

WRITTEN_WORDS = 3
"""Mean words from which a column's values may be texts to write; most of them must differ, too."""

SHOWN_KEYS = ("seeds", "epochs", "batch_size", "max_length", "duplicates", "precision")
HINTED_KEYS = ("train_rows", "test_fraction", "validation_fraction", "learning_rate", "select_metric")


@dataclass(frozen=True)
class Look:
    """What a look at a data file found.

    Attributes:
        task: name of the task that its columns suit.
        columns: role -> column.
        guessed: how the columns were found, for a person.
        classes: label -> rows, most frequent first; empty for a task that writes text.
        words: words per text that is put in: median, 95th percentile, maximum.
        target_words: the same of the texts to write; None for a task with classes.
        repeated: rows whose text stands in an earlier row too.
        concerns: what should be mended or known before a run.
    """

    task: str
    rows: int
    all_columns: tuple[str, ...]
    columns: dict[str, str]
    guessed: str
    classes: dict[str, int]
    words: tuple[int, int, int]
    target_words: tuple[int, int, int] | None
    repeated: int
    concerns: tuple[str, ...]

    @property
    def max_length(self) -> int:
        """Tokens that hold 95 % of the texts whole, by estimate: a multiple of 32 from 32 to 512."""
        return _tokens(self.words[1], 32)

    @property
    def max_target_length(self) -> int:
        """The same for the texts to write: a multiple of 16 from 16 to 512."""
        return _tokens(self.target_words[1] if self.target_words else 0, 16)


def _tokens(words: int, step: int) -> int:
    return min(512, max(step, step * math.ceil(words * TOKENS_PER_WORD / step)))


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
@click.option("--source", metavar="COLUMN", help="Column of the text put in, for a study that writes text.")
@click.option("--target", metavar="COLUMN", help="Column of the text to write, for a study that writes text.")
@click.option(
    "--model",
    metavar="MODEL",
    help=f"Base model: alias, hub id or folder.  [default: {MODELS['class']}; to write text, {MODELS['text']}]",
)
@click.option("--force", is_flag=True, help="Write over a study file that is there already.")
@_common.traceback_option
def init_command(
    file: Path,
    data: Path | None,
    out: Path | None,
    model: str | None,
    force: bool,
    **columns: str | None,
) -> None:
    """Write a commented study file after looking at a data file.

    FILE is the data (CSV, TSV, JSONL or Parquet), and the study file goes to --out; or FILE is the study file
    (.yaml), and the data is --data. A text and a class make a study of classification; two texts, such as an
    article and its summary, make one of generation.

    \b
    Examples:
      tuneoff init reviews.csv
      tuneoff init reviews.csv --text body --label stars --out stars.yaml
      tuneoff init news.jsonl --source article --target highlights
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
    seen = look(data, **columns)
    written = render(data, seen, model or MODELS[_task(seen.task).produces])
    study_file.parse(study_file.read_yaml(written, str(out))[0], origin=str(out))
    write_atomically(out, written)
    for line in describe(seen):
        click.echo(line)
    named = shlex.quote(str(out))
    click.echo(f"\nwrote {out}; next: tuneoff plan {named}, then tuneoff run {named}")


def look(data: Path, **given: str | None) -> Look:
    """Reads a data file and finds what a study of it needs.

    Args:
        data: the file.
        given: role (text, label, source, target) -> column, where the user names it.

    Raises:
        SourceNotFound, DataError: if it cannot be read, or its columns cannot be told apart.
        StudyError: if roles of two tasks are given.
    """
    from tuneoff.sources.base import read_rows
    from tuneoff.spec import SourceSpec

    rows = read_rows(SourceSpec.model_validate({"source": f"file:{data}"}), "train")
    if not len(rows):
        raise DataError(f"{data} has no rows")
    name, columns, guessed = _find_task(rows, {role: column for role, column in given.items() if column is not None})
    texts, answers = (
        [str(value).strip() for value in rows.columns[columns[role]] if not _blank(value)] for role in ROLES[name]
    )
    writes = _task(name).produces == "text"
    classes = Counter[str]() if writes else Counter(answers)
    return Look(
        task=name,
        rows=len(rows),
        all_columns=tuple(rows.columns),
        columns=columns,
        guessed=guessed,
        classes=dict(classes.most_common()),
        words=_word_counts(texts),
        target_words=_word_counts(answers) if writes else None,
        repeated=len(texts) - len(set(texts)),
        concerns=tuple(_concerns(name, rows, columns, classes)),
    )


def _task(name: str) -> type[Task]:
    from tuneoff import registry

    return registry.tasks()[name]


def _word_counts(texts: list[str]) -> tuple[int, int, int]:
    """Words per text: median, 95th percentile, maximum."""
    counts = sorted(len(text.split()) for text in texts) or [0]
    return round(statistics.median(counts)), counts[math.ceil(0.95 * len(counts)) - 1], counts[-1]


def _blank(value: Any) -> bool:
    return value is None or value != value or not str(value).strip()


def _find_task(rows: Rows, given: dict[str, str]) -> tuple[str, dict[str, str], str]:
    """Task, role -> column, and how they were found: as given, by the task's own guess from the names, or by content.

    A class is looked for before a text to write, at each step.
    """
    for role, column in given.items():
        if column not in rows.columns:
            raise DataError(
                f"{rows.origin} has no column {column!r}{did_you_mean(column, rows.columns)}",
                hint=f"Its columns: {', '.join(rows.columns)}. Set --{role}.",
            )
    fitting = [name for name, roles in ROLES.items() if set(given) <= set(roles)]
    if not fitting:
        raise StudyError(
            f"{' and '.join('--' + role for role in given)} belong to different tasks",
            hint="Give --text and --label for classes, or --source and --target for text to write.",
        )
    for name in fitting:
        try:
            columns = _task(name)(dict(given)).columns(rows)
        except DataError:
            continue
        if set(given) == set(ROLES[name]):
            return name, columns, "as given"
        if _task(name).produces == "class" or given or _is_written(rows, columns["target"]):
            return name, columns, "guessed from the names"
    by_content = {"classification": _text_and_class, "generation": _two_texts}
    for name in fitting:
        found = {**by_content[name](rows, given), **given}
        if set(found) == set(ROLES[name]):
            return name, _task(name)(dict(found)).columns(rows), "guessed from what the columns hold: check them"
    options = " or ".join(" and ".join(f"--{role}" for role in ROLES[name] if role not in given) for name in fitting)
    missing = " and the ".join(role for role in ROLES[fitting[0]] if role not in given)
    raise DataError(
        f"cannot tell which column of {rows.origin} holds the {missing}",
        hint=f"Its columns: {', '.join(rows.columns)}. Set {options}.",
    )


def _free(rows: Rows, given: dict[str, str]) -> dict[str, list[str]]:
    """The values of the columns that have no role yet; those without any are left out."""
    columns = {name: [str(v) for v in values if not _blank(v)] for name, values in rows.columns.items()}
    return {name: values for name, values in columns.items() if values and name not in given.values()}


def _mean_words(values: list[str]) -> float:
    return statistics.fmean(len(value.split()) for value in values)


def _is_written(rows: Rows, column: str) -> bool:
    """Whether a column may hold texts to write: words, and most rows' differ."""
    values = _free(rows, {}).get(column, [])
    return bool(values) and _mean_words(values) >= WRITTEN_WORDS and len(set(values)) > len(values) / 2


def _text_and_class(rows: Rows, given: dict[str, str]) -> dict[str, str]:
    """The wordiest column is the text; the column with the fewest repeated values is the class."""
    free = _free(rows, given)
    found = {}
    words = {name: _mean_words(values) for name, values in free.items()}
    if "text" not in given and words and max(words.values()) >= 2:
        found["text"] = max(words, key=lambda name: words[name])
    few = {
        name: len(set(values))
        for name, values in free.items()
        if name != found.get("text") and 2 <= len(set(values)) <= max(2, min(200, len(values) // 4))
    }
    if "label" not in given and few:
        found["label"] = min(few, key=lambda name: few[name])
    return found


def _two_texts(rows: Rows, given: dict[str, str]) -> dict[str, str]:
    """The wordiest column is what is put in, the next wordiest the text to write."""
    free = _free(rows, given)
    wordy = sorted((n for n in free if _is_written(rows, n)), key=lambda name: -_mean_words(free[name]))
    return dict(zip((role for role in ROLES["generation"] if role not in given), wordy, strict=False))


def _concerns(name: str, rows: Rows, columns: dict[str, str], classes: Counter[str]) -> list[str]:
    """What a run would refuse or a reader should know, from the task's own checks."""
    found = []
    task = _task(name)(dict(columns))
    try:
        task.settle({"train": task.examples(rows, columns, "train")})
    except TuneoffError as error:
        found.append(f"a run will refuse this data: {error.message.rstrip('.')}. {error.hint}".strip())
    rare = [label for label, count in classes.items() if count < 5]
    if rare and len(classes) > 1:
        more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""
        found.append(f"fewer than 5 rows: {', '.join(rare[:5])}{more}; too few to be in train, validation and test")
    return found


def describe(seen: Look) -> list[str]:
    """Lines that say what the file holds."""
    put_in, answer = ROLES[seen.task]
    roles = "; ".join(f"{role}: column {column}" for role, column in seen.columns.items())
    lines = [
        f"{seen.rows:,} rows; columns: {', '.join(seen.all_columns)}",
        f"{roles} ({seen.guessed})",
        _describe_words(put_in, seen.words),
    ]
    if seen.target_words:
        lines.append(_describe_words(answer, seen.target_words))
    else:
        shown = [f"{name} ({count:,})" for name, count in list(seen.classes.items())[:8]]
        more = f", and {len(seen.classes) - 8} more" if len(seen.classes) > 8 else ""
        lines.insert(2, f"{len(seen.classes)} classes: {', '.join(shown)}{more}")
    if seen.repeated:
        lines.append(f"{_common.count(seen.repeated, 'row')} with the {put_in} of an earlier row")
    return [*lines, *(f"note: {concern}" for concern in seen.concerns)]


def _describe_words(role: str, words: tuple[int, int, int]) -> str:
    median, long, longest = words
    return f"words per {role}: median {median:,}, 95 % have at most {long:,}, longest {longest:,}"


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
        f"  name: {seen.task}",
        "  data:",
        f"    train: {scalar(str(data))}    # a relative path counts from where tuneoff is started",
        "    # validation: FILE    # where not given, rows are cut off train, the same for every method",
        "    # test: FILE",
        *(f"  {role}: {scalar(column)}" for role, column in seen.columns.items()),
        *_task_options(seen),
        "",
        "protocol:    # what is held equal for every method",
    ]
    return "\n".join([*head, *_protocol(seen), "", *_methods(_task(seen.task).produces)]) + "\n"


def _task_options(seen: Look) -> list[str]:
    """The options without which a study that writes text cannot be read; none for classes."""
    if seen.target_words is None:
        return []
    fields = _task(seen.task).Options.model_fields
    values = {"template": json.dumps("{source}\n\nAnswer: "), "max_target_length": seen.max_target_length}
    return [f"  {key}: {value}    # {fields[key].description}" for key, value in values.items()]


def _protocol(seen: Look) -> list[str]:
    from tuneoff.spec import Protocol

    fields = Protocol.model_fields
    values: dict[str, Any] = {key: fields[key].default for key in (*SHOWN_KEYS, *HINTED_KEYS)}
    values["seeds"] = len(fields["seeds"].default)
    values["max_length"] = seen.max_length
    values["train_rows"] = min(2000, seen.rows)
    values["select_metric"] = "macro_f1" if seen.target_words is None else "perplexity"
    values["learning_rate"] = "2e-4"
    notes = {"max_length": f"; an estimate that keeps 95 % of the texts whole ({TOKENS_PER_WORD} tokens a word)"}
    lines = [f"  {key}: {values[key]}    # {fields[key].description}{notes.get(key, '')}" for key in SHOWN_KEYS]
    return [*lines, *(f"  # {key}: {values[key]}    # {fields[key].description}" for key in HINTED_KEYS)]


def _methods(produces: str = "class") -> list[str]:
    """All methods that suit a task that produces a class or a text, floors first; as comments those that need an
    option set or may not suit the model."""
    from pydantic import ValidationError

    from tuneoff import registry

    suiting = {"class": ("", "head"), "text": ("", "no_head", "decoder")}[produces]

    lines = ["methods:    # delete the rows you do not need; options: tuneoff show method NAME"]
    for name, method in sorted(registry.methods().items(), key=lambda item: (item[1].trains, item[0])):
        if getattr(method, "produces", produces) != produces:
            continue
        try:
            method.Options()
            mark = "" if method.needs in suiting else "# "
        except ValidationError:
            mark = "# "
        lines.append(f"  {mark}{name}: {{}}    # {method.title}")
    return lines
