"""Writes report.md from the report's plain data."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from tuneoff.analysis.figures import metric_name
from tuneoff.encoding import code, fenced, visible
from tuneoff.encoding import markdown as escaped
from tuneoff.report import certainty, columns, devices, forecast, search, units
from tuneoff.report.charts import Chart
from tuneoff.report.columns import Column
from tuneoff.report.markup import grid, option
from tuneoff.report.wording import after_caveats, groups_text, join

Summary = dict[str, Any]
MESSAGES_SHOWN = 4
FINGERPRINT_DIGITS = 12
METRICS_BESIDE_COSTS = 4
"""More metrics than these get a table of their own, so that the first can be read."""
DAGGER = "† Something else used the machine while this was timed; the figure may be too high (a speed too low)."


def render(summary: Summary, charts: Sequence[Chart], folder: str = "", report: str = "report") -> str:
    """Writes the whole page; charts are embedded by relative path.

    Args:
        folder: the study's own as seen from where it was run, empty where that is not known.
        report: the name of the report's folder in it.
    """
    sections = [
        _head(summary),
        _warnings(summary),
        _results(summary),
        certainty.intervals(summary),
        certainty.pairs(summary),
        _published(summary),
        search.section(summary),
        _charts(charts),
        _examples(summary),
        _speed(summary),
        devices.section(summary),
        forecast.section(summary),
        _protocol(summary),
        _data(summary),
        _environment(summary),
        _methods(summary),
        _failures(summary),
        _repeat(summary, folder, report),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(summary: Summary) -> str:
    study, answer = summary["study"], summary["answer"]
    lines = [f"# {escaped(study['name'])}"]
    if study["description"]:
        # May be several paragraphs, and marked up by whoever wrote the study, but no HTML.
        lines.append(visible(study["description"].strip()).replace("<", "\\<"))
    data = _describe_source(study["sources"]["train"], "train")
    lines.append(f"Base model {code(study['model'])}, task {escaped(study['task'])}, data {data}.")
    lines.append("## Answer")
    if answer["doubt"]:
        lines.append(f"**{escaped(answer['doubt'])}**")
    if answer["caveats"]:
        lines.append(
            "\n".join(f"> **Caution:** {escaped(caveat)}" + "\n>" for caveat in answer["caveats"]).rstrip(">\n")
        )
    text = escaped(after_caveats(summary))
    lines.append(f"**{text}**" if answer["best"] is None else text)
    return "\n\n".join(lines)


def _warnings(summary: Summary) -> str:
    """Lists the warnings that the answer's caveats do not say already; long lists are cut."""
    caveats = set(summary["answer"]["caveats"])
    by_name: dict[str, list[str]] = {}
    for warning in summary["warnings"]:
        if warning["message"] not in caveats:
            by_name.setdefault(warning["name"], []).append(escaped(warning["message"]))
    if not by_name:
        return ""
    lines = []
    for name, messages in by_name.items():
        lines += [f"- {code(name)}: {message}" for message in messages[:MESSAGES_SHOWN]]
        if len(messages) > MESSAGES_SHOWN:
            lines.append(f"- {code(name)}: {len(messages) - MESSAGES_SHOWN} more in report.json")
    return "## Warnings\n\n" + "\n".join(lines)


def _results(summary: Summary) -> str:
    metrics = columns.metrics(summary)
    table, notes = _table(summary, [*metrics[:METRICS_BESIDE_COSTS], *columns.COSTS], extra=True)
    explanation = (
        "Mean ± standard deviation over seeds, on the test split; the best of a column in bold. "
        f"“vs. best” is the difference of {metric_name(summary['study']['primary_metric'] or 'the primary metric')} to "
        f"the best arm with its {certainty.level(summary)} interval, “tied” where they cannot be told apart, “open” "
        f"under {summary['answer']['seeds_required']} seeds, which are too few to tell. "
        "Trainable parameters include the head."
    )
    explanation += _describe_memory(summary)
    groups = groups_text(summary)
    sections = ["## Results", table, *notes, *([escaped(groups)] if groups else []), explanation]
    if len(metrics) > METRICS_BESIDE_COSTS:
        metrics_table, notes = _table(summary, metrics)
        sections += ["### Every metric", metrics_table, *notes]
    return "\n\n".join(sections)


