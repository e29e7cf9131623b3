"""What is proposed before anything is measured, as data; docs/recommend.md describes every key."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tuneoff.report.arm_schema import Part


class ProposedValue(Part):
    """A value that a published rule, or the forecast, proposes."""

    method: str = Field(description="label of the arm")
    key: str = Field(description="option of the arm, `learning_rate`, or a key of the study for all arms")
    value: Any = Field(description="what is proposed")
    current: Any = Field(description="what it is now; the same where the rule keeps it")
    rule: str = Field(description="the rule's id")
    source: str = Field(description="who published the rule: name, year and link")
    outside: str = Field(description="where the rule does not apply, or was not tried")
    reason: str = Field(description="what the rule says here")


class CheckStudy(Part):
    """The smallest study that would check what is proposed for one arm."""

    methods: tuple[str, ...] = Field(description="labels of its arms: as it is, and as proposed")
    search_trials: int = Field(description="search trials of each arm")
    seeds: int = Field(description="seeds of each arm")
    difference: float = Field(
        description="of the primary metric, that is to be found: the study's `margin`, or 0.02 without one"
    )
    seeds_least: int | None = Field(
        description="seeds that find it with a probability of 80 % where seeds differ little; null where none do, or "
        "where nothing tells"
    )
    seeds_most: int | None = Field(description="the same where they differ much")
    reason: str = Field(description="by what the seeds were chosen")
    seconds: float | None = Field(description="by the forecast of the arm as it is; null where that tells no time")
    command: str = Field(description="runs it")


class Proposed(Part):
    """What is proposed, and what would check it; nothing of it is measured."""

    values: tuple[ProposedValue, ...] = Field(description="one object per value")
    not_covered: tuple[str, ...] = Field(description="what no rule covers, or could not be weighed, and why")
    check: CheckStudy | None = Field(description="null where no arm is proposed other options")

    def of_arm(self, label: str) -> dict[str, Any]:
        """Returns the options that are proposed for an arm and differ from what it has; a rate is no option."""
        return {
            value.key: value.value
            for value in self.values
            if value.method == label
            and value.value != value.current
            and "." not in value.key
            and value.key != "learning_rate"
        }
