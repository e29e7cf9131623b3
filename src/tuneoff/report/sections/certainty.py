"""The page's sections on how certain the figures are: all intervals, and all pairs of arms."""

from __future__ import annotations

from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.statistics.pairs import SEEDS_FOR_SPREAD
from tuneoff.encoding import markdown as escaped
from tuneoff.report import columns
from tuneoff.report.markup import grid
from tuneoff.report.schema import PairSummary, Report

PAIRS_SHOWN = 60


def level(report: Report) -> str:
    """Returns the intervals' level: `95%`."""
    return f"{report.answer.interval_level:.0%}"


def intervals(report: Report) -> str:
    """Writes the section with mean and interval of every metric and cost; empty while there is none."""
    parts = []
    for title, columns_shown in (
        ("Metrics", columns.metrics(report)),
        ("Costs", [*(c for c in columns.costs(report) if c is not columns.TRAINABLE), *columns.speeds(report)]),
    ):
        with_interval = [c for c in columns_shown if any("[" in (c.interval(entry) or "") for entry in report.methods)]
        rows = [[escaped(e.method), *(c.interval(e) or "–" for c in with_interval)] for e in report.methods if e.seeds]
        if with_interval:
            parts += [f"### {title}", grid(["method", *(escaped(c.title) for c in with_interval)], rows)]
    if not parts:
        return ""
    explanation = (
        f"Means with {level(report)} intervals. A metric's lets seeds and test examples vary (one seed: the examples "
        "alone; where predictions do not tell it example by example: the seeds alone), a cost's lets seeds vary, by a "
        "factor (Student's t of the logarithms). Letters behind a metric are of its own ties: arms that share one "
        "cannot be told apart by it, or share too few seeds to tell. A mean without an interval has one seed, an "
        "interval that rounds to it, or nothing to tell its error."
    )
    return "\n\n".join([f"## {level(report)} intervals", *parts, explanation])


def pairs(report: Report) -> str:
    """Writes the section with every pair of arms on the primary metric; of very many pairs, those with the best arm."""
    verdict = report.verdict
    if verdict is None or not verdict.pairs:
        return ""
    pairs_shown, best = verdict.pairs, report.answer.best or ""
    is_cut = len(pairs_shown) > PAIRS_SHOWN
    if is_cut:
        pairs_shown = tuple(pair for pair in pairs_shown if best in (pair.first, pair.second))
    heads = ["pair", "difference", "second worse by at most", "p", f"p, {verdict.correction}"]
    heads += [verdict.effect_size, "P(better)", "relation", "seeds to settle"]
    explanation = (
        f"Difference of test {metric_name(verdict.metric)}, the first minus the second, on the seeds and "
        f"examples that both have, with its {level(report)} interval (of this pair alone, not corrected). "
        f"“Second worse by at most” is a one-sided {level(report)} bound for all rivals of one arm together, and "
        "tells whether an arm is as good within a margin (`--margin`). "
        f"{verdict.correction}'s correction of p is over all pairs and decides the relation; "
        f"under {SEEDS_FOR_SPREAD} seeds no p is told. "
        f"{verdict.effect_size} is the difference in standard deviations between seeds, of three seeds or more; "
        "P(better) is the share of seeds at which the first is the better one, of two seeds or more. "
        "“Seeds to settle” is the range of how many would tell the pair apart with 80% probability, with a difference "
        f"anywhere in its 80% interval and a spread as it seems. Under {report.answer.seeds_required} seeds "
        "every pair is open."
    )
    parts = ["## Pairs", grid(heads, [_pair_row(pair, verdict.unit) for pair in pairs_shown]), explanation]
    if is_cut:
        parts.append(f"Pairs without {escaped(best)}: pairs.csv.")
    return "\n\n".join(parts)


def _pair_row(pair: PairSummary, unit: str) -> list[str]:
    name = f"{escaped(pair.first)} – {escaped(pair.second)}"
    if pair.p is None:
        relation = f"{pair.relation.replace('_', ' ')}: {escaped(pair.reason)}"
        return [name, columns.difference(pair, unit), "–", "–", "–", "–", "–", relation, "–"]
    effect = "–" if pair.effect is None else f"{pair.effect:.2f}"
    seeds_needed = escaped(pair.reason) or "–"
    if pair.seeds_least is not None:
        seeds_needed = columns.seeds_range(pair.seeds_least, pair.seeds_most).replace(" seeds", "")
    return [
        name,
        columns.difference(pair, unit),
        "–" if pair.most_better is None else columns.bound(pair.most_better, unit),
        *(_p(value, pair.seeds) for value in (pair.p, pair.p_corrected)),
        effect,
        # Of one seed it would be 0 or 1, which sounds like certainty.
        "–" if pair.seeds < 2 or pair.win_rate is None else f"{pair.win_rate:.2f}",
        pair.relation.replace("_", " "),
        seeds_needed,
    ]


def _p(value: float | None, seeds: int) -> str:
    """Formats a p; a dash under three seeds, of which nothing is beyond the noise."""
    if value is None or seeds < SEEDS_FOR_SPREAD:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