def _describe_memory(summary: Summary) -> str:
    """Returns what the column of peak memory holds; empty where nothing is in it."""
    arms: dict[str, list[str]] = {}
    measured_arms = [entry for entry in summary["methods"] if entry["peak_memory_bytes"]["mean"] is not None]
    for entry in measured_arms:
        arms.setdefault(columns.MEMORY_KINDS.get(entry["memory_kind"], "that of training"), []).append(entry["method"])
    if not arms:
        return ""
    kinds = list(arms) if len(arms) == 1 else [f"{kind} ({escaped(join(labels))})" for kind, labels in arms.items()]
    baseline = (
        "; of an arm that does not train, that of the test" if any(not e["trains"] for e in measured_arms) else ""
    )
    return f" Peak memory is {join(kinds)}{baseline}."


def _speed(summary: Summary) -> str:
    columns_shown = [c for c in columns.SPEED if any(c.found(entry) for entry in summary["methods"])]
    if not columns_shown:
        return ""
    table, notes = _table(summary, columns_shown)
    keys = {column.key for column in columns_shown}
    latency = _describe_latency(summary) + (", of its whole text" if columns.LENGTH in columns_shown else "")
    texts = {
        "step_seconds": "“One step” is the median of steps after the first ones, its data wait included.",
        "peak_over_base_bytes": "“Memory over base” is peak memory less what the process held before data and model, "
        "its libraries.",
        "tokens_per_second": "Tokens are real ones, padding not counted.",
        columns.LATENCY.key: f"{latency[0].upper()}{latency[1:]}.",
        columns.LENGTH.key: "“Written” are the tokens that were generated for the test split, in batches.",
        "total_seconds": "“Whole trial” includes loading, evaluation and checkpoints.",
        "gradient_norm_mean": "Gradient norms are of the whole gradient, before clipping.",
    }
    explanation = " ".join(text for key, text in texts.items() if key in keys)
    return "\n\n".join(["## Speed and gradients", table, *notes, explanation])


def _describe_latency(summary: Summary) -> str:
    """Returns what a latency is, and of how many examples."""
    counts = sorted({entry["latency_examples"] for entry in summary["methods"] if entry["latency_examples"]})
    if not counts:
        return "latency is the median for one example"
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    warning = ", too few to call an arm the fastest" if counts[0] < columns.LATENCY_EXAMPLES else ""
    return f"latency is the median for one example ({number} timed{warning})"


def _table(summary: Summary, columns_shown: Sequence[Column], extra: bool = False) -> tuple[str, list[str]]:
    """Returns the table and its footnotes: why cells are empty, and what the marks mean."""
    best = {column.key: columns.best_arms(column, summary) for column in columns_shown}
    reasons: dict[str, int] = {}
    arrows = {"higher": " ↑", "lower": " ↓", None: ""}
    heads = ["method", *(escaped(column.title) + arrows[column.better] for column in columns_shown)]
    rows = []
    grouped = columns.grouped(summary)
    for entry in summary["methods"]:
        cells = [escaped(entry["method"])]
        for column in columns_shown:
            text = column.text(entry)
            if text is None:
                text = f"– [{reasons.setdefault(column.why_missing(entry), len(reasons) + 1)}]"
            elif entry["method"] in best[column.key]:
                text = f"**{text}**"
            cells.append(text)
        if grouped:
            cells.append(entry["ties"] or "–")
        if extra:
            cells += [columns.standing(entry, summary["study"]["primary_unit"]), columns.trials(entry)]
        rows.append(cells)
    heads += (["ties"] if grouped else []) + (["vs. best", "seeds"] if extra else [])
    notes = [f"[{number}] {escaped(reason)}." for reason, number in reasons.items()]
    if any(column.timing and "†" in (column.text(e) or "") for column in columns_shown for e in summary["methods"]):
        notes.append(DAGGER)
    if any("‡" in (column.text(entry) or "") for column in columns_shown for entry in summary["methods"]):
        notes.append(_describe_diverged(summary))
    return grid(heads, rows), ["  \n".join(notes)] if notes else []


