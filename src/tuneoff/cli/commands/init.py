"""`tuneoff init`: from a data file to a commented study file."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuneoff.cli import common_options, printing, wording
from tuneoff.cli.commands import forecast as forecasts
from tuneoff.cli.data_inspection import (
    TOKENS_PER_WORD,
    DataInspection,
    inspect_data,
    recognised_tasks,
    role_names,
    task_named,
)
from tuneoff.cli.doubts import Undecided
from tuneoff.encoding import json_text, one_line, visible
from tuneoff.errors import StoreError, StudyError, TuneoffError, listed

if TYPE_CHECKING:
    from tuneoff.interfaces import Task
    from tuneoff.records.forecast import StudyForecast
    from tuneoff.report.proposal_schema import Proposed

MODEL, WRITER = "minilm", "smollm2-135m"
"""The base model where none is named, and the one of a task that puts no head on it, such as one that writes text."""

SHOWN_KEYS = ("seeds", "epochs", "batch_size", "max_length", "duplicates", "precision")
HINTED_KEYS = ("splits", "train_rows", "test_fraction", "validation_fraction", "learning_rate", "select_metric")


class InitCommand(click.Command):
    """A command with an option for every role that a column has for an installed task.

    The tasks are asked when the options are needed: importing them takes a moment.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        parameters = super().get_params(ctx)
        taken = {parameter.name for parameter in parameters}
        tasks: dict[str, list[str]] = {}
        descriptions: dict[str, str] = {}
        for name, task in recognised_tasks().items():
            for role in role_names(task):
                tasks.setdefault(role, []).append(name)
                descriptions.setdefault(role, task.Options.model_fields[role].description or "")
        # Before the first option that is of no data.
        place = next(index for index, parameter in enumerate(parameters) if parameter.name == "model")
        parameters[place:place] = [
            _role_option(role, f"{descriptions[role][:1].upper()}{descriptions[role][1:]} ({', '.join(names)}).")
            for role, names in tasks.items()
            if role not in taken
        ]
        return parameters


@cache
def _role_option(role: str, description: str) -> click.Option:
    return click.Option([f"--{role.replace('_', '-')}", role], metavar="COLUMN", help=description)


@click.command("init", cls=InitCommand)
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
@click.option(
    "--model",
    metavar="MODEL",
    help=f"Base model: alias, hub id or folder.  [default: {MODEL}; to write text or choose by likelihood, {WRITER}]",
)
@click.option("--force", is_flag=True, help="Write over a study file that is there already.")
@click.option("--no-forecast", is_flag=True, help="Do not estimate what the study will take.")
@common_options.json_option(
    "Print what was seen, the `study` file written, the `forecast` (docs/plan.md) and what is `proposed` "
    "(docs/recommend.md) as JSON."
)
@common_options.traceback_option
def init_command(
    file: Path,
    data: Path | None,
    out: Path | None,
    model: str | None,
    force: bool,
    no_forecast: bool,
    as_json: bool,
    **columns: str | None,
) -> None:
    """Write a commented study file after looking at a data file.

    FILE is the data (a file of rows, a pattern such as 'rows/*.csv', or a data set saved on disk; docs/data.md), and
    the study file goes to --out; or FILE is the study file (.yaml), and the data is --data. A text, or a pair of
    texts, and a class make a study of classification; with several labels a row, one of multi_label; with a tag for
    each word, one of token_classification; with a number instead, one of regression; two texts, such as an article and
    its summary, make one of generation; a question with its options makes one of multiple_choice; lists of messages
    make one of chat, and an instruction with its answer one of instruction. Where several columns could be meant, a
    terminal is asked, and elsewhere the error says how to name them. At the end it tells what the study will take, by
    counting alone, and what published rules propose, which the file holds as comments.

    \b
    Examples:
      tuneoff init reviews.csv
      tuneoff init reviews.csv --text body --label stars --out stars.yaml
      tuneoff init comments.csv --label toxic,rude,threat
      tuneoff init nli.tsv --text premise --text-pair hypothesis --label relation
      tuneoff init news.jsonl --source article --target highlights
      tuneoff init study.yaml --data reviews.csv
    """
    from tuneoff.planning import loading
    from tuneoff.store import refuse_overwriting, write_atomically

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
    refuse_overwriting(out, [data])
    if out.exists() and not force:
        raise StoreError(f"{out} is there already", hint="Name another file with --out, or add --force.")
    overview = _look(data, columns)
    has_head = task_named(overview.task)({}).adds_head
    text = render(data, overview, model or (MODEL if has_head else WRITER))
    loading.parse(loading.read_yaml(text, str(out))[0], origin=str(out))
    write_atomically(out, text)
    quoted = shlex.quote(str(out))
    if not as_json:
        for line in [*describe(overview), "", f"wrote {out}; next: tuneoff plan {quoted}, then tuneoff run {quoted}"]:
            printing.echo(line)
    forecast, lines = (None, []) if no_forecast else _forecast(out)
    proposed = _propose(out, text, forecast)
    if as_json:
        body = forecast.model_dump(mode="json") if forecast is not None else None
        found = {**asdict(overview), "study": str(out), "forecast": body, "proposed": proposed.as_data()}
        printing.print_json(found)
    for line in [] if as_json else [*lines, f"proposed, and not measured: see the end of {out}"]:
        printing.echo(line)


