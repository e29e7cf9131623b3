"""What `peers.py` measured, as ratios, lines, tables and a picture."""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from peer_data import FORMS

BEGIN, END = "<!-- benchmarks/peers.py -->", "<!-- end of benchmarks/peers.py -->"


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def _training_seconds(result: dict[str, Any]) -> float:
    return float(result["seconds"]["train"] + result["seconds"].get("prefix", 0.0))


def summarise(cell: str, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Compares the rounds of a cell: how many times the peer's speed, time, memory and score ours is."""
    entry: dict[str, Any] = {"cell": cell, "rounds": rounds}
    for form in FORMS:
        pairs = [(r["ours"], r[form]) for r in rounds]
        if cell.startswith("study-"):
            entry[f"study_over_{form}"] = _spread([peer["seconds"] / ours["seconds"] for ours, peer in pairs])
            continue
        # Tokens are told by both, because a text may be cut at another place.
        entry[f"training_over_{form}"] = _spread(
            [
                (ours["real_tokens"] / _training_seconds(ours)) / (peer["real_tokens"] / _training_seconds(peer))
                for ours, peer in pairs
            ]
        )
        entry[f"process_over_{form}"] = _spread(
            [peer["seconds"]["total"] / ours["seconds"]["total"] for ours, peer in pairs]
        )
        entry[f"memory_over_{form}"] = _spread(
            [ours["peak_over_base_bytes"] / peer["peak_over_base_bytes"] for ours, peer in pairs]
        )
        entry[f"score_minus_{form}"] = _spread([ours["score"] - peer["score"] for ours, peer in pairs])
    return entry


def _ratio(figure: dict[str, float]) -> str:
    """Returns `4.77 [4.61, 4.90]`; of one round the figure alone."""
    if figure["low"] == figure["high"]:
        return f"{figure['median']:.2f}"
    return f"{figure['median']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def describe(cell: str, rounds: list[dict[str, Any]]) -> str:
    """Returns one line about a cell so far."""
    entry = summarise(cell, rounds)
    if cell.startswith("study-"):
        times = [f"{form} {_ratio(entry[f'study_over_{form}'])}×" for form in FORMS]
        return f"{cell:24} whole study: {', '.join(times)}, ours {rounds[-1]['ours']['seconds']:.0f} s"
    parts = [
        f"{form}: training {_ratio(entry[f'training_over_{form}'])}×, "
        f"process {_ratio(entry[f'process_over_{form}'])}×, memory {entry[f'memory_over_{form}']['median']:.2f}×, "
        f"score {entry[f'score_minus_{form}']['median']:+.3f}"
        for form in FORMS
    ]
    share = rounds[-1]["share_of_matrix_speed"]
    return f"{cell:24} {'  '.join(parts)}" + (f"  {share:.0%} of the matrix speed" if share else "")


def tables(body: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    training = [entry for entry in body["cells"] if "training_over_tuned" in entry]
    studies = [entry for entry in body["cells"] if "study_over_tuned" in entry]
    machine = body["environment"]
    parts = [
        f"How many times faster we are, median [lowest, highest] over rounds, on {machine['processor']}, "
        f"{machine['threads']} threads; rows of {body['data']}."
    ]
    if training:
        heads = ["cell", "rounds", "training, default", "training, tuned", "process, default", "process, tuned"]
        heads += ["memory, tuned", "score − tuned", "of matrix speed", "padding: ours, default, tuned"]
        lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
        for entry in training:
            rounds = entry["rounds"]
            shares = [r["share_of_matrix_speed"] for r in rounds if r["share_of_matrix_speed"]]
            padding = (f"{rounds[-1][side]['padding_share']:.0%}" for side in ("ours", *FORMS))
            lines.append(
                [
                    f"`{entry['cell']}`",
                    str(len(rounds)),
                    *(_ratio(entry[f"{what}_over_{form}"]) for what in ("training", "process") for form in FORMS),
                    _ratio(entry["memory_over_tuned"]),
                    f"{entry['score_minus_tuned']['median']:+.3f}",
                    f"{statistics.median(shares):.0%}" if shares else "–",
                    ", ".join(padding),
                ]
            )
        parts.append(_markdown(lines))
        parts += [_phases(training), _quality(training)]
    if studies:
        lines = [["study", "rounds", "ours", "default", "tuned"], ["---", *["---:"] * 4]]
        for entry in studies:
            ours = statistics.median(r["ours"]["seconds"] for r in entry["rounds"])
            ratios = (f"{_ratio(entry[f'study_over_{form}'])} times" for form in FORMS)
            lines.append([f"`{entry['cell']}`", str(len(entry["rounds"])), f"{ours:.0f} s", *ratios])
        parts.append("Whole studies, wall clock, all included (of the peer's processes one of each kind was run):")
        parts.append(_markdown(lines))
    return "\n\n".join(filter(None, parts))


def _phases(training: list[dict[str, Any]]) -> str:
    """Returns a table of the seconds of every phase, of the last round."""
    phases = [*("import", "load", "tokenize", "preflight", "prefix", "train"), *("validation", "test", "latency")]
    phases += ["save", "total"]
    lines = [["cell", "side", *phases], ["---", "---", *["---:"] * len(phases)]]
    for entry in training:
        for side in ("ours", *FORMS):
            seconds = entry["rounds"][-1][side]["seconds"]
            cells = [f"{seconds[phase]:.2f}" if seconds.get(phase) else "–" for phase in phases]
            lines.append([f"`{entry['cell']}`", side, *cells])
    return "Seconds of each phase, in the last round:\n\n" + _markdown(lines)


def _quality(training: list[dict[str, Any]]) -> str:
    """Returns what the accuracies of all pretrained classifiers differ by, paired by method and seed."""
    differences = {
        form: [
            r["ours"]["score"] - r[form]["score"]
            for entry in training
            if entry["cell"].startswith("minilm-")
            for r in entry["rounds"]
        ]
        for form in FORMS
    }
    texts = []
    for form, values in differences.items():
        if len(values) < 2:
            continue
        error = statistics.stdev(values) / math.sqrt(len(values))
        texts.append(f"{form} {statistics.fmean(values):+.4f} ± {error:.4f} (standard error of {len(values)} pairs)")
    return f"Test accuracy on real weights (MiniLM), ours minus the peer's: {'; '.join(texts)}." if texts else ""


def _markdown(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(body: dict[str, Any], path: Path) -> None:
    """Draws the ratios of training and whole studies, with the range over rounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    entries = body["cells"][::-1]
    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(entries) + 1.2), layout="constrained")
    for form, offset, color in (("default", 0.18, "#4477aa"), ("tuned", -0.18, "#ee6677")):
        ratios = [entry.get(f"training_over_{form}") or entry[f"study_over_{form}"] for entry in entries]
        medians = [ratio["median"] for ratio in ratios]
        ends = [
            [ratio["median"] - ratio["low"] for ratio in ratios],
            [ratio["high"] - ratio["median"] for ratio in ratios],
        ]
        places = [position + offset for position in range(len(entries))]
        axes.barh(places, medians, 0.34, xerr=ends, color=color, label=f"against the {form} form")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(entries)), [entry["cell"] for entry in entries])
    axes.set_xlabel("times faster (training; of studies, all of it)")
    axes.legend()
    figure.savefig(path, dpi=120)


def write_page(body: dict[str, Any], page: Path, results: Path) -> None:
    """Draws a picture beside the file of results, and puts it with the tables between the page's two marks.

    Raises:
        SystemExit: if the page does not have them.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} has no lines {BEGIN} and {END}")
    picture = results.with_suffix(".png")
    draw(body, picture)
    link = Path(os.path.relpath(picture.resolve(), page.resolve().parent)).as_posix()
    image = f"![How many times faster than the peer, cell by cell]({link})"
    page.write_text(f"{before}{BEGIN}\n\n{tables(body)}\n\n{image}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    # From results that were kept: python benchmarks/peer_tables.py benchmarks/results/peers.json docs/speed.md
    kept = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    write_page(kept, Path(sys.argv[2]), Path(sys.argv[1]))
