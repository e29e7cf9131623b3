"""The page's tables of metrics, costs and speeds."""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.analysis.figures import metric_name
from tuneoff.encoding import markdown as escaped
from tuneoff.report import columns, units
from tuneoff.report.arm_schema import Figure
from tuneoff.report.columns import Column
from tuneoff.report.markup import grid
from tuneoff.report.schema import Report
from tuneoff.report.sections import certainty
from tuneoff.report.wording import capitalised, groups_text, join

METRICS_BESIDE_COSTS = 4
"""More metrics than these get a table of their own, so that the first can be read."""
DAGGER = "† Something else used the machine while this was timed; the figure may be too high (a speed too low)."


def results(report: Report) -> str:
    """Writes the table of metrics and costs."""
    metrics = columns.metrics(report)
    table, notes = _table(report, [*metrics[:METRICS_BESIDE_COSTS], *columns.costs(report)], extra=True)
    explanation = (
        "Mean ± standard deviation over seeds, on the test split; the best of a column in bold. "
        f"“vs. best” is the difference of {metric_name(report.study.primary_metric or 'the primary metric')} to "
        f"the best arm with its {certainty.level(report)} interval, “tied” where they cannot be told apart, “open” "
        f"under {report.answer.seeds_required} seeds, which are too few to tell. "
        f"{_describe_margin(report)}"
        "Trainable parameters include the head."
    )
    explanation += " ".join(
        [_describe_memory(report), escaped(describe_money(report)), *map(escaped, describe_metrics(report))]
    )
    groups = groups_text(report)
    sections = ["## Results", table, *notes, *([escaped(groups)] if groups else []), explanation]
    if len(metrics) > METRICS_BESIDE_COSTS:
        metrics_table, notes = _table(report, metrics)
        sections += ["### Every metric", metrics_table, *notes]
    return "\n\n".join(sections)


def _describe_margin(report: Report) -> str:
    answer = report.answer
    if not answer.as_good or answer.margin is None:
        return ""
    margin = columns.bound(answer.margin, report.study.primary_unit)
    return f"“Within the margin” is at most {margin} worse than the best ({certainty.level(report)} for all together). "


def describe_metrics(report: Report) -> list[str]:
    """Says that metrics besides the primary are exploratory, and what to know of their values."""
    figures = {name: figure for arm in report.methods for name, figure in arm.metrics.items()}
    primary = metric_name(report.study.primary_metric or "")
    texts = []
    if any(figure.exploratory for figure in figures.values()):
        texts.append(f"metrics besides {primary} are exploratory: nothing corrects for looking at several of them")
    texts += dict.fromkeys(figure.caution for figure in figures.values() if figure.caution)
    return [f"{capitalised(text)}." for text in texts]


def describe_money(report: Report) -> str:
    """Says what prices amounts are at, and what the trials cost in all; empty without prices."""
    money = report.money
    if money is None:
        return ""
    stated = [f"{units.number(price)} an hour of {device}" for device, price in money.device_hour.items()]
    stated += [
        f"{units.number(price.input)} for a million tokens read by {model} and {units.number(price.output)} written"
        for model, price in money.million_tokens.items()
    ]
    source = f" ({money.note})" if money.note else ""
    search_text = "" if money.search is None else f", the trials of the search {units.number(money.search)}"
    search_unknown = (
        f" The price of the search is not known: {money.search_reason}."
        if report.search is not None and money.search is None
        else ""
    )
    unknown = f"; of {money.unpriced} more the price is not known" if money.unpriced else ""
    return (
        f"Money is in {money.currency}, at {join(stated)}{source}, for the whole trial. The final trials cost "
        f"{units.number(money.final)}{search_text}{unknown}.{search_unknown}"
    )


def _describe_memory(report: Report) -> str:
    """Returns what the column of peak memory holds; empty where nothing is in it."""
    arms: dict[str, list[str]] = {}
    measured_arms = [entry for entry in report.methods if entry.peak_memory_bytes.mean is not None]
    for entry in measured_arms:
        arms.setdefault(columns.MEMORY_KINDS.get(entry.memory_kind or "", "that of training"), []).append(entry.method)
    if not arms:
        return ""
    kinds = list(arms) if len(arms) == 1 else [f"{kind} ({escaped(join(labels))})" for kind, labels in arms.items()]
    baseline = "; of an arm that does not train, that of the test" if any(not e.trains for e in measured_arms) else ""
    return f" Peak memory is {join(kinds)}{baseline}."


