"""A recommendation as plain data; docs/recommend.md describes it. `recommendation` says the same in words."""

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

SCHEMA_VERSION = 3
PAIR_KEYS = ("difference", "interval_low", "interval_high", "p_holm", "relation", "seeds_needed", "reason")
"""The keys of a comparison that are part of a recommendation."""


def as_data(results: Results, recommendation: Recommendation, costs: Costs, fronts: Sequence[Front]) -> dict[str, Any]:
    """Returns everything the words say and more; every key is described in docs/recommend.md. `costs`: axis -> label ->
    mean."""
    return {
        "schema_version": SCHEMA_VERSION,
        "study": results.study.name,
        "metric": {key: getattr(recommendation.metric, key) for key in ("name", "unit", "direction")},
        "limits": [limit_data(limit) for limit in recommendation.limits],
        "answer": recommendation.answer,
        "answer_trains": None if recommendation.answer is None else not recommendation.is_baseline,
        "prefer": recommendation.prefer or None,
        "rule": rule_text(recommendation),
        "best": recommendation.best,
        "best_fitting": recommendation.best_fitting,
        "as_good": list(recommendation.as_good),
        "tied_with": list(recommendation.tied_with),
        "ahead": list(recommendation.ahead),
        "open": [_pair_data(pair) for pair in recommendation.open_pairs],
        "gives_up": _pair_data(recommendation.to_best),
        "baseline": recommendation.baseline,
        "not_above_baseline": list(recommendation.not_above_baseline),
        "if_trained": recommendation.if_trained,
        "to_baseline": _pair_data(recommendation.to_baseline),
        "nearest": recommendation.nearest.label if recommendation.nearest else None,
        "changes": [_change_data(change) for change in recommendation.changes],
        "none_probability": recommendation.none_probability,
        "probability_reason": recommendation.unsure,
        "without_error": list(recommendation.still),
        "seeds": recommendation.seeds,
        "seeds_required": SEEDS_REQUIRED,
        "caveats": list(recommendation.caveats),
        "arms": [_arm_data(arm, costs) for arm in recommendation.arms],
        "pareto": [
            {
                "axes": list(front.axes),
                "front": list(front.labels),
                "probabilities": front.probabilities,
                "left_out": [{"method": label, "reason": reason} for label, reason in front.left_out.items()],
            }
            for front in fronts
        ],
        "text": " ".join(lines(results, recommendation, costs)),
    }


def limit_data(limit: Limit) -> dict[str, Any]:
    """Returns a limit as plain data."""
    side = "at_least" if limit.at_least else "at_most"
    return {"figure": limit.name, side: limit.bound, "text": limit.text}


def _pair_data(pair: Pair | None) -> dict[str, Any] | None:
    data = pair_data(pair)
    if pair is None or data is None:
        return None
    return {"against": pair.second, **{key: data[key] for key in PAIR_KEYS}}


def _change_data(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "to": change.to,
        "figure": change.limit.name if change.limit else None,
        "bound": change.bound,
        "prefer": change.prefer or None,
    }


def _arm_data(arm: Standing, costs: Costs) -> dict[str, Any]:
    return {
        "method": arm.label,
        "trains": arm.trains,
        "quality": arm.quality,
        "reason": arm.reason,
        "fits": arm.fits,
        "diverged": arm.diverged,
        "failure_rate": arm.failure_rate,
        "probability": arm.probability,
        "probability_fits": arm.probability_fits,
        **{AXES[axis].figure: figures.get(arm.label) for axis, figures in costs.items()},
        "shortfalls": [shortfall_data(shortfall) for shortfall in arm.shortfalls],
    }


def shortfall_data(shortfall: Shortfall) -> dict[str, Any]:
    """Returns a limit that is not kept, as plain data."""
    return {
        "figure": shortfall.limit.name,
        "value": shortfall.figure,
        "excess": shortfall.excess,
        "reason": shortfall.reason,
    }
