"""`tuneoff plan`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import click

from tuneoff.cli import common_options, completion, printing, study_arguments, wording
from tuneoff.cli.commands import budget as budgets
from tuneoff.cli.commands import forecast as forecasts
from tuneoff.cli.commands.budget import budget_option
from tuneoff.errors import TuneoffError

if TYPE_CHECKING:
    from rich.table import Table

    from tuneoff.config.spec import TrialSpec
    from tuneoff.executors.base import Inspection
    from tuneoff.records.forecast import StudyForecast
    from tuneoff.study.budget import Allotment
    from tuneoff.study.series import Series
    from tuneoff.study.study import Study

SCHEMA_VERSION = 3

KEYS = {
    "schema_version": "version of this schema; grows when a key changes its meaning or goes",
    "study": "`name`, `description`, `model`, `random_weights`, `task`, `task_options` (defaults filled in), "
    "`primary_metric`, `seeds`, `arms` (labels)",
    "trials[].id": "the trial's id, which names its content; the same in every study and on every machine",
    "trials[].method": "label of the arm",
    "trials[].method_name": "the method's own name",
    "trials[].seed": "its seed",
    "trials[].configuration": "all that the trial does: `learning_rate` (null for an arm that does not train), the "
    "method's `options` with defaults filled in, `model`, `task`, `protocol`",
    "trials[].trainable_parameters": "how many parameters it trains; null where they could not be counted",
    "trials[].total_parameters": "how many parameters its model has, the method's own included; null likewise",
    "trials[].trainable_parameters_by_role": "the same by role: `head`, `adapter`, `base`",
    "trials[].total_parameters_by_role": "the same by role",
    "search_trials": "arm -> number of trials of its search, which come before those of `trials`; empty without a "
    "search. Arms that are searched stand at the configuration that is tried first",
    "labels": "the classes, in order of their numbers; empty for a task without",
    "data": "what the rows hold (`splits`, `labels`, `columns`, `overlap`, `groups`, `train_pool`, as in "
    "docs/record.md); null where the data was not read",
    "forecast": "what all trials will take: `arms` (memory, seconds and disk of one trial of each), `total_seconds`, "
    "`disk_bytes` and more, key by key in docs/plan.md; null where the data was not read",
    "budget": "null without `--budget`, else what fits: `seconds` (of all runs), `spent_seconds` (of earlier ones), "
    "`search_trials` of every arm, `next_look_seconds` until the next look of the race, `seeds` of every arm if none "
    "leaves it, and `smallest_difference` that so many find with a probability of 80 %, `smallest_difference_by` what "
    "it goes by (null and empty where nothing tells it)",
    "warnings": "list of `name` and `message`: what a person should know before training",
}
"""What `plan --json` prints, key by key; docs/cli.md shows it."""

SERIES_KEYS = {
    "schema_version": "likewise",
    "series": "`name`, `axis` (`train_rows`, `model` or `data`), `values` (member -> its value)",
    "members": "member -> its plan, with the keys above",
    "problems": "member -> why it cannot be run; the exit code is then 2",
    "total_seconds": "of all trials of all members, one after another; null where that is not known",
    "disk_bytes": "of their weights and predictions; likewise",
}
"""What `plan --json` prints of a series."""


@click.command("plan")
@click.argument("study", shell_complete=completion.completer(completion.recipes, files=True))
@forecasts.no_profile_option
@click.option(
    "--gpu-memory",
    metavar="SIZE",
    help="Say what would fit into a GPU with this memory, e.g. 8GB or 8GiB, and what would make the rest fit.",
)
@budget_option
@study_arguments.study_options
@common_options.json_option("Print the plan as JSON (schema in docs/cli.md).")
@common_options.traceback_option
def plan_command(
    study: str,
    no_profile: bool,
    gpu_memory: str | None,
    budget: str | None,
    as_json: bool,
    **options: Unpack[study_arguments.StudyOptions],
) -> None:
    """Show the trials of STUDY, what each would train and what it would take; keeps nothing.

    Reads the data where it can be had, counts parameters without loading weights, and forecasts memory, time and disk
    of every arm: with a few real steps on this machine, or by an estimate alone (--no-profile).

    \b
    Examples:
      tuneoff plan quickstart
      tuneoff plan quickstart-summarize --no-profile --gpu-memory 8GB
      tuneoff plan roberta-base-binary --random-weights --json
    """
    from tuneoff.study.series import Series

    opened = study_arguments.open_study_or_series(study, options)
    limit = _size(gpu_memory)
    if isinstance(opened, Series):
        study_arguments.refuse_for_series("--budget", budget)
        _plan_series(opened, limit, not no_profile, as_json)
        return
    if budget is not None:
        opened.limit(budget)
        opened.folder = study_arguments.folder_of(study)
    plan = _preview(opened, limit, not no_profile)
    if budget is not None:
        plan.allotment = opened.allot(plan.forecast.arms if plan.forecast else {}, plan.inspection)
    if as_json:
        printing.print_json(as_data(opened, plan))
    else:
        _show(opened, plan)
        for line in budgets.lines(plan.allotment) if plan.allotment is not None else ():
            printing.console().print(line, soft_wrap=True)


@dataclass
class Preview:
    """What is known of a study before it is run.

    Attributes:
        trials: its final trials.
        inspection: of its data, model and methods.
        forecast: of what it will take; None where the data was not read.
        allotment: what fits into a budget of time; None without one.
    """

    trials: Sequence[TrialSpec]
    inspection: Inspection
    forecast: StudyForecast | None
    allotment: Allotment | None = None


def _preview(study: Study, memory_limit: int | None, profile: bool) -> Preview:
    """Looks at a study, and shows meanwhile what is being forecast."""
    trials = study.plan()
    with forecasts.progress(printing.console(stderr=True)) as listener:
        inspection, forecast = study.preview(profile=profile, memory_limit=memory_limit, listener=listener)
    return Preview(trials, inspection, forecast)


def _plan_series(series: Series, memory_limit: int | None, profile: bool, as_json: bool) -> None:
    """Shows the plan of every member, and what all take together. A member that cannot be run is told last, after the
    plans of the others.

    Raises:
        TuneoffError: of the first such member, or if the sizes of a series do not go with the rows.
    """
    from tuneoff.report import units
    from tuneoff.study.series import joined

    previews: dict[str, Preview] = {}
    problems: dict[str, TuneoffError] = {}
    with series.one_executor() as executor:
        series.check_sizes(executor)
        for name, study in series.members.items():
            try:
                previews[name] = _preview(study, memory_limit, profile)
            except TuneoffError as error:
                problems[name] = error
    all_forecasts = [previews[name].forecast if name in previews else None for name in series.members]
    seconds = _sum([forecast.total_seconds if forecast is not None else None for forecast in all_forecasts])
    disk_bytes = _sum([forecast.disk_bytes if forecast is not None else None for forecast in all_forecasts])
    if as_json:
        data = {name: as_data(series.members[name], preview) for name, preview in previews.items()}
        messages = {name: str(error) for name, error in problems.items()}
        head = {"name": series.spec.name, "axis": series.axis, "values": series.spec.values}
        totals = {"total_seconds": seconds, "disk_bytes": disk_bytes}
        body = {"schema_version": SCHEMA_VERSION, "series": head, "members": data, "problems": messages, **totals}
        printing.print_json(body)
    else:
        console = printing.console()
        for name, preview in previews.items():
            _show(series.members[name], preview)
            console.print()
        time = "the time is not known" if seconds is None else f"about {units.seconds(seconds)}"
        disk = "" if disk_bytes is None else f"; on disk: {units.size(int(disk_bytes))}"
        trials = sum(len(preview.trials) for preview in previews.values())
        count = wording.count
        console.print(
            f"series {series.spec.name}: {count(len(series.members), 'member')} ({', '.join(series.members)}), "
            f"{count(trials, 'trial')}, one after another: {time}{disk}",
            soft_wrap=True,
            style="bold",
        )
    if problems:
        raise joined(problems)


def _sum(values: Sequence[float | None]) -> float | None:
    """Returns the sum; None where one of the values is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _size(text: str | None) -> int | None:
    """Converts `--gpu-memory` to bytes.

    Raises:
        StudyError: if it is not a size.
    """
    if text is None:
        return None
    from tuneoff.analysis.decisions.limits import size

    return int(size(text, "--gpu-memory"))