def _describe_diverged(summary: Summary) -> str:
    """Explains the double dagger, and gives the figures without diverged seeds."""
    texts = []
    for entry in summary["methods"]:
        metric = entry["metrics"].get(summary["study"]["primary_metric"])
        if metric is None or not metric["diverged_seeds"]:
            continue
        converged, unit = metric["without_diverged"], metric["unit"]
        converged_text = (
            f"{columns.score(converged['mean'], converged['std'], unit)} of {converged['n']}"
            if converged
            else "none is left"
        )
        seeds = join([str(seed) for seed in metric["diverged_seeds"]])
        texts.append(
            f"{escaped(entry['method'])} (seed {seeds}; without: {converged_text}; "
            f"counts as: {escaped(metric['counted_as'])})"
        )
    return f"‡ Training diverged at some seeds, which count as doing without training: {'; '.join(texts)}."


def _published(summary: Summary) -> str:
    published = summary["published"]
    if published is None:
        return ""
    names = list(dict.fromkeys(c["figure"] for m in summary["methods"] for c in m["published_comparison"]))
    lines = ["## Published figures beside ours", f"_{escaped(published['citation'])}_"]
    if summary["study"]["random_weights"]:
        lines.append("> **Caution:** ours was run on random weights, so its quality cannot be set beside theirs.")
    if names:
        rows = []
        for entry in summary["methods"]:
            by_name = {c["figure"]: c for c in entry["published_comparison"]}
            if by_name:
                ties = [entry["ties"] or "–"] if columns.grouped(summary) else []
                rows.append(
                    [escaped(entry["method"]), *(_format_comparison(by_name.get(name)) for name in names), *ties]
                )
        heads = ["method", *(escaped(name.replace("_", " ")) for name in names)]
        lines.append(grid([*heads, "ties"] if columns.grouped(summary) else heads, rows))
        lines.append("Each cell is ours / published, ours in the published unit; – where nothing was published.")
        comparisons = [
            c for entry in summary["methods"] for c in entry["published_comparison"] if c["ours"] is not None
        ]
        kinds = dict.fromkeys(c["memory_kind"] for c in comparisons if c["memory_kind"])
        lines += [f"Our peak memory is {columns.MEMORY_KINDS[kind]}{_MEMORY_NOTES.get(kind, '')}." for kind in kinds]
        lines += [DAGGER] if any(c["contended"] for c in comparisons) else []
    notes = []
    for label, figures in published["without_an_arm"].items():
        listed = ", ".join(f"{escaped(name.replace('_', ' '))} {units.exact(v)}" for name, v in figures.items())
        notes.append(f"- {escaped(label)} (published only, no arm here): {listed}")
    notes += [f"- {escaped(note)}" for note in published["notes"]]
    return "\n\n".join([*lines, *(["\n".join(notes)] if notes else [])])


_MEMORY_NOTES = {"resident": "; a published figure of a GPU's memory is another quantity"}


def _format_comparison(comparison: dict[str, Any] | None) -> str:
    if comparison is None:
        return "–"
    if comparison["ours"] is None:
        return f"not measured / {units.exact(comparison['published'])}"
    deviation = comparison["ours_std"]
    std = "" if deviation is None else f" ± {units.number(float(format(deviation, '.2g')))}"
    mark = " †" if comparison["contended"] else ""
    return f"{units.number(comparison['ours'])}{std}{mark} / {units.exact(comparison['published'])}"


def _charts(charts: Sequence[Chart]) -> str:
    if not charts:
        return ""
    figures = [f"![{escaped(chart.alt)}]({chart.file})\n\n{escaped(chart.caption)}" for chart in charts]
    return "\n\n".join(["## Charts", *figures])


