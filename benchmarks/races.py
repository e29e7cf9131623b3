"""Races over seeds on made-up studies whose truth is known, against fixed numbers of seeds on the same studies;
`calibration.py` runs it.

Meant: any false claim at any look in at most 5 % of studies, and any false "as good within the margin" likewise. What a
race saves: the seeds of an arm on average, beside the fixed number of seeds that finds as many real differences to the
best arm.

    python benchmarks/races.py [--studies 300] [--kind NAME ...]

makes this part of the calibration's results anew, or the named kinds in it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from calibration_tables import write_tables
from simulated_studies import EQUAL, Scenario, draw, population

from tuneoff.analysis.statistics import Looks, Pair, Sample, Verdict, equivalence, replay, verdict
from tuneoff.config.protocol import RaceSpec
from tuneoff.search.racing import looks

RACE = RaceSpec()
COUNTS = looks(RACE)
BASE = Scenario("as usual", seeds=RACE.max, examples=1000)
MARGIN = 0.01
KINDS = (
    BASE,
    replace(BASE, arms=2),
    replace(BASE, arms=12),
    replace(BASE, name="seeds decide", between=0.02, examples=2000),
    replace(BASE, name="uneven seeds", weights="uneven", between=0.015, examples=2000),
    replace(BASE, name="one arm of wild seeds", weights="one", examples=2000),
    replace(BASE, name="heavy tails", shape="heavy", between=0.02, examples=2000),
    replace(BASE, name="long lower tail", shape="skewed", between=0.02, examples=2000),
    replace(BASE, name="seeds collapse, 1 in 20", collapses=0.05),
    replace(BASE, name="seeds collapse, 1 in 50", collapses=0.02),
    replace(BASE, name="seeds diverge, 1 in 20", diverges=0.05),
    replace(BASE, name="trials missing, 1 in 10", missing=0.1),
    replace(BASE, name="with a baseline", baselines=1),
    replace(BASE, name="first arm better", lead=0.02),
    replace(BASE, name="first arm better", lead=0.03),
    replace(BASE, name="first arm better, two arms", arms=2, lead=0.02),
    replace(BASE, name="first arm better, seeds decide", between=0.02, examples=2000, lead=0.03),
    replace(BASE, name="first arm better, uneven seeds", weights="uneven", between=0.015, examples=2000, lead=0.03),
    replace(BASE, name="each arm worse than the one before", step=0.01, between=0.015, examples=2000),
    replace(BASE, name="each arm worse than the one before", step=0.02, between=0.015, examples=2000),
)
MARGINS = (
    replace(BASE, name="equal, with a margin", examples=2000, between=0.005),
    replace(BASE, name="worse by just the margin", arms=2, examples=2000, between=0.005, lead=MARGIN),
    replace(BASE, name="all others worse by just the margin", examples=2000, between=0.005, lead=MARGIN),
)


def races(studies: int, names: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Runs races of every kind, or of those with these names."""
    for scenario in (*KINDS, *MARGINS):
        if not names or scenario.name in names:
            yield _kind(scenario, studies, MARGIN if scenario in MARGINS else None)


