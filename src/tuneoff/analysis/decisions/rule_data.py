"""What the rule of a recommendation reads, as plain data: a page applies the rule to it under any limits."""

from __future__ import annotations

from pydantic import Field

from tuneoff.analysis.axes import AXES
from tuneoff.analysis.decisions.pareto import cost_draws
from tuneoff.analysis.decisions.rule import Scales
from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import Arm, Results
from tuneoff.config.base import Frozen
from tuneoff.records.record import Direction

MOST_ARMS = 150
"""Arms beyond which there is no such data: the errors of all pairs would take long and much room."""


class WeighedArm(Frozen):
    """An arm as the rule sees it."""

    label: str = Field(description="its label")
    trains: bool = Field(description="false for a baseline")
    quality: float = Field(description="its mean, on the seeds that arms share")
    costs: dict[str, float] = Field(description="{axis: mean}; an axis that is not known of it is left out")
    seed_values: dict[str, tuple[float, ...]] = Field(
        description="{axis: one value per seed}, with `quality` among the axes; only what was measured"
    )
    margins: tuple[float, ...] = Field(
        description="by how much the worse may be worse and count as good, one for each arm before it; empty of a "
        "baseline"
    )
    above: tuple[bool | None, ...] = Field(
        description="whether it is clearly better than each baseline, in the order of `arms`; null where seeds are "
        "too few to tell; empty of a baseline"
    )


class RuleData(Frozen):
    """All that the rule reads."""

    direction: Direction = Field(description="`higher` or `lower` quality is better")
    axes: tuple[str, ...] = Field(description="names of the costs, in the order in which they decide among equals")
    arms: tuple[WeighedArm, ...] = Field(description="arms that train, best first, then the baselines, best first")


def rule_data(results: Results, outcomes: Outcomes) -> RuleData | None:
    """Collects what the rule reads, by the primary metric; None where nothing can be weighed or arms are too many."""
    metric = results.primary
    if metric is None:
        return None
    weighed = [arm for arm in results.arms if arm.trains and outcomes.mean(arm, metric) is not None]
    if not weighed or len(weighed) > MOST_ARMS:
        return None
    scales = Scales(results, outcomes, metric)
    costs = {name: cost_draws(results, axis, draws=1).means for name, axis in AXES.items()}
    baselines = [results.arm(label) for label in scales.baselines]
    margins = scales.margins.tolist()
    arms = []
    for position, label in enumerate([*scales.trained, *scales.baselines]):
        arm = results.arm(label)
        arms.append(
            WeighedArm(
                label=label,
                trains=arm.trains,
                quality=scales.quality.means[label],
                costs={axis: means[label] for axis, means in costs.items() if label in means},
                seed_values={"quality": tuple(arm.scores(metric.name).values()), **_cost_values(arm)},
                margins=tuple(margins[position][:position]) if arm.trains else (),
                above=tuple(outcomes.above(arm, baseline, metric) for baseline in baselines) if arm.trains else (),
            )
        )
    return RuleData(direction=metric.direction, axes=tuple(AXES), arms=tuple(arms))


def _cost_values(arm: Arm) -> dict[str, tuple[float, ...]]:
    values = {
        name: tuple(value for record in arm.completed if (value := axis.of(record)) is not None)
        for name, axis in AXES.items()
    }
    return {name: found for name, found in values.items() if found}