def _examples(summary: Summary) -> str:
    """Shows what every arm generated, beside source and reference. All of it is untrusted text, so escaped."""
    if not summary["examples"]:
        return ""
    metric = metric_name(summary["study"]["primary_metric"])
    explanation = (
        "Test examples taken evenly from those whose source was kept, whatever was written for them; each arm with its "
        f"lowest seed, and the example's own {metric}. Long texts are cut; whole ones stand in the trials' predictions."
    )
    lines = ["## Examples", explanation]
    for example in summary["examples"]:
        rows = [["*reference*", escaped(example["reference"]), ""]]
        for output in example["outputs"]:
            value = (
                "–"
                if output["value"] is None
                else columns.score(output["value"], unit=summary["study"]["primary_unit"])
            )
            rows.append([escaped(output["method"]), escaped(output["output"]) or "*(empty)*", value])
        lines.append(f"### Test example {example['index']}\n\nSource: {escaped(example['source'])}")
        lines.append(grid(["arm", "text", metric], rows, ":---"))
    return "\n\n".join(lines)


def _protocol(summary: Summary) -> str:
    """Lists every setting, with the values that `auto` and null stand for; other nulls set no limit and are left
    out."""
    protocol, selected_by = summary["protocol"], summary["study"]["selected_by"]
    policies = join([policy["policy"] for policy in summary["environments"]["precision"]])
    model = (summary["data"] or {}).get("model") or {}
    null_texts = {"clip_norm": "never clipped", "dropout": "as pretrained"}
    settings: dict[str, Any] = {key: null_texts.get(key) if value is None else value for key, value in protocol.items()}
    settings = {key: value for key, value in settings.items() if value is not None and key != "select_metric"}
    if selected_by:
        settings["select"] = f"best by validation {metric_name(selected_by)}"
    if policies:
        settings["precision"] = f"{protocol['precision']}: {policies}"
    if model.get("attention"):
        kernels = f"{model['attention']} in training, {model['evaluation_attention']} in evaluations"
        settings["attention"] = f"{protocol['attention']}: {kernels}"
    if protocol["search"] is not None:
        settings["search"] = search.settings_text(protocol["search"])
    seeds = ", ".join(map(str, settings.pop("seeds")))
    rows = [["seeds", seeds], *([key.replace("_", " "), escaped(f"{value}")] for key, value in settings.items())]
    for key, value in summary["study"]["task_options"].items():
        if value is not None:
            shown = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else option(value)
            rows.append([escaped(f"{summary['study']['task']}: {key.replace('_', ' ')}"), escaped(shown)])
    return "## Protocol\n\nHeld equal for every method.\n\n" + grid(["setting", "value"], rows, ":---")


def _data(summary: Summary) -> str:
    data = summary["data"]
    if data is None:
        return ""
    heads = ["split", "rows", "classes", "truncated", "longest (tokens)", "source", "fingerprint"]
    rows = [
        [
            split,
            f"{split_data['rows']:,}",
            f"{len(split_data['classes'])}",
            f"{split_data['truncated']:,}",
            f"{split_data['longest_tokens']:,}",
            _describe_source(summary["study"]["sources"].get(split), split),
            split_data["fingerprint"][:FINGERPRINT_DIGITS],
        ]
        for split, split_data in data["splits"].items()
    ]
    if not data["labels"]:
        heads, rows = [heads[0], heads[1], *heads[3:]], [[*row[:2], *row[3:]] for row in rows]
    lines = ["## Data", grid(heads, rows)]
    facts = [
        f"- Fingerprint: the first {FINGERPRINT_DIGITS} digits of a SHA-256 over the rows that were used, in order; "
        "whole in report.json"
    ]
    if data["labels"]:
        facts.append(
            f"- Classes: {', '.join(map(escaped, data['labels'][:20]))}{' …' if len(data['labels']) > 20 else ''}"
        )
    if data["columns"]:
        columns_read = (f"{escaped(role)} from {code(column)}" for role, column in data["columns"].items())
        facts.append(f"- Columns: {', '.join(columns_read)}")
    facts += [f"- Left out of {split} for an empty cell: {count}" for split, count in data["skipped"].items()]
    for pair, count in data["overlap"].items():
        first, _, other = pair.partition("/")
        facts.append(
            f"- {'Training' if first == 'train' else first.capitalize()} rows that also stand in {other}: {count}"
        )
    removed = {"training": data["overlap_removed"], "validation": data["validation_removed"]}
    facts += [f"- Removed from {split} for that: {count}" for split, count in removed.items() if count]
    return "\n\n".join([*lines, "\n".join(facts)])


