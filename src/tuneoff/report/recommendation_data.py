"""A recommendation as plain data; docs/recommend.md describes it. `recommendation` tells the same in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuneoff.analysis.axes import AXES
from tuneoff.analysis.decisions.limits import Limit
from tuneoff.analysis.decisions.pareto import Front
from tuneoff.analysis.decisions.recommend import Change, Recommendation, Shortfall, Standing
from tuneoff.analysis.results import Results
from tuneoff.analysis.statistics import SEEDS_REQUIRED, Pair
from tuneoff.report.data import pair_data
from tuneoff.report.recommendation import Costs, lines, rule_text

SCHEMA_VERSION = 2
PAIR_KEYS = ("difference", "interval_low", "interval_high", "p_holm", "relation", "seeds_needed", "reason")
"""What of a comparison is told here."""


def as_data(results: Results, found: Recommendation, costs: Costs, fronts: Sequence[Front]) -> dict[str, Any]:
    """Everything the words say and more; every key stands in docs/recommend.md. `costs`: axis -> label -> mean."""
    return {
        "schema_version": SCHEMA_VERSION,
        "study": results.study.name,
        "metric": {key: getattr(found.metric, key) for key in ("name", "unit", "direction")},
        "limits": [limit_data(limit) for limit in found.limits],
        "answer": found.answer,
        "answer_trains": None if found.answer is None else not found.is_floor,
        "prefer": found.prefer or None,
        "rule": rule_text(found),
        "best": found.best,
        "best_fitting": found.best_fitting,
        "as_good": list(found.as_good),
        "tied_with": list(found.tied_with),
        "ahead": list(found.ahead),
        "open": [_pair_data(pair) for pair in found.open_pairs],
        "gives_up": _pair_data(found.to_best),
        "floor": found.floor,
        "not_above_floor": list(found.not_above_floor),
        "if_trained": found.if_trained,
        "to_floor": _pair_data(found.to_floor),
        "nearest": found.nearest.label if found.nearest else None,
        "changes": [_change_data(change) for change in found.changes],
        "none_probability": found.none_probability,
        "probability_reason": found.unsure,
        "without_error": list(found.still),
        "seeds": found.seeds,
        "seeds_required": SEEDS_REQUIRED,
        "caveats": list(found.caveats),
        "rows": [_row_data(row, costs) for row in found.rows],
        "pareto": [
            {
                "axes": list(front.axes),
                "front": list(front.labels),
                "probabilities": front.probabilities,
                "left_out": [{"method": label, "reason": reason} for label, reason in front.left_out.items()],
            }
            for front in fronts
        ],
        "text": " ".join(lines(results, found, costs)),
    }


def limit_data(limit: Limit) -> dict[str, Any]:
    """A limit as plain data."""
    side = "at_least" if limit.at_least else "at_most"
    return {"figure": limit.name, side: limit.bound, "text": limit.text}


def _pair_data(pair: Pair | None) -> dict[str, Any] | None:
    told = pair_data(pair)
    if pair is None or told is None:
        return None
    return {"against": pair.second, **{key: told[key] for key in PAIR_KEYS}}


def _change_data(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "to": change.to,
        "figure": change.limit.name if change.limit else None,
        "bound": change.bound,
        "prefer": change.prefer or None,
    }


def _row_data(row: Standing, costs: Costs) -> dict[str, Any]:
    return {
        "method": row.label,
        "trains": row.trains,
        "quality": row.quality,
        "reason": row.reason,
        "fits": row.fits,
        "diverged": row.diverged,
        "failure_rate": row.failure_rate,
        "probability": row.probability,
        "probability_fits": row.probability_fits,
        **{AXES[axis].figure: figures.get(row.label) for axis, figures in costs.items()},
        "shortfalls": [shortfall_data(shortfall) for shortfall in row.shortfalls],
    }


def shortfall_data(shortfall: Shortfall) -> dict[str, Any]:
    """A limit that is not kept, as plain data."""
    return {
        "figure": shortfall.limit.name,
        "value": shortfall.figure,
        "excess": shortfall.excess,
        "reason": shortfall.reason,
    }
