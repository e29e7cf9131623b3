"""Writes the tables of `calibration.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

EARLIER = "†"


def kind(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns what tells a row of results from others: of which studies it is."""
    names = ("name", "metric", "arms", "seeds", "examples", "score", "lead", "step", "procedure")
    return tuple(row.get(name) or 0 for name in names)


def percent(row: dict[str, Any], name: str) -> str:
    """Returns a share in per cent with its standard error; a dash where there is none."""
    return f"{row[name] * 100:.1f} ± {row[f'{name}_error'] * 100:.1f}" if name in row else "–"


def _name(row: dict[str, Any]) -> str:
    """Returns what a row is of, by how much arms truly differ, and a dagger where it is of an earlier procedure."""
    difference = row.get("lead") or row.get("step")
    return row["name"] + (f", by {difference:g}" if difference else "") + (f" {EARLIER}" if is_earlier(row) else "")


def is_earlier(row: dict[str, Any]) -> bool:
    """Returns whether a row was made before wild arms and baselines kept their own variance (`moderated.py`) and before
    Shaffer's correction: its scenario does not count baselines yet."""
    return "baselines" not in row


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _table(rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> str:
    """Writes a table of scenarios: what they are, and these shares in per cent with their standard errors."""
    heads = ["study", "metric", "arms", "seeds", "examples", "studies", *columns.values()]
    return grid(
        heads,
        [
            [
                _name(row),
                row["metric"].replace("_", "-"),
                *(f"{row[key]:,}" for key in ("arms", "seeds", "examples", "studies")),
                *(percent(row, name) for name in columns),
            ]
            for row in rows
        ],
    )


COVERED = {"covered_mean": "mean covered", "covered_difference": "difference covered", "false": "any false claim"}
POWER = {
    "found": "found",
    "own_found": "by each pair's own variance, Holm",
    "pooled_found": "one variance for all",
    "oracle_found": "oracle",
    "winner": "winner named",
    "own_winner": "by own variance",
}


PROJECTION = {
    "number_named": "a range is named",
    "range_held": "it holds the true number",
    "range_closed": "it has an upper end",
    "number_right": "one number alone right within a half",
}


def _races(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Writes the tables of races over seeds."""
    if not rows:
        return []
    heads = ["study", "arms", "examples", "studies", "any false claim", "difference covered", "seeds of an arm"]
    plain = [row for row in rows if row["margin"] is None]
    with_margin = [row for row in rows if row["margin"] is not None]

    def cells(row: dict[str, Any]) -> list[str]:
        counts = [f"{row[key]:,}" for key in ("arms", "examples", "studies")]
        shares = [percent(row, name) for name in ("false", "covered_difference")]
        return [_name(row), *counts, *shares, f"{row['seeds']:.1f}"]

    def fixed(row: dict[str, Any]) -> list[str]:
        if "found" not in row:
            return ["–", "–"]
        equal = row["fixed_seeds"]
        more = row["found"] > row["fixed_found"][-1]
        return [percent(row, "found"), f"{equal:.1f}" if equal else "over 20" if more else "under 6"]

    parts = [
        "## Seeds by racing",
        "Looks at 6, 8, 11, 15 and 20 seeds (`benchmarks/races.py`). Any false claim: at any look. Found: the share of "
        "the truly best arm's pairs that are called significant; beside the seeds of an arm on average stands the "
        "fixed number of seeds that finds as many on the same studies.",
        grid([*heads, "found", "fixed seeds that find as many"], [[*cells(row), *fixed(row)] for row in plain]),
    ]
    if not with_margin:
        return parts
    return [
        *parts,
        "With a margin of 0.01, at which a race also ends where all that are left are equivalent to the best. As good: "
        "the share of arms shown to be at most that much worse than the one named the best; falsely: any that is not.",
        grid(
            [*heads, "as good", "any falsely as good"],
            [[*cells(row), percent(row, "as_good"), percent(row, "false_as_good")] for row in with_margin],
        ),
    ]


def write_tables(result: dict[str, Any]) -> str:
    """Writes the page of tables."""
    worst, beside = result["worst"], result["side_by_side"]
    parts = [
        "# Calibration",
        "Made by `python benchmarks/calibration.py` in one thread. Shares in per cent with their "
        "standard errors over studies; made-up studies as `benchmarks/simulated_studies.py` describes them. Bars: "
        f"intervals hold the truth in 95 ± 1.5 %, any false claim in at most 5 % of studies. "
        f"Mean of kinds without a difference: means covered in {worst['covered_mean_all'] * 100:.1f} %, differences "
        f"in {worst['covered_difference_all'] * 100:.1f} %, any false claim in {worst['false_all'] * 100:.1f} %.",
        f"{EARLIER}: not made again since arms of wild seeds and baselines keep their own variance and pairs are "
        "corrected by Shaffer's method instead of Holm's.",
        "## No arm differs from another",
        _table(result["no_difference"], COVERED | {"own_false": "by own variance", "pooled_false": "one variance"}),
        "## Arms that truly differ",
        "Found: the share of the pairs that truly differ which are called significant. Beside it the same studies "
        "judged by every pair's own variance of seeds with Holm's correction, by one variance for all pairs, and by an "
        "oracle that knows each pair's true variance. False claims are of the other pairs, and of the wrong side.",
        _table(result["one_arm_better"], POWER | COVERED),
        *_races(result.get("races", [])),
        "## How many seeds would settle it",
        "Of the first arm's pairs that were not settled: the number of seeds that the report names, and its range "
        "(80 % by the interval of the difference), against the number that the true difference and variances need.",
        _table([row for row in result["one_arm_better"] if "range_held" in row], PROJECTION),
        "## Costs",
        "Seconds of log-normal seeds: the interval by a factor (Student's over logarithms) against the one by a "
        "difference.",
        grid(
            ["seeds", "spread", "studies", "by a factor, covered", "by a difference, covered", "which reaches 0"],
            [
                [str(row["seeds"]), f"{row['spread']:g}", str(row["studies"])]
                + [percent(row, name) for name in ("by_factor", "by_difference", "by_difference_below_zero")]
                for row in result["costs"]
            ],
        ),
        "## Macro-F1 of few examples",
        "The mean of macro-F1 over test sets, less that of infinitely many examples, in points; four classes, the "
        "rarest of one example in ten.",
        grid(
            ["accuracy", "examples", "of the rarest class", "bias, points"],
            [
                [f"{row['score']:g}", f"{row['examples']:,}", f"{row['rarest']:g}", percent(row, "bias")]
                for row in result["macro_f1_bias"]
            ],
        ),
        "## Beyond the bars, as if six seeds were not required",
        _table(result["beyond_the_bars"], COVERED | {"own_false": "by own variance"}),
        "No interval can cover seeds that collapse: most studies of six seeds see no such seed.",
        "## The usual procedures, no arm differs",
        grid(
            ["study", "seeds", "examples", "procedure", "difference covered", "any false claim"],
            [
                [_name(row), str(row["seeds"]), f"{row['examples']:,}", row["procedure"]]
                + [percent(row, name) for name in ("covered_difference", "false")]
                for row in beside
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"