def as_data(study: Study, plan: Preview) -> dict[str, Any]:
    """Returns the plan as plain data (see `KEYS`)."""
    from tuneoff import registry
    from tuneoff.planning.plan import task_options

    spec, inspection = study.spec, plan.inspection
    return {
        "schema_version": SCHEMA_VERSION,
        "study": {
            "name": spec.name,
            "description": spec.description,
            "model": spec.model.source,
            "random_weights": spec.model.random_weights,
            "task": spec.task.name,
            "task_options": task_options(spec),
            "primary_metric": registry.create_task(spec.task).main_metric,
            "seeds": list(spec.protocol.seeds),
            "arms": list(spec.methods),
        },
        "trials": [_trial(trial, inspection.trials.get(trial.id)) for trial in plan.trials],
        "search_trials": dict(Counter(trial.label for trial in study.plan_search())),
        "labels": list(inspection.labels),
        "data": inspection.data,
        "forecast": None if plan.forecast is None else plan.forecast.model_dump(mode="json"),
        "budget": None if plan.allotment is None else budgets.as_data(plan.allotment),
        "warnings": [dict(warning) for warning in inspection.warnings],
    }


def _trial(trial: TrialSpec, counts: dict[str, dict[str, int]] | None) -> dict[str, Any]:
    plain = trial.model_dump(mode="json")
    data: dict[str, Any] = {
        "id": trial.id,
        "method": trial.label,
        "method_name": trial.method,
        "seed": trial.seed,
        "configuration": {key: plain[key] for key in ("learning_rate", "options", "model", "task", "protocol")},
    }
    for key in ("trainable_parameters", "total_parameters"):
        by_role = counts[key] if counts else None
        data[key] = None if by_role is None else sum(by_role.values())
        data[f"{key}_by_role"] = by_role
    return data