def _propose(path: Path, text: str, forecast: StudyForecast | None) -> Proposed:
    """Adds to a study file, as comments, what published rules propose for its arms."""
    from tuneoff.report import proposals
    from tuneoff.store import write_atomically
    from tuneoff.study import advisor
    from tuneoff.study.study import Study

    study = Study(path)
    proposed = advisor.advise(study, forecast.arms if forecast is not None else {}, str(path))
    lines = ["", "  # Proposed by published rules, and not measured here; take the # from an arm to compare it too:"]
    for label, arm in study.spec.methods.items():
        if options := proposed.of_arm(label):
            twin = advisor.written(advisor.proposed_arm(arm, options))
            lines.append(f"  # {advisor.twin_label(label, study.spec.methods)}: {json.dumps(twin)}")
    commands = [proposed.check.command] if proposed.check is not None else []
    lines += [f"  #   {one_line(line)}" for line in [*proposals.lines(proposed), *commands]]
    write_atomically(path, "\n".join([text.rstrip("\n"), *lines]) + "\n")
    return proposed


def _look(data: Path, columns: dict[str, str | None]) -> DataInspection:
    """Inspects the data; on a terminal, asks the user which column is meant where the data leaves it open.

    Raises:
        DataError: as `look`.
    """
    while True:
        try:
            return inspect_data(data, **columns)
        except Undecided as doubt:
            if columns.get(doubt.role) or not _is_asked():
                raise
            printing.echo(doubt.message, err=True)
            shown = {visible(name): name for name in doubt.choices}
            choice = click.Choice([*shown, "none of these"])
            columns[doubt.role] = shown.get(click.prompt(f"Which is the {doubt.role}?", type=choice, err=True))
            if columns[doubt.role] is None:
                raise


def _is_asked() -> bool:
    """Tells whether a person can answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _forecast(path: Path) -> tuple[StudyForecast | None, list[str]]:
    """Estimates what the study will take, and describes it in lines; None and the reason where it cannot be
    estimated here."""
    from tuneoff.study.study import Study

    study = Study(path)
    arms, seeds = wording.count(len(study.spec.methods), "arm"), wording.count(len(study.spec.protocol.seeds), "seed")
    first = f"{arms} × {seeds} = {wording.count(len(study.plan()), 'trial')}"
    try:
        with forecasts.progress(printing.console(stderr=True)) as listener:
            forecast = study.forecast(profile=False, listener=listener)
    except TuneoffError as error:
        return None, [f"{first}; forecast: not known, because {error.message}"]
    head, *rest = forecasts.run_lines(forecast)
    return forecast, [f"{first}; {head}", *rest]


def describe(overview: DataInspection) -> list[str]:
    """Describes in lines what the file holds."""
    input_role, *_, output_role = role_names(task_named(overview.task))
    roles = "; ".join(
        f"{role}: column {column}" if isinstance(column, str) else f"{role}: columns {', '.join(column)}"
        for role, column in overview.columns.items()
    )
    lines = [
        f"{wording.count(overview.rows, 'row')}; columns: {listed(overview.all_columns)}",
        f"{roles} ({overview.guessed})",
        _describe_words("pair of texts" if "text_pair" in overview.columns else input_role, overview.words),
    ]
    if overview.target_words:
        lines.append(_describe_words(output_role, overview.target_words))
    elif overview.numbers:
        least, median, greatest = overview.numbers
        lines.insert(2, f"numbers: from {least:g} to {greatest:g}, median {median:g}")
    elif overview.classes:
        shown = [f"{name} ({count:,})" for name, count in list(overview.classes.items())[:8]]
        others = f", and {len(overview.classes) - 8} more" if len(overview.classes) > 8 else ""
        number = "1 class" if len(overview.classes) == 1 else f"{len(overview.classes):,} classes"
        lines.insert(2, f"{number}: {', '.join(shown)}{others}")
    if overview.repeated:
        lines.append(f"{wording.count(overview.repeated, 'row')} with the {input_role} of an earlier row")
    return [*lines, *(f"note: {concern}" for concern in overview.concerns)]


def _describe_words(role: str, words: tuple[int, int, int]) -> str:
    median, percentile_95, longest = words
    return f"words per {role}: median {median:,}, 95 % have at most {percentile_95:,}, longest {longest:,}"


def _name(data: Path) -> str:
    """Makes a study's name from its data file's name."""
    from tuneoff.suffixes import PACKED_SUFFIXES

    stem = Path(data.stem).stem if data.suffix.lower() in PACKED_SUFFIXES else data.stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "study"


def scalar(value: str) -> str:
    """Formats text as YAML: plain where that is safe, else quoted."""
    if re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", value) and value.lower() not in {"true", "false", "null", "y", "n"}:
        return value if not re.fullmatch(r"(?i)yes|no|on|off|\.(nan|inf)|\.[0-9]+", value) else json.dumps(value)
    return json_text(value)


def _columns(columns: str | tuple[str, ...]) -> str:
    """Formats a role's column, or columns, as YAML."""
    return scalar(columns) if isinstance(columns, str) else json_text(list(columns))