def speed(report: Report) -> str:
    """Writes the table of speeds, latencies and gradients; empty where nothing of it was measured."""
    columns_shown = [c for c in columns.speeds(report) if any(c.value(entry) for entry in report.methods)]
    if not columns_shown:
        return ""
    table, notes = _table(report, columns_shown)
    keys = {column.key for column in columns_shown}
    latency = _describe_latency(report) + (", of its whole text" if columns.LENGTH in columns_shown else "")
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


def _describe_latency(report: Report) -> str:
    """Returns what a latency is, and of how many examples."""
    counts = sorted({entry.latency_examples for entry in report.methods if entry.latency_examples})
    if not counts:
        return "latency is the median for one example"
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    warning = ", too few to call an arm the fastest" if counts[0] < columns.LATENCY_EXAMPLES else ""
    return f"latency is the median for one example ({number} timed{warning})"


def _table(report: Report, columns_shown: Sequence[Column], extra: bool = False) -> tuple[str, list[str]]:
    """Returns the table and its footnotes: why cells are empty, and what the marks mean."""
    best = {column.key: columns.best_arms(column, report) for column in columns_shown}
    reasons: dict[str, int] = {}
    arrows = {"higher": " ↑", "lower": " ↓", None: ""}
    heads = ["method", *(escaped(column.title) + arrows[column.better] for column in columns_shown)]
    rows = []
    grouped = columns.grouped(report)
    for entry in report.methods:
        cells = [escaped(entry.method)]
        for column in columns_shown:
            text = column.text(entry)
            if text is None:
                text = f"– [{reasons.setdefault(column.why_missing(entry), len(reasons) + 1)}]"
            elif entry.method in best[column.key]:
                text = f"**{text}**"
            cells.append(text)
        if grouped:
            cells.append(entry.ties or "–")
        if extra:
            cells += [columns.standing(entry, report.study.primary_unit), columns.trials(entry)]
        rows.append(cells)
    heads += (["ties"] if grouped else []) + (["vs. best", "seeds"] if extra else [])
    notes = [f"[{number}] {escaped(reason)}." for reason, number in reasons.items()]
    if any(column.timing and "†" in (column.text(e) or "") for column in columns_shown for e in report.methods):
        notes.append(DAGGER)
    if any("‡" in (column.text(entry) or "") for column in columns_shown for entry in report.methods):
        notes.append(_describe_diverged(report))
    if fewer := _of_fewer_seeds(report, columns_shown):
        notes.append(f"Measured at some seeds alone: {fewer}.")
    return grid(heads, rows), ["  \n".join(notes)] if notes else []


def _of_fewer_seeds(report: Report, columns_shown: Sequence[Column]) -> str:
    """Lists the costs that not every completed seed of an arm has, with how many have it; empty where there is none."""
    texts = []
    for column in columns_shown:
        figures = [(figure.n, len(e.seeds)) for e in report.methods if isinstance(figure := column.figure(e), Figure)]
        counts = sorted({count for count, seeds in figures if 0 < count < seeds and not column.quality})
        if counts:
            texts.append(f"{escaped(column.title)} ({' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))})")
    return ", ".join(texts)


def _describe_diverged(report: Report) -> str:
    """Explains the double dagger, and gives the figures without diverged seeds."""
    texts = []
    for entry in report.methods:
        metric = entry.metrics.get(report.study.primary_metric or "")
        if metric is None or not metric.diverged_seeds:
            continue
        converged, unit = metric.without_diverged, metric.unit
        converged_text = (
            f"{columns.score(converged.mean, converged.std, unit)} of {converged.n}"
            if converged is not None and converged.mean is not None
            else "none is left"
        )
        seeds = join([str(seed) for seed in metric.diverged_seeds])
        texts.append(
            f"{escaped(entry.method)} (seed {seeds}; without: {converged_text}; "
            f"counts as: {escaped(metric.counted_as)})"
        )
    return f"‡ Training diverged at some seeds, which count as doing without training: {'; '.join(texts)}."