def _describe_source(source: dict[str, Any] | None, role: str) -> str:
    """Describes a source, as far as it differs from the default: `somebody/news, config 3.0.0, split validation,
    revision 1a2b3c`."""
    if source is None:
        return "cut from train"
    details = {key: source[key] for key in ("config", "split", "revision") if source[key] not in (None, role)}
    return ", ".join([escaped(source["source"]), *(f"{key} {escaped(value)}" for key, value in details.items())])


def _environment(summary: Summary) -> str:
    environments = summary["environments"]
    if not environments["machines"]:
        return ""
    lines = []
    for m in environments["machines"]:
        names = ", ".join(dict.fromkeys(escaped(name) for name in (m["device_name"], m["processor"]) if name))
        lines.append(
            f"- {m['device']}: {names}, {m['cores']} cores, {m['threads']} threads, "
            f"{units.size(m['memory_bytes'])} of memory; {m['platform']}, Python {m['python']}"
            + ("; freed memory given back at once (`execution.release_memory`)" if m["release_memory"] else "")
        )
    for policy in environments["precision"]:
        error = policy["matmul_relative_error"]
        error_text = f"; measured error of a matrix product {error:.1e}" if error is not None else ""
        lines.append(f"- Precision {policy['policy']}: {escaped(policy['description'])}{error_text}")
    versions = ", ".join(f"{name} {version}" for name, version in environments["versions"].items())
    lines.append(f"- Versions: {versions}" + (f"; commit {environments['commit']}" if environments["commit"] else ""))
    model = (summary["data"] or {}).get("model")
    if model:
        source = "random weights" if model["random_weights"] else f"SHA-256 {model['checksum']}"
        lines.append(
            f"- Model: {escaped(model['source'])}, {escaped(model['architecture'])}, {model['dtype']}, {source}"
        )
    return "## Machine and software\n\n" + "\n".join(lines)


_RATE_FROM = {"search": "searched", "protocol": "one for all", "study": "set", "default": "default"}


def _methods(summary: Summary) -> str:
    rows = []
    for entry in summary["methods"]:
        rate = entry["learning_rate"]
        options_set = {key: value for key, value in entry["options"].items() if value is not None}
        options = ", ".join(f"{key} {option(value)}" for key, value in options_set.items())
        findings = join(list(dict.fromkeys(finding["name"] for finding in entry["findings"])))
        rows.append(
            [
                escaped(entry["method"]),
                escaped(entry["method_name"]),
                "– (nothing is trained)"
                if rate is None
                else f"{units.rate(rate)} ({_RATE_FROM[entry['learning_rate_from']]})",
                escaped(options) or "–",
                escaped(findings) or "–",
            ]
        )
    return "## Methods\n\n" + grid(["arm", "method", "learning rate", "options", "findings"], rows, ":---")


def _failures(summary: Summary) -> str:
    if not summary["failures"]:
        return ""
    lines = ["## Trials that did not complete"]
    for failure in summary["failures"]:
        cause = escaped(failure["cause"]) or "no cause recorded"
        lines.append(f"### {escaped(failure['id'])}\n\n{failure['status']}: {cause}")
        if failure["log_tail"]:
            lines.append(fenced(failure["log_tail"], "text"))
    return "\n\n".join(lines)


def _repeat(summary: Summary, folder: str, report: str) -> str:
    devices = list(dict.fromkeys(m["device"] for m in summary["environments"]["machines"]))
    device = f" --device {devices[0].partition(':')[0]}" if len(devices) == 1 else ""
    study = shlex.quote(f"{folder or 'STUDY'}/{report}/study.yaml")
    place = "" if folder else " (`STUDY` stands for this study's folder)"
    return (
        "## How to repeat\n\n"
        "`study.yaml` beside this page is the whole study, every default filled in. Paths in it are meant from the "
        f"folder where the study was run, so repeat it there{place}:\n\n"
        f"{fenced([f'tuneoff run {study} --out repeated{device}'], 'sh')}\n\n"
        "Per trial: `results.csv`. Per method: `methods.csv`. Per pair: `pairs.csv`. "
        "Everything here as data: `report.json`."
    )
