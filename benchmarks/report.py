"""How long `tuneoff report` takes and how large its page is, by the number of trials; the trials are made up.

The command runs as a user runs it, imports included, in a process of its own: wall clock, processor time and peak of
memory are of that process, the least of several rounds. Where Chromium is there, it then opens the page: the time until
the page has loaded, its script run and its first picture painted, as the browser tells it.

    python benchmarks/report.py [--rounds 2] [--out benchmarks/results/report.json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from browser_helpers import BROWSER, DRIVER, browse
from record_helpers import Level, World, build_store, small_study

SIZES = ((4, 5), (20, 10), (100, 10))
"""Arms and seeds."""
TEST_ROWS = 400
KEPT = ("report.html", "report.json", "report.md", "pairs.csv")


def make_study(folder: Path, arms: int, seeds: int) -> Path:
    """Writes a study of arms of which few can be told apart; returns its folder."""
    methods = {f"arm-{at:03}": {"method": "lora", "learning_rate": 1e-4 + 1e-6 * at} for at in range(arms)}
    levels = {
        label: Level(0.8 + 0.1 * (at * 7 % arms) / arms, 5.0 + at, (500 + 3 * at) << 20, adapter=1000 * (at + 1))
        for at, label in enumerate(methods)
    }
    build_store(folder, small_study(arms=methods, seeds=seeds), World(levels=levels, test_rows=TEST_ROWS))
    return folder


def time_report(study: Path) -> dict[str, float]:
    """Runs the command once."""
    command = [str(Path(sys.executable).with_name("tuneoff")), "report", str(study)]
    start = time.perf_counter()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    child = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, nowhere, 1)])
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    os.close(nowhere)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    # Linux counts the peak in KiB.
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def time_page(page: Path, folder: Path) -> dict[str, float] | None:
    """Opens the page in a browser of its own; None where there is none."""
    if BROWSER is None or DRIVER is None:
        return None
    with browse(folder) as browser:
        browser.open(page)
        told = """
            const [load] = performance.getEntriesByType("navigation");
            const paint = performance.getEntriesByName("first-contentful-paint")[0];
            return [load.loadEventEnd / 1000, paint ? paint.startTime / 1000 : null];
        """
        loaded, painted = browser.run(told)
    return {"loaded_seconds": loaded, "painted_seconds": painted}


def measure(arms: int, seeds: int, rounds: int) -> dict[str, Any]:
    """Makes a study and takes the least of several rounds of each figure."""
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(Path(folder) / "study", arms, seeds)
        runs = [time_report(study) for _ in range(rounds)]
        written = {name: (study / "report" / name).stat().st_size for name in KEPT}
        pages = [time_page(study / "report" / "report.html", Path(folder)) for _ in range(rounds)]
    opened = [page for page in pages if page is not None]
    return {
        "arms": arms,
        "seeds": seeds,
        "trials": arms * seeds,
        "report": {name: min(run[name] for run in runs) for name in runs[0]},
        "page": {n: min((p[n] for p in opened if p[n] is not None), default=None) for n in opened[0]}
        if opened
        else None,
        "bytes": written,
    }


def main() -> None:
    """Measures every size, prints a line for each, and writes all where it is told to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = []
    for arms, seeds in SIZES:
        case = measure(arms, seeds, options.rounds)
        found.append(case)
        page = "no browser" if case["page"] is None else f"page open in {case['page']['loaded_seconds']:.2f} s"
        print(
            f"{case['trials']:>5} trials ({arms} arms): {case['report']['seconds']:.1f} s, "
            f"{case['report']['cpu_seconds']:.1f} s of processors, {case['report']['peak_bytes'] / 2**20:.0f} MiB; "
            f"report.html {case['bytes']['report.html'] / 1000:.0f} kB, {page}",
            flush=True,
        )
    if options.out:
        options.out.write_text(json.dumps({"test_rows": TEST_ROWS, "sizes": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