def _show(study: Study, plan: Preview) -> None:
    from rich.text import Text

    from tuneoff.planning.plan import task_options

    trials, inspection, forecast = plan.trials, plan.inspection, plan.forecast
    console = printing.console()
    spec, protocol = study.spec, study.spec.protocol
    console.print(Text(spec.name, style="bold") + Text(f": {spec.description.strip()}" if spec.description else ""))
    weights = " (random weights: quality means nothing)" if spec.model.random_weights else ""
    console.print(f"model {spec.model.source}{weights} · {spec.task.name} on {spec.task.data.train.source}")
    count = wording.count
    searched = protocol.search.space if protocol.search is not None else {}
    batch = "a searched number of examples" if "batch_size" in searched else count(protocol.batch_size, "example")
    budget = f"at most {count(protocol.max_steps, 'step')}" if protocol.max_steps else count(protocol.epochs, "epoch")
    console.print(
        f"{count(len(spec.methods), 'arm')} × {wording.seeds_text(protocol)} = {count(len(trials), 'trial')}"
        f"{' at most' if protocol.race else ''} · "
        f"{budget} · {batch} per step · at most {protocol.max_length} tokens each"
    )
    settings = [f"{key} {_setting(value)}" for key, value in task_options(spec).items() if value is not None]
    if settings:
        console.print(Text(f"{spec.task.name}: {', '.join(settings)}"))
    for line in wording.search_lines(study):
        console.print(line)
    if line := wording.deployability_line(spec):
        console.print(line)
    rows = [
        _cells(trial, _trial(trial, inspection.trials.get(trial.id)))
        for trial in trials
        if trial.seed == protocol.seeds[0]
    ]
    console.print()
    console.print(_arms_table(rows, console.width))
    console.print()
    for line in _data_lines(inspection):
        console.print(line)
    if forecast is not None:
        console.print()
        console.print(forecasts.table(forecast, console.width))
        console.print()
        unfit = forecasts.fit_lines(forecast)
        for line in forecasts.lines(forecast, spec.execution.checkpoint_minutes):
            console.print(Text(line, style="yellow" if line in unfit else ""))
    for warning in inspection.warnings:
        console.print(Text(f"note: {warning['message']}", style="yellow"))


def _arms_table(rows: Sequence[list[str]], width: int) -> Table:
    """Returns the table of arms; options are folded between words, and labels cut before one of these would be."""
    from rich.table import Table

    from tuneoff.report.fitting import LABEL_LEAST, fitted
    from tuneoff.report.terminal import LABEL

    longest_word = max((len(word) for *_, options in rows for word in options.split()), default=0)
    tables = []
    for room, least in ((60, LABEL), (30, LABEL), (0, LABEL_LEAST)):
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column("method", no_wrap=True, overflow="ellipsis", min_width=least)
        for heading in ("trained", "of the model", "learning rate"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("options", width=max(room, longest_word, len("options")))
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    return fitted(tables, width)


def _cells(trial: TrialSpec, data: dict[str, Any]) -> list[str]:
    trained, total = data["trainable_parameters"], data["total_parameters"]
    options = ", ".join(f"{key}={_short(value)}" for key, value in trial.options.items())
    name = trial.label if trial.label == trial.method else f"{trial.label} ({trial.method})"
    return [
        name,
        "–" if trained is None else f"{trained:,}",
        "–" if not total else f"{100 * trained / total:.2f} %",
        "–" if trial.learning_rate is None else f"{trial.learning_rate:g}",
        options,
    ]


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_short, value))
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _setting(value: Any) -> str:
    """Formats an option of the task; text stands in quotes, so that spaces and line breaks in a template are
    visible."""
    if isinstance(value, list):
        return "[" + ", ".join(map(_setting, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _data_lines(inspection: Inspection) -> list[str]:
    if inspection.data is None:
        return ["the data was not read"]
    lines = []
    for name, split in inspection.data.get("splits", {}).items():
        truncated = f", {split['truncated']:,} longer than max_length" if split.get("truncated") else ""
        groups = inspection.data.get("groups", {}).get(name)
        in_groups = f" in {wording.count(groups, 'group')}" if groups else ""
        pool = inspection.data.get("train_pool") if name == "train" else None
        drawn = f", drawn with replacement from {pool:,}, others at every seed" if pool else ""
        lines.append(f"{name}: {split['rows']:,} rows{in_groups}{drawn}{truncated}")
    columns = inspection.data.get("columns") or {}
    if columns:
        lines.append("columns: " + ", ".join(f"{role} from {column}" for role, column in columns.items()))
    if inspection.labels:
        shown = ", ".join(inspection.labels[:12]) + (", …" if len(inspection.labels) > 12 else "")
        lines.append(f"{len(inspection.labels)} classes: {shown}")
    return lines