def render(data: Path, overview: DataInspection, model: str) -> str:
    """Writes the text of the study file."""
    head = [
        "# A study: one base model, one task, several methods, one protocol.",
        f"# Written by `tuneoff init` after looking at {json_text(data.name)}:",
        *(f"#   {one_line(line)}" for line in describe(overview)),
        "",
        f"name: {scalar(_name(data))}",
        f"model: {scalar(model)}    # alias (tuneoff list models), hub id (org/name) or folder",
        "",
        "task:",
        f"  name: {overview.task}",
        "  data:",
        f"    train: {scalar(str(data))}    # a relative path counts from where tuneoff is started",
        *_other_splits(data, overview),
        *(f"  {role}: {_columns(column)}" for role, column in overview.columns.items()),
        "  # missing: skip    # rows with an empty cell: left out and counted; refused where not given",
        "  # group: COLUMN    # rows that belong together (a patient): kept in one split, the unit of intervals",
        *_task_options(overview),
        "",
        "protocol:    # what is held equal for every method",
    ]
    return "\n".join([*head, *_protocol(overview), "", *_methods(task_named(overview.task)({}))]) + "\n"


def _other_splits(data: Path, overview: DataInspection) -> list[str]:
    """Lists the splits beside the training rows: those that the data holds, else as comments."""
    notes = {"validation": "    # where not given, rows are cut off train, the same for every method", "test": ""}
    return [
        f"    {role}: {scalar(str(data))}" if role in overview.splits else f"    # {role}: FILE{note}"
        for role, note in notes.items()
    ]


def _task_options(overview: DataInspection) -> list[str]:
    """Lists the options that the task wants a reader of the study to see."""
    task = task_named(overview.task)
    values = task.starter_options(overview.max_target_length)
    fields = task.Options.model_fields
    return [f"  {key}: {json.dumps(value)}    # {fields[key].description}" for key, value in values.items()]


def _protocol(overview: DataInspection) -> list[str]:
    from tuneoff.config.protocol import Protocol

    fields = Protocol.model_fields
    values: dict[str, Any] = {key: fields[key].default for key in (*SHOWN_KEYS, *HINTED_KEYS)}
    values["seeds"] = len(fields["seeds"].default)
    values["max_length"] = overview.max_length
    values["train_rows"] = min(2000, overview.rows)
    values["select_metric"] = _another_metric(task_named(overview.task))
    values["learning_rate"] = "2e-4"
    values["splits"] = "per_seed"
    estimate = overview.words[1] * TOKENS_PER_WORD
    estimate_note = "an estimate that keeps 95 % of the texts whole"
    if estimate > overview.max_length:
        estimate_note = f"texts beyond are cut; 95 % of them would be whole at about {estimate:,.0f}"
    notes = {"max_length": f"; {estimate_note} ({TOKENS_PER_WORD} tokens a word)"}
    lines = [f"  {key}: {values[key]}    # {fields[key].description}{notes.get(key, '')}" for key in SHOWN_KEYS]
    return [*lines, *(f"  # {key}: {values[key]}    # {fields[key].description}" for key in HINTED_KEYS)]


def _another_metric(task: type[Task]) -> str:
    """Returns a metric that could select checkpoints in place of the task's own and needs no text to be generated."""
    own = task({}).selects(None)
    return next((metric.name for metric in task.metrics if metric.name != own and not metric.written), own)


def _methods(task: Task) -> list[str]:
    """Lists all methods that suit a task, baselines first. Methods that most studies do not begin with, that need an
    option, or that may not suit the model are comments."""
    from pydantic import ValidationError

    from tuneoff import registry
    from tuneoff.interfaces import ServedModel

    suitable_needs = ("", "head", "biases") if task.adds_head else ("", "no_head", "decoder")

    lines = ["methods:    # take the # from arms to compare too; options: tuneoff show method NAME"]
    for name, method in sorted(registry.methods().items(), key=lambda item: (item[1].trains, item[0])):
        # A model that others run is asked where a study names it, and never by default.
        if issubclass(method, ServedModel) or getattr(method, "produces", task.produces) != task.produces:
            continue
        try:
            method.Options()
            mark = "" if method.usual and method.needs in suitable_needs else "# "
        except ValidationError:
            mark = "# "
        lines.append(f"  {mark}{name}: {{}}    # {method.title}")
    return lines