def _kind(scenario: Scenario, studies: int, margin: float | None) -> dict[str, Any]:
    random = np.random.default_rng(zlib.crc32(repr(scenario).encode()))
    drawn_from, started = population(scenario), time.perf_counter()
    tally: dict[str, list[float]] = {}
    fixed: dict[int, list[float]] = {count: [] for count in COUNTS}
    truth = drawn_from.truth
    for _ in range(studies):
        study = draw(scenario, drawn_from, random)
        samples = [
            Sample.from_examples(str(arm), np.flatnonzero(done).tolist(), values[done])
            for arm, (values, done) in enumerate(zip(study.values, study.completed, strict=True))
        ]

        def judge(done: Mapping[str, int], samples: list[Sample] = samples) -> Verdict:
            at = Looks(tuple(range(RACE.max)), COUNTS, done)
            return verdict(samples, "higher", fraction=True, looks=at)

        labels = [sample.label for sample in samples]
        race = replay(labels, COUNTS, lambda *_: True, judge, margin)
        judged = judge(race.done)
        seeds = [COUNTS[number - 1] for number in race.done.values()]
        figures = _figures(judged, truth, margin) | {"seeds": float(np.mean(seeds))}
        figures |= {f"ended_{race.ending}": 1.0}
        for name, value in figures.items():
            tally.setdefault(name, []).append(value)
        if "found" in figures:
            for count, found in fixed.items():
                at_once = verdict([sample.at(range(count)) for sample in samples], "higher", fraction=True)
                found.append(_figures(at_once, truth, None)["found"])
    row: dict[str, Any] = asdict(scenario) | {"studies": studies, "margin": margin}
    for name, entries in tally.items():
        full = np.zeros(studies)
        full[: len(entries)] = entries
        row |= {name: float(full.mean()), f"{name}_error": float(full.std() / np.sqrt(studies))}
    if fixed[COUNTS[0]]:
        power = [float(np.mean(fixed[count])) for count in COUNTS]
        row |= {"fixed_found": power, "fixed_seeds": _seeds_of_equal_power(row["found"], power)}
    row["seconds"] = round(time.perf_counter() - started, 1)
    print({name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}, flush=True)
    return row


def _figures(judged: Verdict, truth: np.ndarray[Any, Any], margin: float | None) -> dict[str, float]:
    """Returns whether any claim is false, which real differences to the truly best arm are found, and whether the
    intervals hold the truth."""
    best = str(int(np.argmax(truth)))

    def real(pair: Pair) -> float:
        difference = float(truth[int(pair.first)] - truth[int(pair.second)])
        return 0.0 if abs(difference) < EQUAL else difference

    def true(pair: Pair) -> bool:
        return real(pair) > 0 if pair.relation == "ahead" else real(pair) < 0

    figures = {
        "false": float(any(pair.significant and not true(pair) for pair in judged.pairs)),
        "covered_difference": float(
            np.mean(
                [
                    pair.interval is not None and pair.interval.low <= real(pair) <= pair.interval.high
                    for pair in judged.pairs
                ]
            )
        ),
    }
    to_best = [judged.pair(best, entry.label) for entry in judged.estimates if entry.label != best]
    differing = [pair for pair in to_best if real(pair) > 1e-3]
    if differing:
        figures["found"] = float(np.mean([pair.relation == "ahead" for pair in differing]))
    if margin is not None:
        named = judged.best
        rivals = [judged.pair(entry.label, named) for entry in judged.estimates if entry.label != named]
        as_good = [pair for pair in rivals if equivalence(pair, margin, "higher") != "not_shown"]
        figures["false_as_good"] = float(any(real(pair) <= -margin + 1e-9 for pair in as_good))
        figures["as_good"] = len(as_good) / len(rivals)
    return figures


def _seeds_of_equal_power(found: float, power: list[float]) -> float | None:
    """Returns the fixed number of seeds that finds as much; None where none of these does."""
    if not power[0] <= found <= power[-1] or power[0] == power[-1]:
        return None
    return float(np.interp(found, np.maximum.accumulate(power), COUNTS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "calibration.json")
    parser.add_argument("--kind", action="append", default=[], help="name of one kind of study alone")
    arguments = parser.parse_args()
    result = json.loads(arguments.out.read_text(encoding="utf-8"))
    places = [_place(asdict(scenario)) for scenario in (*KINDS, *MARGINS)]
    for row in races(arguments.studies, arguments.kind):
        kept = [other for other in result.get("races", []) if _place(other) != _place(row)]
        result["races"] = sorted([*kept, row], key=lambda each: places.index(_place(each)))
        # After each kind, for all of them take many minutes.
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(write_tables(result), encoding="utf-8")


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns what tells a row from others; its seeds are those that a race took."""
    return row["name"], row["arms"], row["lead"], row["step"]


if __name__ == "__main__":
    main()
