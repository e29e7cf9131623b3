"""Writes the tables of `scope.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from calibration_tables import COVERED, grid, percent
from simulated_searches import ALIKE, FURTHER_SEEDS, OTHER_ROWS, PLACES, VALIDATION_ROWS

GROUPED_HEADS = ["metric", "arms", "seeds", "examples", "groups", "sizes", "in common"]
DRAWN_HEADS = ["metric", "arms", "seeds", "weights of seeds", "rows of a trial", "rows at hand", "moves a score by"]
SEARCHED_HEADS = ["metric", "arms", "seeds", "examples", "trials", "places differ by", "validation noise"]
SEARCHED_WAYS = {"study": "one search", "whole": "one per seed, whole trials", "seed": "one per seed, short trials"}
SEARCHED_HEADS += ["of it the same at every seed", "short trials like whole ones"]
SEARCHED_HEADS += [f"chosen below the best, {way}" for way in SEARCHED_WAYS.values()]
GROUPED_WAYS = {"by_examples": "by examples", "by_groups": "by groups"}
DRAWN_WAYS = {"fixed": "one sample", "naive": "draws, seeds alone", "drawn": "draws"}
VALIDATED_HEADS = ["studies", "seeds", "noise of validation rows", "training rows of a trial"]
VALIDATED_HEADS += ["their sample moves a score by"]
VALIDATED_WAYS = {"same": "the same rows", "halves": "a half per seed", "drawn": "draws per seed"}
VALIDATED_HEADS += [f"chosen below the best, {way}" for way in VALIDATED_WAYS.values()]
VALIDATED_SHARES = {
    "false": "any false claim of any rows",
    "covered_difference": "difference covered, of any rows",
    "given_denied": "any true difference denied, given these rows",
    "given_covered": "difference covered, given these rows",
    "given_wrong_side": "any claim on the wrong side, given these rows",
    "half_width": "half an interval, points",
}


def write_tables(result: dict[str, Any]) -> str:
    """Writes the page of tables, of the parts that there are."""
    parts = [
        "# What a verdict covers",
        "Made by `python benchmarks/scope.py`; [statistics.md](../../docs/statistics.md#what-a-verdict-speaks-of) "
        "tells what it is about. Shares in per cent with their standard errors over studies. No arm is better than "
        "another, so every claim is false: meant to be made in at most 5 % of studies. Intervals are meant to hold the "
        "truth in 95 %.",
    ]
    for name, table in TABLES.items():
        if rows := result.get(name):
            parts += [f"## {table.title}", table.text, _grid(rows, table)]
    return "\n\n".join(parts) + "\n"


def _searched_kind(row: dict[str, Any]) -> list[str]:
    counts = [f"{row[key]:,}" for key in ("arms", "seeds", "examples", "trials")]
    return [
        row["metric"].replace("_", "-"),
        *counts,
        f"{row['spread']:g}",
        f"{row['noise']:g}",
        f"{row['shared_noise']:.0%}",
        f"{row['alike']:g}",
        *(f"{row[way]['shortfall']:.1f}" for way in SEARCHED_WAYS),
    ]


def _drawn_kind(row: dict[str, Any]) -> list[str]:
    counts = [f"{row[key]:,}" for key in ("rows", "pool")]
    kind = [row["metric"].replace("_", "-"), str(row["arms"]), str(row["seeds"]), row["weights"]]
    return [*kind, *counts, f"{row['spread']:g}"]


def _grouped_kind(row: dict[str, Any]) -> list[str]:
    sizes = "unequal" if row["uneven"] else "equal"
    counts = [f"{row[key]:,}" for key in ("arms", "seeds", "examples", "groups")]
    return [row["metric"].replace("_", "-"), *counts, sizes, f"{row['alike']:.0%}"]


def _validated_kind(row: dict[str, Any]) -> list[str]:
    counts = [f"{row[key]:,}" for key in ("studies", "seeds")]
    kind = [*counts, f"{row['shared_noise']:.0%}", f"{row['rows']:,}", f"{row['moved']:g}"]
    return [*kind, *(f"{row[way]['shortfall']:.1f}" for way in VALIDATED_WAYS)]


@dataclass(frozen=True)
class Table:
    """How the table of one kind of studies is written: what a row is of, and its shares by which ways of judging."""

    title: str
    text: str
    heads: list[str]
    kind: Callable[[dict[str, Any]], list[str]]
    ways: dict[str, str]
    shares: dict[str, str] = field(default_factory=lambda: COVERED)

    def columns(self, row: dict[str, Any]) -> list[tuple[str, str]]:
        """Returns the share and the way of every column of results; not every way has each of them."""
        return [(name, way) for name in self.shares for way in self.ways if name in row[way]]


def _grid(rows: Sequence[dict[str, Any]], table: Table) -> str:
    heads = [f"{table.shares[name]}, {table.ways[way]}" for name, way in table.columns(rows[0])]
    return grid([*table.heads, *heads], [[*table.kind(row), *results(row, table)] for row in rows])


def results(row: dict[str, Any], table: Table) -> list[str]:
    """Writes what a row says of every share and way."""
    return [percent(row[way], name) for name, way in table.columns(row)]


TABLES = {
    "groups": Table(
        "Clustered test rows (`task.group`)",
        "Test examples of a group have in common what is given of the variance of their difficulty and of how arms and "
        "seeds fare with them. Unequal sizes: logarithms with a standard deviation of 0.8.",
        GROUPED_HEADS,
        _grouped_kind,
        GROUPED_WAYS,
    ),
    "draws": Table(
        "Samples of training rows (`protocol.splits: per_seed`)",
        "A fresh sample of the training rows of a trial moves an arm's score by what is given (a standard deviation; "
        f"{ALIKE:.0%} of the variance moves all arms alike). One sample for all seeds; draws per seed, judged as if "
        "seeds were all that varies; and draws per seed as they are judged, with the error of the rows that all seeds "
        "drew from.",
        DRAWN_HEADS,
        _drawn_kind,
        DRAWN_WAYS,
    ),
    "searches": Table(
        "Searches (`search.per_seed: true`)",
        f"Each trial of a search tries one of {PLACES} places; they differ by the standard deviation given, the same "
        "for all arms, and a search takes the best by validation, whose noise is given too. A share of its variance "
        "belongs to the place of an arm and is the same at every seed, as where all searches see the same validation "
        "rows. One search of an arm; one of four whole trials for every seed; and one of four trials that are so short "
        "that those of six seeds take as many steps as one search. What places do to short and whole trials has the "
        "correlation given, the same for all arms. Below the best: how far the chosen places lie below the best one on "
        "average, in points.",
        SEARCHED_HEADS,
        _searched_kind,
        SEARCHED_WAYS,
    ),
    "validation": Table(
        "What searches of seeds claim about (`search.per_seed` with and without `protocol.splits: per_seed`)",
        "Six equal arms; searches of short trials as above, places that differ by 0.02, validation noise of 0.02 on "
        f"{VALIDATION_ROWS} rows, of which the share given is of the rows (of an arm at a place) and the rest of the "
        "trial. All seeds on the same validation rows; each on a half of its own of these; or each on draws of its own "
        f"of {VALIDATION_ROWS + OTHER_ROWS:,} rows at hand, in part shared, with training rows drawn too. Of any rows: "
        "methods are equal, so every claim is false. Given these rows (validation and training rows): methods with "
        f"their searches differ by what {FURTHER_SEEDS:,} further seeds of the same study score; a test that holds its "
        "level denies any of these differences in at most 5 % of studies.",
        VALIDATED_HEADS,
        _validated_kind,
        VALIDATED_WAYS,
        VALIDATED_SHARES,
    ),
}
